"""The admin port: its token, its streams, what is open without a token, what runs in a thread."""

from __future__ import annotations

import asyncio
import logging
import threading

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from broker.service.admin import TokenGuard
from broker.v1 import admin_pb2
from broker.verbs.admin import ADMIN_METHODS
from tests.service.running import CALL_S, TOKEN, Served, admin_server, fields_of, raw
from tests.verbs.world import World, open_request

WITH_TOKEN = (("authorization", f"Bearer {TOKEN}"),)


@pytest.mark.parametrize("method", ADMIN_METHODS)
async def test_no_method_of_admin_is_served_without_the_token(admin_served: Served, method: str) -> None:
    call = admin_served.channel.unary_stream(f"/broker.v1.Admin/{method}")(b"\xff", timeout=CALL_S)
    with pytest.raises(aio.AioRpcError) as error:
        await call.read()
    assert fields_of(error.value) == (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_REQUIRED", {})
    assert "authorization: Bearer" in (error.value.details() or "")
    assert "admin.token" in (error.value.details() or "")


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "")],
        [("authorization", TOKEN)],
        [("authorization", f"bearer {TOKEN}")],
        [("authorization", f"Bearer {TOKEN} ")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", "Bearer wrong"), ("authorization", f"Bearer {TOKEN}")],
        [("authorization-bin", f"Bearer {TOKEN}".encode())],
    ],
)
async def test_a_wrong_token_is_refused_and_appears_nowhere(
    admin_served: Served, metadata: list[tuple[str, str | bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(aio.AioRpcError) as error:
        await admin_served.admin.Drain(admin_pb2.DrainRequest(draining=True), metadata=metadata, timeout=CALL_S)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert TOKEN not in (error.value.details() or "")
    assert TOKEN not in caplog.text
    assert not admin_served.world.drain.is_draining


async def test_the_token_opens_admin(admin_served: Served) -> None:
    answer = await admin_served.admin.ListProducts(admin_pb2.ListProductsRequest(), metadata=WITH_TOKEN, timeout=CALL_S)
    assert [product.product for product in answer.products] == ["platform"]
    assert admin_served.world.stats.snapshot()["Admin/ListProducts", "ok"].count == 1


async def test_every_method_of_the_proto_is_there(admin_served: Served) -> None:
    for method in ADMIN_METHODS:
        call = admin_served.channel.unary_stream(f"/broker.v1.Admin/{method}")(b"\xff", metadata=WITH_TOKEN, timeout=CALL_S)
        with pytest.raises(aio.AioRpcError) as error:
            await call.read()
        assert fields_of(error.value)[2] == {"field": "message"}, method


async def test_what_is_not_served_says_so_with_its_reason(admin_served: Served) -> None:
    with pytest.raises(aio.AioRpcError) as error:
        await admin_served.admin.GetUsageReport(admin_pb2.GetUsageReportRequest(), metadata=WITH_TOKEN, timeout=CALL_S)
    assert fields_of(error.value)[:2] == (grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED_HERE")


async def test_health_and_reflection_need_no_token(admin_served: Served) -> None:
    health = health_pb2_grpc.HealthStub(admin_served.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="broker.v1.Admin"), timeout=CALL_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stream = reflection_pb2_grpc.ServerReflectionStub(admin_served.channel).ServerReflectionInfo(timeout=CALL_S)
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = await stream.read()
    assert "broker.v1.Admin" in {one.name for one in listed.list_services_response.service}
    await stream.done_writing()


async def test_sessions_can_be_mounted_on_the_admin_port_and_need_no_token() -> None:
    async with admin_server(World(seats={"platform": 1}), has_sessions=True) as served:
        answer = await served.sessions.Open(open_request("platform"), timeout=CALL_S)
    assert answer.WhichOneof("result") == "grant"


async def test_events_are_watched_from_now_on_and_resumed_from_a_sequence(admin_served: Served) -> None:
    world = admin_served.world
    world.grant("platform")
    stream = admin_served.admin.WatchEvents(admin_pb2.WatchEventsRequest(), metadata=WITH_TOKEN, timeout=CALL_S)
    await stream.initial_metadata()
    world.grant("platform", user="bob")
    message = await stream.read()
    assert message.events[0].message.startswith("bob on desk-1 opened")
    first = message.events[0].sequence
    stream.cancel()
    resumed = admin_served.admin.WatchEvents(
        admin_pb2.WatchEventsRequest(after_sequence=first - 2), metadata=WITH_TOKEN, timeout=CALL_S
    )
    again = await resumed.read()
    assert [event.sequence for event in again.events][:2] == [first - 1, first]
    assert again.missed_count == 0


async def test_stopping_ends_a_watch_at_once(admin_served: Served) -> None:
    stream = admin_served.admin.WatchEvents(admin_pb2.WatchEventsRequest(), metadata=WITH_TOKEN, timeout=CALL_S)
    await stream.initial_metadata()
    await asyncio.wait_for(admin_served.server.stop(3600), 30)
    with pytest.raises(aio.AioRpcError) as error:
        await stream.read()
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_slow_verb_does_not_hold_up_the_event_loop(admin_served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end = threading.Event()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow_reload() -> list[str]:
        loop.call_soon_threadsafe(begun.set)
        assert may_end.wait(CALL_S)
        return ["done"]

    monkeypatch.setattr(admin_served.world.admin, "_reload", slow_reload)
    reloading = admin_served.admin.Reload(admin_pb2.ReloadRequest(), metadata=WITH_TOKEN, timeout=CALL_S)
    waiting = asyncio.ensure_future(reloading)
    await asyncio.wait_for(begun.wait(), CALL_S)
    await admin_served.admin.GetBroker(admin_pb2.GetBrokerRequest(), metadata=WITH_TOKEN, timeout=CALL_S)
    may_end.set()
    assert list((await waiting).changes) == ["done"]


def test_an_empty_token_is_no_token() -> None:
    with pytest.raises(ValueError, match="empty"):
        TokenGuard("")


async def test_a_raw_call_without_any_body_is_an_empty_request(admin_served: Served) -> None:
    data = await raw(admin_served.channel, "/broker.v1.Admin/GetBroker")(b"", metadata=WITH_TOKEN, timeout=CALL_S)
    assert admin_pb2.GetBrokerResponse.FromString(data).generation == 3
