"""The rules of seats as small stories, each on the compiled ledger and on the model; numbers are those of semantics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.model.words import (
    Bound,
    DenialReason,
    EndReason,
    EventKind,
    InvalidField,
    LeaseState,
    LicenceModel,
    Sharing,
    Status,
)
from tests.ledger.scene import SECOND_NS, MakeCore, Scene, compiled_ledger, lease_on, model_ledger

Stage = Callable[..., Scene]


@pytest.fixture(params=[compiled_ledger, model_ledger], ids=["ledger", "model"])
def stage(request: pytest.FixtureRequest) -> Stage:
    """Makes a scene with the settings that are given."""
    make_core: MakeCore = request.param
    return lambda **settings: Scene(make_core, **settings)


@pytest.fixture
def scene(stage: Stage) -> Scene:
    return stage()


def fill(scene: Scene, seats: int, **terms: Any) -> None:
    """One pool of `platform` with so many proven seats."""
    scene.prove(seats, scene.pool(**terms))


# --- 1-4: charges, sharing, pools, terms -----------------------------------------------------------------------
def test_two_sessions_of_one_user_stand_on_one_charge_which_ends_with_the_last_of_them(scene: Scene) -> None:
    fill(scene, 5, sharing=Sharing.USER)
    first, second = scene.open("ann"), scene.open("ann", host=b"hall")
    assert lease_on(first, "platform").fence == lease_on(second, "platform").fence
    assert lease_on(second, "platform").is_shared
    assert scene.seats_in_use() == 1
    scene.close(first)
    assert scene.seats_in_use() == 1
    scene.close(second)
    assert scene.seats_in_use() == 0


@pytest.mark.parametrize(
    ("sharing", "seats"), [(Sharing.SESSION, 4), (Sharing.USER, 2), (Sharing.HOST, 2), (Sharing.USER_HOST, 3)]
)
def test_who_shares_a_seat_is_a_term_of_the_pool(scene: Scene, sharing: Sharing, seats: int) -> None:
    fill(scene, 9, sharing=sharing)
    for user, host in [("ann", b"desk"), ("ann", b"desk"), ("ann", b"hall"), ("bob", b"desk")]:
        assert scene.open(user, host=host).status is Status.GRANTED
    assert scene.seats_in_use() == seats


def test_a_third_session_takes_a_second_seat_where_two_may_share_one(scene: Scene) -> None:
    fill(scene, 5, sharing=Sharing.USER, share_max=2)
    for _ in range(3):
        scene.open("ann")
    assert (scene.seats_in_use(), scene.look().lease_count) == (2, 3)


def test_a_user_whose_charge_is_full_is_denied_when_the_pool_is_full_too(scene: Scene) -> None:
    fill(scene, 1, sharing=Sharing.USER, share_max=2)
    assert [scene.open("ann").status for _ in range(3)] == [Status.GRANTED, Status.GRANTED, Status.DENIED]


def test_seats_of_all_keys_with_equal_terms_are_summed(scene: Scene) -> None:
    pool = scene.pool()
    scene.prove(5, pool, source=0)
    scene.prove(10, pool, source=1)
    assert scene.look().capacity == 15


def test_sixteenth_platform_seat_of_fifteen_is_denied_with_no_free_seats(scene: Scene) -> None:
    fill(scene, 15)
    assert all(scene.open(f"user{number}").status is Status.GRANTED for number in range(15))
    denial = scene.open("user15").denial
    assert denial is not None
    assert (denial.reason, denial.capacity, denial.in_use) == (DenialReason.NO_FREE_SEATS, 15, 15)


def test_equal_terms_make_one_pool_and_other_terms_another(scene: Scene) -> None:
    assert scene.pool(weight=1) == scene.pool(weight=1)
    assert scene.pool(weight=1) != scene.pool(weight=2)
    assert scene.pool(weight=1) != scene.pool(weight=1, is_emulated=True)


def test_pools_of_a_product_are_tried_named_device_concurrent_site(scene: Scene) -> None:
    order = [LicenceModel.SITE, LicenceModel.CONCURRENT, LicenceModel.NAMED, LicenceModel.DEVICE]
    for source, model in enumerate(order):
        scene.prove(1, scene.pool(model=model), source=source)
    taken = [lease_on(scene.open(f"user{number}"), "platform").pool for number in range(4)]
    assert [order[pool] for pool in taken] == sorted(order)


def test_a_product_of_weight_three_takes_three_seats_each(scene: Scene) -> None:
    fill(scene, 8, weight=3)
    statuses = [scene.open(f"user{number}").status for number in range(3)]
    assert statuses == [Status.GRANTED, Status.GRANTED, Status.DENIED]
    assert scene.seats_in_use() == 6


def test_a_lease_of_an_emulated_pool_says_so(scene: Scene) -> None:
    scene.prove(1, scene.pool(is_emulated=True))
    assert lease_on(scene.open("ann"), "platform").is_emulated


# --- 6-10: deficits and key grace --------------------------------------------------------------------------------
def test_a_lost_key_that_free_seats_cover_is_noticed_by_nobody(scene: Scene) -> None:
    pool = scene.pool()
    scene.prove(5, pool, source=0)
    scene.prove(5, pool, source=1)
    session = scene.open("ann")
    scene.lose(1)
    assert (scene.look().deficit, scene.renew(session).leases) == (0, ())


def test_a_lost_key_leaves_a_deficit_that_lets_nobody_in_and_ends_nobody(scene: Scene) -> None:
    pool = scene.pool()
    scene.prove(2, pool, source=0)
    scene.prove(3, pool, source=1)
    sessions = [scene.open(f"user{number}") for number in range(4)]
    scene.lose(1)
    assert (scene.look().capacity, scene.look().deficit) == (2, 2)
    denial = scene.open("late").denial
    assert denial is not None
    assert (denial.reason, denial.deficit) == (DenialReason.DEFICIT, 2)
    assert all(scene.renew(session).status is Status.RENEWED for session in sessions)


def test_a_deficit_shrinks_with_each_seat_given_back_and_lets_in_again_only_below_capacity(
    scene: Scene,
) -> None:
    pool = scene.pool()
    scene.prove(2, pool, source=0)
    scene.prove(2, pool, source=1)
    sessions = [scene.open(f"user{number}") for number in range(4)]
    scene.lose(1)
    deficits = []
    for session in sessions[:2]:
        scene.close(session)
        deficits.append(scene.look().deficit)
    assert deficits == [1, 0]
    assert scene.open("late").status is Status.DENIED
    scene.close(sessions[2])
    assert scene.open("later").status is Status.GRANTED


def test_the_newest_of_the_lowest_priority_are_in_key_grace_and_are_told(scene: Scene) -> None:
    pool = scene.pool()
    scene.prove(2, pool, source=0)
    scene.prove(2, pool, source=1)
    important = scene.open("ann", priority=7)
    older, newer = scene.open("bob"), scene.open("eve")
    newest_but_important = scene.open("zoe", priority=7)
    scene.lose(1, grace_s=300)
    scene.wait(60)
    for session in (important, newest_but_important):
        assert scene.renew(session).leases == ()
    for session in (older, newer):
        (lease,) = scene.renew(session).leases
        assert (lease.state, lease.key_grace_ns) == (LeaseState.KEY_GRACE, 240 * SECOND_NS)


def test_of_equal_priority_the_newest_charge_goes_into_key_grace_first(scene: Scene) -> None:
    pool = scene.pool()
    scene.prove(1, pool, source=0)
    scene.prove(1, pool, source=1)
    older, newer = scene.open("ann"), scene.open("bob")
    scene.lose(1)
    assert scene.renew(older).leases == ()
    assert scene.renew(newer).leases[0].state is LeaseState.KEY_GRACE


def test_when_key_grace_ends_its_charges_end_with_the_cause_and_their_sessions_live_on(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    scene.lose(0, grace_s=30, cause=EndReason.LICENCE_ENDED)
    scene.wait(29)
    assert scene.seats_in_use() == 1
    scene.wait(1)
    assert scene.seats_in_use() == 0
    (lease,) = scene.renew(session).leases
    assert (lease.state, lease.end_reason) == (LeaseState.ENDED, EndReason.LICENCE_ENDED)


def test_a_key_that_comes_back_heals_at_once(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    scene.lose(0)
    assert scene.renew(session).leases
    scene.prove(1)
    assert (scene.look().deficit, scene.look().key_grace_count, scene.renew(session).leases) == (0, 0, ())


def test_capacity_ends_with_its_proof_even_if_nobody_says_so(scene: Scene) -> None:
    scene.prove(1, scene.pool(), for_s=90, grace_s=210)
    scene.now_s += 50
    session = scene.open("ann")
    scene.now_s += 39.999
    assert scene.look().capacity == 1
    scene.now_s += 0.001
    assert scene.open("bob").status is Status.DENIED
    assert scene.look().capacity == 0
    scene.advance()
    assert scene.renew(session).leases[0].state is LeaseState.KEY_GRACE


def test_key_grace_counts_from_the_last_proof_and_not_from_the_loss(scene: Scene) -> None:
    scene.prove(1, scene.pool(), for_s=90, grace_s=210)
    session = scene.open("ann")
    for _ in range(6):
        scene.wait(50)
        assert scene.renew(session).status is Status.RENEWED
    assert scene.renew(session).leases[0].end_reason is EndReason.KEY_LOST


def test_before_a_pool_is_proven_the_answer_is_keys_starting_with_retry_after(scene: Scene) -> None:
    scene.starting(True, scene.pool())
    denial = scene.open("ann").denial
    assert denial is not None
    assert denial.reason is DenialReason.KEYS_STARTING
    assert denial.retry_after_ns == SECOND_NS
    scene.prove(1)
    scene.starting(False)
    assert scene.open("ann").status is Status.GRANTED


def test_a_group_that_holds_a_charge_may_share_it_while_its_key_is_missing(scene: Scene) -> None:
    fill(scene, 1, sharing=Sharing.USER)
    scene.open("ann")
    scene.lose(0)
    assert scene.open("ann").status is Status.GRANTED
    assert scene.open("bob").status is Status.DENIED


# --- 11: request_id ------------------------------------------------------------------------------------------------
def test_a_repeated_open_gives_the_same_session_with_the_ttl_of_now_and_takes_nothing_more(
    scene: Scene,
) -> None:
    fill(scene, 5)
    request_id = scene.request_id()
    first = scene.open("ann", request_id=request_id)
    scene.wait(20)
    again = scene.open("ann", request_id=request_id)
    assert again.is_replayed
    assert (again.session_id, again.leases, again.ttl_ns) == (first.session_id, first.leases, 40 * SECOND_NS)
    assert scene.seats_in_use() == 1


def test_another_body_under_a_used_request_id_is_refused(scene: Scene) -> None:
    fill(scene, 5)
    request_id = scene.request_id()
    scene.open("ann", request_id=request_id)
    assert scene.open("ann", request_id=request_id, priority=1).status is Status.REQUEST_ID_REUSED
    assert scene.open("ann", request_id=request_id, salt=b"nonce").status is Status.REQUEST_ID_REUSED
    assert scene.seats_in_use() == 1


def test_another_holder_may_use_the_same_request_id(scene: Scene) -> None:
    fill(scene, 5)
    request_id = scene.request_id()
    assert scene.open("ann", request_id=request_id).fence != scene.open("bob", request_id=request_id).fence


def test_a_repeated_open_of_a_session_that_is_over_says_how_it_ended_and_opens_nothing(scene: Scene) -> None:
    fill(scene, 5)
    request_id = scene.request_id()
    session = scene.open("ann", request_id=request_id)
    scene.close(session)
    scene.wait(119)
    again = scene.open("ann", request_id=request_id)
    assert (again.status, again.end_reason, again.fence) == (Status.ENDED, EndReason.CLOSED, session.fence)
    scene.wait(1)
    assert scene.open("ann", request_id=request_id).status is Status.GRANTED


def test_a_denial_is_repeated_for_ten_seconds_and_then_decided_anew(scene: Scene) -> None:
    pool = scene.pool()
    request_id = scene.request_id()
    denied = scene.open("ann", request_id=request_id)
    scene.prove(1, pool)
    scene.wait(9)
    again = scene.open("ann", request_id=request_id)
    assert (again.status, again.denial, again.is_replayed) == (Status.DENIED, denied.denial, True)
    scene.wait(1)
    assert scene.open("ann", request_id=request_id).status is Status.GRANTED


def test_acquire_release_and_close_repeated_change_nothing_more(scene: Scene) -> None:
    fill(scene, 5)
    scene.prove(5, scene.pool("crm"), source=1)
    session, request_id = scene.open("ann"), scene.request_id()
    first, again = (scene.acquire(session, "crm", request_id=request_id) for _ in range(2))
    assert (first.leases, again.is_replayed) == (again.leases, True)
    request_id = scene.request_id()
    assert [scene.release(session, "crm", request_id).detail for _ in range(2)] == [1, 1]
    request_id = scene.request_id()
    assert [scene.close(session, request_id).status for _ in range(2)] == [Status.CLOSED, Status.CLOSED]
    assert scene.core.counters().released_total == 1


def test_one_request_id_for_two_verbs_is_refused(scene: Scene) -> None:
    fill(scene, 5)
    session, request_id = scene.open("ann"), scene.request_id()
    scene.release(session, "platform", request_id)
    assert scene.acquire(session, "platform", request_id=request_id).status is Status.REQUEST_ID_REUSED
    assert scene.close(session, request_id).status is Status.REQUEST_ID_REUSED


def test_at_the_bound_on_remembered_requests_new_ones_are_refused_and_none_is_forgotten(stage: Stage) -> None:
    scene = stage(requests_max=2)
    fill(scene, 5)
    request_id = scene.request_id()
    first = scene.open("ann", request_id=request_id)
    scene.open("bob")
    refused = scene.open("eve")
    assert (refused.status, refused.detail) == (Status.OVERLOADED, Bound.REMEMBERED_REQUESTS)
    assert scene.open("ann", request_id=request_id).session_id == first.session_id
    assert scene.seats_in_use() == 2


# --- 12: instance_id -----------------------------------------------------------------------------------------------
def test_a_restarted_app_supersedes_its_older_session_and_takes_no_second_seat(scene: Scene) -> None:
    fill(scene, 1)
    crashed = scene.open("ann", instance_id=b"workplace-4")
    restarted = scene.open("ann", instance_id=b"workplace-4")
    assert restarted.status is Status.GRANTED
    assert lease_on(restarted, "platform").fence == lease_on(crashed, "platform").fence
    assert scene.renew(crashed).status is Status.NOT_FOUND
    assert (scene.seats_in_use(), scene.ends()) == (1, [EndReason.SUPERSEDED])


def test_what_a_restarted_app_does_not_ask_for_again_is_free_at_once(scene: Scene) -> None:
    fill(scene, 1)
    crm = scene.pool("crm", linger_ns=600 * SECOND_NS)
    scene.prove(1, crm, source=1)
    scene.open("ann", "platform", "crm", instance_id=b"one")
    scene.open("ann", "platform", instance_id=b"one")
    assert (scene.seats_in_use(), scene.seats_in_use(crm)) == (1, 0)


def test_another_holder_with_the_same_instance_id_supersedes_nobody(scene: Scene) -> None:
    fill(scene, 2)
    ann = scene.open("ann", instance_id=b"one")
    scene.open("bob", instance_id=b"one")
    assert scene.renew(ann).status is Status.RENEWED


def test_a_denied_restart_leaves_the_older_session_as_it_was(scene: Scene) -> None:
    fill(scene, 1)
    scene.pool("crm")
    session = scene.open("ann", instance_id=b"one")
    assert scene.open("ann", "platform", "crm", instance_id=b"one").status is Status.DENIED
    assert scene.renew(session).status is Status.RENEWED


# --- 13, 15: bundles and denials -------------------------------------------------------------------------------------
def test_a_bundle_with_crm_full_takes_no_platform_seat(scene: Scene) -> None:
    fill(scene, 5)
    scene.prove(1, scene.pool("crm"), source=1)
    scene.open("ann", "platform", "crm")
    refused = scene.open("bob", "platform", "crm")
    assert refused.denial is not None
    assert (refused.denial.product, scene.seats_in_use()) == ("crm", 1)


def test_optional_products_come_as_available_and_the_others_are_named(scene: Scene) -> None:
    fill(scene, 5)
    scene.pool("crm")
    answer = scene.open("ann", "platform", optional=("crm", "telephony"))
    assert [lease.product for lease in answer.leases] == ["platform"]
    reasons = [(denial.product, denial.reason) for denial in answer.unavailable]
    assert reasons == [("crm", DenialReason.NO_CAPACITY), ("telephony", DenialReason.UNKNOWN_PRODUCT)]


def test_a_product_that_the_session_holds_already_costs_nothing_in_an_acquire(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    answer = scene.acquire(session, "platform")
    assert (answer.status, scene.seats_in_use()) == (Status.ACQUIRED, 1)


def test_a_denied_acquire_takes_nothing_and_leaves_the_session_alone(scene: Scene) -> None:
    fill(scene, 1)
    crm = scene.pool("crm")
    scene.prove(1, crm, source=1)
    session = scene.open("ann")
    assert scene.acquire(session, "crm", "telephony").status is Status.DENIED
    assert scene.seats_in_use(crm) == 0
    assert scene.renew(session).status is Status.RENEWED


def test_an_unknown_product_is_denied_as_such_and_counted_for_nobody(scene: Scene) -> None:
    fill(scene, 1)
    denial = scene.open("ann", "fax").denial
    assert denial is not None
    assert (denial.reason, denial.product) == (DenialReason.UNKNOWN_PRODUCT, "fax")
    assert not any(scene.core.products()[0].denial_totals)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"user": b""}, InvalidField.USER),
        ({"host": b"h" * 129}, InvalidField.HOST),
        ({"app": b"a" * 65, "label": b"l" * 65}, InvalidField.APP),
        ({"products": []}, InvalidField.PRODUCTS),
        ({"products": [("platform", True)]}, InvalidField.PRODUCTS),
        ({"products": [("platform", False), ("platform", True)]}, InvalidField.PRODUCTS),
        ({"ttl_ns": -1}, InvalidField.TTL),
        ({"priority": 8}, InvalidField.PRIORITY),
    ],
)
def test_a_request_out_of_bounds_names_its_first_wrong_field(
    scene: Scene, wrong: dict[str, Any], field: InvalidField
) -> None:
    right = {
        "request_id": scene.request_id(),
        "user": b"ann",
        "host": b"desk",
        "products": [("platform", False)],
    }
    answer = scene.core.open(scene.now_ns, **(right | wrong))
    assert (answer.status, answer.detail) == (Status.INVALID, field)


# --- 16-19: time and ends ----------------------------------------------------------------------------------------------
def test_a_session_ends_at_its_last_renew_and_ttl_and_renew_grace_and_no_earlier(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    scene.wait(50)
    scene.renew(session)
    scene.wait(69.999)
    assert scene.seats_in_use() == 1
    scene.wait(0.001)
    assert (scene.seats_in_use(), scene.ends()) == (0, [EndReason.EXPIRED])


def test_a_renew_within_renew_grace_is_normal(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    scene.now_s += 69.999
    assert scene.renew(session).status is Status.RENEWED


def test_a_late_renew_revives_nobody_even_before_advance_has_run(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    scene.now_s += 70
    assert scene.renew(session).status is Status.NOT_FOUND
    assert (scene.seats_in_use(), scene.ends()) == (0, [EndReason.EXPIRED])


def test_a_shorter_ttl_is_kept_and_a_longer_one_shortened(scene: Scene) -> None:
    fill(scene, 2)
    assert scene.open("ann", ttl_ns=5 * SECOND_NS).ttl_ns == 5 * SECOND_NS
    assert scene.open("bob", ttl_ns=3_600 * SECOND_NS).ttl_ns == 60 * SECOND_NS


def test_renew_answers_with_no_lease_left(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    scene.release(session, "platform")
    renewed = scene.renew(session)
    assert (renewed.status, renewed.leases, renewed.ttl_ns) == (Status.RENEWED, (), 60 * SECOND_NS)


def test_an_ended_lease_is_told_until_its_version_is_echoed(scene: Scene) -> None:
    fill(scene, 1)
    session = scene.open("ann")
    scene.lose(0, grace_s=0)
    told = scene.renew(session, session.change_version)
    assert [lease.end_reason for lease in told.leases] == [EndReason.KEY_LOST]
    assert told.change_version == session.change_version + 1
    assert scene.renew(session, session.change_version).leases == told.leases
    assert scene.renew(session, told.change_version).leases == ()


def test_losing_one_lease_ends_no_other(scene: Scene) -> None:
    fill(scene, 1)
    crm = scene.pool("crm")
    scene.prove(1, crm, source=1)
    session = scene.open("ann", "platform", "crm")
    scene.lose(0, grace_s=0)
    assert [lease.product for lease in scene.renew(session).leases] == ["platform"]
    assert scene.seats_in_use(crm) == 1


def test_a_closed_seat_lingers_for_its_own_group_only(scene: Scene) -> None:
    fill(scene, 1, sharing=Sharing.USER, linger_ns=30 * SECOND_NS)
    first = scene.open("ann")
    scene.close(first)
    assert scene.seats_in_use() == 1
    assert scene.open("bob").status is Status.DENIED
    again = scene.open("ann")
    assert lease_on(again, "platform").fence == lease_on(first, "platform").fence


def test_a_lingering_seat_is_free_at_its_time(scene: Scene) -> None:
    fill(scene, 1, linger_ns=30 * SECOND_NS)
    scene.close(scene.open("ann"))
    scene.wait(29.999)
    assert scene.seats_in_use() == 1
    scene.wait(0.001)
    assert scene.open("bob").status is Status.GRANTED


def test_minimum_hold_counts_from_the_grant(scene: Scene) -> None:
    fill(scene, 1, min_hold_ns=30 * SECOND_NS)
    session = scene.open("ann")
    scene.wait(20)
    scene.close(session)
    scene.wait(9.999)
    assert scene.seats_in_use() == 1
    scene.wait(0.001)
    assert scene.seats_in_use() == 0


def test_a_session_may_take_back_what_it_released_while_the_seat_lingers(scene: Scene) -> None:
    fill(scene, 1, min_hold_ns=30 * SECOND_NS)
    session = scene.open("ann")
    scene.release(session, "platform")
    assert scene.open("bob").status is Status.DENIED
    assert scene.acquire(session, "platform").status is Status.ACQUIRED
    assert scene.seats_in_use() == 1


def test_a_revoked_seat_does_not_linger(scene: Scene) -> None:
    fill(scene, 1, linger_ns=30 * SECOND_NS, min_hold_ns=30 * SECOND_NS)
    session = scene.open("ann")
    assert scene.revoke(session)
    assert (scene.seats_in_use(), scene.ends()) == (0, [EndReason.REVOKED])
    assert not scene.revoke(session)


def test_every_lease_ends_once_with_one_reason(scene: Scene) -> None:
    fill(scene, 5, sharing=Sharing.USER)
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
    fill(scene, 1)
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
    fill(scene, 1)
    session = scene.open("ann")
    scene.wait(69)
    scene.now_s -= 60
    assert scene.renew(session).ttl_ns == 60 * SECOND_NS
    scene.now_s += 60 + 69
    assert scene.renew(session).status is Status.RENEWED


def test_fences_carry_the_generation_and_grow(scene: Scene) -> None:
    fill(scene, 5)
    sessions = [scene.open(f"user{number}") for number in range(3)]
    fences = [fence for one in sessions for fence in (one.fence, lease_on(one, "platform").fence)]
    assert fences == [3 << 40 | number for number in range(1, 7)]


def test_a_forged_session_id_is_not_found() -> None:
    scene = Scene(compiled_ledger)
    fill(scene, 1)
    session = scene.open("ann")
    for place in range(len(session.session_id)):
        forged = bytearray(session.session_id)
        forged[place] ^= 1
        assert scene.core.session_fence(bytes(forged)) == 0
        assert scene.core.renew(scene.now_ns, bytes(forged), 0).status is Status.NOT_FOUND
    assert scene.core.session_fence(session.session_id) == session.fence


def test_while_the_broker_drains_only_repeated_opens_are_answered(scene: Scene) -> None:
    fill(scene, 5)
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
    fill(scene, 10_000)
    sessions = [scene.open("user0")]
    while (answer := scene.open(f"user{len(sessions)}")).status is Status.GRANTED:
        sessions.append(answer)
    assert answer.status is Status.EVENTS_FULL
    assert scene.seats_in_use() == len(sessions)
    assert scene.renew(sessions[0]).status is Status.RENEWED


def test_an_expiry_without_event_room_waits_and_is_not_dropped(stage: Stage) -> None:
    scene = stage(event_ring_size=1 << 17)
    fill(scene, 10_000)
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
    fill(scene, 300)
    for number in range(300):
        scene.open(f"user{number}")
    scene.now_s += 70
    assert scene.core.advance(scene.now_ns)
    assert scene.seats_in_use() == 300 - 256
    assert not scene.core.advance(scene.now_ns)
    assert scene.seats_in_use() == 0
