"""The JSON door: sessions over plain HTTP, as http.client and curl see it.

Only JSON goes in and out here; what it must mean is the contract of the gRPC service. 64-bit integers travel as strings and
durations as "60s" (protobuf's JSON mapping), bytes as base64.
"""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import FLEET
from tests.contract.generated import Api
from tests.contract.harness import NOWHERE_ID, Door, Security, fresh_id
from tests.support.broker_process import RunningBroker, running_broker

CALL_S = 10.0
BODY_SIZE_MAX = 64 * 1024


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One broker for this module."""
    settings = {"sessions": {"renew_grace_s": 0.5}, "http": {"hosts": ["usher.example"]}}
    with running_broker(tmp_path_factory.mktemp("door"), settings=settings, emulated_keys=FLEET) as one:
        yield one


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with its JSON."""

    status: int
    headers: http.client.HTTPMessage
    body: Any

    @property
    def reason(self) -> str:
        """The reason of the google.rpc.ErrorInfo in an error."""
        (info,) = self.body["details"]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert info["domain"] == "usher"
        return str(info["reason"])


class JsonClient:
    """A client with nothing but http.client, on one kept connection."""

    def __init__(self, broker: RunningBroker) -> None:
        self._connection = http.client.HTTPConnection(broker.http, timeout=CALL_S)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; header names with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, named)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.headers["content-type"].startswith("application/json"), text
        return Answer(answer.status, answer.headers, json.loads(text))

    def post(self, verb: str, body: Any) -> Answer:
        """A verb with a JSON body."""
        return self.send(
            "POST", f"/v1/sessions:{verb}", json.dumps(body).encode(), content_type="application/json"
        )

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()


@pytest.fixture
def door(api: Api, broker: RunningBroker) -> Iterator[Door]:
    """For readings, and an empty broker after each test."""
    door = Door(api, broker, Security())
    yield door
    door.clear()


@pytest.fixture
def client(door: Door) -> Iterator[JsonClient]:
    client = JsonClient(door.broker)
    yield client
    client.close()


def login(*products: str, **changes: Any) -> dict[str, Any]:
    """The body of an open."""
    return {
        "requestId": text_of(fresh_id()),
        "holder": {"user": "анна", "host": "desk-1", "app": "1C/8.3"},
        "products": [{"product": product} for product in products or ("platform",)],
    } | changes


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def by_session(session_id: str, **more: Any) -> dict[str, Any]:
    return {"sessionId": session_id, "requestId": text_of(fresh_id())} | more


# --- the verbs ----------------------------------------------------------------------------------------------


def test_a_session_from_open_to_close(door: Door, client: JsonClient) -> None:
    opened = client.post("open", login("platform", "crm"))
    assert opened.status == 200
    grant = opened.body["grant"]
    assert len(base64.b64decode(grant["sessionId"])) == 32
    assert grant["ttl"] == "60s"
    assert grant["renewAfter"].endswith("s")
    assert isinstance(grant["changeVersion"], str)
    assert [lease["product"] for lease in grant["leases"]] == ["platform", "crm"]
    assert grant["leases"][0]["state"] == "LEASE_STATE_ACTIVE"
    assert isinstance(grant["leases"][0]["fence"], str)
    (session,) = door.broker.sessions()
    assert session.holder.user == "анна"

    session_id = grant["sessionId"]
    renewed = client.post("renew", {"sessionId": session_id, "changeVersion": grant["changeVersion"]})
    assert (renewed.status, renewed.body["ttl"]) == (200, "60s")
    acquired = client.post("acquire", by_session(session_id, products=[{"product": "telephony"}]))
    assert acquired.body["acquired"]["leases"][0]["product"] == "telephony"
    released = client.post("release", by_session(session_id, product="crm"))
    assert released.body["released"]["wasHeld"] is True
    assert door.in_use("platform", "crm", "telephony") == (1, 0, 1)
    closed = client.post("close", by_session(session_id))
    assert (closed.status, closed.body["endReason"]) == (200, "END_REASON_CLOSED")
    assert door.in_use("platform", "crm", "telephony") == (0, 0, 0)


def test_names_of_the_proto_files_are_taken_too(door: Door, client: JsonClient) -> None:
    body = login()
    body["request_id"] = body.pop("requestId")
    assert client.post("open", body).body["grant"]["leases"]
    assert door.in_use("platform") == (1,)


def test_a_denial_is_an_answer_with_numbers(door: Door, client: JsonClient) -> None:
    door.fill("telephony", 5)
    answer = client.post("open", login("platform", "telephony"))
    assert answer.status == 200
    denial = answer.body["denial"]
    assert denial["reason"] == "DENIAL_REASON_NO_FREE_SEATS"
    assert (denial["product"], denial["capacity"], denial["inUse"]) == ("telephony", 5, 5)
    assert denial["retryAfter"].endswith("s")
    assert denial["message"]
    assert door.in_use("platform") == (0,)


