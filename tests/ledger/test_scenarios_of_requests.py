"""Rules 11-15 as small stories, each on ledger and model: retries, restarted apps, bundles, denials, bounds."""

from __future__ import annotations

from typing import Any

import pytest

from broker.model.words import Bound, DenialReason, EndReason, InvalidField, Status
from tests.ledger.scene import SECOND_NS, Scene, Stage, compiled_ledger, lease_on


# --- 11: request_id ------------------------------------------------------------------------------------------------
def test_a_repeated_open_gives_the_same_session_with_the_ttl_of_now_and_takes_nothing_more(
    scene: Scene,
) -> None:
    scene.fill(5)
    request_id = scene.request_id()
    first = scene.open("ann", request_id=request_id)
    scene.wait(20)
    again = scene.open("ann", request_id=request_id)
    assert again.is_replayed
    assert (again.session_id, again.leases, again.ttl_ns) == (first.session_id, first.leases, 40 * SECOND_NS)
    assert scene.seats_in_use() == 1


def test_another_body_under_a_used_request_id_is_refused(scene: Scene) -> None:
    scene.fill(5)
    request_id = scene.request_id()
    scene.open("ann", request_id=request_id)
    assert scene.open("ann", request_id=request_id, priority=1).status is Status.REQUEST_ID_REUSED
    assert scene.open("ann", request_id=request_id, salt=b"nonce").status is Status.REQUEST_ID_REUSED
    assert scene.seats_in_use() == 1


def test_another_holder_may_use_the_same_request_id(scene: Scene) -> None:
    scene.fill(5)
    request_id = scene.request_id()
    assert scene.open("ann", request_id=request_id).fence != scene.open("bob", request_id=request_id).fence


def test_a_repeated_open_of_a_session_that_is_over_says_how_it_ended_and_opens_nothing(scene: Scene) -> None:
    scene.fill(5)
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
    scene.fill(5)
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
    scene.fill(5)
    session, request_id = scene.open("ann"), scene.request_id()
    scene.release(session, "platform", request_id)
    assert scene.acquire(session, "platform", request_id=request_id).status is Status.REQUEST_ID_REUSED
    assert scene.close(session, request_id).status is Status.REQUEST_ID_REUSED


def test_at_the_bound_on_remembered_requests_new_ones_are_refused_and_none_is_forgotten(stage: Stage) -> None:
    scene = stage(requests_max=2)
    scene.fill(5)
    request_id = scene.request_id()
    first = scene.open("ann", request_id=request_id)
    scene.open("bob")
    refused = scene.open("eve")
    assert (refused.status, refused.detail) == (Status.OVERLOADED, Bound.REMEMBERED_REQUESTS)
    assert scene.open("ann", request_id=request_id).session_id == first.session_id
    assert scene.seats_in_use() == 2


def test_without_room_for_its_texts_a_session_is_refused_and_nothing_changes() -> None:
    scene = Scene(compiled_ledger, text_size_max=1_024)
    scene.fill(1_000)
    granted_count = 0
    while (answer := scene.open(f"user{granted_count}", label=b"l" * 64)).status is Status.GRANTED:
        granted_count += 1
    assert (answer.status, answer.detail) == (Status.OVERLOADED, Bound.TEXT)
    assert 0 < granted_count < 20
    assert scene.seats_in_use() == granted_count


# --- 12: instance_id -----------------------------------------------------------------------------------------------
def test_a_restarted_app_supersedes_its_older_session_and_takes_no_second_seat(scene: Scene) -> None:
    scene.fill(1)
    crashed = scene.open("ann", instance_id=b"workplace-4")
    restarted = scene.open("ann", instance_id=b"workplace-4")
    assert restarted.status is Status.GRANTED
    assert lease_on(restarted, "platform").fence == lease_on(crashed, "platform").fence
    assert scene.renew(crashed).status is Status.NOT_FOUND
    assert (scene.seats_in_use(), scene.ends()) == (1, [EndReason.SUPERSEDED])


def test_what_a_restarted_app_does_not_ask_for_again_is_free_at_once(scene: Scene) -> None:
    scene.fill(1)
    crm = scene.pool("crm", linger_ns=600 * SECOND_NS)
    scene.prove(1, crm, source=1)
    scene.open("ann", "platform", "crm", instance_id=b"one")
    scene.open("ann", "platform", instance_id=b"one")
    assert (scene.seats_in_use(), scene.seats_in_use(crm)) == (1, 0)


def test_another_holder_with_the_same_instance_id_supersedes_nobody(scene: Scene) -> None:
    scene.fill(2)
    ann = scene.open("ann", instance_id=b"one")
    scene.open("bob", instance_id=b"one")
    assert scene.renew(ann).status is Status.RENEWED


def test_a_denied_restart_leaves_the_older_session_as_it_was(scene: Scene) -> None:
    scene.fill(1)
    scene.pool("crm")
    session = scene.open("ann", instance_id=b"one")
    assert scene.open("ann", "platform", "crm", instance_id=b"one").status is Status.DENIED
    assert scene.renew(session).status is Status.RENEWED


# --- 13, 15: bundles and denials -------------------------------------------------------------------------------------
def test_a_bundle_with_crm_full_takes_no_platform_seat(scene: Scene) -> None:
    scene.fill(5)
    scene.prove(1, scene.pool("crm"), source=1)
    scene.open("ann", "platform", "crm")
    refused = scene.open("bob", "platform", "crm")
    assert refused.denial is not None
    assert (refused.denial.product, scene.seats_in_use()) == ("crm", 1)


def test_optional_products_come_as_available_and_the_others_are_named(scene: Scene) -> None:
    scene.fill(5)
    scene.pool("crm")
    answer = scene.open("ann", "platform", optional=("crm", "telephony"))
    assert [lease.product for lease in answer.leases] == ["platform"]
    reasons = [(denial.product, denial.reason) for denial in answer.unavailable]
    assert reasons == [("crm", DenialReason.NO_CAPACITY), ("telephony", DenialReason.UNKNOWN_PRODUCT)]


def test_a_product_that_the_session_holds_already_costs_nothing_in_an_acquire(scene: Scene) -> None:
    scene.fill(1)
    session = scene.open("ann")
    answer = scene.acquire(session, "platform")
    assert (answer.status, scene.seats_in_use()) == (Status.ACQUIRED, 1)


def test_a_denied_acquire_takes_nothing_and_leaves_the_session_alone(scene: Scene) -> None:
    scene.fill(1)
    crm = scene.pool("crm")
    scene.prove(1, crm, source=1)
    session = scene.open("ann")
    assert scene.acquire(session, "crm", "telephony").status is Status.DENIED
    assert scene.seats_in_use(crm) == 0
    assert scene.renew(session).status is Status.RENEWED


def test_an_unknown_product_is_denied_as_such_and_counted_for_nobody(scene: Scene) -> None:
    scene.fill(1)
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
