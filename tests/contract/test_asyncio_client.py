"""The whole Sessions service once more, through generated asyncio stubs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.contract.harness import CALL_S, Door, error_info, fresh_id


@pytest_asyncio.fixture
async def stub(door: Door) -> AsyncIterator[Any]:
    """An asyncio stub of Sessions."""
    async with door.aio_channel() as channel:
        yield door.api.sessions_grpc.SessionsStub(channel)


async def test_a_session_from_open_to_close(door: Door, stub: Any) -> None:
    sessions = door.api.sessions
    grant = (await stub.Open(door.open_request(["platform"], ["crm"]), timeout=CALL_S)).grant
    assert [lease.product for lease in grant.leases] == ["platform", "crm"]
    renewed = await stub.Renew(sessions.RenewRequest(session_id=grant.session_id), timeout=CALL_S)
    assert renewed.ttl == grant.ttl
    acquired = (
        await stub.Acquire(door.acquire_request(grant.session_id, ["telephony"]), timeout=CALL_S)
    ).acquired
    assert [lease.product for lease in acquired.leases] == ["telephony"]
    release = sessions.ReleaseRequest(session_id=grant.session_id, request_id=fresh_id(), product="crm")
    assert (await stub.Release(release, timeout=CALL_S)).released.was_held
    assert door.in_use("platform", "crm", "telephony") == (1, 0, 1)
    close = sessions.CloseRequest(session_id=grant.session_id, request_id=fresh_id())
    assert (await stub.Close(close, timeout=CALL_S)).end_reason == door.api.types.END_REASON_CLOSED
    assert door.in_use("platform", "crm", "telephony") == (0, 0, 0)


async def test_a_denial_is_an_answer_and_an_error_has_its_info(door: Door, stub: Any) -> None:
    denial = (await stub.Open(door.open_request(["no-such-product"]), timeout=CALL_S)).denial
    assert denial.reason == door.api.types.DENIAL_REASON_UNKNOWN_PRODUCT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Open(door.open_request(user=""), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).metadata["field"] == "holder.user"


async def test_a_stream_renews_and_brings_notices(door: Door, stub: Any) -> None:
    sessions = door.api.sessions
    grants = [
        (await stub.Open(door.open_request(user=f"user-{index}"), timeout=CALL_S)).grant for index in range(5)
    ]
    call = stub.KeepAlive(timeout=30)
    renewals = [sessions.RenewRequest(session_id=grant.session_id) for grant in grants]
    await call.write(sessions.KeepAliveRequest(renewals=renewals))
    results: list[Any] = []
    while len(results) < 5:
        results.extend((await call.read()).results)
    assert [result.session_id for result in results] == [grant.session_id for grant in grants]
    await asyncio.to_thread(door.revoke, grants[3].public_id)
    (notice,) = (await call.read()).notices
    assert notice.session_id == grants[3].session_id
    assert notice.session_ended.end_reason == door.api.types.END_REASON_REVOKED
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_many_logins_at_once_never_over_grant(door: Door, stub: Any) -> None:
    requests = [door.open_request(["platform", "crm"], user=f"user-{index}") for index in range(40)]
    answers = await asyncio.gather(*(stub.Open(request, timeout=CALL_S) for request in requests))
    assert [answer.WhichOneof("result") for answer in answers].count("grant") == 10
    assert door.in_use("platform", "crm") == (10, 10)


async def test_a_cancelled_open_is_settled_by_its_retry(door: Door, stub: Any) -> None:
    request = door.open_request()
    call = stub.Open(request, timeout=CALL_S)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await stub.Open(request, timeout=CALL_S)
    assert door.in_use("platform") == (1,)


async def test_open_waiting_ends_with_one_typed_denial(door: Door, stub: Any) -> None:
    request = door.api.sessions.OpenWaitingRequest(open=door.open_request())
    updates = [update async for update in stub.OpenWaiting(request, timeout=CALL_S)]
    (update,) = updates
    assert update.denial.reason == door.api.types.DENIAL_REASON_WAITING_UNSUPPORTED
