"""Bad input of every kind, against one real broker that is at work: each its own clear answer, and nothing changed.

What each part refuses is tested beside the part, at length. Here stands one table for each door (licence folder, client port,
JSON door, admin port, configuration), with a witness at work all the while.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.rpc import error_details_pb2, status_pb2
from jwt import PyJWS

from broker import client
from broker.exit_codes import ExitCode
from broker.licence import Vendor, create_vendor, load_vendor
from broker.licence.strict import encode_base64url
from broker.v1 import admin_pb2, sessions_pb2, types_pb2
from tests.support.broker_process import (
    CALL_S,
    RunningBroker,
    process_environment,
    running_broker,
    serve_command,
)
from tests.support.toml_text import toml_text

DAY_S = 86_400
NOW_UNIX_S = int(time.time())
NOWHERE_ID = bytes(32)
FREE_PORTS = {one: {"address": "127.0.0.1:0"} for one in ("clients", "admin", "http")}


@dataclass(frozen=True, slots=True)
class Site:
    """A broker at work, one session on it, and the vendors around it."""

    broker: RunningBroker
    witness: client.Session
    fleet_vendor: Vendor
    fax_vendor: Vendor
    stranger: Vendor
    thumbprint: str

    def standing(self) -> dict[str, tuple[int, int, int]]:
        """What must not change: capacity, seats in use and deficit of each product."""
        return {name: (one.capacity, one.in_use, one.deficit) for name, one in self.broker.products().items()}

    def put(self, name: str, document: str | bytes) -> None:
        """Into the licence folder, and has it read."""
        data = document.encode() if isinstance(document, str) else document
        (self.broker.data_directory / "licences" / name).write_bytes(data)
        self.reload()

    def reload(self) -> None:
        """As `usher reload`."""
        self.broker.admin_stub().Reload(admin_pb2.ReloadRequest(), metadata=self.broker.admin_metadata, timeout=CALL_S)

    def licence_of(self, file: str) -> admin_pb2.Licence:
        """How the broker judges a file of the folder."""
        request = admin_pb2.ListLicencesRequest()
        answer = self.broker.admin_stub().ListLicences(request, metadata=self.broker.admin_metadata, timeout=CALL_S)
        return next(one for one in answer.licences if one.source == file)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    fax_vendor = create_vendor(directory / "fax", "Fax Vendor", ["fax"], is_test=True)
    stranger = create_vendor(directory / "stranger", "Stranger", ["platform"], is_test=True)
    settings = {"licences": {"trust": [str(fax_vendor.trust_path)]}}
    with running_broker(directory, settings=settings) as broker:
        request = admin_pb2.ListEmulatedKeysRequest()
        keys = broker.admin_stub().ListEmulatedKeys(request, metadata=broker.admin_metadata, timeout=CALL_S).keys
        thumbprint = next(one.thumbprint for one in keys if one.name == "alpha")
        fleet_vendor = load_vendor(broker.data_directory / "emulated" / "vendor")
        with client.open(broker.clients, user="witness", products=["platform", "crm"]) as witness:
            yield Site(broker, witness, fleet_vendor, fax_vendor, stranger, thumbprint)


@pytest.fixture
def unchanged(site: Site) -> Iterator[Site]:
    """Afterwards the numbers are as before, the witness is the only session, and it is served."""
    before = site.standing()
    yield site
    site.witness.renew()
    assert [one.holder.user for one in site.broker.sessions()] == ["witness"]
    assert site.standing() == before
    assert before["platform"] == (15, 1, 0)


# --- the licence folder -----------------------------------------------------------------------------------------


def claims_of(site: Site, vendor: Vendor, **changes: Any) -> dict[str, Any]:
    """Claims that would count, some changed; `...` takes one out."""
    claims: dict[str, Any] = {
        "iss": vendor.entry.vendor,
        "jti": "bad-1",
        "iat": NOW_UNIX_S,
        "nbf": NOW_UNIX_S - DAY_S,
        "product": "platform",
        "seats": 50,
        "cnf": {"jkt": site.thumbprint},
        "env": "test",
    } | changes
    return {name: value for name, value in claims.items() if value is not ...}


def signed(vendor: Vendor, claims: Mapping[str, Any], signer: Any = None, **header: Any) -> str:
    """A licence with the vendor's own signature, or another's, under a header of the test's choice."""
    words = {"typ": "usher-licence+jwt", "kid": vendor.entry.kid} | header
    payload = json.dumps(claims).encode()
    return PyJWS(algorithms=["EdDSA"]).encode(payload, signer or vendor.private, algorithm="EdDSA", headers=words)


