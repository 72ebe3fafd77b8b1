"""Rules 16-27 as small stories, each on ledger and model: ttl, ends, lingering, late clocks, fences, the event ring."""

from __future__ import annotations

from broker.model.words import EndReason, EventKind, Sharing, Status
from tests.ledger.scene import SECOND_NS, Scene, Stage, compiled_ledger, lease_on


# --- 16-19: time and ends ----------------------------------------------------------------------------------------------
def test_a_session_ends_at_its_last_renew_and_ttl_and_renew_grace_and_no_earlier(scene: Scene) -> None:
    scene.fill(1)
    session = scene.open("ann")
    scene.wait(50)
    scene.renew(session)
    scene.wait(69.999)
    assert scene.seats_in_use() == 1
    scene.wait(0.001)
    assert (scene.seats_in_use(), scene.ends()) == (0, [EndReason.EXPIRED])


def test_a_renew_within_renew_grace_is_normal(scene: Scene) -> None:
    scene.fill(1)
    session = scene.open("ann")
    scene.now_s += 69.999
    assert scene.renew(session).status is Status.RENEWED


def test_a_late_renew_revives_nobody_even_before_advance_has_run(scene: Scene) -> None:
    scene.fill(1)
    session = scene.open("ann")
    scene.now_s += 70
    assert scene.renew(session).status is Status.NOT_FOUND
    assert (scene.seats_in_use(), scene.ends()) == (0, [EndReason.EXPIRED])


def test_a_shorter_ttl_is_kept_and_a_longer_one_shortened(scene: Scene) -> None:
    scene.fill(2)
    assert scene.open("ann", ttl_ns=5 * SECOND_NS).ttl_ns == 5 * SECOND_NS
    assert scene.open("bob", ttl_ns=3_600 * SECOND_NS).ttl_ns == 60 * SECOND_NS


def test_renew_answers_with_no_lease_left(scene: Scene) -> None:
    scene.fill(1)
    session = scene.open("ann")
    scene.release(session, "platform")
    renewed = scene.renew(session)
    assert (renewed.status, renewed.leases, renewed.ttl_ns) == (Status.RENEWED, (), 60 * SECOND_NS)


def test_an_ended_lease_is_told_until_its_version_is_echoed(scene: Scene) -> None:
    scene.fill(1)
    session = scene.open("ann")
    scene.lose(0, grace_s=0)
    told = scene.renew(session, session.change_version)
    assert [lease.end_reason for lease in told.leases] == [EndReason.KEY_LOST]
    assert told.change_version == session.change_version + 1
    assert scene.renew(session, session.change_version).leases == told.leases
    assert scene.renew(session, told.change_version).leases == ()


def test_losing_one_lease_ends_no_other(scene: Scene) -> None:
    scene.fill(1)
    crm = scene.pool("crm")
    scene.prove(1, crm, source=1)
    session = scene.open("ann", "platform", "crm")
    scene.lose(0, grace_s=0)
    assert [lease.product for lease in scene.renew(session).leases] == ["platform"]
    assert scene.seats_in_use(crm) == 1


def test_a_closed_seat_lingers_for_its_own_group_only(scene: Scene) -> None:
    scene.fill(1, sharing=Sharing.USER, linger_ns=30 * SECOND_NS)
    first = scene.open("ann")
    scene.close(first)
    assert scene.seats_in_use() == 1
    assert scene.open("bob").status is Status.DENIED
    again = scene.open("ann")
    assert lease_on(again, "platform").fence == lease_on(first, "platform").fence


def test_a_lingering_seat_is_free_at_its_time(scene: Scene) -> None:
    scene.fill(1, linger_ns=30 * SECOND_NS)
    scene.close(scene.open("ann"))
    scene.wait(29.999)
    assert scene.seats_in_use() == 1
    scene.wait(0.001)
    assert scene.open("bob").status is Status.GRANTED


def test_minimum_hold_counts_from_the_grant(scene: Scene) -> None:
    scene.fill(1, min_hold_ns=30 * SECOND_NS)
    session = scene.open("ann")
    scene.wait(20)
    scene.close(session)
    scene.wait(9.999)
    assert scene.seats_in_use() == 1
    scene.wait(0.001)
    assert scene.seats_in_use() == 0


