"""The data plane with a real log behind it: no answer about a session before its events are on the disk, and none at all once the disk failed."""

from __future__ import annotations

import errno
import gc
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker._journal import LogDisk, SimulatedDisk, read_log
from broker._ledger import LIMITS
from broker._listener import Listener
from broker.model.events import decode_events
from broker.model.journal import JournalStep
from broker.model.words import EndReason, EventKind
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.listener.harness import (
    BROKER_ID,
    MS,
    RENEW_GRACE_NS,
    WAIT_S,
    S,
    Served,
    build_ledger,
    journaling,
    open_request,
    serving,
)
from tests.listener.many_calls import calls, read_ends
from tests.listener.streams import KeepAlive, open_many, revoke


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def stepped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A listener whose committer does nothing by itself."""
    with serving(seats={"platform": 500, "crm": 1}, thread_count=request.param, place=tmp_path, is_committing=False) as one:
        yield one


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def committing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A listener and its committer at work."""
    with serving(seats={"platform": 5000, "crm": 1}, thread_count=request.param, place=tmp_path) as one:
        yield one


def await_held(served: Served, count: int) -> None:
    served.wait_until(lambda counters: counters.held_answers == count)


def fences_in(place: Path | LogDisk, served: Served) -> set[int]:
    """Of the sessions that the log says were opened, up to what is committed by now."""
    assert served.journal is not None
    reading = read_log(place, broker_id=BROKER_ID, until=served.journal.committed)
    events = (event for _, data in reading for event in decode_events(data))
    return {event.fence for event in events if event.kind == EventKind.SESSION_OPENED}


def fence_of(served: Served, answer: sessions_pb2.OpenResponse) -> int:
    """Of the session that was granted."""
    assert answer.HasField("grant"), answer
    return served.ledger.session_fence(answer.grant.session_id)


def renew(session_id: bytes) -> sessions_pb2.RenewRequest:
    return sessions_pb2.RenewRequest(session_id=session_id)


# --- strict ---------------------------------------------------------------------------------------------------------------


def test_a_grant_leaves_when_the_committer_has_written_it_and_not_before(stepped: Served, tmp_path: Path) -> None:
    futures = [stepped.sessions().Open.future(open_request(), timeout=WAIT_S) for _ in range(8)]
    await_held(stepped, 8)
    assert not any(future.done() for future in futures)
    assert not fences_in(tmp_path, stepped)
    stepped.commit_all()
    granted = {fence_of(stepped, future.result()) for future in futures}
    assert len(granted) == 8
    assert granted == fences_in(tmp_path, stepped)
    await_held(stepped, 0)


def test_what_is_answered_is_on_the_disk_by_then(committing: Served, tmp_path: Path) -> None:
    stub = committing.sessions()
    for _ in range(20):
        answer = stub.Open(open_request(), timeout=WAIT_S)
        assert fence_of(committing, answer) in fences_in(tmp_path, committing)


def test_many_callers_share_a_sync(committing: Served) -> None:
    stubs = [committing.sessions() for _ in range(4)]
    futures = [stub.Open.future(open_request(), timeout=WAIT_S) for stub in stubs for _ in range(250)]
    assert len({future.result().grant.session_id for future in futures}) == 1000
    assert committing.journal is not None
    assert committing.journal.counters().groups < 1000
    assert committing.journal.failure is None