def unsigned(site: Site, algorithm: str) -> str:
    """A licence that says that it needs no signature, or one that anybody can make."""
    header = {"typ": "usher-licence+jwt", "kid": site.fleet_vendor.entry.kid, "alg": algorithm}
    parts = (header, claims_of(site, site.fleet_vendor))
    return ".".join(encode_base64url(json.dumps(part).encode()) for part in parts) + "."


def tampered(site: Site) -> str:
    """A genuine licence of one seat whose payload was made to say fifty."""
    head, _, signature = signed(site.fleet_vendor, claims_of(site, site.fleet_vendor, seats=1)).split(".")
    payload = encode_base64url(json.dumps(claims_of(site, site.fleet_vendor)).encode())
    return f"{head}.{payload}.{signature}"


def good_but(**changes: Any) -> Callable[[Site], str]:
    """The fleet's own vendor signs claims that are right but for these."""
    return lambda site: signed(site.fleet_vendor, claims_of(site, site.fleet_vendor, **changes))


def good_under(**header: Any) -> Callable[[Site], str]:
    """The same under a header that is right but for these."""
    return lambda site: signed(site.fleet_vendor, claims_of(site, site.fleet_vendor), **header)


PUBLIC_JWK = {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}

BAD_LICENCES: dict[str, tuple[Callable[[Site], str | bytes], str]] = {
    "foreign": (lambda site: signed(site.stranger, claims_of(site, site.stranger)), "not in the trust file"),
    "foreign-under-our-kid": (
        lambda site: signed(site.fleet_vendor, claims_of(site, site.fleet_vendor), Ed25519PrivateKey.generate()),
        "its signature does not match",
    ),
    "tampered": (tampered, "the file was altered or damaged"),
    "expired": (good_but(exp=NOW_UNIX_S - 60), "get a new one from"),
    "not-yet-valid": (good_but(nbf=NOW_UNIX_S + DAY_S), "counts from"),
    "alg-none": (lambda site: unsigned(site, "none"), 'its algorithm is "none"'),
    "alg-hmac": (lambda site: unsigned(site, "HS256"), 'its algorithm is "HS256"'),
    "embedded-key": (good_under(jwk=PUBLIC_JWK), "brings its own verification key (jwk)"),
    "embedded-certificate": (good_under(x5c=["AAAA"]), "brings its own certificate (x5c)"),
    "key-by-address": (good_under(jku="https://evil.example/keys"), "fetch its verification key from (jku)"),
    "certificate-by-address": (good_under(x5u="https://evil.example/c"), "fetch its certificate from (x5u)"),
    "unknown-crit": (good_under(crit=["future"], future=1), "demands extensions"),
    "another-kind-of-token": (good_under(typ="JWT"), "it is a JWT, but no licence"),
    "another-vendors-product": (
        lambda site: signed(site.fax_vendor, claims_of(site, site.fax_vendor)),
        'Fax Vendor may not license "platform" here',
    ),
    "another-vendors-name": (
        lambda site: signed(site.fax_vendor, claims_of(site, site.fax_vendor, iss="EMULATED test vendor", product="fax")),
        "belongs to Fax Vendor",
    ),
    "without-env-test": (good_but(env=...), "may sign only licences with env"),
    "unbound": (good_but(cnf=...), "bound to no security key"),
    "bound-to-something-else": (good_but(cnf={"x5t#S256": "A" * 43}), "is not one thumbprint jkt"),
    "bound-to-a-computer": (good_but(cnf=..., machine={}), "bound to a computer"),
    "no-seats": (good_but(seats=0), 'its claim "seats" (0)'),
    "a-restriction-of-the-future": (good_but(only_on_mondays=True), '"only_on_mondays" is unknown here'),
    "a-term-that-is-not-served": (good_but(terms={"overdraft": {"seats": 5}}), "overdraft"),
    "an-id-that-counts-already": (good_but(jti="emulated-alpha-1"), "stands with different contents in"),
    "oversized": (lambda _: b"A" * 20_000, "larger than 16 KiB"),
    "garbage": (lambda _: bytes(range(256)), "holds characters that no JWT has"),
    "empty": (lambda _: b"", "it is empty"),
}