def test_a_session_may_take_back_what_it_released_while_the_seat_lingers(scene: Scene) -> None:
    scene.fill(1, min_hold_ns=30 * SECOND_NS)
    session = scene.open("ann")
    scene.release(session, "platform")
    assert scene.open("bob").status is Status.DENIED
    assert scene.acquire(session, "platform").status is Status.ACQUIRED
    assert scene.seats_in_use() == 1


def test_a_revoked_seat_does_not_linger(scene: Scene) -> None:
    scene.fill(1, linger_ns=30 * SECOND_NS, min_hold_ns=30 * SECOND_NS)
    session = scene.open("ann")
    assert scene.revoke(session)
    assert (scene.seats_in_use(), scene.ends()) == (0, [EndReason.REVOKED])
    assert not scene.revoke(session)


def test_who_comes_too_late_hears_why_the_session_ended_until_its_requests_are_forgotten(scene: Scene) -> None:
    scene.fill(4)
    closed, revoked, expired = scene.open("ann"), scene.open("bob"), scene.open("eve")
    scene.close(closed)
    scene.revoke(revoked, EndReason.POLICY_CHANGED)
    scene.now_s += 70
    for session, reason in ((closed, EndReason.CLOSED), (revoked, EndReason.POLICY_CHANGED), (expired, EndReason.EXPIRED)):
        told = [scene.renew(session), scene.acquire(session, "platform"), scene.release(session, "platform"), scene.close(session)]
        assert [(answer.status, answer.end_reason) for answer in told] == [(Status.NOT_FOUND, reason)] * 4
        assert scene.core.end_reason(scene.now_ns, session.fence) is reason
    scene.wait(120)
    for session in (closed, revoked, expired):
        told = [scene.renew(session), scene.acquire(session, "platform"), scene.release(session, "platform"), scene.close(session)]
        assert [(answer.status, answer.end_reason) for answer in told] == [(Status.NOT_FOUND, EndReason.NONE)] * 4
        assert scene.core.end_reason(scene.now_ns, session.fence) is EndReason.NONE


def test_the_next_session_of_the_record_does_not_lend_its_end_to_the_one_before(scene: Scene) -> None:
    scene.fill(1)
    first = scene.open("ann")
    scene.close(first)
    scene.wait(120)
    second = scene.open("bob")
    scene.revoke(second)
    assert scene.renew(first).end_reason is EndReason.NONE
    assert scene.renew(second).end_reason is EndReason.REVOKED


def test_a_session_that_lives_has_no_end_reason(scene: Scene) -> None:
    scene.fill(1)
    assert scene.core.end_reason(scene.now_ns, scene.open("ann").fence) is EndReason.NONE


def test_every_lease_ends_once_with_one_reason(scene: Scene) -> None:
    scene.fill(5, sharing=Sharing.USER)
    sessions = [
        scene.open("ann", instance_id=b"one"),
        scene.open("ann"),
        scene.open("ann", instance_id=b"one"),
    ]
    scene.close(sessions[1])
    scene.wait(70)
    events = scene.events()
    started = [event for event in events if event.kind is EventKind.LEASE_STARTED]
    ended = [event.reason for event in events if event.kind is EventKind.LEASE_ENDED]
    moved = [event for event in events if event.kind is EventKind.CHARGE_MOVED]
    assert len(started) == len(ended) + len(moved) == 3
    assert ended == [EndReason.CLOSED, EndReason.EXPIRED]
    assert [event.reason for event in events if event.kind is EventKind.CHARGE_FREED] == [EndReason.EXPIRED]


# --- 20, 22: late clocks and session ids ---------------------------------------------------------------------------------
def test_after_a_stall_all_deadlines_move_by_the_gap(stage: Stage) -> None:
    scene = stage(stall_ns=SECOND_NS)
    scene.fill(1)
    session = scene.open("ann")
    scene.wait(3_600)
    assert scene.renew(session).status is Status.RENEWED
    assert scene.core.counters().stalled_ns == 3_600 * SECOND_NS


