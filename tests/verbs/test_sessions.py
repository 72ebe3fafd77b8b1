"""The session verbs: grants, denials and errors as proto/broker/v1/sessions.proto promises them."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from broker.model.terms import PoolTerms
from broker.model.words import Sharing
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.errors import VerbError
from broker.verbs.settings import renew_after_ns
from tests.verbs.world import (
    RENEW_GRACE_NS,
    TTL_NS,
    S,
    StuckPump,
    World,
    fresh_id,
    open_request,
    open_until_refused,
)

PLATFORM = ("platform",)
OUT_OF_BOUNDS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("request_id", PLATFORM, {"request_id": b"short"}),
    ("request_id", PLATFORM, {"request_id": b""}),
    ("request_id", PLATFORM, {"request_id": b"x" * 17}),
    ("holder.user", PLATFORM, {"user": ""}),
    ("holder.user", PLATFORM, {"user": "u" * 129}),
    ("holder.host", PLATFORM, {"host": ""}),
    ("holder.host", PLATFORM, {"host": "ж" * 65}),
    ("holder.app", PLATFORM, {"app": "a" * 65}),
    ("holder.label", PLATFORM, {"label": "l" * 65}),
    ("instance_id", PLATFORM, {"instance_id": "i" * 65}),
    ("ttl", PLATFORM, {"ttl": Duration(seconds=-1)}),
    ("ttl", PLATFORM, {"ttl": Duration(nanos=-1)}),
    ("ttl", PLATFORM, {"ttl": Duration(nanos=2 * 10**9)}),
    ("wait_limit", PLATFORM, {"wait_limit": Duration(seconds=-5)}),
    ("client_nonce", PLATFORM, {"client_nonce": b"n" * 33}),
    ("machine_identifiers", PLATFORM, {"machine_identifiers": ["m"] * 9}),
    ("machine_identifiers", PLATFORM, {"machine_identifiers": ["m" * 65]}),
    ("products", (), {}),
    ("products", (), {"optional": PLATFORM}),
    ("products", ("platform", "platform"), {}),
    ("products", PLATFORM, {"optional": PLATFORM}),
    ("products", ("",), {}),
    ("products", ("p" * 33,), {}),
    ("products", tuple(f"p{number}" for number in range(17)), {}),
    ("holder.user", (), {"user": ""}),
]


def refusal(error: pytest.ExceptionInfo[VerbError]) -> tuple[str, str, dict[str, str]]:
    """What a program sees of an error."""
    return error.value.status, error.value.reason, error.value.metadata


def acquire_request(session_id: bytes, *products: str, **fields: Any) -> sessions_pb2.AcquireRequest:
    fields.setdefault("request_id", fresh_id())
    wanted = [types_pb2.ProductRequest(product=product) for product in products]
    return sessions_pb2.AcquireRequest(session_id=session_id, products=wanted, **fields)


def test_a_grant_carries_the_session_its_times_and_its_leases() -> None:
    world = World(seats={"platform": 2})
    grant = world.grant("platform", optional=["crm"])
    assert len(grant.session_id) == 32
    assert grant.public_id == "3.1"
    assert grant.ttl.ToNanoseconds() == TTL_NS
    assert grant.renew_grace.ToNanoseconds() == RENEW_GRACE_NS
    assert abs(grant.renew_after.ToNanoseconds() - TTL_NS // 3) <= TTL_NS // 30
    assert [(lease.product, lease.state, lease.seats, lease.shared) for lease in grant.leases] == [
        ("platform", types_pb2.LEASE_STATE_ACTIVE, 1, False)
    ]
    assert not grant.leases[0].HasField("key_grace")
    assert [(denial.product, denial.reason) for denial in grant.unavailable] == [
        ("crm", types_pb2.DENIAL_REASON_UNKNOWN_PRODUCT)
    ]
    assert grant.change_version == 1
    assert not grant.replayed


def test_emulated_seats_say_so_in_the_lease() -> None:
    world = World()
    world.add_seats(0, "platform", 1, is_emulated=True)
    assert world.grant("platform").leases[0].emulated


def test_a_lease_shared_with_the_group_says_so() -> None:
    world = World()
    world.add_seats(0, "platform", 1, PoolTerms(sharing=Sharing.USER))
    world.grant("platform")
    second = world.grant("platform", host="desk-2")
    assert second.leases[0].shared


def test_a_full_pool_is_denied_with_numbers_and_a_sentence() -> None:
    world = World(seats={"platform": 2})
    world.grant("platform")
    world.grant("platform")
    denial = world.open("platform").denial
    assert denial.reason == types_pb2.DENIAL_REASON_NO_FREE_SEATS
    assert (denial.product, denial.capacity, denial.in_use, denial.deficit) == ("platform", 2, 2, 0)
    assert denial.retry_after.ToNanoseconds() == 5 * S
    assert denial.message == "All 2 seats of platform are in use; ask again in 5 s, or plug in another key."


def test_a_bundle_with_one_full_product_takes_nothing() -> None:
    world = World(seats={"platform": 2, "crm": 1})
    world.grant("crm")
    assert world.open("platform", "crm").denial.product == "crm"
    assert world.ledger.pools()[world.pools["platform"]].in_use == 0


def test_a_denial_without_a_known_remedy_in_time_has_no_retry_after() -> None:
    assert not World().open("platform").denial.HasField("retry_after")


def test_a_retry_gets_the_same_session_marked_as_replayed() -> None:
    world = World(seats={"platform": 1})
    request = open_request("platform")
    first = world.verbs.open(request, "").grant
    again = world.verbs.open(request, "").grant
    assert again.session_id == first.session_id
    assert again.replayed
    assert world.ledger.pools()[0].in_use == 1


def test_a_retry_after_the_end_says_why_the_session_ended() -> None:
    world = World(seats={"platform": 1})
    request = open_request("platform")
    grant = world.verbs.open(request, "").grant
    world.verbs.close(sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=fresh_id()))
    ended = world.verbs.open(request, "").ended
    assert ended.public_id == grant.public_id
    assert ended.end_reason == types_pb2.END_REASON_CLOSED


@pytest.mark.parametrize(
    "changed",
    [
        {"user": "bob"},
        {"instance_id": "other"},
        {"client_nonce": b"n"},
        {"machine_identifiers": ["board:1"]},
        {"ttl": Duration(seconds=7)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_request_under_a_used_request_id_is_refused(changed: dict[str, Any]) -> None:
    world = World(seats={"platform": 5})
    request_id = fresh_id()
    world.open("platform", request_id=request_id, identity="same")
    with pytest.raises(VerbError) as error:
        world.open("platform", request_id=request_id, identity="same", **changed)
    assert refusal(error) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED", {})


def test_the_identity_is_part_of_the_scope_of_a_request_id() -> None:
    world = World(seats={"platform": 5})
    request_id = fresh_id()
    one = world.grant("platform", request_id=request_id, identity="desk-a")
    other = world.grant("platform", request_id=request_id, identity="desk-b")
    assert one.session_id != other.session_id
    session = world.ledger.find_session(world.clock(), world.ledger.session_fence(other.session_id))
    assert session is not None
    assert session.identity == b"desk-b"


@pytest.mark.parametrize(("field", "products", "fields"), OUT_OF_BOUNDS)
def test_a_field_out_of_bounds_is_named_and_nothing_is_taken(
    field: str, products: tuple[str, ...], fields: dict[str, Any]
) -> None:
    world = World(seats={"platform": 5})
    with pytest.raises(VerbError) as error:
        world.open(*products, **fields)
    assert refusal(error) == ("INVALID_ARGUMENT", "INVALID_FIELD", {"field": field})
    assert world.ledger.counters().session_count == 0


def test_the_largest_allowed_request_is_granted() -> None:
    world = World(seats={f"{number:032}": 1 for number in range(16)})
    grant = world.grant(
        *world.pools,
        user="u" * 128,
        host="h" * 128,
        app="a" * 64,
        label="l" * 64,
        instance_id="i" * 64,
        client_nonce=b"n" * 32,
        machine_identifiers=["m" * 64] * 8,
        ttl=Duration(seconds=315_576_000_000, nanos=999_999_999),
    )
    assert len(grant.leases) == 16
    assert grant.ttl.ToNanoseconds() == TTL_NS


def test_a_shorter_ttl_is_granted_and_renewed_with() -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform", ttl=Duration(seconds=6))
    assert grant.ttl.ToNanoseconds() == 6 * S
    renewed = world.verbs.renew(sessions_pb2.RenewRequest(session_id=grant.session_id))
    assert renewed.ttl.ToNanoseconds() == 6 * S
    assert renewed.renew_after.ToNanoseconds() == renew_after_ns(6 * S, world.ledger.session_fence(grant.session_id))


def test_a_certificate_name_that_is_too_long_is_unauthenticated() -> None:
    world = World(seats={"platform": 1})
    with pytest.raises(VerbError) as error:
        world.open("platform", identity="i" * 129)
    assert refusal(error)[:2] == ("UNAUTHENTICATED", "IDENTITY_REQUIRED")


def test_waiting_is_denied_typed_even_with_free_seats() -> None:
    world = World(seats={"platform": 5})
    world.grant("platform")
    denial = world.open("platform", wait_limit=Duration(seconds=3)).denial
    assert denial.reason == types_pb2.DENIAL_REASON_WAITING_UNSUPPORTED
    assert (denial.product, denial.capacity, denial.in_use) == ("platform", 5, 1)
    assert "wait" in denial.message


@pytest.mark.parametrize(("field", "products", "fields"), OUT_OF_BOUNDS)
def test_a_wait_is_checked_like_any_other_request(field: str, products: tuple[str, ...], fields: dict[str, Any]) -> None:
    world = World(seats={"platform": 5})
    request = open_request(*products, **fields)
    with pytest.raises(VerbError) as waiting:
        world.verbs.open_waiting(sessions_pb2.OpenWaitingRequest(open=request))
    assert refusal(waiting) == ("INVALID_ARGUMENT", "INVALID_FIELD", {"field": field})
    if not request.HasField("wait_limit"):
        request.wait_limit.seconds = 3
    with pytest.raises(VerbError) as limited:
        world.verbs.open(request, "")
    assert refusal(limited) == refusal(waiting)
    assert limited.value.message == waiting.value.message


def test_a_denied_wait_does_not_use_up_its_request_id() -> None:
    world = World(seats={"platform": 5})
    request_id = fresh_id()
    world.open("platform", request_id=request_id, wait_limit=Duration(seconds=3))
    assert not world.grant("platform", request_id=request_id).replayed


def test_open_waiting_answers_one_typed_denial() -> None:
    world = World(seats={"platform": 5})
    request = sessions_pb2.OpenWaitingRequest(open=open_request("platform"))
    answer = world.verbs.open_waiting(request)
    assert answer.denial.reason == types_pb2.DENIAL_REASON_WAITING_UNSUPPORTED


def test_a_broker_that_cannot_write_opens_nothing_and_lets_sessions_live_and_end() -> None:
    world = World(seats={"platform": 5, "crm": 5})
    request = open_request("platform")
    grant = world.verbs.open(request, "").grant
    world.ledger.set_writable(world.clock(), False)
    wanted = [types_pb2.ProductRequest(product="crm")]
    acquire = sessions_pb2.AcquireRequest(session_id=grant.session_id, request_id=fresh_id(), products=wanted)
    for ask in (lambda: world.verbs.open(open_request("platform", user="bob"), ""), lambda: world.verbs.acquire(acquire)):
        with pytest.raises(VerbError) as error:
            ask()
        assert refusal(error) == ("UNAVAILABLE", "RENEW_ONLY", {})
        assert "cannot write" in error.value.message
    assert world.verbs.open(request, "").grant.replayed
    assert world.verbs.renew(sessions_pb2.RenewRequest(session_id=grant.session_id)).ttl.seconds == 60
    close = sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=fresh_id())
    assert world.verbs.close(close).end_reason == types_pb2.END_REASON_CLOSED
    world.ledger.set_writable(world.clock(), True)
    assert world.verbs.open(open_request("platform", user="bob"), "").HasField("grant")


def test_a_broker_that_learns_says_so_and_when_to_ask_again() -> None:
    world = World(seats={"platform": 5})
    world.ledger.set_learning(world.clock(), world.clock() + 30 * S)
    denial = world.verbs.open(open_request("platform"), "").denial
    assert denial.reason == types_pb2.DENIAL_REASON_LEARNING
    assert denial.retry_after.seconds == 30
    assert "30 s" in denial.message


def test_a_draining_broker_opens_nothing_and_renews_on() -> None:
    world = World(seats={"platform": 5})
    grant = world.grant("platform")
    world.drain.set(True)
    with pytest.raises(VerbError) as error:
        world.open("platform")
    assert refusal(error) == ("UNAVAILABLE", "DRAINING", {})
    assert world.verbs.renew(sessions_pb2.RenewRequest(session_id=grant.session_id)).ttl.seconds == 60
    world.drain.set(False)
    world.grant("platform")


def test_a_retry_of_a_granted_open_is_answered_while_draining() -> None:
    world = World(seats={"platform": 5})
    request_id = fresh_id()
    grant = world.grant("platform", request_id=request_id)
    world.drain.set(True)
    again = world.grant("platform", request_id=request_id)
    assert (again.session_id, again.replayed) == (grant.session_id, True)
    assert world.ledger.pools()[0].in_use == 1


def test_a_wait_is_refused_while_draining_as_any_open_is() -> None:
    world = World(seats={"platform": 5})
    world.drain.set(True)
    with pytest.raises(VerbError) as error:
        world.verbs.open_waiting(sessions_pb2.OpenWaitingRequest(open=open_request("platform")))
    assert refusal(error) == ("UNAVAILABLE", "DRAINING", {})


def test_a_session_lives_until_ttl_and_grace_have_passed() -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    renewal = sessions_pb2.RenewRequest(session_id=grant.session_id)
    world.clock.advance_s(69.999)
    world.verbs.renew(renewal)
    world.clock.advance_s(70)
    with pytest.raises(VerbError) as error:
        world.verbs.renew(renewal)
    assert refusal(error) == ("NOT_FOUND", "SESSION_NOT_FOUND", {})
    assert error.value.message == "Session 3.1 has expired: it was not renewed in time; open a new one."


def test_a_session_whose_end_is_forgotten_is_over_or_expired() -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    world.clock.advance_s(71)
    world.settle()
    world.clock.advance_s(121)
    world.settle()
    with pytest.raises(VerbError) as error:
        world.verbs.renew(sessions_pb2.RenewRequest(session_id=grant.session_id))
    assert error.value.message == "Session 3.1 is over or expired; open a new one."


def test_an_invented_session_id_is_not_found() -> None:
    world = World(seats={"platform": 1})
    with pytest.raises(VerbError) as error:
        world.verbs.renew(sessions_pb2.RenewRequest(session_id=secrets.token_bytes(32)))
    assert refusal(error)[:2] == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert "never gave out" in error.value.message


@pytest.mark.parametrize("session_id", [b"", b"x", b"x" * 31, b"x" * 33])
def test_a_session_id_of_another_size_is_invalid_for_every_verb(session_id: bytes) -> None:
    world = World()
    calls = (
        lambda: world.verbs.renew(sessions_pb2.RenewRequest(session_id=session_id)),
        lambda: world.verbs.acquire(acquire_request(session_id, "crm")),
        lambda: world.verbs.release(sessions_pb2.ReleaseRequest(session_id=session_id, request_id=fresh_id(), product="crm")),
        lambda: world.verbs.close(sessions_pb2.CloseRequest(session_id=session_id, request_id=fresh_id())),
    )
    for call in calls:
        with pytest.raises(VerbError) as error:
            call()
        assert refusal(error) == ("INVALID_ARGUMENT", "INVALID_FIELD", {"field": "session_id"})


def test_a_negative_change_version_is_invalid() -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    with pytest.raises(VerbError) as error:
        world.verbs.renew(sessions_pb2.RenewRequest(session_id=grant.session_id, change_version=-1))
    assert refusal(error)[2] == {"field": "change_version"}


def test_a_renewal_tells_of_key_grace_and_of_the_end_of_a_lease() -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    world.lose(0, grace_s=30)
    renewal = sessions_pb2.RenewRequest(session_id=grant.session_id, change_version=grant.change_version)
    changed = world.verbs.renew(renewal).changed
    assert [lease.state for lease in changed] == [types_pb2.LEASE_STATE_KEY_GRACE]
    assert changed[0].key_grace.ToNanoseconds() == 30 * S
    world.clock.advance_s(31)
    world.settle()
    after = world.verbs.renew(renewal)
    assert [(lease.state, lease.end_reason) for lease in after.changed] == [
        (types_pb2.LEASE_STATE_ENDED, types_pb2.END_REASON_KEY_LOST)
    ]
    assert after.change_version == 2


def test_acquire_adds_a_product_and_a_retry_repeats_the_answer() -> None:
    world = World(seats={"platform": 1, "crm": 1})
    grant = world.grant("platform")
    request = acquire_request(grant.session_id, "crm")
    acquired = world.verbs.acquire(request).acquired
    assert [lease.product for lease in acquired.leases] == ["crm"]
    again = world.verbs.acquire(request).acquired
    assert again.replayed
    assert world.ledger.pools()[world.pools["crm"]].in_use == 1


def test_acquire_of_a_full_product_is_denied_and_the_session_is_as_it_was() -> None:
    world = World(seats={"platform": 2, "crm": 1})
    world.grant("crm")
    grant = world.grant("platform")
    assert world.verbs.acquire(acquire_request(grant.session_id, "crm")).denial.product == "crm"
    session = world.ledger.find_session(world.clock(), world.ledger.session_fence(grant.session_id))
    assert session is not None
    assert [lease.product for lease in session.leases] == ["platform"]


@pytest.mark.parametrize(
    ("field", "fields"),
    [("request_id", {"request_id": b"1"}), ("client_nonce", {"client_nonce": b"n" * 33})],
)
def test_acquire_names_the_field_that_is_wrong(field: str, fields: dict[str, Any]) -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    with pytest.raises(VerbError) as error:
        world.verbs.acquire(acquire_request(grant.session_id, "crm", **fields))
    assert refusal(error)[2] == {"field": field}


def test_acquire_with_another_nonce_under_the_same_request_id_is_refused() -> None:
    world = World(seats={"platform": 1, "crm": 5})
    grant = world.grant("platform")
    request_id = fresh_id()
    world.verbs.acquire(acquire_request(grant.session_id, "crm", request_id=request_id))
    with pytest.raises(VerbError) as error:
        world.verbs.acquire(acquire_request(grant.session_id, "crm", request_id=request_id, client_nonce=b"n"))
    assert error.value.reason == "REQUEST_ID_REUSED"


def test_release_gives_one_product_back_and_says_whether_it_was_held() -> None:
    world = World(seats={"platform": 1, "crm": 1})
    grant = world.grant("platform", "crm")
    request = sessions_pb2.ReleaseRequest(session_id=grant.session_id, request_id=fresh_id(), product="crm")
    assert world.verbs.release(request).released.was_held
    assert world.verbs.release(request).released.replayed
    assert world.ledger.pools()[world.pools["crm"]].in_use == 0
    request.request_id = fresh_id()
    assert not world.verbs.release(request).released.was_held


@pytest.mark.parametrize("product", ["", "p" * 33])
def test_release_of_what_cannot_be_a_product_is_invalid(product: str) -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    request = sessions_pb2.ReleaseRequest(session_id=grant.session_id, request_id=fresh_id(), product=product)
    with pytest.raises(VerbError) as error:
        world.verbs.release(request)
    assert refusal(error)[2] == {"field": "product"}


def test_close_ends_the_session_and_its_retry_says_so_again() -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    request = sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=fresh_id())
    assert world.verbs.close(request) == sessions_pb2.CloseResponse(end_reason=types_pb2.END_REASON_CLOSED)
    assert world.verbs.close(request).replayed
    request.request_id = fresh_id()
    with pytest.raises(VerbError) as error:
        world.verbs.close(request)
    assert error.value.message == "Session 3.1 was closed by its holder; open a new one."


def test_a_bound_of_the_broker_is_overload_and_names_the_bound() -> None:
    world = World(seats={"platform": 5}, sessions_max=1)
    world.grant("platform")
    with pytest.raises(VerbError) as error:
        world.open("platform", user="bob")
    assert refusal(error) == ("RESOURCE_EXHAUSTED", "OVERLOADED", {"bound": "sessions"})
    assert "sessions" in error.value.message


def test_more_leases_than_a_session_may_have_is_said_of_the_session() -> None:
    names = [f"p{number}" for number in range(40)]
    world = World(seats=dict.fromkeys(names, 1))
    grant = world.grant(*names[:16])
    world.verbs.acquire(acquire_request(grant.session_id, *names[16:32]))
    with pytest.raises(VerbError) as error:
        world.verbs.acquire(acquire_request(grant.session_id, names[32]))
    assert refusal(error) == ("RESOURCE_EXHAUSTED", "OVERLOADED", {"bound": "leases_of_session"})
    assert "session" in error.value.message


def test_events_that_nobody_drains_make_open_unavailable_and_change_nothing() -> None:
    world = World(seats={"platform": 2000}, pump_type=StuckPump, event_ring_size=128 * 1024)
    grants, error = open_until_refused(world, "platform")
    assert (error.status, error.reason) == ("UNAVAILABLE", "EVENTS_FULL")
    assert world.ledger.counters().session_count == world.ledger.pools()[0].in_use == len(grants) > 0
    StuckPump.let_go(world.pump)
    world.settle()
    world.grant("platform")


def test_a_full_event_ring_is_drained_by_the_request_that_meets_it() -> None:
    world = World(seats={"platform": 2000}, event_ring_size=128 * 1024)
    grants = [world.grant("platform") for _ in range(1500)]  # three rings full, and no turn of the pump between them
    for grant in grants:
        request = sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=fresh_id())
        assert world.verbs.close(request).end_reason == types_pb2.END_REASON_CLOSED
    assert world.ledger.counters().session_count == 0
    assert world.ledger.counters().events_full_total > 0  # counted all the same: an admin sees that the pump is behind


def test_a_session_that_expired_into_a_full_event_ring_is_not_found() -> None:
    world = World(seats={"platform": 2000}, event_ring_size=128 * 1024)
    grants = [world.grant("platform") for _ in range(400)]
    world.clock.advance_s(71)
    while world.ledger.advance(world.clock()):
        pass
    with pytest.raises(VerbError) as error:
        world.verbs.renew(sessions_pb2.RenewRequest(session_id=grants[-1].session_id))
    assert error.value.reason == "SESSION_NOT_FOUND"
    assert "expired" in error.value.message


def test_a_renewal_of_a_session_whose_end_finds_no_room_is_told_to_try_again() -> None:
    world = World(seats={"platform": 2000}, pump_type=StuckPump, event_ring_size=128 * 1024)
    grants, _ = open_until_refused(world, "platform")
    world.clock.advance_s(71)
    while world.ledger.advance(world.clock()):
        pass
    late = sessions_pb2.RenewRequest(session_id=grants[-1].session_id)
    with pytest.raises(VerbError) as error:
        world.verbs.renew(late)
    assert refusal(error) == ("UNAVAILABLE", "EVENTS_FULL", {})
    StuckPump.let_go(world.pump)
    with pytest.raises(VerbError) as error:
        world.verbs.renew(late)
    assert refusal(error)[:2] == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert "expired" in error.value.message


def test_renew_after_differs_between_sessions_and_stays_within_a_tenth() -> None:
    ttl_ns = 60 * S
    values = {renew_after_ns(ttl_ns, 3 << 40 | counter) for counter in range(1, 1000)}
    assert len(values) > 150
    assert min(values) >= ttl_ns * 900 // 3000
    assert max(values) <= ttl_ns * 1100 // 3000
    assert renew_after_ns(0, 3 << 40 | 1) == 0