def test_denials_and_refusals_leave_while_nothing_can_be_committed(stepped: Served) -> None:
    stub = stepped.sessions()
    taken = stub.Open.future(open_request("crm"), timeout=WAIT_S)
    await_held(stepped, 1)
    assert stub.Open(open_request("crm", user="bob"), timeout=WAIT_S).HasField("denial")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Renew(renew(b"short"), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not taken.done()
    stepped.commit_all()
    assert taken.result().grant.session_id


def test_an_end_is_told_on_the_stream_when_the_log_has_it(stepped: Served) -> None:
    one, other = open_many(stepped, 2)
    stepped.commit_all()
    with KeepAlive(stepped) as stream:
        assert len(stream.renew(one, other)) == 2
        revoke(stepped, one)
        stub = stepped.sessions()
        lost = stub.Renew.future(renew(one), timeout=WAIT_S)
        await_held(stepped, 1)
        assert stepped.counters().notices == 0
        stepped.commit_all()
        assert stream.notice().session_ended.end_reason == types_pb2.END_REASON_REVOKED
        assert lost.code() is grpc.StatusCode.NOT_FOUND


def test_who_was_overtaken_by_the_ring_is_told_no_end_before_it_is_committed() -> None:
    with serving(is_holding=True, event_ring_size=LIMITS["EVENT_RING_MIN"]) as served, ThreadPoolExecutor(1) as reader:
        (session_id,) = open_many(served, 1)
        channel, begun = served.channel(), fill_ring(served, 0)
        served.listener.commit(begun)
        with KeepAlive(served, channel) as stream:
            stream.renew(session_id)
            committed = fill_ring(served, begun + 99_000)
            revoke(served, session_id)
            # Now the ring begins 40,000 bytes behind where the stream has read to, so that as much as is committed since goes behind the end.
            fill_ring(served, begun + 40_000 + LIMITS["EVENT_RING_MIN"])
            told = reader.submit(stream.notice)
            served.listener.commit(committed)
            served.wait_until(lambda counters: counters.notices == 1)
            stub = sessions_pb2_grpc.SessionsStub(channel)
            for _ in range(20):  # on the same connection, behind it
                with pytest.raises(grpc.RpcError):
                    stub.Renew(renew(b"short"), timeout=WAIT_S)
            assert not told.done()
            served.listener.commit(served.ledger.position)
            assert told.result().session_ended.end_reason == types_pb2.END_REASON_REVOKED


def fill_ring(served: Served, until: int) -> int:
    """Events that concern nobody, up to that position at the least; where they end."""
    while served.ledger.position < until:
        served.ledger.note(time.monotonic_ns(), b"fill", secrets.token_bytes(1000))
    return served.ledger.position


def test_an_expiry_wakes_the_committer_and_is_told(tmp_path: Path) -> None:
    with serving(place=tmp_path, ttl_ns=S, renew_grace_ns=0) as served, KeepAlive(served) as stream:
        (session_id,) = open_many(served, 1)
        stream.renew(session_id)
        assert stream.notice().session_ended.end_reason == types_pb2.END_REASON_EXPIRED


def test_relaxed_answers_do_not_wait_but_are_written_all_the_same(tmp_path: Path) -> None:
    with serving(place=tmp_path, is_holding=False) as served:
        fence = fence_of(served, served.sessions().Open(open_request(), timeout=WAIT_S))
        served.wait_until(lambda _: fence in fences_in(tmp_path, served))
    with serving(place=tmp_path / "other", is_holding=False, is_committing=False) as served:
        assert served.sessions().Open(open_request(), timeout=WAIT_S).grant.session_id


# --- renewals wait for their own session only ---------------------------------------------------------------------------------


def test_a_renewal_does_not_wait_for_the_events_of_others(stepped: Served) -> None:
    (committed, touched), _ = open_many(stepped, 2), open_many(stepped, 40)
    stepped.commit_all()
    stub = stepped.sessions()
    held = [stub.Open.future(open_request(), timeout=WAIT_S) for _ in range(4)]
    await_held(stepped, 4)
    give_back(stepped, touched)
    assert stub.Renew(renew(committed), timeout=WAIT_S).ttl.seconds == 60
    with pytest.raises(grpc.RpcError) as caught:
        stub.Renew(renew(bytes(32)), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND, "an id that never was a session's"
    with KeepAlive(stepped) as stream:
        assert len(stream.renew(committed, bytes(32))) == 2
        held.append(stub.Renew.future(renew(touched), timeout=WAIT_S))
        await_held(stepped, 5)
        stream.send(committed, touched)
        stream.send(committed)
        stepped.wait_until(lambda counters: counters.batched_commands >= 11)
        assert not any(future.done() for future in held)
        stepped.commit_all()
        assert len(stream.results(3)) == 3
    assert all(future.result() for future in held)


def give_back(served: Served, session_id: bytes) -> int:
    """Releases the session's seat by a Python call on the ledger; the position of its newest event."""
    served.ledger.release(time.monotonic_ns(), session_id, secrets.token_bytes(16), "platform")
    return served.ledger.position


def test_no_renewal_is_answered_before_the_newest_event_of_its_session_is_on_the_disk(tmp_path: Path) -> None:
    chance = random.Random(11)
    with serving(seats={"platform": 500}, place=tmp_path, is_committing=False, group_size_max=16384) as served:
        assert served.journal is not None
        ids = open_many(served, 400)
        newest = dict.fromkeys(ids, served.ledger.position)
        served.commit_all()
        stub, at_once_count = served.sessions(), 0
        for _ in range(60):
            for session_id in chance.sample(ids, chance.randrange(120)):
                newest[session_id] = give_back(served, session_id)
            for _ in range(chance.randrange(3)):
                served.journal.step()
            committed = served.journal.committed - served.journal.base
            asked = chance.sample(ids, 20)
            futures = [stub.Renew.future(renew(session_id), timeout=WAIT_S) for session_id in asked]
            held = sum(newest[session_id] > committed for session_id in asked)
            served.wait_until(lambda counters, held=held: counters.held_answers >= held)
            at_once_count += len(futures) - served.counters().held_answers
            assert all(newest[session_id] <= committed for session_id, future in zip(asked, futures, strict=True) if future.done())
            served.commit_all()
            assert all(future.result().ttl.seconds == 60 for future in futures)
        assert at_once_count > 300


# --- drain ----------------------------------------------------------------------------------------------------------------------


def test_a_drain_waits_for_the_answers_that_are_held(stepped: Served) -> None:
    futures = [stepped.sessions().Open.future(open_request(), timeout=WAIT_S) for _ in range(4)]
    await_held(stepped, 4)
    stepped.listener.drain(100 * S)
    stepped.wait_until(lambda counters: counters.rounds > 0 and counters.held_answers == 4)
    assert any(thread.is_alive() for thread in stepped.threads)
    stepped.commit_all()
    assert all(future.result().grant.session_id for future in futures)
    stepped.join()
    assert stepped.ledger.counters().opened_total == 4


def test_a_drain_cuts_what_is_still_held_after_its_grace(stepped: Served) -> None:
    future = stepped.sessions().Open.future(open_request(), timeout=WAIT_S)
    await_held(stepped, 1)
    stepped.listener.drain(200 * MS)
    stepped.join()
    assert future.code() is grpc.StatusCode.UNAVAILABLE


# --- a disk that fails ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "step"), [("write", JournalStep.WRITE), ("sync", JournalStep.SYNC)])
def test_once_the_disk_has_failed_nothing_that_is_held_ever_leaves(operation: str, step: JournalStep) -> None:
    disk = SimulatedDisk(7)
    with serving(seats={"platform": 50, "crm": 1}, place=disk, is_committing=False) as served:
        stub = served.sessions()
        kept = stub.Open.future(open_request("crm"), timeout=WAIT_S)
        await_held(served, 1)
        served.commit_all()
        assert kept.result().grant.session_id
        disk.fail(operation, errno.EIO, is_lasting=True)
        futures = [stub.Open.future(open_request(), timeout=WAIT_S) for _ in range(4)]
        await_held(served, 4)
        served.commit_all()
        assert served.journal is not None
        assert served.journal.failure is not None
        assert served.journal.failure.step is step
        assert stub.Open(open_request("crm", user="bob"), timeout=WAIT_S).HasField("denial"), "answered after the failure was seen"
        assert served.counters().held_answers == 4
        assert fences_in(disk, served) == {fence_of(served, kept.result())}
        served.listener.stop()
        served.join()
        assert {future.code() for future in futures} == {grpc.StatusCode.UNAVAILABLE}


# --- the bound -------------------------------------------------------------------------------------------------------------------

CALL_COUNT = 16_000
SLOW_CALL_COUNT = 60_000
"""Whose answers are more than the kernel keeps for a socket."""
CONNECTIONS = 5


def test_a_slow_reader_is_served_while_nobody_else_is_read_from(tmp_path: Path) -> None:
    """At the bound of held answers, for longer than a socket may take nothing."""
    bound = LIMITS["HELD_ANSWERS_MAX"]
    with serving(place=tmp_path, is_committing=False, streams_max=16384, write_ns=WAIT_S * S) as served, ExitStack() as stack:
        (session_id,) = open_many(served, 1)
        slow = stack.enter_context(narrow_socket(served))
        peers = [stack.enter_context(served.connect()) for _ in range(CONNECTIONS)]
        pool = stack.enter_context(ThreadPoolExecutor(2 * CONNECTIONS + 2))
        unknown = open_request("x" * 32).SerializeToString()  # denied, which is said at once
        asked = pool.submit(slow.sendall, calls(b"/broker.v1.Sessions/Open", unknown, SLOW_CALL_COUNT))
        await_denials_stand(served)
        data = calls(b"/broker.v1.Sessions/Renew", renew(session_id).SerializeToString(), CALL_COUNT)
        ends = [pool.submit(read_ends, peer.makefile("rb"), CALL_COUNT) for peer in peers]
        for peer in peers:
            pool.submit(peer.sendall, data)
        served.wait_until(lambda counters: counters.held_answers >= bound)
        full = served.wait_until(lambda counters: counters.held_full_count == 1)
        sent = full.bytes_sent
        slow_ends = pool.submit(read_ends, slow.makefile("rb"), SLOW_CALL_COUNT)
        served.wait_until(lambda counters: counters.bytes_sent > sent)
        assert served.counters().held_answers >= bound
        served.commit_all()
        assert sum(end.result(WAIT_S) for end in ends) == CONNECTIONS * CALL_COUNT
        assert slow_ends.result(WAIT_S) == SLOW_CALL_COUNT
        asked.result(WAIT_S)
        assert served.counters().refused["write"] == 0


def test_no_session_ends_while_its_renewals_may_lie_unread_for_a_slow_disk(tmp_path: Path) -> None:
    """As of a stopped process: time in which nobody was read from does not pass (semantics rule 20)."""
    settings = {"ttl_ns": S, "renew_grace_ns": 100 * MS}
    with serving(place=tmp_path, is_committing=False, streams_max=16384, **settings) as served, ExitStack() as stack:
        (session_id,) = open_many(served, 1)
        peers = [stack.enter_context(served.connect()) for _ in range(CONNECTIONS)]
        pool = stack.enter_context(ThreadPoolExecutor(2 * CONNECTIONS))
        data = calls(b"/broker.v1.Sessions/Renew", renew(session_id).SerializeToString(), CALL_COUNT)
        ends = [pool.submit(read_ends, peer.makefile("rb"), CALL_COUNT) for peer in peers]
        for peer in peers:
            pool.submit(peer.sendall, data)
        served.wait_until(lambda counters: counters.held_full_count == 1)
        threading.Event().wait(2.5)  # the time that passes is what is asked about
        assert served.ledger.counters().session_count == 1
        served.commit_all()
        assert sum(end.result(WAIT_S) for end in ends) == CONNECTIONS * CALL_COUNT
        assert served.ledger.counters().ended_totals[EndReason.EXPIRED] == 0


def narrow_socket(served: Served) -> socket.socket:
    """That takes little ahead of its reader."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.settimeout(WAIT_S)
    narrow.connect(("127.0.0.1", served.port))
    return narrow


def await_denials_stand(served: Served) -> None:
    """Until the slow reader's socket takes no more, so that the loop does not read from it either."""
    before, pause = -1, threading.Event()

    def denied_count() -> int:
        found = served.counters().calls.get(("Sessions/Open", "denied"))
        return sum(found.bucket_counts) if found else 0

    while (now := denied_count()) != before or now == 0:
        before = now
        pause.wait(0.2)
    assert now < SLOW_CALL_COUNT


# --- what belongs together -------------------------------------------------------------------------------------------------------


def test_a_listener_that_is_gone_is_told_no_more(tmp_path: Path) -> None:
    ledger = build_ledger(is_lossy=False)
    with journaling(ledger, tmp_path, False) as journal, closing(served_socket()) as listening:
        for _ in range(40):  # more than may watch at once
            listener: Any = Listener(ledger, listening.fileno(), renew_grace_ns=RENEW_GRACE_NS, journal=journal.port(), thread_count=2)
            del listener
        gc.collect()
        while journal.step():
            pass
        assert journal.failure is None
        assert Listener(ledger, listening.fileno(), renew_grace_ns=RENEW_GRACE_NS, journal=journal.port())


def test_a_journal_has_so_many_listeners_and_no_more(tmp_path: Path) -> None:
    ledger = build_ledger(is_lossy=False)
    with journaling(ledger, tmp_path, False) as journal, closing(served_socket()) as listening:
        settings: dict[str, Any] = {"renew_grace_ns": 0, "journal": journal.port()}
        listeners = [Listener(ledger, listening.fileno(), **settings) for _ in range(16)]
        with pytest.raises(ValueError, match="as many watchers"):
            Listener(ledger, listening.fileno(), **settings)
        assert len(listeners) == 16


def test_what_is_no_journal_is_refused() -> None:
    ledger = build_ledger()
    with closing(served_socket()) as listening, pytest.raises(ValueError, match="PyCapsule"):
        Listener(ledger, listening.fileno(), renew_grace_ns=0, journal=ledger.port())


def served_socket() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))