def test_a_repeated_open_takes_nothing_more(door: Door, client: JsonClient) -> None:
    body = login()
    first, again = client.post("open", body), client.post("open", body)
    assert (first.body["grant"]["replayed"], again.body["grant"]["replayed"]) == (False, True)
    assert first.body["grant"]["sessionId"] == again.body["grant"]["sessionId"]
    assert door.in_use("platform") == (1,)


def test_both_doors_lead_to_the_same_sessions(door: Door, client: JsonClient) -> None:
    by_grpc = door.grant(["platform"])
    assert client.post("renew", {"sessionId": text_of(by_grpc.session_id)}).status == 200
    by_json = base64.b64decode(client.post("open", login("crm")).body["grant"]["sessionId"])
    door.close(by_json)
    assert door.in_use("platform", "crm") == (1, 0)


def test_a_reused_request_id_is_refused(client: JsonClient) -> None:
    body = login("platform")
    client.post("open", body)
    answer = client.post("open", body | {"products": [{"product": "crm"}]})
    assert (answer.status, answer.body["code"], answer.reason) == (400, 3, "REQUEST_ID_REUSED")


@pytest.mark.parametrize("verb", ["renew", "acquire", "release", "close"])
def test_an_unknown_session_is_not_found(client: JsonClient, verb: str) -> None:
    bodies = {
        "renew": {"sessionId": text_of(NOWHERE_ID)},
        "acquire": by_session(text_of(NOWHERE_ID), products=[{"product": "crm"}]),
        "release": by_session(text_of(NOWHERE_ID), product="crm"),
        "close": by_session(text_of(NOWHERE_ID)),
    }
    answer = client.post(verb, bodies[verb])
    assert (answer.status, answer.body["code"], answer.reason) == (404, 5, "SESSION_NOT_FOUND")
    assert answer.body["message"]


# --- what is refused ----------------------------------------------------------------------------------------