@pytest.mark.parametrize("name", BAD_LICENCES)
def test_a_bad_licence_is_refused_in_its_own_words_and_adds_no_seat(site: Site, name: str) -> None:
    make, sentence = BAD_LICENCES[name]
    before = site.standing()
    file = f"bad-{name}.jwt"
    site.put(file, make(site))
    try:
        judged = site.licence_of(file)
        assert judged.state != admin_pb2.LICENCE_STATE_COUNTING
        assert sentence in judged.reason
        expected = dict(before)
        if name == "an-id-that-counts-already":
            # Two signed bodies under one id: neither counts, so the genuine one's five seats are gone too.
            expected["platform"] = (10, 1, 0)
        assert site.standing() == expected
        assert [lease.state for lease in site.witness.renew()] == ["active", "active"]
    finally:
        (site.broker.data_directory / "licences" / file).unlink()
        site.reload()
    site.broker.await_capacity("platform", 15)


def test_sentences_about_bad_licences_are_all_different() -> None:
    sentences = [sentence for _, sentence in BAD_LICENCES.values()]
    assert len(set(sentences)) == len(sentences)


# --- the client port ----------------------------------------------------------------------------------------------


def login(**changes: Any) -> sessions_pb2.OpenRequest:
    fields: dict[str, Any] = {
        "request_id": os.urandom(16),
        "holder": types_pb2.Holder(user="anna", host="pc-1"),
        "products": [types_pb2.ProductRequest(product="platform")],
    }
    return sessions_pb2.OpenRequest(**(fields | changes))


def by_session(message: type, **fields: Any) -> bytes:
    return bytes(message(session_id=NOWHERE_ID, **fields).SerializeToString())


GARBAGE = b"\x0a\x7fshort"
RAW_CALLS: dict[str, tuple[str, bytes, str, str]] = {
    "garbage-open": ("Open", GARBAGE, "INVALID_ARGUMENT", "INVALID_FIELD"),
    "garbage-renew": ("Renew", GARBAGE, "INVALID_ARGUMENT", "INVALID_FIELD"),
    "garbage-acquire": ("Acquire", GARBAGE, "INVALID_ARGUMENT", "INVALID_FIELD"),
    "garbage-release": ("Release", GARBAGE, "INVALID_ARGUMENT", "INVALID_FIELD"),
    "garbage-close": ("Close", GARBAGE, "INVALID_ARGUMENT", "INVALID_FIELD"),
    "not-utf-8": ("Open", login().SerializeToString() + b"\x12\x04\x0a\x02\xff\xfe", "INVALID_ARGUMENT", "INVALID_FIELD"),
    "oversized-user": (
        "Open",
        login(holder=types_pb2.Holder(user="u" * 129, host="pc")).SerializeToString(),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
    ),
    "oversized-instance": ("Open", login(instance_id="i" * 65).SerializeToString(), "INVALID_ARGUMENT", "INVALID_FIELD"),
    "oversized-nonce": ("Open", login(client_nonce=bytes(33)).SerializeToString(), "INVALID_ARGUMENT", "INVALID_FIELD"),
    "oversized-product": (
        "Open",
        login(products=[types_pb2.ProductRequest(product="p" * 33)]).SerializeToString(),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
    ),
    "oversized-message": ("Open", login(instance_id="i" * 70_000).SerializeToString(), "RESOURCE_EXHAUSTED", ""),
    "unknown-session-renew": ("Renew", by_session(sessions_pb2.RenewRequest), "NOT_FOUND", "SESSION_NOT_FOUND"),
    "unknown-session-acquire": (
        "Acquire",
        by_session(
            sessions_pb2.AcquireRequest, request_id=bytes(16), products=[types_pb2.ProductRequest(product="crm")]
        ),
        "NOT_FOUND",
        "SESSION_NOT_FOUND",
    ),
    "unknown-session-release": (
        "Release",
        by_session(sessions_pb2.ReleaseRequest, request_id=bytes(16), product="crm"),
        "NOT_FOUND",
        "SESSION_NOT_FOUND",
    ),
    "unknown-session-close": (
        "Close",
        by_session(sessions_pb2.CloseRequest, request_id=bytes(16)),
        "NOT_FOUND",
        "SESSION_NOT_FOUND",
    ),
    "unknown-verb": ("Steal", b"", "UNIMPLEMENTED", ""),
}


