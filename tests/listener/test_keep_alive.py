"""KeepAlive on the data plane: renewals in their order, bounds, ends, and what a stream leaves behind."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from broker._ledger import LIMITS
from broker.model.listener import ListenerCounters
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.bounds import MESSAGE_SIZE_MAX
from tests.listener.harness import WAIT_S, Served, next_request_id, serving
from tests.listener.streams import (
    KeepAlive,
    ask,
    await_watched,
    details_of,
    ended_with,
    grant,
    lose,
    narrow_channel,
    open_many,
    prove,
    revoke,
)
from tests.support.waiting import until

MESSAGE_MAX = LIMITS["RENEWALS_PER_MESSAGE_MAX"]
STREAM_MAX = LIMITS["SESSIONS_PER_STREAM_MAX"]
WAITING_MAX = LIMITS["STREAM_WAITING_SIZE_MAX"]


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(seats={"platform": 20_000, "crm": 5}, thread_count=request.param) as one:
        yield one


def counted(counters: ListenerCounters, outcome: str) -> int:
    """Messages, or streams, of KeepAlive that came to this."""
    counts = counters.calls.get(("Sessions/KeepAlive", outcome))
    return sum(counts.bucket_counts) if counts else 0


def close(served: Served, session_id: bytes) -> None:
    request = sessions_pb2.CloseRequest(session_id=session_id, request_id=next_request_id())
    served.sessions().Close(request, timeout=WAIT_S)


def is_alive(served: Served, session_id: bytes) -> bool:
    """Whether a renewal by another call finds it."""
    request = sessions_pb2.RenewRequest(session_id=session_id)
    return bool(served.sessions().Renew(request, timeout=WAIT_S).ttl.seconds)


# --- renewals ----------------------------------------------------------------------------------------------------


def test_response_headers_come_before_any_message(served: Served) -> None:
    stream = KeepAlive(served)
    assert stream.call.initial_metadata() is not None
    assert served.counters().keep_alive_streams == 1
    assert served.counters().messages_sent == 0
    stream.call.cancel()


def test_results_come_in_the_order_of_the_renewals_and_say_why_a_session_is_over(served: Served) -> None:
    live, gone = grant(served), grant(served)
    close(served, gone.session_id)
    unknown = secrets.token_bytes(32)
    with KeepAlive(served) as stream:
        one, two, three, four = stream.renew(live.session_id, gone.session_id, unknown, live.session_id)
    assert [each.WhichOneof("result") for each in (one, two, three, four)] == ["renewed", "ended", "ended", "renewed"]
    assert (one.session_id, two.session_id, three.session_id) == (live.session_id, gone.session_id, unknown)
    assert one.renewed.ttl.seconds == 60
    assert (two.ended.public_id, two.ended.end_reason) == (gone.public_id, types_pb2.END_REASON_CLOSED)
    assert (three.ended.public_id, three.ended.end_reason) == ("", types_pb2.END_REASON_UNSPECIFIED)


def test_a_message_without_renewals_is_not_answered(served: Served) -> None:
    (session_id,) = open_many(served, 1)
    with KeepAlive(served) as stream:
        stream.send()
        stream.send(forget=(session_id,))
        assert len(stream.renew(session_id)) == 1
        assert not stream.has_unread
    assert counted(served.counters(), "ok") == 3


def test_a_thousand_sessions_live_on_one_stream(served: Served) -> None:
    ids = open_many(served, 1000)
    with KeepAlive(served) as stream:
        for start in range(0, 1000, MESSAGE_MAX):
            stream.send(*ids[start : start + MESSAGE_MAX])
        results = stream.results(1000)
        assert [result.session_id for result in results] == ids
        assert {result.WhichOneof("result") for result in results} == {"renewed"}
        await_watched(served, 1000)
        revoke(served, ids[777])
        assert stream.notice().session_id == ids[777]
    assert counted(served.counters(), "ok") == 4


def test_twenty_streams_of_one_connection_do_not_mix(served: Served) -> None:
    channel = served.channel()
    ids = open_many(served, 200)
    streams = [KeepAlive(served, channel) for _ in range(20)]
    for turn in range(3):
        for number, stream in enumerate(streams):
            stream.send(*ids[number * 10 : number * 10 + 10 - turn])
    for number, stream in enumerate(streams):
        told = [result.session_id for result in stream.results(27)]
        assert told == [each for turn in range(3) for each in ids[number * 10 : number * 10 + 10 - turn]]
    assert served.counters().connections == 1
    for number in (3, 19):
        revoke(served, ids[number * 10])
        assert streams[number].notice().session_id == ids[number * 10]
    assert not any(stream.has_unread for stream in streams)
    for stream in streams:
        stream.half_close()
    assert [stream.rest() for stream in streams] == [[]] * 20
    assert {stream.call.code() for stream in streams} == {grpc.StatusCode.OK}


def test_no_message_of_a_stream_passes_64_kib_and_long_answers_come_whole() -> None:
    products = [f"product-with-a-very-long-name-{number:02}" for number in range(16)]
    with serving(seats=dict.fromkeys(products, 256)) as served:
        ids = open_many(served, 256, *products)
        for source in range(16):
            lose(served, source)
        served.wait_until(lambda _: all(pool.key_grace_count == 256 for pool in served.ledger.pools()))
        with KeepAlive(served) as stream:
            stream.send(*ids)
            stream.send(*ids)
            messages, told = [], 0
            while told < 512:
                messages.append(stream.message())
                told += len(sessions_pb2.KeepAliveResponse.FromString(messages[-1]).results)
            assert sum(map(len, messages)) > LIMITS["H2_OUTPUT_SIZE_DEFAULT"], "more than h2 buffers for one stream"
            assert max(map(len, messages)) <= MESSAGE_SIZE_MAX
            parsed = [sessions_pb2.KeepAliveResponse.FromString(message) for message in messages]
            assert [result.session_id for response in parsed for result in response.results] == ids * 2


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "request_message"),
    [
        ("renewals", ask(*[b"x" * 32] * 257)),
        ("renewals[1].session_id", ask(b"x" * 32, b"x")),
        ("renewals[0].session_id", ask(b"")),
        ("renewals[0].change_version", ask(b"x" * 32, version=-1)),
        ("forget", ask(forget=(b"short",))),
    ],
)
def test_a_wrong_message_is_refused_whole(served: Served, field: str, request_message: sessions_pb2.KeepAliveRequest) -> None:
    with KeepAlive(served) as stream:
        stream.send_bytes(request_message.SerializeToString())
        with ended_with(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field=field):
            stream.results(1)
    assert served.ledger.counters().not_found_total == 0
    served.wait_until(lambda counters: counters.keep_alive_streams == 0)
    assert counted(served.counters(), "invalid") == 1


def test_garbage_ends_the_stream(served: Served) -> None:
    with KeepAlive(served) as stream:
        stream.send_bytes(b"\xff\xff\xff")
        with ended_with(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="message"):
            stream.results(1)


def test_a_fault_comes_behind_the_answers_to_the_messages_before_it(served: Served) -> None:
    ids = open_many(served, 3)
    with KeepAlive(served) as stream:
        stream.send(*ids)
        stream.send(b"short")
        stream.send(*ids)
        assert len(stream.results(3)) == 3
        with ended_with(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="renewals[0].session_id"):
            stream.results(1)
    assert served.ledger.counters().renewed_total == 3
    await_watched(served, 0)


def test_a_stream_speaks_for_a_bounded_number_of_sessions(served: Served) -> None:
    ids = open_many(served, STREAM_MAX + 1)
    with KeepAlive(served) as stream:
        for start in range(0, STREAM_MAX, MESSAGE_MAX):
            stream.send(*ids[start : min(start + MESSAGE_MAX, STREAM_MAX)])
        assert {result.WhichOneof("result") for result in stream.results(STREAM_MAX)} == {"renewed"}
        assert len(stream.renew(*ids[:MESSAGE_MAX])) == MESSAGE_MAX, "whom it speaks for already counts once"
        (moved,) = stream.renew(ids[-1], forget=(ids[0],))
        assert moved.WhichOneof("result") == "renewed"
        stream.send(ids[0], ids[0])
        with ended_with(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", bound="sessions_of_stream"):
            stream.results(1)
        assert f"at most {STREAM_MAX} sessions" in stream.call.details()
    assert counted(served.counters(), "overloaded") == 1
    await_watched(served, 0)


def test_sessions_that_are_not_open_take_no_room_for_long(served: Served) -> None:
    ids = open_many(served, STREAM_MAX)
    with KeepAlive(served) as stream:
        for start in range(0, STREAM_MAX, MESSAGE_MAX):
            stream.send(*[secrets.token_bytes(32) for _ in range(MESSAGE_MAX)])
            stream.send(*ids[start : start + MESSAGE_MAX])
        count = -(-STREAM_MAX // MESSAGE_MAX) * MESSAGE_MAX + STREAM_MAX
        with pytest.raises(grpc.RpcError) as caught:
            stream.results(count)  # unknown ids count as if they were open: the last ones find no room
    assert details_of(caught.value)[2] == {"bound": "sessions_of_stream"}


def test_a_session_that_is_renewed_and_forgotten_in_the_next_message_is_forgotten(served: Served) -> None:
    forgotten, watched = open_many(served, 2)
    with KeepAlive(served) as stream:
        stream.send(forgotten, watched)
        stream.send(watched, forget=(forgotten, secrets.token_bytes(32)))
        stream.results(3)
        await_watched(served, 1)
        revoke(served, forgotten)
        revoke(served, watched)
        assert stream.notice().session_id == watched
        assert not stream.has_unread


def test_an_end_that_cannot_be_recorded_tells_nothing_of_its_message_and_ends_the_stream() -> None:
    """The ring is full and nobody drains it: whether the session is over cannot be said yet (semantics rule 26)."""
    settings: dict[str, Any] = {"is_lossy": False, "event_ring_size": LIMITS["EVENT_RING_MIN"], "renew_grace_ns": 0, "is_ticking": False}
    products = [f"product-{number}" for number in range(16)]
    with serving(seats=dict.fromkeys(["platform", *products], 5000), **settings) as served:
        (kept,) = open_many(served, 1)
        (due,) = open_many(served, 1, *products, ttl_ns=LIMITS["TTL_MIN_NS"])  # its end takes more room than an Open
        fence = served.ledger.session_fence(due)
        with contextlib.suppress(AssertionError):
            open_many(served, 5000, user=b"x" * 100)
        until(lambda: served.ledger.find_session(time.monotonic_ns(), fence) is None, "the end of the session's time")
        with KeepAlive(served) as stream:
            assert stream.renew(kept)[0].WhichOneof("result") == "renewed"
            renewed = served.ledger.counters().renewed_total
            stream.send(kept, due, kept)
            stream.send(kept)
            with ended_with(grpc.StatusCode.UNAVAILABLE, "EVENTS_FULL"):
                stream.results(1)
            assert served.ledger.counters().renewed_total >= renewed + 2, "the others of the message are renewed"
    assert (counted(served.counters(), "ok"), counted(served.counters(), "unavailable")) == (1, 1)


# --- ends --------------------------------------------------------------------------------------------------------------


def test_a_half_closed_stream_ends_well_behind_what_was_still_to_be_answered(served: Served) -> None:
    ids = open_many(served, 1000)
    with KeepAlive(served) as stream:
        for start in range(0, 1000, 200):
            stream.send(*ids[start : start + 200])
        stream.half_close()
        messages = [sessions_pb2.KeepAliveResponse.FromString(data) for data in stream.rest()]
        assert [result.session_id for message in messages for result in message.results] == ids
        assert stream.call.code() is grpc.StatusCode.OK
    await_watched(served, 0)
    assert is_alive(served, ids[0])


def test_a_cancelled_stream_ends_no_session_and_leaves_nothing_behind(served: Served) -> None:
    ids = open_many(served, 500)
    channel = served.channel()
    with KeepAlive(served, channel) as stream, KeepAlive(served, channel) as other:
        other.renew(ids[0])
        stream.send(*ids[:250])
        stream.send(*ids[250:])
        stream.results(100)
        stream.call.cancel()
        await_watched(served, 1)
        revoke(served, ids[0])
        assert other.notice().session_id == ids[0]
    assert is_alive(served, ids[499])
    assert served.wait_until(lambda counters: counters.keep_alive_streams == 0).watched_sessions == 0


def test_a_lost_connection_ends_no_session_and_leaves_nothing_behind(served: Served) -> None:
    ids = open_many(served, 300)
    channel = served.channel()
    streams = [KeepAlive(served, channel) for _ in range(5)]
    for stream in streams:
        stream.send(*ids[:256])
        stream.send(*ids[256:])
        stream.results(300)
    channel.close()
    counters = served.wait_until(lambda counters: counters.connections == 0)
    assert (counters.keep_alive_streams, counters.watched_sessions) == (0, 0)
    assert is_alive(served, ids[299])


def test_a_drain_ends_the_streams_with_unavailable(served: Served) -> None:
    (session_id,) = open_many(served, 1)
    with KeepAlive(served) as stream:
        stream.renew(session_id)
        served.listener.drain(WAIT_S * 10**9)
        with ended_with(grpc.StatusCode.UNAVAILABLE, "DRAINING"):
            stream.results(1)
        assert stream.call.details() == "The broker is stopping; open the stream again later. No session has ended by this."
        served.close_channels()
        served.join()
    assert counted(served.counters(), "unavailable") == 1


def test_streams_that_come_and_go_leave_nothing_behind(served: Served) -> None:
    ids = open_many(served, 200)
    channel = served.channel()
    for turn in range(60):
        with KeepAlive(served, channel) as stream:
            stream.renew(*ids)
            if turn % 2:
                stream.half_close()
                assert stream.rest() == []
    counters = served.wait_until(lambda counters: counters.keep_alive_streams == 0)
    assert counters.watched_sessions == 0
    assert counters.connections == 1


# --- slow readers ---------------------------------------------------------------------------------------------------------


def test_who_sends_without_reading_is_slowed_down_and_gets_every_answer_in_order(served: Served) -> None:
    ids = open_many(served, MESSAGE_MAX)
    count = 4 * WAITING_MAX // (MESSAGE_MAX * 54)  # answers of several times what may wait
    with narrow_channel(served) as channel, KeepAlive(served, channel) as stream, KeepAlive(served) as other:
        for number in range(count):
            stream.send(*ids[number % MESSAGE_MAX :], *ids[: number % MESSAGE_MAX])
        other.renew(ids[0])  # nobody else is held up
        for number in range(count):
            results = stream.results(MESSAGE_MAX)
            assert [result.session_id for result in results] == ids[number % MESSAGE_MAX :] + ids[: number % MESSAGE_MAX]


def test_who_does_not_read_its_notices_loses_the_stream_and_nothing_else() -> None:
    product, count = "product-with-a-very-long-name-00", 6000
    with serving(seats={product: count}) as served:
        ids = open_many(served, count, product)
        with narrow_channel(served) as channel, KeepAlive(served, channel) as slow, KeepAlive(served) as other:
            for start in range(0, count, MESSAGE_MAX):
                slow.send(*ids[start : start + MESSAGE_MAX])
            slow.results(count)
            told, is_lost = 0, False
            while served.counters().keep_alive_streams == 2:
                is_lost = not is_lost
                if is_lost:
                    lose(served)
                else:
                    prove(served, 0, product, count)
                told += count  # each session once, or the stream is lost
                await_told_or_lost(served, told)
            with ended_with(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", bound="notices_of_stream"):
                slow.notices(told + 1)
            assert other.renew(ids[0])[0].WhichOneof("result") == "renewed"
        assert is_alive(served, ids[1])


def await_told_or_lost(served: Served, count: int) -> None:
    served.wait_until(lambda counters: counters.notices == count or counters.keep_alive_streams == 1)
