"""Notices on the data plane: to the right streams, from whoever brought the change about, and nothing lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from broker._ledger import LIMITS
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, Sharing
from broker.v1 import sessions_pb2, types_pb2
from tests.listener.harness import FOREVER, MS, WAIT_S, Served, next_request_id, serving
from tests.listener.streams import KeepAlive, await_watched, grant, lose, open_many, prove, revoke, states

GRACE = types_pb2.LEASE_STATE_KEY_GRACE
ACTIVE = types_pb2.LEASE_STATE_ACTIVE
ENDED = types_pb2.LEASE_STATE_ENDED


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(seats={"platform": 3, "crm": 1}, thread_count=request.param) as one:
        yield one


def test_a_revoked_session_is_told_once_to_each_of_its_streams_and_to_no_other(served: Served) -> None:
    one, other = grant(served), grant(served)
    streams = [KeepAlive(served) for _ in range(3)]
    for stream in streams[:2]:
        stream.renew(one.session_id)
    streams[2].renew(other.session_id)
    revoke(served, one.session_id)
    for stream in streams[:2]:
        notice = stream.notice()
        assert notice.session_id == one.session_id
        assert notice.session_ended.public_id == one.public_id
        assert notice.session_ended.end_reason == types_pb2.END_REASON_REVOKED
    revoke(served, other.session_id)
    assert streams[2].notice().session_id == other.session_id
    assert not any(stream.has_unread for stream in streams)
    assert served.counters().notices == 3
    await_watched(served, 0)
    for stream in streams:
        stream.call.cancel()


def test_a_session_closed_from_another_connection_is_told(served: Served) -> None:
    opened = grant(served)
    with KeepAlive(served) as stream:
        stream.renew(opened.session_id)
        request = sessions_pb2.CloseRequest(session_id=opened.session_id, request_id=next_request_id())
        served.sessions().Close(request, timeout=WAIT_S)
        ended = stream.notice().session_ended
    assert (ended.public_id, ended.end_reason) == (opened.public_id, types_pb2.END_REASON_CLOSED)


def test_an_expired_session_is_told() -> None:
    with serving(renew_grace_ns=100 * MS) as served:
        (session_id,) = open_many(served, 1, ttl_ns=1000 * MS)
        with KeepAlive(served) as stream:
            stream.renew(session_id)
            notice = stream.notice()
    assert notice.session_id == session_id
    assert notice.session_ended.end_reason == types_pb2.END_REASON_EXPIRED


def test_a_superseded_session_is_told_so_and_the_new_one_is_watched_by_its_own_renewal(served: Served) -> None:
    old = grant(served, instance_id="desk")
    with KeepAlive(served) as stream:
        stream.renew(old.session_id)
        new = grant(served, instance_id="desk")
        notice = stream.notice()
        assert notice.session_id == old.session_id
        assert notice.session_ended.end_reason == types_pb2.END_REASON_SUPERSEDED
        stream.renew(new.session_id)
        lose(served)
        assert stream.notice().session_id == new.session_id


def test_an_end_that_a_renewal_was_answered_with_is_not_told_again(served: Served) -> None:
    first, second = open_many(served, 2)
    with KeepAlive(served) as stream:
        stream.renew(first, second)
        stream.send(second)
        stream.results(1)
        request = sessions_pb2.CloseRequest(session_id=first, request_id=next_request_id())
        served.sessions().Close(request, timeout=WAIT_S)
        told = [stream.renew(first)[0].WhichOneof("result") == "ended"]
        revoke(served, second)
        notices = stream.notices(1)
        while notices[-1].session_id != second:
            notices += stream.notices(1)
    assert told == [True]
    assert [notice.session_id for notice in notices].count(first) <= 1  # the notice may have been faster than the renewal
    assert notices[-1].session_id == second


def test_key_grace_is_told_to_those_who_stand_on_the_charge_and_healing_too(served: Served) -> None:
    prove(served, 9, "platform", 1)
    ids = open_many(served, 4)
    with KeepAlive(served) as stream:
        stream.renew(*ids)
        for _ in range(2):
            lose(served, 9)
            notice = stream.notice()
            assert notice.session_id == ids[3], "the newest has lost its seat"
            assert states(notice) == [("platform", GRACE)]
            prove(served, 9, "platform", 1)
            healed = stream.notice()
            assert (healed.session_id, states(healed)) == (ids[3], [("platform", ACTIVE)])
        assert not stream.has_unread
        assert served.counters().notices == 4


def test_a_lost_key_tells_how_long_its_grace_is(served: Served) -> None:
    (session_id,) = open_many(served, 1)
    with KeepAlive(served) as stream:
        stream.renew(session_id)
        lose(served, grace_s=120)
        (lease,) = stream.notice().leases_changed.leases
    assert 100 < lease.key_grace.seconds <= 120
    assert (lease.product, lease.state, lease.seats) == ("platform", GRACE, 1)


def test_a_lease_that_ends_with_its_key_is_told_and_told_again_by_the_next_renewal(served: Served) -> None:
    (session_id,) = open_many(served, 1, "platform", "crm")
    with KeepAlive(served) as stream:
        version = stream.renew(session_id)[0].renewed.change_version
        lose(served, 1, grace_s=0)
        notice = stream.notice()
        (lease,) = notice.leases_changed.leases
        assert (lease.product, lease.state, lease.end_reason) == ("crm", ENDED, types_pb2.END_REASON_KEY_LOST)
        assert notice.leases_changed.change_version == version
        (changed,) = stream.renew(session_id, version=version)[0].renewed.changed
        assert (changed.product, changed.state) == ("crm", ENDED)


def test_one_key_with_two_products_is_one_notice(served: Served) -> None:
    (session_id,) = open_many(served, 1, "platform", "crm")
    with KeepAlive(served) as stream:
        stream.renew(session_id)
        now_ns = time.monotonic_ns()
        served.ledger.lose_source(now_ns, 0, now_ns + 300 * 10**9, EndReason.KEY_LOST)
        served.ledger.lose_source(now_ns, 1, now_ns, EndReason.LICENCE_ENDED)
        told: list[tuple[str, int]] = []
        while len(told) < 2:  # mostly one notice; two when a look at the events came between the two calls
            told += states(stream.notice())
    assert sorted(told) == [("crm", ENDED), ("platform", GRACE)]


def test_what_the_holder_does_itself_is_no_news(served: Served) -> None:
    quiet, watched = open_many(served, 1, "platform", "crm")[0], open_many(served, 1)[0]
    with KeepAlive(served) as stream:
        stream.renew(quiet, watched)
        request = sessions_pb2.ReleaseRequest(session_id=quiet, request_id=next_request_id(), product="crm")
        served.sessions().Release(request, timeout=WAIT_S)
        revoke(served, watched)
        assert stream.notice().session_id == watched
        stream.settle()
        assert served.counters().notices == 1


def test_a_product_acquired_later_is_watched_too(served: Served) -> None:
    (session_id,) = open_many(served, 1)
    with KeepAlive(served) as stream:
        stream.renew(session_id)
        wanted = [types_pb2.ProductRequest(product="crm")]
        request = sessions_pb2.AcquireRequest(session_id=session_id, request_id=next_request_id(), products=wanted)
        served.sessions().Acquire(request, timeout=WAIT_S)
        lose(served, 1)
        assert states(stream.notice()) == [("crm", GRACE)]


def test_all_sessions_on_a_shared_charge_are_told_and_who_joins_it_in_grace_hears_of_its_healing() -> None:
    with serving(seats={"platform": 1}, terms=PoolTerms(sharing=Sharing.USER)) as served:
        ids = open_many(served, 3)
        with KeepAlive(served) as stream, KeepAlive(served) as late:
            stream.renew(*ids)
            lose(served)
            assert {notice.session_id for notice in stream.notices(3)} == set(ids)
            (joined,) = open_many(served, 1)
            (renewed,) = late.renew(joined)
            assert [lease.state for lease in renewed.renewed.changed] == [GRACE]
            prove(served, 0, "platform", 1)
            assert states(late.notice()) == [("platform", ACTIVE)]
            assert {notice.session_id for notice in stream.notices(3)} == set(ids)


def test_who_acquires_a_lease_on_a_charge_in_grace_hears_of_its_healing_without_a_renewal_between() -> None:
    with serving(seats={"platform": 1, "crm": 1}, terms=PoolTerms(sharing=Sharing.USER)) as served:
        open_many(served, 1, "crm")
        (session_id,) = open_many(served, 1, "platform")
        with KeepAlive(served) as stream:
            stream.renew(session_id)
            lose(served, 1)
            served.wait_until(lambda _: any(pool.key_grace_count for pool in served.ledger.pools()))
            wanted = [types_pb2.ProductRequest(product="crm")]
            request = sessions_pb2.AcquireRequest(session_id=session_id, request_id=next_request_id(), products=wanted)
            (lease,) = served.sessions().Acquire(request, timeout=WAIT_S).acquired.leases
            assert lease.state == GRACE
            prove(served, 1, "crm", 1)
            while states(notice := stream.notice()) != [("crm", ACTIVE)]:
                assert states(notice) == [("crm", GRACE)]


def test_a_renewal_that_told_of_key_grace_leaves_only_the_healing_to_be_told() -> None:
    with serving(seats={"platform": 3}, is_ticking=False) as served:
        (session_id,) = open_many(served, 1)
        with KeepAlive(served) as stream:
            stream.renew(session_id)
            lose(served)
            while served.ledger.advance(time.monotonic_ns()):
                pass
            (renewed,) = stream.renew(session_id)
            assert [lease.state for lease in renewed.renewed.changed] == [GRACE]
            prove(served, 0, "platform", 3)
            told = [states(stream.notice())]
            if told == [[("platform", GRACE)]]:  # the look at the events was faster than the renewal
                told = [states(stream.notice())]
            assert told == [[("platform", ACTIVE)]]


def test_a_thousand_sessions_are_told_in_few_messages() -> None:
    with serving(seats={"platform": 1000}) as served:
        ids = open_many(served, 1000)
        with KeepAlive(served) as stream:
            for start in range(0, 1000, 250):
                stream.send(*ids[start : start + 250])
            stream.results(1000)
            before = served.counters().messages_sent
            for turn in (GRACE, ACTIVE):
                if turn == GRACE:
                    lose(served)
                else:
                    prove(served, 0, "platform", 1000)
                notices = stream.notices(1000)
                assert {notice.session_id for notice in notices} == set(ids)
                assert {states(notice)[0] for notice in notices} == {("platform", turn)}
            assert served.counters().messages_sent - before < 200
            assert served.counters().notices == 2000


def test_events_that_were_overwritten_before_they_were_read_are_made_up_for() -> None:
    """While answers are held, events wait for the commit too: so the ring can be made to go round before they are read."""
    ring_size = LIMITS["EVENT_RING_MIN"]
    with serving(seats={"platform": 20_000, "crm": 50}, is_holding=True, event_ring_size=ring_size) as served:
        kept, graced = open_many(served, 50), open_many(served, 50, "platform", "crm")
        gone = open_many(served, 50)
        with KeepAlive(served) as stream:
            stream.send(*kept, *graced, *gone)
            await_watched(served, 150)
            served.listener.commit(served.listener.position)
            stream.results(150)
            for session_id in gone:
                revoke(served, session_id)
            lose(served, 1)
            served.wait_until(lambda _: any(pool.key_grace_count == 50 for pool in served.ledger.pools()))
            open_many(served, ring_size // 200, user=b"x" * 100)
            served.listener.commit(FOREVER)
            notices = stream.notices(100)
            ended = {notice.session_id: notice.session_ended.end_reason for notice in notices if notice.HasField("session_ended")}
            changed = {notice.session_id for notice in notices if states(notice) == [("crm", GRACE)]}
            assert ended == dict.fromkeys(gone, types_pb2.END_REASON_REVOKED)
            assert changed == set(graced)
            await_watched(served, 100)
            prove(served, 1, "crm", 50)
            assert {notice.session_id for notice in stream.notices(50)} == set(graced)
            assert served.counters().notices == 150


def test_notices_of_other_loops_and_of_this_one_all_come() -> None:
    with serving(seats={"platform": 400}, thread_count=2) as served:
        ids = open_many(served, 400)
        streams = [KeepAlive(served) for _ in range(4)]
        for stream in streams:
            stream.send(*ids[:200])
            stream.send(*ids[200:])
            stream.results(400)
        stubs = [served.sessions() for _ in range(4)]
        calls = [
            stubs[number % 4].Close.future(
                sessions_pb2.CloseRequest(session_id=session_id, request_id=next_request_id()), timeout=WAIT_S
            )
            for number, session_id in enumerate(ids)
        ]
        assert {call.result().end_reason for call in calls} == {types_pb2.END_REASON_CLOSED}
        for stream in streams:
            assert {notice.session_id for notice in stream.notices(400)} == set(ids)
            stream.call.cancel()
        await_watched(served, 0)


def test_watching_begins_with_the_first_renewal_and_again_after_a_pause(served: Served) -> None:
    for _ in range(3):
        (session_id,) = open_many(served, 1)
        with KeepAlive(served) as stream:
            stream.renew(session_id)
            revoke(served, session_id)
            assert stream.notice().session_id == session_id
            await_watched(served, 0)
