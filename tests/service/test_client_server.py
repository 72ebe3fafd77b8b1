"""The client port's own behaviour: what gRPC itself would get wrong, bounds, health, reflection, streams, stopping."""

from __future__ import annotations

import asyncio
import logging
import socket

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from broker.model.words import EndReason
from broker.service.client_server import build_client_server
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.keep_alive import KeepAliveStream
from tests.service.running import CALL_S, Served, client_server, fields_of, raw
from tests.verbs.world import World, fresh_id, open_request

UNARY_METHODS = ("Open", "Renew", "Acquire", "Release", "Close")


async def test_a_grant_and_a_denial_are_both_ok(served: Served) -> None:
    granted = await served.sessions.Open(open_request("platform"), timeout=CALL_S)
    assert granted.grant.public_id == "3.1"
    denied = await served.sessions.Open(open_request("fax"), timeout=CALL_S)
    assert denied.denial.reason == types_pb2.DENIAL_REASON_UNKNOWN_PRODUCT


@pytest.mark.parametrize("method", UNARY_METHODS)
@pytest.mark.parametrize("garbage", [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x08"])
async def test_garbage_is_an_invalid_message(served: Served, method: str, garbage: bytes) -> None:
    with pytest.raises(aio.AioRpcError) as error:
        await raw(served.channel, f"/broker.v1.Sessions/{method}")(garbage, timeout=CALL_S)
    assert fields_of(error.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": "message"})
    assert "broker.v1." in (error.value.details() or "")


async def test_text_that_is_not_utf_8_is_an_invalid_message(served: Served) -> None:
    data = open_request("platform", user="ann").SerializeToString().replace(b"ann", b"a\xffn")
    with pytest.raises(aio.AioRpcError) as error:
        await raw(served.channel, "/broker.v1.Sessions/Open")(data, timeout=CALL_S)
    assert fields_of(error.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": "message"})
    assert served.world.ledger.counters().session_count == 0


async def test_unknown_fields_are_skipped(served: Served) -> None:
    data = open_request("platform").SerializeToString() + b"\xa2\x3f\x03abc"
    answer = sessions_pb2.OpenResponse.FromString(await raw(served.channel, "/broker.v1.Sessions/Open")(data, timeout=CALL_S))
    assert answer.WhichOneof("result") == "grant"


async def test_an_error_carries_its_reason_and_metadata(served: Served) -> None:
    with pytest.raises(aio.AioRpcError) as error:
        await served.sessions.Open(open_request("platform", user=""), timeout=CALL_S)
    assert fields_of(error.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": "holder.user"})


async def test_a_message_over_64_kib_is_refused_and_the_connection_lives(served: Served) -> None:
    with pytest.raises(aio.AioRpcError) as error:
        await served.sessions.Open(open_request("platform", label="x" * 70_000), timeout=CALL_S)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await served.sessions.Open(open_request("platform"), timeout=CALL_S)


async def test_a_small_message_that_unpacks_to_a_large_one_is_refused(served: Served) -> None:
    with pytest.raises(aio.AioRpcError) as error:
        await served.sessions.Open(
            open_request("platform", label="x" * 200_000), timeout=CALL_S, compression=grpc.Compression.Gzip
        )
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_compressed_message_is_served(served: Served) -> None:
    answer = await served.sessions.Open(open_request("platform"), timeout=CALL_S, compression=grpc.Compression.Gzip)
    assert answer.WhichOneof("result") == "grant"


async def test_an_unknown_method_is_unimplemented(served: Served) -> None:
    for method in ("/broker.v1.Sessions/Nonsense", "/broker.v1.Admin/ListKeys"):
        with pytest.raises(aio.AioRpcError) as error:
            await raw(served.channel, method)(b"", timeout=CALL_S)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_bug_of_ours_is_internal_logged_and_not_shown(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(served.world.verbs, "_ask_to_open", broken)
    with caplog.at_level(logging.ERROR), pytest.raises(aio.AioRpcError) as error:
        await served.sessions.Open(open_request("platform"), timeout=CALL_S)
    assert fields_of(error.value)[:2] == (grpc.StatusCode.INTERNAL, "INTERNAL_FAULT")
    assert "secret detail" not in (error.value.details() or "")
    assert "secret detail" in caplog.text
    assert served.world.stats.snapshot()["Sessions/Open", "internal"].count == 1


async def test_every_outcome_is_counted(served: Served) -> None:
    await served.sessions.Open(open_request("platform"), timeout=CALL_S)
    await served.sessions.Open(open_request("fax"), timeout=CALL_S)
    with pytest.raises(aio.AioRpcError):
        await served.sessions.Renew(sessions_pb2.RenewRequest(session_id=b"x" * 32), timeout=CALL_S)
    counted = {pair: histogram.count for pair, histogram in served.world.stats.snapshot().items() if histogram.count}
    assert counted == {
        ("Sessions/Open", "granted"): 1,
        ("Sessions/Open", "denied"): 1,
        ("Sessions/Renew", "not_found"): 1,
    }


async def test_open_waiting_streams_one_typed_denial(served: Served) -> None:
    call = served.sessions.OpenWaiting(sessions_pb2.OpenWaitingRequest(open=open_request("platform")), timeout=CALL_S)
    (answer,) = [message async for message in call]
    assert answer.denial.reason == types_pb2.DENIAL_REASON_WAITING_UNSUPPORTED
    bad = served.sessions.OpenWaiting(sessions_pb2.OpenWaitingRequest(), timeout=CALL_S)
    with pytest.raises(aio.AioRpcError) as error:
        await bad.read()
    assert fields_of(error.value)[2] == {"field": "request_id"}


async def test_health_needs_no_token_and_follows_the_server(served: Served) -> None:
    health = health_pb2_grpc.HealthStub(served.channel)
    words = health_pb2.HealthCheckResponse
    for service in ("", "broker.v1.Sessions"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
        assert answer.status == words.SERVING
    await served.server.set_serving(False)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="broker.v1.Sessions"), timeout=CALL_S)
    assert answer.status == words.NOT_SERVING


@pytest.mark.parametrize("service", ["grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"])
async def test_reflection_lists_the_services_under_both_of_its_names(served: Served, service: str) -> None:
    call = served.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=CALL_S)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = await call.read()
    names = {one.name for one in listed.list_services_response.service}
    assert names == {"broker.v1.Sessions", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="broker.v1.Sessions"))
    described = await call.read()
    assert b"OpenRequest" in described.file_descriptor_response.file_descriptor_proto[0]
    await call.done_writing()


async def test_a_port_in_use_is_an_os_error_with_its_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world = World()
        with pytest.raises(OSError, match="in use") as error:
            build_client_server(verbs=world.verbs, stats=world.stats, tls=None, address=f"127.0.0.1:{port}")
    assert error.value.errno == 98


async def test_two_servers_never_share_a_port(served: Served) -> None:
    world = World()
    with pytest.raises(OSError, match="in use"):
        build_client_server(verbs=world.verbs, stats=world.stats, tls=None, address=f"127.0.0.1:{served.port}")


# --- KeepAlive ----------------------------------------------------------------------------------------------


async def grants(served: Served, count: int) -> list[bytes]:
    answers = [await served.sessions.Open(open_request("platform"), timeout=CALL_S) for _ in range(count)]
    return [answer.grant.session_id for answer in answers]


def renewals(*session_ids: bytes) -> sessions_pb2.KeepAliveRequest:
    return sessions_pb2.KeepAliveRequest(renewals=[sessions_pb2.RenewRequest(session_id=each) for each in session_ids])


async def test_a_stream_answers_renewals_and_brings_notices_unasked(served: Served) -> None:
    one, other = await grants(served, 2)
    stream = served.sessions.KeepAlive(timeout=CALL_S)
    await stream.write(renewals(one, other))
    answer = await stream.read()
    assert [result.session_id for result in answer.results] == [one, other]
    world = served.world
    world.ledger.revoke(world.clock(), world.ledger.session_fence(one), EndReason.REVOKED)
    told = await stream.read()
    assert told.notices[0].session_ended.end_reason == types_pb2.END_REASON_REVOKED
    await stream.write(renewals(one, other))
    again = await stream.read()
    assert [result.WhichOneof("result") for result in again.results] == ["ended", "renewed"]
    await stream.done_writing()
    assert await stream.read() is aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_stream_that_its_client_drops_leaves_the_sessions_open(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.Event()
    close = KeepAliveStream.close

    def close_and_say_so(stream: KeepAliveStream) -> None:
        close(stream)
        closed.set()

    monkeypatch.setattr(KeepAliveStream, "close", close_and_say_so)
    (session_id,) = await grants(served, 1)
    stream = served.sessions.KeepAlive(timeout=CALL_S)
    await stream.write(renewals(session_id))
    await stream.read()
    assert served.world.notices.watched_count == 1
    stream.cancel()
    await asyncio.wait_for(closed.wait(), CALL_S)
    assert served.world.notices.watched_count == 0
    await served.sessions.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=CALL_S)


@pytest.mark.parametrize(
    ("data", "field"),
    [(b"\xff" * 9, "message"), (renewals(b"x").SerializeToString(), "renewals[0].session_id")],
)
async def test_a_wrong_message_ends_the_stream_with_its_reason(served: Served, data: bytes, field: str) -> None:
    stream = served.channel.stream_stream("/broker.v1.Sessions/KeepAlive")(timeout=CALL_S)
    await stream.write(data)
    with pytest.raises(aio.AioRpcError) as error:
        await stream.read()
    assert fields_of(error.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": field})


async def test_a_thousand_sessions_live_on_one_stream() -> None:
    async with client_server(World(seats={"platform": 1000})) as served:
        ids = [served.world.grant("platform").session_id for _ in range(1000)]
        stream = served.sessions.KeepAlive(timeout=CALL_S)
        for start in range(0, 1000, 250):
            await stream.write(renewals(*ids[start : start + 250]))
            answer = await stream.read()
            assert [result.session_id for result in answer.results] == ids[start : start + 250]
        served.world.lose(0)
        told: set[bytes] = set()
        while len(told) < 1000:
            message = await stream.read()
            told |= {notice.session_id for notice in message.notices}
        assert told == set(ids)


async def test_a_client_that_never_reads_loses_its_stream_and_not_its_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 250
    async with client_server(World(seats={"platform": count})) as served:
        world = served.world
        monkeypatch.setattr(
            world.verbs,
            "keep_alive_stream",
            lambda: KeepAliveStream(renew=world.verbs.try_renew, notices=world.notices, notice_count_max=100),
        )
        ids = [world.grant("platform").session_id for _ in range(count)]
        stream = served.sessions.KeepAlive(timeout=CALL_S)
        await stream.write(renewals(*ids))
        await stream.read()
        world.lose(0)
        while True:
            try:
                assert await stream.read() is not aio.EOF
            except aio.AioRpcError as raised:
                error = raised
                break
        assert fields_of(error) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", {"bound": "notices_of_stream"})
        assert world.ledger.counters().session_count == count
        assert world.stats.snapshot()["Sessions/KeepAlive", "overloaded"].count == 1


async def test_stopping_ends_streams_as_unavailable_and_does_not_wait_out_the_grace(served: Served) -> None:
    (session_id,) = await grants(served, 1)
    stream = served.sessions.KeepAlive(timeout=CALL_S)
    await stream.write(renewals(session_id))
    await stream.read()
    await asyncio.wait_for(served.server.stop(3600), 30)
    with pytest.raises(aio.AioRpcError) as error:
        await stream.read()
    assert fields_of(error.value)[:2] == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    fence = served.world.ledger.session_fence(session_id)
    assert served.world.ledger.find_session(served.world.clock(), fence) is not None


async def test_close_over_grpc_repeats_its_answer(served: Served) -> None:
    (session_id,) = await grants(served, 1)
    request = sessions_pb2.CloseRequest(session_id=session_id, request_id=fresh_id())
    assert not (await served.sessions.Close(request, timeout=CALL_S)).replayed
    assert (await served.sessions.Close(request, timeout=CALL_S)).replayed
