"""The JSON door over real sockets: verbs, errors, and everything that HTTP can get wrong."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import socket
import subprocess
from typing import Any

import pytest
from starlette.types import Message

from broker.web.app import Health, build_http
from broker.web.door import JsonDoor
from tests.verbs.world import World, fresh_id
from tests.web.conftest import CALL_S, Site, metrics


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def open_body(*products: str, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "requestId": encoded(fresh_id()),
        "holder": {"user": "ann", "host": "desk-1"},
        "products": [{"product": product} for product in products],
    }
    return body | fields


def session_count(site: Site) -> int:
    return site.world.ledger.counters().session_count


def test_a_session_is_opened_renewed_and_closed(site: Site) -> None:
    opened = site.post("open", open_body("platform"))
    assert (opened.code, opened.headers["content-type"]) == (200, "application/json")
    grant = opened.json["grant"]
    assert grant["publicId"] == "3.1"
    assert grant["ttl"] == "60s"
    assert grant["changeVersion"] == "1"
    assert grant["leases"][0]["product"] == "platform"
    assert grant["leases"][0]["state"] == "LEASE_STATE_ACTIVE"
    assert int(grant["leases"][0]["fence"]) > 3 << 40
    renewed = site.post("renew", {"sessionId": grant["sessionId"], "changeVersion": grant["changeVersion"]})
    assert renewed.json["ttl"] == "60s"
    assert renewed.json["changed"] == []
    closed = site.post("close", {"sessionId": grant["sessionId"], "requestId": encoded(fresh_id())})
    assert closed.json == {"endReason": "END_REASON_CLOSED", "replayed": False}
    assert session_count(site) == 0


def test_products_are_acquired_and_released(site: Site) -> None:
    site.world.add_seats(5, "crm", 1)
    grant = site.post("open", open_body("platform")).json["grant"]
    acquire = {"sessionId": grant["sessionId"], "requestId": encoded(fresh_id()), "products": [{"product": "crm"}]}
    assert site.post("acquire", acquire).json["acquired"]["leases"][0]["product"] == "crm"
    assert site.post("acquire", acquire).json["acquired"]["replayed"] is True
    release = {"sessionId": grant["sessionId"], "requestId": encoded(fresh_id()), "product": "crm"}
    assert site.post("release", release).json["released"]["wasHeld"] is True


def test_a_denial_is_an_answer_with_all_its_numbers(site: Site) -> None:
    for _ in range(5):
        site.post("open", open_body("platform"))
    reply = site.post("open", open_body("platform"))
    assert reply.code == 200
    denial = reply.json["denial"]
    assert denial["reason"] == "DENIAL_REASON_NO_FREE_SEATS"
    assert (denial["capacity"], denial["inUse"], denial["deficit"], denial["waiters"]) == (5, 5, 0, 0)
    assert denial["retryAfter"] == "5s"


def test_a_retry_takes_nothing_more(site: Site) -> None:
    body = open_body("platform")
    first = site.post("open", body).json["grant"]
    again = site.post("open", body).json["grant"]
    assert (first["sessionId"], again["replayed"]) == (again["sessionId"], True)
    assert session_count(site) == 1


def test_names_of_the_proto_files_and_other_alphabets_are_taken(site: Site) -> None:
    body = {
        "request_id": encoded(fresh_id()),
        "holder": {"user": "Анна", "host": "стол-1"},
        "products": [{"product": "platform"}],
        "instance_id": "место",
    }
    assert "grant" in site.post("open", body).json
    (session,) = site.world.ledger.sessions(site.world.clock())[0]
    assert session.user.decode() == "Анна"


def test_a_byte_order_mark_and_a_charset_are_tolerated(site: Site) -> None:
    data = b"\xef\xbb\xbf" + json.dumps(open_body("platform")).encode()
    reply = site.post("open", data, content_type='Application/JSON; charset="UTF-8"')
    assert "grant" in reply.json


@pytest.mark.parametrize(
    ("verb", "body", "expected"),
    [
        ("open", {}, (400, 3, "INVALID_FIELD", {"field": "request_id"})),
        ("open", {"requestId": encoded(b"x" * 16)}, (400, 3, "INVALID_FIELD", {"field": "holder.user"})),
        ("renew", {"sessionId": encoded(b"x" * 32)}, (404, 5, "SESSION_NOT_FOUND", {})),
        ("renew", {"sessionId": "eHg="}, (400, 3, "INVALID_FIELD", {"field": "session_id"})),
    ],
)
def test_errors_have_their_http_code_and_the_form_of_google_rpc_status(
    site: Site, verb: str, body: Any, expected: tuple[int, int, str, dict[str, str]]
) -> None:
    assert site.post(verb, body).error == expected


def test_a_draining_broker_is_503_and_a_bound_is_429(site: Site) -> None:
    site.world.drain.set(True)
    assert site.post("open", open_body("platform")).error == (503, 14, "DRAINING", {})
    site.world.drain.set(False)
    grant = site.post("open", open_body("platform")).json["grant"]
    names = [f"p{number}" for number in range(40)]
    for source, name in enumerate(names, start=100):
        site.world.add_seats(source, name, 1)

    def acquire(products: list[str]) -> tuple[int, int, str, dict[str, str]] | None:
        wanted = [{"product": product} for product in products]
        body = {"sessionId": grant["sessionId"], "requestId": encoded(fresh_id()), "products": wanted}
        reply = site.post("acquire", body)
        return None if reply.code == 200 else reply.error

    assert acquire(names[:16]) is None
    assert acquire(names[16:32]) == (429, 8, "OVERLOADED", {"bound": "leases_of_session"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b"42",
        b'{"requestId"',
        b"{} {}",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"\xff\xfe\x00",
        b'{"holder": {"user": "\xff"}}',
        b'{"holder": {"user": "\\ud800"}}',
        b'{"nonsense": 1}',
        b'{"requestId": "not base64!"}',
        b'{"requestId": 7}',
        b'{"holder": "ann"}',
        b'{"products": {"product": "platform"}}',
        b'{"ttl": "soon"}',
        b'{"ttl": 60}',
        b'{"ttl": "999999999999999999s"}',
        b'{"ttl": "NaNs"}',
        b'{"instanceId": "a", "instanceId": "b"}',
    ],
)
def test_a_body_that_is_no_request_is_400_and_takes_nothing(site: Site, body: bytes) -> None:
    reply = site.post("open", body)
    assert reply.error == (400, 3, "INVALID_FIELD", {"field": "message"})
    assert len(reply.body) < 1000
    assert session_count(site) == 0


def test_a_number_out_of_range_is_400(site: Site) -> None:
    body = {"sessionId": encoded(b"x" * 32), "changeVersion": "9223372036854775808"}
    assert site.post("renew", body).error == (400, 3, "INVALID_FIELD", {"field": "message"})


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", "application/json; charset=utf-16"],
)
def test_anything_but_json_is_415(site: Site, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    reply = site.send("POST", "/v1/sessions:open", json.dumps(open_body("platform")).encode(), headers)
    assert reply.error[::2] == (415, "JSON_REQUIRED")
    assert session_count(site) == 0


def test_a_packed_body_is_415(site: Site) -> None:
    assert site.post("open", b"\x1f\x8b", content_encoding="gzip").error[::2] == (415, "JSON_REQUIRED")


def test_a_body_over_64_kib_is_413_announced_or_not(site: Site) -> None:
    body = json.dumps(open_body("platform")).encode()
    assert "grant" in site.post("open", body + b" " * (65_536 - len(body))).json
    large = open_body("platform") | {"instanceId": "x" * 70_000}
    assert site.post("open", large).error[::2] == (413, "BODY_TOO_LARGE")
    with socket.create_connection(("127.0.0.1", site.port), timeout=CALL_S) as connection:
        connection.sendall(
            b"POST /v1/sessions:open HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        )
        for _ in range(4):
            connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405_and_say_which_is_taken(site: Site, method: str) -> None:
    reply = site.send(method, "/v1/sessions:open")
    assert reply.error[::2] == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "POST"
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/v1/sessions:open/", "/v1/sessions:OPEN", "/v1/sessions", "/admin", "/metrics/x"])
def test_other_paths_are_404(site: Site, path: str) -> None:
    assert site.send("POST", path, b"{}", {"content-type": "application/json"}).error == (404, 5, "UNKNOWN_PATH", {})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "broker.example.", "localhost:port", "", "user@localhost", "[::1]]"],
)
@pytest.mark.parametrize("path", ["/v1/sessions:open", "/metrics", "/"])
def test_a_foreign_host_is_421_on_every_path_but_health(site: Site, host: str, path: str) -> None:
    assert site.send("POST", path, b"{}", {"host": host}).error == (421, 7, "HOST_NOT_ALLOWED", {})
    assert site.send("GET", "/healthz", headers={"host": host}).code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7602", "127.0.0.1", "127.0.0.1:1", "[::1]:7602", "broker.example", "BROKER.example:80"])
def test_loopback_names_and_configured_ones_are_answered(site: Site, host: str) -> None:
    assert "grant" in site.post("open", open_body("platform"), host=host).json


def test_a_bug_of_ours_is_500_logged_and_not_shown(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(site.world.verbs, "_ask_to_open", broken)
    with caplog.at_level(logging.ERROR):
        reply = site.post("open", open_body("platform"))
    assert reply.error == (500, 13, "INTERNAL_FAULT", {})
    assert b"secret" not in reply.body
    assert "secret detail" in caplog.text


def test_requests_at_the_door_are_counted_by_outcome(site: Site) -> None:
    site.post("open", open_body("platform"))
    site.post("open", open_body("fax"))
    site.post("open", b"nonsense")
    counted = {pair: histogram.count for pair, histogram in site.world.stats.snapshot().items() if histogram.count}
    assert counted == {("Door/Open", "granted"): 1, ("Door/Open", "denied"): 1, ("Door/Open", "invalid"): 1}


def test_curl_opens_a_session(site: Site) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    command = [
        *(curl, "--silent", "--show-error", "--max-time", str(CALL_S), "--noproxy", "*"),
        *("--header", "Content-Type: application/json", "--data", json.dumps(open_body("platform"))),
        f"http://localhost:{site.port}/v1/sessions:open",
    ]
    answer = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(answer.stdout)["grant"]["publicId"] == "3.1"


async def test_a_client_that_leaves_amid_its_body_is_no_fault_of_ours() -> None:
    world = World(seats={"platform": 5})
    door = JsonDoor(verbs=world.verbs, stats=world.stats)
    application = build_http(door=door, health=lambda: Health(True, "serving"), metrics=metrics)
    coming: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return coming.pop(0)

    async def send(_: Message) -> None:
        """Nobody is there any more."""

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/sessions:open", "headers": headers, "query_string": b""}
    await application(scope, receive, send)
    assert world.ledger.counters().session_count == 0
