"""The auditor by itself: what a broker must not answer is an accusation, what it may answer is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.licence import Licence, LicenceTerms
from broker.model.answers import Answer, LeaseView
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, LeaseState, Status
from tests.sim.agenda import S
from tests.sim.auditor import Accusation, Auditor
from tests.sim.calls import Call, Person, Verb
from tests.sim.course import UNIX_S, Course, course_of

TERMS = PoolTerms()
LICENCE = Licence(
    "L", "Acme", "crm", 1, "key0", UNIX_S, UNIX_S, None, True, "", LicenceTerms(pool=TERMS), "k", "digest"
)
GENERATION = 1
FIRST = GENERATION << 40


def course() -> Course:
    """One key with one seat; sessions of ten seconds."""
    return replace(
        course_of(1), durability="strict", licences=(LICENCE,), thumbprints=("key0",), ttl_ns=10 * S, proof_ttl_ns=100 * S, grace_ns=5 * S
    )


@pytest.fixture
def auditor() -> Auditor:
    auditor = Auditor(course())
    auditor.started(GENERATION, 0, S)
    auditor.pool_declared(0, "crm", TERMS)
    auditor.proved("key0", 1)
    return auditor


def call(number: int, verb: Verb = Verb.OPEN, fence: int = 0, holder: int = 0) -> Call:
    person = Person(b"u%d" % holder, b"h")
    return Call(number, holder, verb, person, b"r%d" % number, (("crm", False),), b"", fence)


def lease(charge: int, state: LeaseState = LeaseState.ACTIVE, reason: EndReason = EndReason.NONE) -> LeaseView:
    return LeaseView("crm", state, reason, 1, False, True, charge, 0, 0)


def grant(fence: int, *leases: LeaseView, is_replayed: bool = False) -> Answer:
    return Answer(Status.GRANTED, b"id", fence, 10 * S, leases=leases, is_replayed=is_replayed)


def granted(auditor: Auditor) -> int:
    """A session with a lease, granted at 1 s; its fence."""
    auditor.asked(call(1), S)
    auditor.told(call(1), grant(FIRST + 1, lease(FIRST + 2)), S)
    return FIRST + 1


def test_an_acknowledged_session_that_is_not_known_any_more_is_lost(auditor: Auditor) -> None:
    fence = granted(auditor)
    with pytest.raises(Accusation, match="is lost"):
        auditor.told(call(2, Verb.RENEW, fence), Answer(Status.NOT_FOUND), 5 * S)


def test_a_session_may_expire_when_its_time_is_over_and_not_before(auditor: Auditor) -> None:
    fence = granted(auditor)
    expired = Answer(Status.NOT_FOUND, end_reason=EndReason.EXPIRED)
    with pytest.raises(Accusation, match="without a cause"):
        auditor.told(call(2, Verb.RENEW, fence), expired, 5 * S)
    auditor.told(call(3, Verb.RENEW, fence), expired, 12 * S)


def test_one_request_id_that_opens_two_sessions_is_found(auditor: Auditor) -> None:
    granted(auditor)
    with pytest.raises(Accusation, match="was answered"):
        auditor.told(call(1), grant(FIRST + 9, lease(FIRST + 2)), 2 * S)


def test_a_seat_given_twice_is_found(auditor: Auditor) -> None:
    granted(auditor)
    with pytest.raises(Accusation, match="2 seats of pool 0 are taken, and 1 are proven"):
        auditor.told(call(1, holder=1), grant(FIRST + 3, lease(FIRST + 4)), 2 * S)


def test_a_seat_whose_holder_asked_to_close_may_be_another_ones(auditor: Auditor) -> None:
    fence = granted(auditor)
    auditor.asked(call(2, Verb.CLOSE, fence), 2 * S)
    auditor.told(call(1, holder=1), grant(FIRST + 3, lease(FIRST + 4)), 3 * S)


def test_a_charge_before_any_proof_to_this_process_is_found(auditor: Auditor) -> None:
    auditor.ended(S)
    auditor.started(2, 2 * S, 5 * S)
    with pytest.raises(Accusation, match="0 are proven"):
        auditor.told(call(1), grant((2 << 40) + 1, lease((2 << 40) + 2)), 3 * S)


def test_a_charge_that_was_recovered_though_nobody_was_told_of_it_is_none_of_this_process(auditor: Auditor) -> None:
    auditor.ended(S)
    auditor.started(2, 2 * S, 5 * S)
    auditor.told(call(1), grant(FIRST + 1, lease(FIRST + 2), is_replayed=True), 3 * S)


def test_a_grant_without_what_was_required_is_found(auditor: Auditor) -> None:
    with pytest.raises(Accusation, match="without all of"):
        auditor.told(call(1), grant(FIRST + 1), S)


def test_a_lease_taken_while_nobody_touched_its_key_is_found(auditor: Auditor) -> None:
    fence = granted(auditor)
    gone = lease(FIRST + 2, LeaseState.ENDED, EndReason.KEY_LOST)
    with pytest.raises(Accusation, match="without a cause"):
        auditor.told(call(2, Verb.RENEW, fence), Answer(Status.RENEWED, fence=fence, ttl_ns=10 * S, leases=(gone,)), 3 * S)


def test_a_lease_on_a_key_that_was_pulled_may_end_and_a_grant_told_again_may_leave_it_out(auditor: Auditor) -> None:
    granted(auditor)
    auditor.touched("key0", 2 * S)
    auditor.told(call(1), grant(FIRST + 1, is_replayed=True), 9 * S)


def test_seats_that_stay_longer_than_their_keys_grace_are_found(auditor: Auditor) -> None:
    fence = granted(auditor)
    auditor.touched("key0", 2 * S)
    renewed = Answer(Status.RENEWED, fence=fence, ttl_ns=200 * S)
    auditor.told(call(2, Verb.RENEW, fence), renewed, 99 * S)  # its last proof is good for 100 s
    with pytest.raises(Accusation, match="grace allows 0"):
        auditor.told(call(3, Verb.RENEW, fence), renewed, 103 * S)


def test_time_in_which_no_broker_ran_takes_nothing_of_grace(auditor: Auditor) -> None:
    fence = granted(auditor)
    auditor.touched("key0", 2 * S)
    auditor.ended(3 * S)
    auditor.started(2, 53 * S, 56 * S)
    auditor.told(call(2, Verb.RENEW, fence), Answer(Status.RENEWED, fence=fence, ttl_ns=200 * S), 140 * S)


def test_a_session_that_ends_twice_with_two_reasons_is_found(auditor: Auditor) -> None:
    fence = granted(auditor)
    auditor.told(call(2, Verb.RENEW, fence), Answer(Status.NOT_FOUND, end_reason=EndReason.EXPIRED), 12 * S)
    auditor.asked(call(3, Verb.CLOSE, fence), 12 * S)
    with pytest.raises(Accusation, match="and then as"):
        auditor.told(call(3, Verb.CLOSE, fence), Answer(Status.NOT_FOUND, end_reason=EndReason.CLOSED), 13 * S)


def test_a_session_that_was_over_and_answers_again_is_found(auditor: Auditor) -> None:
    fence = granted(auditor)
    auditor.told(call(2, Verb.RENEW, fence), Answer(Status.NOT_FOUND, end_reason=EndReason.EXPIRED), 12 * S)
    with pytest.raises(Accusation, match="answers again"):
        auditor.told(call(3, Verb.RENEW, fence), Answer(Status.RENEWED, fence=fence, ttl_ns=S), 13 * S)
