"""Real gRPC clients, sync and asyncio, against the toy echo: shapes, statuses, deadlines, windows, metadata, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.h2.pump import FAILURE, REPEATS, Pump, pump

WAIT_S = 10


@pytest.fixture
def server() -> Iterator[Pump]:
    """A fresh echo."""
    with pump() as one:
        yield one


@pytest.fixture
def channel(server: Pump) -> Iterator[grpc.Channel]:
    """A client of it."""
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as one:
        yield one


def test_a_unary_call_is_answered_with_its_message(channel: Any) -> None:
    call = channel.unary_unary("/toy.Echo/Unary")
    assert [call(text, timeout=WAIT_S) for text in (b"seat", b"", b"x" * 1000)] == [b"seat", b"", b"x" * 1000]


def test_a_server_stream_gives_all_its_messages(channel: Any) -> None:
    assert list(channel.unary_stream("/toy.Echo/Repeat")(b"seat", timeout=WAIT_S)) == [b"seat"] * REPEATS


def test_a_client_stream_is_answered_once(channel: Any) -> None:
    messages = [bytes([number]) * number for number in range(100)]
    assert channel.stream_unary("/toy.Echo/Join")(iter(messages), timeout=WAIT_S) == b"".join(messages)


def test_a_bidirectional_call_answers_message_by_message(channel: Any) -> None:
    messages = [b"%d" % number for number in range(200)]
    assert list(channel.stream_stream("/toy.Echo/Chat")(iter(messages), timeout=WAIT_S)) == messages


def test_status_sentence_and_details_arrive_as_they_were_said(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/toy.Echo/Fail")(b"", timeout=WAIT_S)
    error: Any = raised.value
    assert (error.code().value[0], error.details()) == FAILURE[:2]
    assert dict(error.trailing_metadata())["grpc-status-details-bin"] == FAILURE[2]


def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/toy.Echo/Nothing")(b"", timeout=WAIT_S)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_compressed_message_is_unimplemented(channel: Any) -> None:
    call = channel.unary_unary("/toy.Echo/Unary")
    with pytest.raises(grpc.RpcError) as raised:
        call(b"a" * 10_000, timeout=WAIT_S, compression=grpc.Compression.Gzip)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert call(b"plain", timeout=WAIT_S) == b"plain"


def test_metadata_of_the_user_is_kept_and_that_of_the_transport_is_not(channel: Any) -> None:
    metadata = (("authorization", "Bearer seat"), ("x-site", "north"), ("x-raw-bin", b"\x00\xff"))
    answer = channel.unary_unary("/toy.Echo/Metadata")(b"", timeout=WAIT_S, metadata=metadata)
    assert sorted(answer.split(b"\n")) == [b"authorization=Bearer seat", b"x-raw-bin=AP8", b"x-site=north"]


def test_megabytes_pass_through_the_windows_in_both_directions(channel: Any) -> None:
    large = bytes(range(256)) * (3 << 12)
    assert channel.unary_unary("/toy.Echo/Unary")(large, timeout=WAIT_S) == large
    assert len(channel.unary_unary("/toy.Echo/Large")(b"5000000", timeout=WAIT_S)) == 5_000_000


def test_a_passed_deadline_ends_the_call_on_both_sides(server: Pump, channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/toy.Echo/Slow")(b"", timeout=0.1)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.has_cancelled.wait(WAIT_S)


def test_a_cancelled_call_is_told(server: Pump, channel: Any) -> None:
    waiting = channel.stream_stream("/toy.Echo/Chat")(iter([b"here"]), timeout=WAIT_S)
    assert next(waiting) == b"here"
    slow = channel.unary_unary("/toy.Echo/Slow").future(b"", timeout=WAIT_S)
    channel.unary_unary("/toy.Echo/Unary")(b"", timeout=WAIT_S)  # behind it on the same connection
    slow.cancel()
    assert server.has_cancelled.wait(WAIT_S)


def test_a_message_above_the_bound_is_refused_and_the_connection_goes_on() -> None:
    with pump(message_size_max=1000) as server, grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/toy.Echo/Unary")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"x" * 1001, timeout=WAIT_S)
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(b"x" * 1000, timeout=WAIT_S) == b"x" * 1000
        assert len(server.served) == 1


async def test_a_thousand_streams_at_once_are_all_answered(server: Pump) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        calls = [channel.stream_stream("/toy.Echo/Chat")(timeout=WAIT_S * 3) for _ in range(1000)]
        for number, call in enumerate(calls):
            await call.write(b"%d" % number)
        answers = await asyncio.gather(*(call.read() for call in calls))
        assert server.served[0].stream_count() == 1000
        for call in calls:
            await call.done_writing()
        codes = await asyncio.gather(*(call.code() for call in calls))
    assert answers == [b"%d" % number for number in range(1000)]
    assert set(codes) == {grpc.StatusCode.OK}
    assert server.served[0].stream_count() == 0


async def test_asyncio_clients_get_all_four_shapes(server: Pump) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        assert await channel.unary_unary("/toy.Echo/Unary")(b"seat", timeout=WAIT_S) == b"seat"
        assert [part async for part in channel.unary_stream("/toy.Echo/Repeat")(b"a", timeout=WAIT_S)] == [b"a"] * REPEATS
        assert await channel.stream_unary("/toy.Echo/Join")(iter([b"a", b"b"]), timeout=WAIT_S) == b"ab"
        chat = channel.stream_stream("/toy.Echo/Chat")(iter([b"a", b"b"]), timeout=WAIT_S)
        assert [part async for part in chat] == [b"a", b"b"]


def test_more_calls_than_streams_are_allowed_wait_and_are_served() -> None:
    with pump(streams_max=10) as server, grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/toy.Echo/Unary")
        call(b"", timeout=WAIT_S)
        futures = [call.future(b"%d" % number, timeout=WAIT_S) for number in range(300)]
        assert [future.result() for future in futures] == [b"%d" % number for number in range(300)]