BROKEN = {
    "no-user": login(holder={"host": "desk-1"}),
    "oversized-user": login(holder={"user": "u" * 129, "host": "desk-1"}),
    "no-products": login(products=[]),
    "only-optional": login(products=[{"product": "crm", "optional": True}]),
    "seventeen": login(products=[{"product": f"p{index}"} for index in range(17)]),
    "twice": login("crm", "crm"),
    "short-request-id": login(requestId=text_of(bytes(3))),
    "request-id-no-base64": login(requestId="%%%"),
    "unknown-field": login(colour="red"),
    "number-for-text": login(holder={"user": 7, "host": "desk-1"}),
    "text-for-list": login(products="crm"),
    "negative-ttl": login(ttl="-1s"),
    "ttl-no-duration": login(ttl="soon"),
    "a-list": [],
    "a-number": 42,
    "null": None,
    "half-a-surrogate": login(holder={"user": "\ud800", "host": "desk-1"}),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_broken_body_is_refused_and_changes_nothing(door: Door, client: JsonClient, body: Any) -> None:
    answer = client.post("open", body)
    assert (answer.status, answer.body["code"], answer.reason) == (400, 3, "INVALID_FIELD")
    assert answer.body["message"]
    assert door.session_count() == 0
    assert client.post("open", login()).status == 200  # the connection is as good as before


GARBAGE = {
    "empty": b"",
    "half": b'{"holder": {',
    "noise": bytes(range(256)),
    "latin-1": '{"holder": {"user": "é"}}'.encode("latin-1"),
    "two-documents": b"{}{}",
    "deep": b"[" * 20_000,
    "deep-objects": b'{"a":' * 10_000,
    "nan": b'{"wait_limit": NaN}',
    "huge-number": b'{"wait_limit": 1' + b"0" * 5000 + b"}",
    "same-name-twice": b'{"requestId": "", "requestId": ""}',
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("verb", ["open", "renew", "close"])
def test_garbage_is_refused(door: Door, client: JsonClient, verb: str, body: bytes) -> None:
    answer = client.send("POST", f"/v1/sessions:{verb}", body, content_type="application/json")
    assert (answer.status, answer.body["code"], answer.reason) == (400, 3, "INVALID_FIELD")
    assert door.session_count() == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(client: JsonClient, method: str) -> None:
    answer = client.send(method, "/v1/sessions:open", b"{}", content_type="application/json")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/v1/sessions:steal", "/v1/sessions", "/v2/sessions:open", "/v1/sessions:open/", "/"]
)
def test_other_paths_are_not_found(client: JsonClient, path: str) -> None:
    assert client.send("POST", path, b"{}", content_type="application/json").status == 404


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_only_json_is_taken(door: Door, client: JsonClient, content_type: str) -> None:
    """These are what a web page may send to another site without being asked."""
    body = json.dumps(login()).encode()
    assert client.send("POST", "/v1/sessions:open", body, content_type=content_type).status == 415
    assert client.send("POST", "/v1/sessions:open", body).status == 415
    assert door.session_count() == 0


def test_json_may_name_its_charset(door: Door, client: JsonClient) -> None:
    body = json.dumps(login()).encode()
    answer = client.send("POST", "/v1/sessions:open", body, content_type="application/json; charset=utf-8")
    assert answer.status == 200


def test_a_body_over_64_kib_is_refused_before_it_is_read(door: Door) -> None:
    client = JsonClient(door.broker)
    body = json.dumps(login(clientNonce="A" * BODY_SIZE_MAX)).encode()
    assert client.send("POST", "/v1/sessions:open", body, content_type="application/json").status == 413
    client.close()
    assert JsonClient(door.broker).post("open", login()).status == 200


def test_an_endless_body_is_cut_off(door: Door) -> None:
    connection = http.client.HTTPConnection(door.broker.http, timeout=CALL_S)
    parts = (b" " * 4096 for _ in range(64))
    headers = {"content-type": "application/json"}
    try:
        connection.request("POST", "/v1/sessions:open", parts, headers, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # the answer may be lost when the broker hangs up
        status = 413
    assert status == 413
    connection.close()
    assert door.session_count() == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_a_foreign_host_is_refused(door: Door, client: JsonClient, host: str) -> None:
    """DNS rebinding: a web page whose name has been pointed at this machine."""
    body = json.dumps(login()).encode()
    answer = client.send("POST", "/v1/sessions:open", body, content_type="application/json", host=host)
    assert answer.status in (400, 403, 421)
    assert door.session_count() == 0


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:7602", "127.0.0.1", "[::1]:7602", "usher.example", "USHER.example"]
)
def test_our_own_hosts_are_taken(client: JsonClient, host: str) -> None:
    body = json.dumps(login()).encode()
    answer = client.send("POST", "/v1/sessions:open", body, content_type="application/json", host=host)
    assert answer.status == 200


def test_no_site_is_allowed_to_read_answers(client: JsonClient) -> None:
    body = json.dumps(login()).encode()
    answer = client.send(
        "POST", "/v1/sessions:open", body, content_type="application/json", origin="https://evil.example"
    )
    assert "access-control-allow-origin" not in answer.headers


def test_admin_has_no_door_here(client: JsonClient) -> None:
    for path in ("/v1/admin:revokeSession", "/broker.v1.Admin/ListSessions"):
        assert client.send("POST", path, b"{}", content_type="application/json").status == 404


# --- curl ---------------------------------------------------------------------------------------------------


JSON_TYPE = ("-H", "Content-Type: application/json")


def curl(
    broker: RunningBroker,
    verb: str,
    body: Any,
    directory: Path,
    *options: str,
    content_type: tuple[str, ...] = JSON_TYPE,
) -> tuple[int, Any]:
    """The HTTP code and the JSON that plain curl gets."""
    answer_path = directory / "answer.json"
    command = ["curl", "-sS", "--max-time", "10", "-o", str(answer_path), "-w", "%{http_code}"]
    command += [*content_type, "-d", json.dumps(body), *options]
    done = subprocess.run(
        [*command, f"{broker.url}/v1/sessions:{verb}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    return int(done.stdout), json.loads(answer_path.read_text())


def test_curl_opens_renews_and_closes(door: Door, tmp_path: Path) -> None:
    status, opened = curl(door.broker, "open", login("platform", "crm"), tmp_path)
    assert status == 200
    session_id = opened["grant"]["sessionId"]
    assert door.in_use("platform", "crm") == (1, 1)
    assert curl(door.broker, "renew", {"sessionId": session_id}, tmp_path)[0] == 200
    assert curl(door.broker, "close", by_session(session_id), tmp_path)[1]["endReason"] == "END_REASON_CLOSED"
    status, error = curl(door.broker, "renew", {"sessionId": session_id}, tmp_path)
    assert (status, error["code"]) == (404, 5)
    assert door.in_use("platform", "crm") == (0, 0)


def test_curl_over_http_1_0_is_served(door: Door, tmp_path: Path) -> None:
    assert curl(door.broker, "open", login(), tmp_path, "--http1.0")[0] == 200


def test_curl_with_its_own_form_type_is_told_what_to_send(door: Door, tmp_path: Path) -> None:
    status, error = curl(door.broker, "open", login(), tmp_path, content_type=())
    assert status == 415
    assert "application/json" in error["message"]
