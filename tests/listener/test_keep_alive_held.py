"""KeepAlive while answers are held: what tells of a session leaves when its events are committed, in its order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest

from broker.v1 import types_pb2
from tests.listener.harness import FOREVER, Served, serving
from tests.listener.streams import KeepAlive, await_watched, ended_with, lose, open_many, revoke


@pytest.fixture
def served() -> Iterator[Served]:
    """Nobody commits but the test. The ledger's clock goes on, so that key grace comes by itself."""
    with serving(seats={"platform": 20}, is_holding=True) as one:
        yield one


def commit(served: Served) -> int:
    """All that the listener waits for by now."""
    position = served.listener.position
    served.listener.commit(position)
    return position


def await_messages(served: Served, count: int) -> None:
    """Until so many requests of streams have been done."""

    def are_done() -> bool:
        counts = served.counters().calls.get(("Sessions/KeepAlive", "ok"))
        return counts is not None and sum(counts.bucket_counts) == count

    served.wait_until(lambda _: are_done())


def settled_messages(served: Served) -> int:
    """Requests of streams done, once no more are let in."""
    before, now, pause = -1, 0, threading.Event()
    while now != before or now == 0:
        before = now
        pause.wait(0.2)
        counts = served.counters().calls.get(("Sessions/KeepAlive", "ok"))
        now = sum(counts.bucket_counts) if counts else 0
    return now


def test_renewals_wait_for_their_events_and_then_all_come_in_order(served: Served) -> None:
    ids = open_many(served, 20)
    with KeepAlive(served) as stream:
        for number in range(10):
            stream.send(*ids[number:])
        await_messages(served, 10)
        assert served.counters().messages_sent == 0
        commit(served)
        told = [result.session_id for result in stream.results(155)]
        assert told == [session_id for number in range(10) for session_id in ids[number:]]
        assert len(stream.renew(*ids)) == 20, "nothing has happened since"


def test_a_commit_lets_go_what_it_covers_and_no_more(served: Served) -> None:
    (first,) = open_many(served, 1)
    with KeepAlive(served) as stream:
        stream.send(first)
        await_messages(served, 1)
        covered = served.listener.position
        (second,) = open_many(served, 1)
        stream.send(first, second)
        await_messages(served, 2)
        assert served.listener.position > covered
        served.listener.commit(covered)
        assert [result.session_id for result in stream.results(1)] == [first]
        assert not stream.has_unread
        commit(served)
        assert [result.session_id for result in stream.results(2)] == [first, second]


def test_a_notice_waits_for_the_end_of_its_event(served: Served) -> None:
    one, other = open_many(served, 2)
    with KeepAlive(served) as stream:
        stream.send(one, other)
        await_messages(served, 1)
        commit(served)
        stream.results(2)
        revoke(served, one)
        stream.send(other)  # its position lies behind the end
        await_messages(served, 2)
        assert served.counters().notices == 0
        commit(served)
        (notice,) = stream.notices(1)
        assert (notice.session_id, notice.session_ended.end_reason) == (one, types_pb2.END_REASON_REVOKED)
        stream.results(1)


def test_key_grace_is_told_when_it_is_committed(served: Served) -> None:
    ids = open_many(served, 20)
    with KeepAlive(served) as stream:
        stream.send(*ids)
        await_messages(served, 1)
        commit(served)
        stream.results(20)
        lose(served)
        served.wait_until(lambda _: served.ledger.pools()[0].key_grace_count == 20)
        assert served.counters().notices == 0
        served.listener.commit(FOREVER)
        assert {notice.session_id for notice in stream.notices(20)} == set(ids)


def test_a_half_closed_stream_ends_when_its_last_answer_has_left(served: Served) -> None:
    ids = open_many(served, 3)
    with KeepAlive(served) as stream:
        stream.send(*ids)
        stream.half_close()
        await_messages(served, 1)
        await_watched(served, 0)
        assert served.counters().keep_alive_streams == 1
        commit(served)
        assert len(stream.rest()) == 1
        assert stream.call.code() is grpc.StatusCode.OK
    assert served.wait_until(lambda counters: counters.keep_alive_streams == 0).held_answers == 0


def test_a_fault_ends_the_stream_behind_what_is_held(served: Served) -> None:
    ids = open_many(served, 3)
    with KeepAlive(served) as stream:
        stream.send(*ids)
        stream.send(b"short")
        served.wait_until(lambda counters: ("Sessions/KeepAlive", "invalid") in counters.calls)
        assert served.counters().messages_sent == 0
        commit(served)
        assert len(stream.results(3)) == 3
        with ended_with(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="renewals[0].session_id"):
            stream.results(1)


def test_a_drain_says_what_is_held_before_it_ends_the_stream(served: Served) -> None:
    ids = open_many(served, 3)
    with KeepAlive(served) as stream:
        stream.send(*ids)
        await_messages(served, 1)
        served.listener.drain(10**11)
        served.wait_until(lambda counters: ("Sessions/KeepAlive", "unavailable") in counters.calls)
        commit(served)
        assert [result.session_id for result in stream.results(3)] == ids
        with ended_with(grpc.StatusCode.UNAVAILABLE, "DRAINING"):
            stream.results(1)
    served.join()


def test_who_asks_and_asks_while_nothing_is_committed_is_held_back_and_not_cut(served: Served) -> None:
    ids = open_many(served, 20)
    count = 2000  # messages, whose answers are more than may wait on one stream
    with KeepAlive(served) as stream:
        for _ in range(count):
            stream.send(*(ids * 12))
        done = settled_messages(served)
        assert 0 < done < count
        commit(served)
        served.wait_until(lambda counters: counters.messages_sent > 0)
        assert len(stream.results(count * 240)) == count * 240


def test_a_cancelled_stream_gives_up_what_is_held_for_it(served: Served) -> None:
    ids = open_many(served, 3)
    with KeepAlive(served) as stream, KeepAlive(served) as other:
        stream.send(*ids)
        other.send(ids[0])
        await_messages(served, 2)
        stream.call.cancel()
        served.wait_until(lambda counters: counters.keep_alive_streams == 1)
        commit(served)
        assert [result.session_id for result in other.results(1)] == [ids[0]]
