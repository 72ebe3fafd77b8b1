"""KeepAlive without its transport: renewals in order, notices to the right streams, bounds, and nothing lost."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from broker.model.terms import PoolTerms
from broker.model.words import EndReason, Sharing
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs import events
from broker.verbs.bounds import MESSAGE_SIZE_MAX
from broker.verbs.errors import VerbError
from broker.verbs.keep_alive import KeepAliveStream
from tests.verbs.world import StuckPump, World, fresh_id, open_until_refused


def ask(*session_ids: bytes, version: int = 0, forget: tuple[bytes, ...] = ()) -> sessions_pb2.KeepAliveRequest:
    renewals = [sessions_pb2.RenewRequest(session_id=each, change_version=version) for each in session_ids]
    return sessions_pb2.KeepAliveRequest(renewals=renewals, forget=forget)


def results(stream: KeepAliveStream, request: sessions_pb2.KeepAliveRequest) -> list[sessions_pb2.KeepAliveResult]:
    return [result for answer in stream.answer(request) for result in answer.results]


def heard(stream: KeepAliveStream) -> list[sessions_pb2.Notice]:
    """All notices that wait now."""
    return list(stream._waiting)


def release(world: World, session_id: bytes, product: str) -> None:
    request = sessions_pb2.ReleaseRequest(session_id=session_id, request_id=fresh_id(), product=product)
    world.verbs.release(request)


@pytest.fixture
def world() -> World:
    return World(seats={"platform": 3, "crm": 1})


def test_results_come_in_the_order_of_the_renewals(world: World) -> None:
    ids = [world.grant("platform").session_id for _ in range(3)]
    unknown = secrets.token_bytes(32)
    stream = world.verbs.keep_alive_stream()
    answers = results(stream, ask(ids[2], unknown, ids[0], ids[1]))
    assert [answer.session_id for answer in answers] == [ids[2], unknown, ids[0], ids[1]]
    assert [answer.WhichOneof("result") for answer in answers] == ["renewed", "ended", "renewed", "renewed"]
    assert answers[0].renewed.ttl.seconds == 60
    assert answers[1].ended.public_id == ""


def test_a_session_that_is_over_is_answered_with_why(world: World) -> None:
    grant = world.grant("platform")
    world.clock.advance_s(71)
    answer = results(world.verbs.keep_alive_stream(), ask(grant.session_id))[0]
    assert answer.ended.public_id == grant.public_id
    assert answer.ended.end_reason == types_pb2.END_REASON_EXPIRED


def test_renewing_over_the_stream_keeps_the_session(world: World) -> None:
    grant = world.grant("platform")
    stream = world.verbs.keep_alive_stream()
    for _ in range(5):
        world.clock.advance_s(60)
        assert results(stream, ask(grant.session_id))[0].WhichOneof("result") == "renewed"


def test_the_end_of_a_stream_ends_no_session_and_leaves_nothing_watched(world: World) -> None:
    grant = world.grant("platform")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(grant.session_id))
    assert world.notices.watched_count == 1
    stream.close()
    assert world.notices.watched_count == 0
    assert not world.notices._fences_by_charge
    world.verbs.renew(sessions_pb2.RenewRequest(session_id=grant.session_id))


def test_a_revoked_session_is_told_once_to_each_of_its_streams_and_to_no_other(world: World) -> None:
    one, other = world.grant("platform"), world.grant("platform")
    streams = [world.verbs.keep_alive_stream() for _ in range(3)]
    for stream in streams[:2]:
        results(stream, ask(one.session_id))
    results(streams[2], ask(other.session_id))
    world.ledger.revoke(world.clock(), world.ledger.session_fence(one.session_id), EndReason.REVOKED)
    world.settle()
    for stream in streams[:2]:
        (notice,) = heard(stream)
        assert notice.session_id == one.session_id
        assert notice.session_ended.end_reason == types_pb2.END_REASON_REVOKED
        assert notice.session_ended.public_id == one.public_id
    assert heard(streams[2]) == []
    assert world.notices.watched_count == 1


def test_key_grace_is_told_to_the_sessions_that_stand_on_the_charge_and_healing_too(world: World) -> None:
    first = world.grant("platform")
    world.add_seats(9, "platform", 1)
    later = [world.grant("platform") for _ in range(3)]
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(first.session_id, *(grant.session_id for grant in later)))
    world.lose(9, grace_s=120)
    (notice,) = heard(stream)
    assert notice.session_id == later[2].session_id
    (lease,) = notice.leases_changed.leases
    assert (lease.product, lease.state, lease.key_grace.seconds) == ("platform", types_pb2.LEASE_STATE_KEY_GRACE, 120)
    world.add_seats(9, "platform", 1)
    world.settle()
    healed = heard(stream)[1]
    assert healed.session_id == later[2].session_id
    assert [lease.state for lease in healed.leases_changed.leases] == [types_pb2.LEASE_STATE_ACTIVE]


def test_a_lease_that_ends_with_its_key_is_told_and_told_again_by_the_next_renewal(world: World) -> None:
    grant = world.grant("platform", "crm")
    stream = world.verbs.keep_alive_stream()
    version = results(stream, ask(grant.session_id))[0].renewed.change_version
    world.lose(1, grace_s=0)
    (notice,) = heard(stream)
    (lease,) = notice.leases_changed.leases
    assert (lease.product, lease.state, lease.end_reason) == (
        "crm",
        types_pb2.LEASE_STATE_ENDED,
        types_pb2.END_REASON_KEY_LOST,
    )
    echoed = notice.leases_changed.change_version
    assert echoed == version
    changed = results(stream, ask(grant.session_id, version=echoed))[0].renewed.changed
    assert [lease.product for lease in changed] == ["crm"]


def test_what_the_holder_does_itself_is_no_news(world: World) -> None:
    grant = world.grant("platform", "crm")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(grant.session_id))
    release(world, grant.session_id, "crm")
    world.settle()
    assert heard(stream) == []


def test_a_product_acquired_later_is_watched_too(world: World) -> None:
    grant = world.grant("platform")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(grant.session_id))
    world.verbs.acquire(
        sessions_pb2.AcquireRequest(
            session_id=grant.session_id,
            request_id=fresh_id(),
            products=[types_pb2.ProductRequest(product="crm")],
        )
    )
    world.settle()
    world.lose(1)
    (notice,) = heard(stream)
    assert [lease.product for lease in notice.leases_changed.leases] == ["crm"]


def test_all_sessions_on_a_shared_charge_are_told() -> None:
    world = World()
    world.add_seats(0, "platform", 1, PoolTerms(sharing=Sharing.USER))
    ids = [world.grant("platform", host=f"desk-{number}").session_id for number in range(3)]
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(*ids))
    world.lose(0)
    assert {notice.session_id for notice in heard(stream)} == set(ids)


def lease_states(notice: sessions_pb2.Notice) -> list[types_pb2.LeaseState.ValueType]:
    return [lease.state for lease in notice.leases_changed.leases]


def test_a_session_first_watched_in_key_grace_hears_that_the_pool_is_healed(world: World) -> None:
    grant = world.grant("platform")
    world.lose(0)
    assert not world.notices.is_listening
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(grant.session_id))
    world.add_seats(0, "platform", 3)
    world.settle()
    (notice,) = heard(stream)
    assert lease_states(notice) == [types_pb2.LEASE_STATE_ACTIVE]


def test_who_joins_a_charge_in_key_grace_hears_that_the_pool_is_healed() -> None:
    world = World(seats={"platform": 3})
    world.add_seats(1, "crm", 1, PoolTerms(sharing=Sharing.USER))
    world.grant("crm", host="desk-1")
    other = world.grant("platform", host="desk-2")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(other.session_id))
    world.lose(1)
    assert heard(stream) == []
    crm = [types_pb2.ProductRequest(product="crm")]
    world.verbs.acquire(sessions_pb2.AcquireRequest(session_id=other.session_id, request_id=fresh_id(), products=crm))
    world.settle()
    world.ledger.prove_source(world.clock(), 1, world.pools["crm"], 1, 2**62, 2**62)
    world.settle()
    (notice,) = heard(stream)
    assert [lease.product for lease in notice.leases_changed.leases] == ["crm"]
    assert lease_states(notice) == [types_pb2.LEASE_STATE_ACTIVE]


def lossy_world() -> World:
    sizes = dict.fromkeys(("sessions_max", "leases_max", "charges_max", "requests_max"), 4_000)
    return World(seats={"platform": 3_000, "crm": 2}, event_ring_size=128 * 1024, is_lossy=True, **sizes)


def overrun(world: World) -> None:
    """So many events that those before them are overwritten before the pump comes."""
    while world.ledger.advance(world.clock()):
        pass
    for _ in range(1_000):
        world.grant("platform")
    world.settle()
    assert world.ledger.counters().event_dropped_total > 0


def test_ends_whose_events_were_overwritten_are_told_all_the_same() -> None:
    world = lossy_world()
    revoked, expired, living = (world.grant("platform") for _ in range(3))
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(revoked.session_id, expired.session_id, living.session_id))
    world.settle()
    world.ledger.revoke(world.clock(), world.ledger.session_fence(revoked.session_id), EndReason.REVOKED)
    world.clock.advance_s(60)
    world.verbs.renew(sessions_pb2.RenewRequest(session_id=living.session_id))
    world.clock.advance_s(11)
    overrun(world)
    ends = {notice.session_id: notice.session_ended.end_reason for notice in heard(stream)}
    assert ends == {
        revoked.session_id: types_pb2.END_REASON_REVOKED,
        expired.session_id: types_pb2.END_REASON_EXPIRED,
    }


def test_key_grace_whose_events_were_overwritten_is_told_as_it_is_now_and_its_healing_too() -> None:
    world = lossy_world()
    lost, ended, kept = world.grant("crm"), world.grant("platform", "crm"), world.grant("platform")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(lost.session_id, ended.session_id, kept.session_id))
    world.settle()
    release(world, ended.session_id, "crm")
    world.ledger.lose_source(world.clock(), 1, world.clock() + 300 * 10**9, EndReason.KEY_LOST)
    overrun(world)
    (notice,) = heard(stream)
    assert (notice.session_id, lease_states(notice)) == (lost.session_id, [types_pb2.LEASE_STATE_KEY_GRACE])
    world.ledger.prove_source(world.clock(), 1, world.pools["crm"], 2, 2**62, 2**62)
    overrun(world)
    healed = heard(stream)[1]
    assert (healed.session_id, lease_states(healed)) == (lost.session_id, [types_pb2.LEASE_STATE_ACTIVE])


def test_while_nobody_watches_events_are_not_even_decoded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = world.grant("platform")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(grant.session_id))
    assert world.notices.is_listening
    stream.close()
    monkeypatch.setattr(events, "decode_events", lambda *_: pytest.fail("decoded for nobody"))
    world.grant("platform")
    world.settle()
    assert world.pump.last_sequence == world.ledger.counters().event_total


def test_a_forgotten_session_is_not_told_of_any_more(world: World) -> None:
    grant = world.grant("platform")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(grant.session_id))
    results(stream, ask(forget=(grant.session_id, secrets.token_bytes(32))))
    world.ledger.revoke(world.clock(), world.ledger.session_fence(grant.session_id), EndReason.REVOKED)
    world.settle()
    assert heard(stream) == []


def test_a_superseded_session_is_told_so(world: World) -> None:
    old = world.grant("platform", instance_id="desk")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(old.session_id))
    new = world.grant("platform", instance_id="desk")
    results(stream, ask(new.session_id))
    world.settle()
    (notice,) = heard(stream)
    assert notice.session_id == old.session_id
    assert notice.session_ended.end_reason == types_pb2.END_REASON_SUPERSEDED
    world.lose(0)
    assert heard(stream)[1].session_id == new.session_id


def test_an_end_that_a_renewal_was_answered_with_is_not_told_again(world: World) -> None:
    grant = world.grant("platform")
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(grant.session_id))
    world.clock.advance_s(71)
    assert results(stream, ask(grant.session_id))[0].WhichOneof("result") == "ended"
    world.settle()
    assert heard(stream) == []


def test_a_message_of_which_one_renewal_cannot_be_decided_is_done_and_not_told() -> None:
    world = World(seats={"platform": 2000}, pump_type=StuckPump, event_ring_size=128 * 1024)
    grants, _ = open_until_refused(world, "platform")
    living = sessions_pb2.RenewRequest(session_id=grants[0].session_id)
    world.clock.advance_s(50)
    world.verbs.renew(living)
    world.clock.advance_s(21)
    while world.ledger.advance(world.clock()):
        pass
    stream = world.verbs.keep_alive_stream()
    with pytest.raises(VerbError) as error:
        stream.answer(ask(*[grant.session_id for grant in grants[-200:]], living.session_id))
    assert (error.value.status, error.value.reason) == ("UNAVAILABLE", "EVENTS_FULL")
    world.clock.advance_s(65)  # more than what the renewal before that message gave it
    assert world.verbs.renew(living).ttl.seconds == 60


@pytest.mark.parametrize(
    ("field", "request_message"),
    [
        ("renewals", ask(*[b"x" * 32] * 257)),
        ("renewals[1].session_id", ask(b"x" * 32, b"x")),
        ("renewals[0].change_version", ask(b"x" * 32, version=-1)),
        ("forget", ask(forget=(b"short",))),
    ],
)
def test_a_wrong_request_is_refused_whole(world: World, field: str, request_message: sessions_pb2.KeepAliveRequest) -> None:
    with pytest.raises(VerbError) as error:
        world.verbs.keep_alive_stream().answer(request_message)
    assert error.value.metadata == {"field": field}
    assert world.ledger.counters().not_found_total == 0


def test_a_stream_speaks_for_a_bounded_number_of_sessions(world: World) -> None:
    ids = [world.grant("platform").session_id for _ in range(3)]
    stream = KeepAliveStream(renew=world.verbs.try_renew, notices=world.notices, session_count_max=2)
    results(stream, ask(*ids[:2]))
    with pytest.raises(VerbError) as error:
        stream.answer(ask(ids[2]))
    assert (error.value.status, error.value.metadata) == ("RESOURCE_EXHAUSTED", {"bound": "sessions_of_stream"})
    assert results(stream, ask(ids[2], forget=(ids[0],)))[0].WhichOneof("result") == "renewed"


async def test_a_reader_too_slow_for_its_notices_loses_the_stream(world: World) -> None:
    ids = [world.grant("platform").session_id for _ in range(3)]
    stream = KeepAliveStream(renew=world.verbs.try_renew, notices=world.notices, notice_count_max=2)
    results(stream, ask(*ids))
    for session_id in ids:
        world.ledger.revoke(world.clock(), world.ledger.session_fence(session_id), EndReason.REVOKED)
    world.settle()
    with pytest.raises(VerbError) as error:
        await asyncio.wait_for(stream.overflow(), 10)
    assert (error.value.status, error.value.metadata) == ("RESOURCE_EXHAUSTED", {"bound": "notices_of_stream"})
    assert len(heard(stream)) == 2


async def test_notices_wait_until_there_is_news_and_come_in_order(world: World) -> None:
    ids = [world.grant("platform").session_id for _ in range(2)]
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(*ids))
    coming = asyncio.create_task(stream.notices())
    await asyncio.sleep(0)
    assert not coming.done()
    for session_id in reversed(ids):
        world.ledger.revoke(world.clock(), world.ledger.session_fence(session_id), EndReason.REVOKED)
    world.settle()
    message = await asyncio.wait_for(coming, 10)
    assert [notice.session_id for notice in message.notices] == ids[::-1]


async def test_no_message_of_a_stream_passes_64_kib() -> None:
    products = [f"product-with-a-very-long-name-{number:02}" for number in range(16)]
    world = World(seats=dict.fromkeys(products, 250))
    ids = [world.grant(*products).session_id for _ in range(250)]
    stream = world.verbs.keep_alive_stream()
    results(stream, ask(*ids))
    for source in range(16):
        world.ledger.lose_source(world.clock(), source, world.clock() + 10**9, EndReason.KEY_LOST)
    while world.ledger.advance(world.clock()):
        world.pump.pump()
    world.settle()
    answers = stream.answer(ask(*ids))
    assert len(answers) > 1
    assert [result.session_id for answer in answers for result in answer.results] == ids
    messages = [*answers]
    told = 0
    while stream._waiting:
        message = await stream.notices()
        told += len(message.notices)
        messages.append(message)
    assert told >= 250
    assert max(message.ByteSize() for message in messages) <= MESSAGE_SIZE_MAX
