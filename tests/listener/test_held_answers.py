"""Answers held until they are committed: what tells of a session waits for its events, what does not leaves at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from broker._ledger import LIMITS
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.listener.harness import Served, serving
from tests.listener.many_calls import calls, read_ends
from tests.support.waiting import until
from tests.verbs.world import fresh_id, open_request

CALL_S = 20.0
FAR = 2**62


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A listener that holds its answers, and nobody who commits but the test."""
    with serving(seats={"platform": 50, "crm": 1}, thread_count=request.param, is_holding=True) as one:
        yield one


def stub_of(served: Served) -> Any:
    return sessions_pb2_grpc.SessionsStub(served.channel())


def await_held(served: Served, count: int) -> None:
    until(lambda: served.listener.counters().held_answers == count, f"{count} held answers")


def open_soon(stub: Any, *products: str, **fields: Any) -> Any:
    return stub.Open.future(open_request(*products, **fields), timeout=CALL_S)


def held_open(served: Served, stub: Any, *products: str, **fields: Any) -> bytes:
    """Opens and commits; the session id."""
    call = open_soon(stub, *products, **fields)
    until(lambda: served.listener.counters().held_answers == 1, "the held grant")
    served.listener.commit(served.listener.position)
    session_id: bytes = call.result().grant.session_id
    return session_id


def test_grants_wait_for_their_events_and_then_all_come(served: Served) -> None:
    stubs = [stub_of(served) for _ in range(4)]
    calls = [open_soon(stub, "platform") for stub in stubs for _ in range(8)]
    await_held(served, 32)
    assert not any(call.done() for call in calls)
    served.listener.commit(served.listener.position)
    assert all(call.result().grant.session_id for call in calls)
    counters = served.listener.counters()
    assert (counters.held_answers, counters.held_size) == (0, 0)
    assert sum(counters.calls["Sessions/Open", "granted"].bucket_counts) == 32


def test_denials_and_refusals_leave_at_once(served: Served) -> None:
    stub = stub_of(served)
    held_open(served, stub, "crm")
    held = open_soon(stub, "platform")
    await_held(served, 1)
    assert stub.Open(open_request("crm", user="bob"), timeout=CALL_S).HasField("denial")
    for request in (open_request("platform", user=""), open_request("platform", request_id=b"1")):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Open(request, timeout=CALL_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not held.done()
    served.listener.commit(FAR)
    assert held.result().grant.session_id


def test_everything_that_tells_of_a_session_waits(served: Served) -> None:
    stub = stub_of(served)
    session_id = held_open(served, stub, "platform")
    ended = held_open(served, stub, "platform", user="bob")
    wanted = [types_pb2.ProductRequest(product="crm")]
    acquire = sessions_pb2.AcquireRequest(session_id=session_id, request_id=fresh_id(), products=wanted)
    close = sessions_pb2.CloseRequest(session_id=ended, request_id=fresh_id())
    calls = [stub.Acquire.future(acquire, timeout=CALL_S), stub.Close.future(close, timeout=CALL_S)]
    await_held(served, 2)
    renew = [sessions_pb2.RenewRequest(session_id=one) for one in (session_id, ended)]
    calls += [stub.Renew.future(request, timeout=CALL_S) for request in renew]
    await_held(served, 4)
    assert not any(call.done() for call in calls)
    served.listener.commit(served.listener.position)
    assert calls[0].result().acquired.leases
    assert calls[2].result().ttl.seconds == 60
    assert calls[3].code() is grpc.StatusCode.NOT_FOUND
    assert calls[1].result().end_reason


def test_a_renewal_leaves_at_once_when_all_events_are_committed(served: Served) -> None:
    stub = stub_of(served)
    session_id = held_open(served, stub, "platform")
    assert stub.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=CALL_S).ttl.seconds == 60
    assert served.listener.counters().held_answers == 0


def test_a_commit_releases_what_it_covers_and_no_more(served: Served) -> None:
    stub = stub_of(served)
    first = open_soon(stub, "platform")
    await_held(served, 1)
    covered = served.listener.position
    second = open_soon(stub, "platform", user="bob")
    await_held(served, 2)
    assert served.listener.position > covered
    served.listener.commit(covered - 1)
    with pytest.raises(grpc.RpcError):
        stub.Open(open_request("crm", user=""), timeout=CALL_S)  # answered after the commit was seen
    assert not first.done()
    served.listener.commit(covered)
    assert first.result().grant.session_id
    assert not second.done()
    served.listener.commit(served.listener.position)
    assert second.result().grant.session_id


def test_an_answer_to_a_caller_that_has_gone_is_dropped(served: Served) -> None:
    staying, going = stub_of(served), served.channel()
    lost = open_soon(sessions_pb2_grpc.SessionsStub(going), "platform")
    await_held(served, 1)
    going.close()
    until(lambda: served.listener.counters().connections == 0, "the connection's end")
    kept = open_soon(staying, "platform", user="bob")
    await_held(served, 2)
    served.listener.commit(served.listener.position)
    assert kept.result().grant.session_id
    assert lost.cancelled() or lost.exception() is not None
    assert served.listener.counters().held_answers == 0
    assert served.ledger.counters().session_count == 2, "the grant stands for a retry"


def test_a_cancelled_call_costs_the_others_nothing(served: Served) -> None:
    stub = stub_of(served)
    request = open_request("platform")
    cancelled = stub.Open.future(request, timeout=CALL_S)
    kept = open_soon(stub, "platform", user="bob")
    await_held(served, 2)
    cancelled.cancel()
    served.listener.commit(served.listener.position)
    assert kept.result().grant.session_id
    assert stub.Open(request, timeout=CALL_S).grant.replayed


# --- the bound ------------------------------------------------------------------------------------------------

CONNECTIONS = 8
CALLS_PER_CONNECTION = 10_000


def test_at_the_bound_of_held_answers_nobody_is_read_from_and_nothing_is_lost() -> None:
    bound, count = LIMITS["HELD_ANSWERS_MAX"], CONNECTIONS * CALLS_PER_CONNECTION
    with ExitStack() as stack:
        served = stack.enter_context(serving(seats={"platform": 2}, is_holding=True, streams_max=16384))
        stub = stub_of(served)
        session_id = held_open(served, stub, "platform")
        wanted = [types_pb2.ProductRequest(product="platform")]
        acquire = sessions_pb2.AcquireRequest(session_id=session_id, request_id=fresh_id(), products=wanted)
        pending = stub.Acquire.future(acquire, timeout=CALL_S)  # not committed, so the renewals have to wait
        await_held(served, 1)
        peers = [stack.enter_context(served.connect()) for _ in range(CONNECTIONS)]
        renewal = sessions_pb2.RenewRequest(session_id=session_id).SerializeToString()
        data = calls(b"/broker.v1.Sessions/Renew", renewal, CALLS_PER_CONNECTION)
        with ThreadPoolExecutor(2 * CONNECTIONS) as pool:
            ends = [pool.submit(read_ends, peer.makefile("rb"), CALLS_PER_CONNECTION) for peer in peers]
            for peer in peers:
                pool.submit(peer.sendall, data)
            until(lambda: served.listener.counters().held_answers >= bound, "the bound")
            assert served.listener.counters().held_answers < count, "somebody is still being read from"
            assert not pending.done()
            served.listener.commit(FAR)
            assert sum(end.result() for end in ends) == count
        assert pending.result().acquired.leases
