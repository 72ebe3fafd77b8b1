"""Renew, Acquire, Release and Close of a session, their retries, and what is gone."""

from __future__ import annotations

import threading

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.contract.harness import CALL_S, NOWHERE_ID, Door, KeepAlive, fresh_id, refused

NOT_FOUND = grpc.StatusCode.NOT_FOUND
GONE = "SESSION_NOT_FOUND"


# --- Renew --------------------------------------------------------------------------------------------------


def test_renew_answers_with_the_ttl_and_when_to_come_again(door: Door) -> None:
    grant = door.grant()
    answer = door.renew(grant.session_id, grant.change_version)
    assert answer.ttl == grant.ttl
    assert 0 < answer.renew_after.seconds < answer.ttl.seconds
    assert answer.change_version == grant.change_version
    assert not answer.changed
    assert not answer.HasField("please_release_within")


def test_renewals_keep_a_session_far_past_its_ttl(door: Door) -> None:
    grant = door.grant(ttl=Duration(seconds=1))
    pause = threading.Event()
    for _ in range(5):  # 2.5 s in all; the session would end after 1.5
        pause.wait(0.5)
        door.renew(grant.session_id)
    assert door.in_use("platform") == (1,)


def test_a_silent_session_ends_and_its_seat_is_free(door: Door) -> None:
    silent = door.grant(ttl=Duration(seconds=1))
    with KeepAlive(door) as stream:
        stream.renew(silent.session_id)
        notice = stream.notice()
    assert notice.session_ended.public_id == silent.public_id
    assert notice.session_ended.end_reason == door.api.types.END_REASON_EXPIRED
    assert door.in_use("platform") == (0,)
    with refused(NOT_FOUND, GONE):
        door.renew(silent.session_id)


def test_renew_of_a_closed_session_is_not_found(door: Door) -> None:
    grant = door.grant()
    door.close(grant.session_id)
    with refused(NOT_FOUND, GONE):
        door.renew(grant.session_id)


def test_not_found_names_the_public_id_of_a_session_that_was_ours(door: Door) -> None:
    grant = door.grant()
    door.close(grant.session_id)
    with pytest.raises(grpc.RpcError) as failure:
        door.renew(grant.session_id)
    assert grant.public_id in failure.value.details()


def test_an_id_that_no_broker_gave_is_not_found(door: Door) -> None:
    with refused(NOT_FOUND, GONE):
        door.renew(NOWHERE_ID)


@pytest.mark.parametrize("index", [0, 8, 15, 16, 31], ids=["broker", "fence", "fence-end", "mac", "mac-end"])
def test_an_id_with_one_bit_changed_is_not_found(door: Door, index: int) -> None:
    forged = bytearray(door.grant().session_id)
    forged[index] ^= 1
    with refused(NOT_FOUND, GONE):
        door.renew(bytes(forged))
    with refused(NOT_FOUND, GONE):
        door.close(bytes(forged))
    assert door.in_use("platform") == (1,)


def test_an_id_of_nobody_is_not_found_by_any_verb(door: Door) -> None:
    with refused(NOT_FOUND, GONE):
        door.acquire(NOWHERE_ID, ["platform"])
    with refused(NOT_FOUND, GONE):
        door.release(NOWHERE_ID, "platform")
    with refused(NOT_FOUND, GONE):
        door.close(NOWHERE_ID)


# --- Acquire ------------------------------------------------------------------------------------------------


def test_acquire_adds_products_to_a_session(door: Door) -> None:
    grant = door.grant(["platform"])
    acquired = door.acquire(grant.session_id, ["crm", "telephony"]).acquired
    assert [lease.product for lease in acquired.leases] == ["crm", "telephony"]
    assert all(lease.state == door.api.types.LEASE_STATE_ACTIVE for lease in acquired.leases)
    assert acquired.change_version >= grant.change_version
    assert not acquired.replayed
    assert door.in_use("platform", "crm", "telephony") == (1, 1, 1)


def test_acquire_of_what_is_held_costs_nothing(door: Door) -> None:
    grant = door.grant(["platform"])
    acquired = door.acquire(grant.session_id, ["platform", "crm"]).acquired
    assert [lease.product for lease in acquired.leases] == ["platform", "crm"]
    assert acquired.leases[0].fence == grant.leases[0].fence
    assert door.in_use("platform", "crm") == (1, 1)


def test_acquire_takes_all_or_nothing(door: Door) -> None:
    door.fill("crm", 10)
    grant = door.grant(["platform"], user="late")
    denial = door.acquire(grant.session_id, ["telephony", "crm"]).denial
    assert (denial.product, denial.capacity, denial.in_use) == ("crm", 10, 10)
    assert door.in_use("platform", "crm", "telephony") == (1, 10, 0)
    door.renew(grant.session_id)


