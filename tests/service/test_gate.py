"""Servers whose disk is slow: what tells of a session stays at the gate, on every port, and everything else goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from grpc import aio
from starlette.types import ASGIApp, Message

from broker.v1 import admin_pb2, sessions_pb2, types_pb2
from broker.verbs.commits import Gate
from broker.web.app import Health, build_http
from broker.web.door import JsonDoor
from tests.service.running import CALL_S, TOKEN, Served, admin_server, client_server, fields_of
from tests.verbs.world import World, fresh_id, open_request
from tests.web.conftest import metrics
from tests.web.test_door import open_body

TOKEN_METADATA = (("authorization", f"Bearer {TOKEN}"),)


class SlowDisk:
    """The ledger's position is how many have asked; the test says how many are let go."""

    def __init__(self) -> None:
        self.asked_count = 0
        self._let_count = 0
        self._moved = asyncio.Condition()

    @property
    def position(self) -> int:
        self.asked_count += 1
        return self.asked_count

    async def wait(self, position: int) -> None:
        async with self._moved:
            self._moved.notify_all()
            await self._moved.wait_for(lambda: self._let_count >= position)

    async def asked(self, count: int) -> None:
        """Returns when so many have come to the gate."""
        async with asyncio.timeout(CALL_S), self._moved:
            await self._moved.wait_for(lambda: self.asked_count >= count)

    async def let(self, count: int) -> None:
        """So many may pass in all."""
        async with self._moved:
            self._let_count = count
            self._moved.notify_all()


def gate_of(disk: SlowDisk) -> Gate:
    return Gate(disk, disk)


async def held_until_let(disk: SlowDisk, call: Awaitable[Any]) -> Any:
    """The answer of a call, which must not come before the disk lets it."""
    task = asyncio.ensure_future(call)
    count = disk.asked_count + 1
    await disk.asked(count)
    assert not task.done()
    await disk.let(count)
    async with asyncio.timeout(CALL_S):
        return await task


async def opened(served: Served, disk: SlowDisk, **fields: Any) -> bytes:
    """A session's id."""
    answer = await held_until_let(disk, served.sessions.Open(open_request("platform", **fields), timeout=CALL_S))
    session_id: bytes = answer.grant.session_id
    return session_id


async def test_each_verb_answers_when_the_disk_has_it() -> None:
    disk = SlowDisk()
    async with client_server(World(seats={"platform": 5, "crm": 1}), gate=gate_of(disk)) as served:
        stub = served.sessions
        session_id = await opened(served, disk)
        renewed = await held_until_let(disk, stub.Renew(sessions_pb2.RenewRequest(session_id=session_id)))
        assert renewed.ttl.seconds == 60
        wanted = [types_pb2.ProductRequest(product="crm")]
        acquire = sessions_pb2.AcquireRequest(session_id=session_id, request_id=fresh_id(), products=wanted)
        assert (await held_until_let(disk, stub.Acquire(acquire))).acquired.leases
        release = sessions_pb2.ReleaseRequest(session_id=session_id, request_id=fresh_id(), product="crm")
        assert (await held_until_let(disk, stub.Release(release))).HasField("released")
        close = sessions_pb2.CloseRequest(session_id=session_id, request_id=fresh_id())
        assert (await held_until_let(disk, stub.Close(close))).end_reason == types_pb2.END_REASON_CLOSED
        with pytest.raises(aio.AioRpcError) as caught:
            await held_until_let(disk, stub.Renew(sessions_pb2.RenewRequest(session_id=session_id)))
        assert fields_of(caught.value)[:2] == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


async def test_denials_and_refusals_are_answered_while_the_disk_stands_still() -> None:
    disk = SlowDisk()
    async with client_server(World(seats={"platform": 5}), gate=gate_of(disk)) as served:
        assert (await served.sessions.Open(open_request("fax"), timeout=CALL_S)).HasField("denial")
        with pytest.raises(aio.AioRpcError) as caught:
            await served.sessions.Renew(sessions_pb2.RenewRequest(session_id=b"short"), timeout=CALL_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert disk.asked_count == 0


async def test_results_and_notices_of_a_stream_wait() -> None:
    disk = SlowDisk()
    world = World(seats={"platform": 5})
    async with client_server(world, gate=gate_of(disk)) as served:
        session_id = await opened(served, disk)
        stream = served.sessions.KeepAlive(timeout=CALL_S)
        renewal = sessions_pb2.RenewRequest(session_id=session_id)
        await stream.write(sessions_pb2.KeepAliveRequest(renewals=[renewal]))
        answer = await held_until_let(disk, stream.read())
        assert answer.results[0].HasField("renewed")
        assert world.ledger.revoke(world.clock(), world.ledger.session_fence(session_id))
        notice = await held_until_let(disk, stream.read())
        assert notice.notices[0].session_ended.end_reason == types_pb2.END_REASON_REVOKED
        stream.cancel()


async def test_a_caller_that_gives_up_at_the_gate_keeps_its_seat_for_the_retry() -> None:
    disk = SlowDisk()
    request = open_request("platform")
    async with client_server(World(seats={"platform": 5}), gate=gate_of(disk)) as served:
        call = served.sessions.Open(request, timeout=CALL_S)
        await disk.asked(1)
        call.cancel()
        await disk.let(100)
        assert (await served.sessions.Open(request, timeout=CALL_S)).grant.replayed


async def test_what_an_admin_changes_waits_and_what_an_admin_sees_does_not() -> None:
    disk = SlowDisk()
    world = World(seats={"platform": 5})
    async with admin_server(world, gate=gate_of(disk), has_sessions=True) as served:
        session_id = await opened(served, disk)
        count = disk.asked_count
        listed = await served.admin.ListSessions(admin_pb2.ListSessionsRequest(), metadata=TOKEN_METADATA, timeout=CALL_S)
        assert disk.asked_count == count
        revoke = admin_pb2.RevokeSessionRequest(public_id=listed.sessions[0].public_id, reason="test")
        await held_until_let(disk, served.admin.RevokeSession(revoke, metadata=TOKEN_METADATA, timeout=CALL_S))
        known = admin_pb2.SetKeyEnabledRequest(thumbprint="known", enabled=False)
        await held_until_let(disk, served.admin.SetKeyEnabled(known, metadata=TOKEN_METADATA, timeout=CALL_S))
        await held_until_let(disk, served.admin.Reload(admin_pb2.ReloadRequest(), metadata=TOKEN_METADATA, timeout=CALL_S))
        with pytest.raises(aio.AioRpcError):
            await held_until_let(disk, served.sessions.Renew(sessions_pb2.RenewRequest(session_id=session_id)))


async def test_the_json_door_waits_too() -> None:
    disk = SlowDisk()
    world = World(seats={"platform": 5})
    door = JsonDoor(verbs=world.verbs, stats=world.stats, gate=gate_of(disk))
    site = build_http(door=door, health=lambda: Health(True, "serving"), metrics=metrics)
    _, granted = await held_until_let(disk, posted(site, "open", open_body("platform")))
    assert granted["grant"]["publicId"] == "3.1"
    _, denied = await posted(site, "open", open_body("fax"))
    assert "denial" in denied
    code, lost = await held_until_let(disk, posted(site, "renew", {"sessionId": "A" * 43 + "="}))
    assert (code, lost["details"][0]["reason"]) == (404, "SESSION_NOT_FOUND")


async def posted(site: ASGIApp, verb: str, body: dict[str, Any]) -> tuple[int, Any]:
    """HTTP code and body of the answer to a request that comes in one piece."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": f"/v1/sessions:{verb}", "headers": headers, "query_string": b""}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await site(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))