def reason_of(error: Any) -> str:
    """The reason in the google.rpc.ErrorInfo; empty without one."""
    blob = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    info = error_details_pb2.ErrorInfo()
    if blob is not None:
        (detail,) = status_pb2.Status.FromString(blob).details
        assert detail.Unpack(info)
    return info.reason


@pytest.mark.parametrize("name", RAW_CALLS)
def test_a_bad_call_on_the_client_port_has_its_own_status_and_reason(unchanged: Site, name: str) -> None:
    method, message, status, reason = RAW_CALLS[name]
    with grpc.insecure_channel(unchanged.broker.clients) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/broker.v1.Sessions/{method}")(message, timeout=CALL_S)
    assert (caught.value.code().name, reason_of(caught.value)) == (status, reason)
    assert caught.value.details()


@pytest.mark.parametrize(
    ("products", "reason"), [(["no-such-product"], "unknown_product"), (["platform", "no-such-product"], "unknown_product")]
)
def test_an_unknown_product_is_denied_and_takes_nothing_of_the_bundle(
    unchanged: Site, products: list[str], reason: str
) -> None:
    with pytest.raises(client.Denied) as denied:
        client.open(unchanged.broker.clients, user="anna", products=products)
    assert (denied.value.reason, denied.value.product) == (reason, "no-such-product")
    assert "no-such-product" in denied.value.message


# --- the JSON door ------------------------------------------------------------------------------------------------

JSON = {"content-type": "application/json"}


def json_login(**changes: Any) -> bytes:
    body: dict[str, Any] = {
        "requestId": base64.b64encode(os.urandom(16)).decode(),
        "holder": {"user": "anna", "host": "pc-1"},
        "products": [{"product": "platform"}],
    }
    return json.dumps(body | changes).encode()


JSON_CALLS: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "garbage": ("open", bytes(range(128, 256)), JSON, 400, "INVALID_FIELD"),
    "half": ("open", b'{"holder": {', JSON, 400, "INVALID_FIELD"),
    "deep": ("open", b"[" * 20_000, JSON, 400, "INVALID_FIELD"),
    "another-type": ("open", json_login(products="crm"), JSON, 400, "INVALID_FIELD"),
    "an-unknown-field": ("open", json_login(colour="red"), JSON, 400, "INVALID_FIELD"),
    "oversized-user": ("open", json_login(holder={"user": "u" * 129, "host": "h"}), JSON, 400, "INVALID_FIELD"),
    "oversized-body": ("open", json_login(clientNonce="A" * 70_000), JSON, 413, "BODY_TOO_LARGE"),
    "unknown-session": (
        "renew",
        json.dumps({"sessionId": base64.b64encode(NOWHERE_ID).decode()}).encode(),
        JSON,
        404,
        "SESSION_NOT_FOUND",
    ),
    "a-web-form": ("open", json_login(), {"content-type": "application/x-www-form-urlencoded"}, 415, "JSON_REQUIRED"),
    "a-foreign-host": ("open", json_login(), JSON | {"host": "evil.example"}, 421, "HOST_NOT_ALLOWED"),
    "unknown-verb": ("steal", b"{}", JSON, 404, "UNKNOWN_PATH"),
}


@pytest.mark.parametrize("name", JSON_CALLS)
def test_a_bad_call_on_the_json_door_has_its_own_status_and_reason(unchanged: Site, name: str) -> None:
    verb, body, headers, status, reason = JSON_CALLS[name]
    connection = http.client.HTTPConnection(unchanged.broker.http, timeout=CALL_S)
    connection.request("POST", f"/v1/sessions:{verb}", body, headers)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    assert answer.status == status
    assert said["message"]
    assert [detail["reason"] for detail in said["details"]] == [reason]


# --- the admin port -----------------------------------------------------------------------------------------------