def test_a_stopped_process_proves_nothing(stage: Stage) -> None:
    scene = stage(stall_ns=SECOND_NS)
    scene.prove(1, scene.pool(), for_s=90, grace_s=210)
    session = scene.open("ann")
    scene.wait(3_600)
    assert scene.renew(session).leases[0].end_reason is EndReason.KEY_LOST


def test_time_that_goes_back_is_ignored(scene: Scene) -> None:
    scene.fill(1)
    session = scene.open("ann")
    scene.wait(69)
    scene.now_s -= 60
    assert scene.renew(session).ttl_ns == 60 * SECOND_NS
    scene.now_s += 60 + 69
    assert scene.renew(session).status is Status.RENEWED


def test_fences_carry_the_generation_and_grow(scene: Scene) -> None:
    scene.fill(5)
    sessions = [scene.open(f"user{number}") for number in range(3)]
    fences = [fence for one in sessions for fence in (one.fence, lease_on(one, "platform").fence)]
    assert fences == [3 << 40 | number for number in range(1, 7)]


def test_a_forged_session_id_is_not_found() -> None:
    scene = Scene(compiled_ledger)
    scene.fill(1)
    session = scene.open("ann")
    for place in range(len(session.session_id)):
        forged = bytearray(session.session_id)
        forged[place] ^= 1
        assert scene.core.session_fence(bytes(forged)) == 0
        assert scene.core.renew(scene.now_ns, bytes(forged), 0).status is Status.NOT_FOUND
    assert scene.core.session_fence(session.session_id) == session.fence


def test_while_the_broker_drains_only_repeated_opens_are_answered(scene: Scene) -> None:
    scene.fill(5)
    request_id = scene.request_id()
    session = scene.open("ann", request_id=request_id)
    scene.core.set_admitting(scene.now_ns, False)
    assert scene.open("bob").status is Status.DRAINING
    assert scene.open("ann", request_id=request_id).session_id == session.session_id
    assert scene.renew(session).status is Status.RENEWED
    scene.core.set_admitting(scene.now_ns, True)
    assert scene.open("bob").status is Status.GRANTED


# --- 26, 27: events ------------------------------------------------------------------------------------------------------
def test_with_a_full_event_ring_nothing_changes_but_renewals_go_on(stage: Stage) -> None:
    scene = stage(event_ring_size=1 << 17)
    scene.fill(10_000)
    sessions = [scene.open("user0")]
    while (answer := scene.open(f"user{len(sessions)}")).status is Status.GRANTED:
        sessions.append(answer)
    assert answer.status is Status.EVENTS_FULL
    assert scene.seats_in_use() == len(sessions)
    assert scene.renew(sessions[0]).status is Status.RENEWED


def test_an_expiry_without_event_room_waits_and_is_not_dropped(stage: Stage) -> None:
    scene = stage(event_ring_size=1 << 17)
    scene.fill(10_000)
    opened_count = 0
    while scene.open(f"user{opened_count}").status is Status.GRANTED:
        opened_count += 1
    scene.wait(70)
    assert scene.seats_in_use() > 0
    ends = []
    while scene.seats_in_use():
        ends += scene.ends()
        scene.advance()
    assert ends + scene.ends() == [EndReason.EXPIRED] * opened_count


def test_a_hundred_denials_of_a_second_are_told_singly_and_the_rest_as_a_count(scene: Scene) -> None:
    scene.pool()
    for number in range(130):
        scene.open(f"user{number}")
    scene.wait(1)
    told = [event.seats for event in scene.events() if event.kind is EventKind.DENIED]
    assert told == [1] * 100 + [30]


def test_what_is_due_is_done_in_steps_of_at_most_256(scene: Scene) -> None:
    scene.fill(300)
    for number in range(300):
        scene.open(f"user{number}")
    scene.now_s += 70
    assert scene.core.advance(scene.now_ns)
    assert scene.seats_in_use() == 300 - 256
    assert not scene.core.advance(scene.now_ns)
    assert scene.seats_in_use() == 0
