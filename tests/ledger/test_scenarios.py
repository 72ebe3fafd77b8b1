"""Rules 1-10 as small stories, each on ledger and model: charges, sharing, pools, deficits, key grace."""

from __future__ import annotations

import pytest

from broker.model.words import DenialReason, EndReason, LeaseState, LicenceModel, Sharing, Status
from tests.ledger.scene import SECOND_NS, Scene, lease_on


# --- 1-4: charges, sharing, pools, terms -----------------------------------------------------------------------
def test_two_sessions_of_one_user_stand_on_one_charge_which_ends_with_the_last_of_them(scene: Scene) -> None:
    scene.fill(5, sharing=Sharing.USER)
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
    scene.fill(9, sharing=sharing)
    for user, host in [("ann", b"desk"), ("ann", b"desk"), ("ann", b"hall"), ("bob", b"desk")]:
        assert scene.open(user, host=host).status is Status.GRANTED
    assert scene.seats_in_use() == seats


def test_a_third_session_takes_a_second_seat_where_two_may_share_one(scene: Scene) -> None:
    scene.fill(5, sharing=Sharing.USER, share_max=2)
    for _ in range(3):
        scene.open("ann")
    assert (scene.seats_in_use(), scene.look().lease_count) == (2, 3)


def test_a_user_whose_charge_is_full_is_denied_when_the_pool_is_full_too(scene: Scene) -> None:
    scene.fill(1, sharing=Sharing.USER, share_max=2)
    assert [scene.open("ann").status for _ in range(3)] == [Status.GRANTED, Status.GRANTED, Status.DENIED]


def test_seats_of_all_keys_with_equal_terms_are_summed(scene: Scene) -> None:
    pool = scene.pool()
    scene.prove(5, pool, source=0)
    scene.prove(10, pool, source=1)
    assert scene.look().capacity == 15


def test_sixteenth_platform_seat_of_fifteen_is_denied_with_no_free_seats(scene: Scene) -> None:
    scene.fill(15)
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
    scene.fill(8, weight=3)
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
    scene.fill(1)
    session = scene.open("ann")
    scene.lose(0, grace_s=30, cause=EndReason.LICENCE_ENDED)
    scene.wait(29)
    assert scene.seats_in_use() == 1
    scene.wait(1)
    assert scene.seats_in_use() == 0
    (lease,) = scene.renew(session).leases
    assert (lease.state, lease.end_reason) == (LeaseState.ENDED, EndReason.LICENCE_ENDED)


def test_a_key_that_comes_back_heals_at_once(scene: Scene) -> None:
    scene.fill(1)
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
    scene.fill(1, sharing=Sharing.USER)
    scene.open("ann")
    scene.lose(0)
    assert scene.open("ann").status is Status.GRANTED
    assert scene.open("bob").status is Status.DENIED