ADMIN_TOKENS: dict[str, Callable[[RunningBroker], list[tuple[str, str]]]] = {
    "none": lambda _: [],
    "empty": lambda _: [("authorization", "")],
    "wrong": lambda _: [("authorization", "Bearer " + "A" * 43)],
    "without-its-scheme": lambda broker: [("authorization", broker.admin_token)],
    "cut-short": lambda broker: [("authorization", f"Bearer {broker.admin_token[:-1]}")],
    "beside-a-wrong-one": lambda broker: [
        ("authorization", f"Bearer {broker.admin_token}"),
        ("authorization", "Bearer x"),
    ],
}
ADMIN_CALLS: dict[str, Callable[[Any, Any, str], Any]] = {
    "list-sessions": lambda stub, metadata, _: stub.ListSessions(
        admin_pb2.ListSessionsRequest(), metadata=metadata, timeout=CALL_S
    ),
    "revoke": lambda stub, metadata, public_id: stub.RevokeSession(
        admin_pb2.RevokeSessionRequest(public_id=public_id), metadata=metadata, timeout=CALL_S
    ),
    "pull-a-key": lambda stub, metadata, _: stub.SetEmulatedKeyPlugged(
        admin_pb2.SetEmulatedKeyPluggedRequest(name="alpha", plugged=False), metadata=metadata, timeout=CALL_S
    ),
    "watch-events": lambda stub, metadata, _: next(
        stub.WatchEvents(admin_pb2.WatchEventsRequest(), metadata=metadata, timeout=CALL_S)
    ),
}


@pytest.mark.parametrize("token", ADMIN_TOKENS)
@pytest.mark.parametrize("call", ADMIN_CALLS)
def test_admin_without_its_token_is_refused(unchanged: Site, call: str, token: str) -> None:
    broker = unchanged.broker
    with pytest.raises(grpc.RpcError) as caught:
        ADMIN_CALLS[call](broker.admin_stub(), ADMIN_TOKENS[token](broker), unchanged.witness.public_id)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason_of(caught.value) == "IDENTITY_REQUIRED"
    assert broker.admin_token not in caught.value.details()


@pytest.mark.parametrize("door", ["clients", "http"])
def test_admin_is_not_behind_another_door_even_with_its_token(unchanged: Site, door: str) -> None:
    address = getattr(unchanged.broker, door)
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/broker.v1.Admin/ListSessions")(
            b"", metadata=unchanged.broker.admin_metadata, timeout=CALL_S
        )
    assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE)


# --- the configuration --------------------------------------------------------------------------------------------

BEYOND = "can be reached from other machines"
BAD_FILES: dict[str, tuple[str, str, str]] = {
    "no-toml": ("[clients\n", "", "is not TOML"),
    "no-text": ("\udcff", "", "is not UTF-8"),
    "unknown-section": (toml_text({"client": {}}), "client", "did you mean clients?"),
    "unknown-entry": (toml_text({"clients": {"adress": "x"}}), "clients.adress", "did you mean clients.address?"),
    "wrong-type": (toml_text({"sessions": {"ttl_s": "60"}}), "sessions.ttl_s", "is not a number"),
    "out-of-bounds": (toml_text({"sessions": {"ttl_s": 0}}), "sessions.ttl_s", "is out of bounds"),
    "clients-beyond-without-tls": (
        toml_text(FREE_PORTS | {"clients": {"address": "0.0.0.0:0"}}),
        "clients.address",
        BEYOND,
    ),
    "admin-beyond-without-tls": (toml_text(FREE_PORTS | {"admin": {"address": "[::]:0"}}), "admin.address", BEYOND),
    "http-beyond-without-tls": (
        toml_text(FREE_PORTS | {"http": {"address": "192.0.2.1:0", "hosts": ["usher.example"]}}),
        "http.address",
        BEYOND,
    ),
    "emulated-beyond": (
        toml_text(FREE_PORTS | {"clients": {"address": "0.0.0.0:0", "insecure": True}, "emulation": {"enabled": True}}),
        "emulation.enabled",
        "would give EMULATED seats to other machines",
    ),
    "no-certificate": (
        toml_text(FREE_PORTS | {"clients": {"tls": {"certificate": "none.pem", "private_key": "none.key"}}}),
        "clients.tls.certificate",
        "cannot be read",
    ),
    "no-trust-file": (toml_text(FREE_PORTS | {"licences": {"trust": "none.json"}}), "licences.trust", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_configuration_stops_the_start_and_names_file_entry_and_reason(tmp_path: Path, name: str) -> None:
    text, entry, reason = BAD_FILES[name]
    path = tmp_path / "usher.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    environment = process_environment() | {"USHER_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(serve_command(path, emulate=False), capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == ExitCode.CONFIG, done.stderr
    complaint = next(line for line in done.stderr.splitlines() if reason in line)
    assert complaint.startswith(f"usher: {path}: {entry}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "running.json").exists()
