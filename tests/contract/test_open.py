"""Open: what a grant and a denial say, bundles, optional products, sharing, and what a retry gets."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.contract.harness import CALL_S, Door, KeepAlive, fresh_id, refused


def seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


# --- the grant ----------------------------------------------------------------------------------------------


def test_a_grant_says_all_that_a_client_needs(door: Door) -> None:
    types = door.api.types
    grant = door.grant(["platform", "crm"])
    assert len(grant.session_id) == 32
    assert re.fullmatch(r"[1-9]\d*\.[1-9]\d*", grant.public_id)
    assert seconds(grant.ttl) == 60
    assert seconds(grant.renew_grace) == 0.5
    assert 18 <= seconds(grant.renew_after) <= 22  # a third of the ttl, moved by up to a tenth
    assert grant.change_version > 0
    assert not grant.replayed
    assert not grant.unavailable
    assert [lease.product for lease in grant.leases] == ["platform", "crm"]
    for lease in grant.leases:
        assert lease.state == types.LEASE_STATE_ACTIVE
        assert lease.end_reason == types.END_REASON_UNSPECIFIED
        assert (lease.seats, lease.shared, lease.emulated) == (1, False, True)
        assert lease.proof == b""
        assert not lease.HasField("key_grace")
    assert len({lease.fence for lease in grant.leases}) == 2
    assert door.in_use("platform", "crm", "telephony") == (1, 1, 0)


def test_fences_and_public_ids_only_grow(door: Door) -> None:
    grants = door.fill("platform", 5)
    fences = [grant.leases[0].fence for grant in grants]
    counters = [int(grant.public_id.split(".")[1]) for grant in grants]
    assert fences == sorted(set(fences))
    assert counters == sorted(set(counters))
    assert {grant.public_id.split(".")[0] for grant in grants} == {str(door.broker.generation)}


def test_session_ids_have_nothing_guessable_after_their_fence(door: Door) -> None:
    tails = [grant.session_id[16:] for grant in door.fill("platform", 8)]
    assert len(set(tails)) == 8
    assert len(set(b"".join(tails))) > 64  # of 128 bytes: a counter or a pad would show fewer values


def test_a_shorter_ttl_is_granted_and_a_longer_one_is_shortened(door: Door) -> None:
    assert seconds(door.grant(ttl=Duration(seconds=7)).ttl) == 7
    assert seconds(door.grant(ttl=Duration(seconds=86_400)).ttl) == 60


def test_a_full_bundle_of_sixteen_products_is_served(door: Door) -> None:
    optional = [f"extra-{index}" for index in range(15)]
    grant = door.grant(["platform"], optional)
    assert [lease.product for lease in grant.leases] == ["platform"]
    assert [denial.product for denial in grant.unavailable] == optional


def test_a_nonce_and_machine_identifiers_are_accepted(door: Door) -> None:
    grant = door.grant(client_nonce=bytes(32), machine_identifiers=["m" * 64] * 8)
    assert grant.leases[0].proof == b""


# --- the denial ---------------------------------------------------------------------------------------------


def test_sixteenth_platform_seat_is_denied_with_the_numbers(door: Door) -> None:
    door.fill("platform", 15)
    denial = door.denial(["platform"], user="one-too-many")
    assert denial.reason == door.api.types.DENIAL_REASON_NO_FREE_SEATS
    assert denial.product == "platform"
    assert (denial.capacity, denial.in_use, denial.deficit) == (15, 15, 0)
    assert (denial.reserved, denial.withheld, denial.waiters) == (0, 0, 0)
    assert seconds(denial.retry_after) > 0
    assert "15" in denial.message
    assert "platform" in denial.message
    assert door.in_use("platform") == (15,)
    assert door.session_count() == 15


def test_a_seat_given_back_goes_to_the_next(door: Door) -> None:
    grants = door.fill("platform", 15)
    door.close(grants[7].session_id)
    door.grant(["platform"], user="next")
    assert door.in_use("platform") == (15,)


def test_a_product_without_a_licence_is_denied_as_unknown(door: Door) -> None:
    denial = door.denial(["no-such-product"])
    assert denial.reason == door.api.types.DENIAL_REASON_UNKNOWN_PRODUCT
    assert denial.product == "no-such-product"
    assert (denial.capacity, denial.in_use) == (0, 0)
    assert not denial.HasField("retry_after")  # nothing known will change it
    assert denial.message


def test_a_product_whose_key_is_absent_is_denied_with_no_capacity(with_all_keys: Door) -> None:
    door = with_all_keys
    door.broker.unplug("delta")
    door.broker.await_capacity("desk", 0)
    denial = door.denial(["desk"])
    assert denial.reason == door.api.types.DENIAL_REASON_NO_CAPACITY
    assert (denial.capacity, denial.in_use, denial.deficit) == (0, 0, 0)


# --- bundles ------------------------------------------------------------------------------------------------


def test_a_bundle_with_crm_full_takes_no_platform_seat(door: Door) -> None:
    door.fill("crm", 10)
    denial = door.denial(["platform", "crm"], user="late")
    assert (denial.reason, denial.product) == (door.api.types.DENIAL_REASON_NO_FREE_SEATS, "crm")
    assert (denial.capacity, denial.in_use) == (10, 10)
    assert door.in_use("platform", "crm") == (0, 10)
    assert door.session_count() == 10


def test_the_denial_names_the_first_required_product_in_the_order_of_the_request(door: Door) -> None:
    door.fill("crm", 10)
    assert door.denial(["platform", "crm", "nothing-such"]).product == "crm"
    assert door.denial(["nothing-such", "platform", "crm"]).product == "nothing-such"


def test_many_clients_at_once_never_get_more_seats_than_there_are(door: Door) -> None:
    stub = door.stub
    requests = [door.open_request(["platform", "crm"], user=f"user-{index}") for index in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda request: stub.Open(request, timeout=CALL_S), requests))
    outcomes = [answer.WhichOneof("result") for answer in answers]
    assert outcomes.count("grant") == 10
    assert {answer.denial.product for answer in answers if answer.WhichOneof("result") == "denial"} == {"crm"}
    assert door.in_use("platform", "crm") == (10, 10)


# --- optional products --------------------------------------------------------------------------------------


def test_an_optional_product_is_granted_where_available(door: Door) -> None:
    grant = door.grant(["platform"], ["telephony"])
    assert [lease.product for lease in grant.leases] == ["platform", "telephony"]
    assert not grant.unavailable
    assert door.in_use("platform", "telephony") == (1, 1)


def test_an_optional_product_that_is_full_is_absent_and_explained(door: Door) -> None:
    door.fill("telephony", 5)
    grant = door.grant(["platform"], ["telephony", "unheard-of"], user="late")
    assert [lease.product for lease in grant.leases] == ["platform"]
    full, unknown = grant.unavailable
    assert (full.product, full.reason) == ("telephony", door.api.types.DENIAL_REASON_NO_FREE_SEATS)
    assert (full.capacity, full.in_use) == (5, 5)
    assert (unknown.product, unknown.reason) == ("unheard-of", door.api.types.DENIAL_REASON_UNKNOWN_PRODUCT)


def test_an_optional_product_is_not_taken_when_a_required_one_is_denied(door: Door) -> None:
    door.fill("crm", 10)
    door.denial(["crm"], ["telephony"], user="late")
    assert door.in_use("telephony") == (0,)


def test_an_optional_product_may_stand_before_a_required_one(door: Door) -> None:
    types = door.api.types
    products = [
        types.ProductRequest(product="telephony", optional=True),
        types.ProductRequest(product="platform"),
    ]
    grant = door.stub.Open(
        door.api.sessions.OpenRequest(
            request_id=fresh_id(), holder=types.Holder(user="anna", host="desk-1"), products=products
        ),
        timeout=CALL_S,
    ).grant
    assert [lease.product for lease in grant.leases] == ["telephony", "platform"]


# --- sharing ------------------------------------------------------------------------------------------------


def test_sessions_of_one_user_share_a_seat_up_to_the_licence_maximum(door: Door) -> None:
    first = door.grant(["desk"], host="desk-1")
    second = door.grant(["desk"], host="desk-2")
    assert not first.leases[0].shared
    assert second.leases[0].shared
    assert first.leases[0].fence == second.leases[0].fence
    assert door.in_use("desk") == (1,)
    third = door.grant(["desk"], host="desk-3")  # two sessions a seat, says the licence
    assert not third.leases[0].shared
    assert door.in_use("desk") == (2,)


def test_a_shared_seat_is_free_after_its_last_session(door: Door) -> None:
    first = door.grant(["desk"], host="desk-1")
    second = door.grant(["desk"], host="desk-2")
    door.close(first.session_id)
    assert door.in_use("desk") == (1,)
    door.close(second.session_id)
    assert door.in_use("desk") == (0,)


def test_a_user_who_already_has_a_seat_is_let_in_when_all_are_taken(door: Door) -> None:
    door.grant(["desk"], user="anna")
    door.grant(["desk"], user="boris")
    assert door.denial(["desk"], user="clara").in_use == 2
    assert door.grant(["desk"], user="anna", host="desk-9").leases[0].shared


# --- retries ------------------------------------------------------------------------------------------------


def test_a_repeated_open_returns_the_same_session_and_takes_nothing_more(door: Door) -> None:
    request = door.open_request(["platform", "crm"])
    first = door.stub.Open(request, timeout=CALL_S).grant
    again = door.stub.Open(request, timeout=CALL_S).grant
    assert again.replayed
    assert again.session_id == first.session_id
    assert again.public_id == first.public_id
    assert [(lease.product, lease.fence) for lease in again.leases] == [
        (lease.product, lease.fence) for lease in first.leases
    ]
    assert seconds(again.ttl) <= seconds(first.ttl)
    assert door.in_use("platform", "crm") == (1, 1)
    assert door.session_count() == 1


def test_a_repeated_open_does_not_renew_the_session(door: Door) -> None:
    request = door.open_request(ttl=Duration(seconds=20))
    door.stub.Open(request, timeout=CALL_S)
    left = [seconds(door.stub.Open(request, timeout=CALL_S).grant.ttl) for _ in range(3)]
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == 3


def test_a_repeated_open_tells_the_leases_of_now(door: Door) -> None:
    request = door.open_request(["platform", "crm"])
    grant = door.stub.Open(request, timeout=CALL_S).grant
    door.release(grant.session_id, "crm")
    again = door.stub.Open(request, timeout=CALL_S).grant
    assert [lease.product for lease in again.leases] == ["platform"]


@pytest.mark.parametrize(
    "change",
    [
        {"user": "boris"},
        {"products": ["crm"]},
        {"products": ["platform", "crm"]},
        {"products": ["crm"], "optional": ["platform"]},
        {"instance_id": "other"},
        {"client_nonce": b"other"},
        {"machine_identifiers": ["other"]},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_request_id_used_for_another_request_is_refused(door: Door, change: dict[str, Any]) -> None:
    if "user" in change and not door.identity:
        pytest.skip("without authentication another holder is another scope: tested on its own")
    request_id = fresh_id()
    door.grant(request_id=request_id)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
        door.open(**({"products": ["platform"], "request_id": request_id} | change))
    assert door.in_use("platform", "crm") == (1, 0)


def test_without_authentication_one_request_id_of_two_holders_is_two_requests(door: Door) -> None:
    if door.identity:
        pytest.skip("the scope of a request_id is the identity here")
    request_id = fresh_id()
    first = door.grant(request_id=request_id, user="anna")
    second = door.grant(request_id=request_id, user="boris")
    assert first.session_id != second.session_id
    assert not second.replayed
    assert door.in_use("platform") == (2,)


def test_a_session_once_closed_is_never_opened_anew_by_its_request(door: Door) -> None:
    request = door.open_request()
    grant = door.stub.Open(request, timeout=CALL_S).grant
    door.close(grant.session_id)
    answer = door.stub.Open(request, timeout=CALL_S)
    assert answer.WhichOneof("result") == "ended"
    assert answer.ended.public_id == grant.public_id
    assert answer.ended.end_reason == door.api.types.END_REASON_CLOSED
    assert door.in_use("platform") == (0,)


def test_a_revoked_session_is_told_to_a_repeated_open(door: Door) -> None:
    request = door.open_request()
    grant = door.stub.Open(request, timeout=CALL_S).grant
    door.revoke(grant.public_id)
    assert door.stub.Open(request, timeout=CALL_S).ended.end_reason == door.api.types.END_REASON_REVOKED


def test_an_expired_session_is_told_to_a_repeated_open(door: Door) -> None:
    request = door.open_request(ttl=Duration(seconds=1))
    grant = door.stub.Open(request, timeout=CALL_S).grant
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        assert stream.notice().session_ended.end_reason == door.api.types.END_REASON_EXPIRED
    assert door.stub.Open(request, timeout=CALL_S).ended.end_reason == door.api.types.END_REASON_EXPIRED
    assert door.in_use("platform") == (0,)


def test_a_denial_is_repeated_with_its_first_numbers(door: Door) -> None:
    grants = door.fill("telephony", 5)
    request = door.open_request(["telephony"], user="late")
    first = door.stub.Open(request, timeout=CALL_S).denial
    door.close(grants[0].session_id)
    assert door.stub.Open(request, timeout=CALL_S).denial == first
    assert door.in_use("telephony") == (4,)
    door.grant(["telephony"], user="late")  # a fresh id is a fresh question


def test_one_request_sent_a_thousand_times_over_eight_connections_takes_one_seat(door: Door) -> None:
    request = door.open_request(["platform", "crm"])
    stubs = [door.api.sessions_grpc.SessionsStub(door.channel()) for _ in range(8)]
    barrier = threading.Barrier(8)

    def send(stub: Any) -> list[Any]:
        barrier.wait(CALL_S)
        calls = [stub.Open.future(request, timeout=30) for _ in range(125)]
        return [call.result() for call in calls]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for some in pool.map(send, stubs) for answer in some]
    assert len(answers) == 1000
    assert {answer.WhichOneof("result") for answer in answers} == {"grant"}
    assert len({answer.grant.session_id for answer in answers}) == 1
    assert sum(not answer.grant.replayed for answer in answers) == 1
    assert door.in_use("platform", "crm") == (1, 1)
    assert door.session_count() == 1


# --- instances ----------------------------------------------------------------------------------------------


def test_the_same_instance_takes_over_the_seats_of_its_older_session(door: Door) -> None:
    old = door.grant(["platform", "crm"], instance_id="container-7")
    new = door.grant(["platform", "crm"], instance_id="container-7")
    assert new.session_id != old.session_id
    assert [lease.fence for lease in new.leases] == [
        lease.fence for lease in old.leases
    ]  # the very same charges
    assert door.in_use("platform", "crm") == (1, 1)
    assert door.session_count() == 1
    with refused(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"):
        door.renew(old.session_id)


def test_the_same_instance_gets_its_seat_again_when_all_are_taken(door: Door) -> None:
    door.grant(["telephony"], user="anna", instance_id="softphone-1")
    for index in range(4):
        door.grant(["telephony"], user=f"user-{index}")
    door.denial(["telephony"], user="anna", instance_id="softphone-2")
    door.grant(["telephony"], user="anna", instance_id="softphone-1")
    assert door.in_use("telephony") == (5,)


def test_seats_that_the_new_session_does_not_ask_for_are_freed(door: Door) -> None:
    door.grant(["platform", "crm"], instance_id="container-7")
    door.grant(["platform"], instance_id="container-7")
    assert door.in_use("platform", "crm") == (1, 0)


def test_a_denied_open_leaves_the_older_session_of_the_instance_alone(door: Door) -> None:
    door.fill("crm", 10)
    old = door.grant(["platform"], instance_id="container-7")
    door.denial(["platform", "crm"], instance_id="container-7")
    door.renew(old.session_id)
    assert door.in_use("platform", "crm") == (1, 10)


@pytest.mark.parametrize("other", [{"user": "boris"}, {"host": "desk-2"}], ids=["user", "host"])
def test_an_instance_name_of_another_holder_is_another_instance(door: Door, other: dict[str, str]) -> None:
    old = door.grant(["platform"], instance_id="container-7")
    door.grant(["platform"], instance_id="container-7", **other)
    door.renew(old.session_id)
    assert door.in_use("platform") == (2,)


def test_the_superseded_session_is_told_on_its_stream(door: Door) -> None:
    old = door.grant(["platform"], instance_id="container-7")
    with KeepAlive(door) as stream:
        stream.renew(old.session_id)
        door.grant(["platform"], instance_id="container-7")
        notice = stream.notice()
    assert notice.session_id == old.session_id
    assert notice.session_ended.end_reason == door.api.types.END_REASON_SUPERSEDED
