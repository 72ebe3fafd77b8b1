// A client app as a Node.js programmer would write it: grpc-js over stubs that proto-loader makes from proto/ as it stands.
// grpc-js has an HTTP/2 of its own, Node's: nothing in it is C-core, in which grpcio speaks.
//
//     node client.js '{"modules": DIR, "proto": DIR, "address": "127.0.0.1:7600", "ca": PEM?, "certificate": PEM?, "private_key": PEM?}'
//
// Walks through the whole Sessions service once and prints what it was answered as one line of JSON. Every call has a
// deadline; whatever is not expected ends the process with status 1 and its words on standard error.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const { createRequire } = require('module');
const path = require('path');

const settings = JSON.parse(process.argv[2]);
const requireFrom = createRequire(path.join(settings.modules, 'package.json'));
const grpc = requireFrom('@grpc/grpc-js');
const loader = requireFrom('@grpc/proto-loader');

const CALL_MS = 10000;
const CONCURRENT_COUNT = 200;

function credentials() {
  if (!settings.ca) return grpc.credentials.createInsecure();
  const read = (name) => (settings[name] ? fs.readFileSync(settings[name]) : null);
  return grpc.credentials.createSsl(read('ca'), read('private_key'), read('certificate'));
}

function connect() {
  const definition = loader.loadSync('broker/v1/sessions.proto', {
    includeDirs: [settings.proto],
    keepCase: true,
    longs: String,
    enums: String,
    oneofs: true,
    arrays: true,
  });
  const { Sessions } = grpc.loadPackageDefinition(definition).broker.v1;
  return new Sessions(settings.address, credentials());
}

const client = connect();
const disconnect = () => grpc.Client.prototype.close.call(client); // client.close() is the verb Close
const freshId = () => crypto.randomBytes(16);
const deadline = () => ({ deadline: Date.now() + CALL_MS });

// One unary call: its answer, or its error as values.
function call(method, request) {
  return new Promise((resolve) => {
    client[method](request, deadline(), (error, answer) => {
      resolve(error ? { error: described(error) } : { answer });
    });
  });
}

function described(error) {
  const [details] = error.metadata ? error.metadata.get('grpc-status-details-bin') : [];
  return { code: error.code, message: error.details, details: details ? details.toString('base64') : null };
}

async function answered(method, request) {
  const outcome = await call(method, request);
  if (outcome.error) throw new Error(`${method}: ${JSON.stringify(outcome.error)}`);
  return outcome.answer;
}

function openRequest(user, products, more = {}) {
  const wanted = products.map((product) => ({ product }));
  return { request_id: freshId(), holder: { user, host: 'node-1', app: 'grpc-js/1' }, products: wanted, ...more };
}

async function granted(user, products) {
  const { result, grant } = await answered('Open', openRequest(user, products));
  if (result !== 'grant') throw new Error(`${user} got a ${result}`);
  return grant;
}

// One KeepAlive stream: renews two sessions, hears of the end of one that is closed elsewhere, and half-closes.
function keepAlive(first, second) {
  return new Promise((resolve, reject) => {
    const heard = { results: [], notices: [] };
    const stream = client.KeepAlive(deadline());
    stream.on('error', reject);
    stream.on('status', (status) => resolve({ ...heard, status: status.code }));
    stream.on('data', (message) => {
      heard.results.push(...message.results.map((one) => [one.session_id.toString('hex'), one.result]));
      heard.notices.push(...message.notices.map((one) => [one.session_id.toString('hex'), one.session_ended.end_reason]));
      if (heard.notices.length) stream.end();
      else if (heard.results.length === 2) answered('Close', { session_id: second, request_id: freshId() }).catch(reject);
    });
    stream.write({ renewals: [{ session_id: first }, { session_id: second }] });
  });
}

// OpenWaiting, a server's stream: its messages and its status.
function openWaiting() {
  return new Promise((resolve, reject) => {
    const updates = [];
    const stream = client.OpenWaiting({ open: openRequest('waiting', ['platform']) }, deadline());
    stream.on('error', reject);
    stream.on('data', (message) => updates.push(message.denial.reason));
    stream.on('status', (status) => resolve({ updates, status: status.code }));
  });
}

async function main() {
  const said = {};
  const grant = await granted('anna', ['platform', 'crm']);
  const other = await granted('boris', ['platform']);
  const by = { session_id: grant.session_id };
  said.grant = { ids: [grant, other].map((one) => one.session_id.toString('hex')), leases: grant.leases.map((one) => one.product) };
  said.renewed = (await answered('Renew', by)).ttl;
  said.many = (await Promise.all(Array.from({ length: CONCURRENT_COUNT }, () => call('Renew', by)))).filter((one) => one.answer).length;
  said.acquired = (await answered('Acquire', { ...by, request_id: freshId(), products: [{ product: 'telephony' }] })).acquired.leases[0].product;
  said.released = (await answered('Release', { ...by, request_id: freshId(), product: 'crm' })).released.was_held;
  said.keep_alive = await keepAlive(grant.session_id, other.session_id);
  said.waiting = await openWaiting();
  said.denial = (await answered('Open', openRequest('anna', ['no-such-product']))).denial;
  said.invalid = (await call('Open', openRequest('', ['platform']))).error;
  said.nowhere = (await call('Renew', { session_id: Buffer.alloc(32) })).error;
  const close = { ...by, request_id: freshId() };
  said.closed = (await answered('Close', close)).end_reason;
  said.closed_again = (await answered('Close', close)).end_reason;
  disconnect();
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
  disconnect();
});