def test_acquire_with_an_optional_product_that_is_full_goes_without_it(door: Door) -> None:
    door.fill("crm", 10)
    grant = door.grant(["platform"], user="late")
    acquired = door.acquire(grant.session_id, ["telephony"], ["crm"]).acquired
    assert [lease.product for lease in acquired.leases] == ["telephony"]
    assert [denial.product for denial in acquired.unavailable] == ["crm"]


def test_a_repeated_acquire_takes_nothing_more(door: Door) -> None:
    grant = door.grant(["platform"])
    request = door.acquire_request(grant.session_id, ["crm"])
    first = door.stub.Acquire(request, timeout=CALL_S).acquired
    again = door.stub.Acquire(request, timeout=CALL_S).acquired
    assert (first.replayed, again.replayed) == (False, True)
    assert [lease.fence for lease in again.leases] == [lease.fence for lease in first.leases]
    assert door.in_use("crm") == (1,)


def test_a_repeated_denial_of_acquire_is_the_same(door: Door) -> None:
    taken = door.fill("crm", 10)
    grant = door.grant(["platform"], user="late")
    request = door.acquire_request(grant.session_id, ["crm"])
    first = door.stub.Acquire(request, timeout=CALL_S).denial
    door.close(taken[0].session_id)
    assert door.stub.Acquire(request, timeout=CALL_S).denial == first


def test_an_acquire_id_used_for_other_products_is_refused(door: Door) -> None:
    grant = door.grant(["platform"])
    request_id = fresh_id()
    door.acquire(grant.session_id, ["crm"], request_id=request_id)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
        door.acquire(grant.session_id, ["telephony"], request_id=request_id)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
        door.release(grant.session_id, "crm", request_id)
    assert door.in_use("crm", "telephony") == (1, 0)


def test_acquire_after_close_is_not_found(door: Door) -> None:
    grant = door.grant()
    door.close(grant.session_id)
    with refused(NOT_FOUND, GONE):
        door.acquire(grant.session_id, ["crm"])
    assert door.in_use("crm") == (0,)


# --- Release ------------------------------------------------------------------------------------------------


def test_release_gives_one_product_back_and_keeps_the_session(door: Door) -> None:
    grant = door.grant(["platform", "crm"])
    released = door.release(grant.session_id, "crm").released
    assert (released.was_held, released.replayed) == (True, False)
    assert door.in_use("platform", "crm") == (1, 0)
    assert not door.renew(grant.session_id, released.change_version).changed  # our own release is no news


def test_a_session_may_live_on_with_nothing(door: Door) -> None:
    grant = door.grant(["platform"])
    door.release(grant.session_id, "platform")
    door.renew(grant.session_id)
    door.acquire(grant.session_id, ["crm"])
    assert door.in_use("platform", "crm") == (0, 1)


@pytest.mark.parametrize("product", ["crm", "no-such-product"])
def test_release_of_what_is_not_held_changes_nothing(door: Door, product: str) -> None:
    grant = door.grant(["platform"])
    released = door.release(grant.session_id, product).released
    assert not released.was_held
    assert door.in_use("platform") == (1,)


def test_a_repeated_release_says_what_the_first_said(door: Door) -> None:
    grant = door.grant(["platform", "crm"])
    request_id = fresh_id()
    door.release(grant.session_id, "crm", request_id)
    door.acquire(grant.session_id, ["crm"])
    again = door.release(grant.session_id, "crm", request_id).released
    assert (again.was_held, again.replayed) == (True, True)
    assert door.in_use("crm") == (1,)  # the retry did not give the newer seat away


# --- Close --------------------------------------------------------------------------------------------------


def test_close_gives_every_seat_back(door: Door) -> None:
    grant = door.grant(["platform", "crm", "telephony"])
    answer = door.close(grant.session_id)
    assert answer.end_reason == door.api.types.END_REASON_CLOSED
    assert not answer.replayed
    assert door.in_use("platform", "crm", "telephony") == (0, 0, 0)
    assert door.session_count() == 0


def test_a_repeated_close_answers_as_the_first(door: Door) -> None:
    grant = door.grant()
    request_id = fresh_id()
    door.close(grant.session_id, request_id)
    again = door.close(grant.session_id, request_id)
    assert (again.end_reason, again.replayed) == (door.api.types.END_REASON_CLOSED, True)


def test_another_close_of_a_closed_session_is_not_found(door: Door) -> None:
    grant = door.grant()
    door.close(grant.session_id)
    with refused(NOT_FOUND, GONE):
        door.close(grant.session_id)


def test_closing_one_session_leaves_the_others_alone(door: Door) -> None:
    grants = door.fill("platform", 3)
    door.close(grants[1].session_id)
    for grant in (grants[0], grants[2]):
        door.renew(grant.session_id)
    assert door.in_use("platform") == (2,)


def test_a_revoked_session_is_not_found_and_its_seat_is_free(door: Door) -> None:
    grant = door.grant()
    door.revoke(grant.public_id)
    with refused(NOT_FOUND, GONE):
        door.renew(grant.session_id)
    assert door.in_use("platform") == (0,)
