"""Answers out: the codec writes of any outcome the bytes that the verbs and protobuf write."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from broker import _wire
from broker.model.answers import Answer, DenialView
from broker.model.words import Bound, DenialReason, EndReason, InvalidField, LeaseState, Status
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.errors import VerbError, to_rpc_status
from broker.verbs.keep_alive import _cut
from broker.verbs.messages import (
    denial_message,
    duration,
    grant_message,
    lease_messages,
    session_ended_message,
)
from broker.verbs.public_id import public_id_of
from broker.verbs.sentences import denial_sentence, not_found_sentence
from broker.verbs.sessions import SessionVerbs
from broker.verbs.settings import SessionSettings
from tests.wire.material import INT32, NAMES, answer, denial, fence, lease, nanoseconds

RENEW_GRACE_NS = 10 * 10**9
SETTINGS = SessionSettings(ttl_ns=60 * 10**9, renew_grace_ns=RENEW_GRACE_NS)
OFFER_HOLD_NS = 10 * 10**9
FILL_COUNT = 1095

SUCCESSES = {
    "OpenRequest": (Status.GRANTED, Status.DENIED, Status.ENDED),
    "RenewRequest": (Status.RENEWED,),
    "AcquireRequest": (Status.ACQUIRED, Status.DENIED),
    "ReleaseRequest": (Status.RELEASED, Status.DENIED),
    "CloseRequest": (Status.CLOSED,),
    "OpenWaitingRequest": (Status.GRANTED, Status.DENIED, Status.ENDED),
}
FAILURES = (
    Status.NOT_FOUND,
    Status.REQUEST_ID_REUSED,
    Status.INVALID,
    Status.OVERLOADED,
    Status.EVENTS_FULL,
)


def can_fail_with(message: str) -> tuple[Status, ...]:
    """A Renew takes nothing, so it can only fail for want of its session, or of room to record that this is over; what takes seats is refused by a
    broker that cannot write them down, and only an Open by one that drains."""
    if message == "RenewRequest":
        return (Status.NOT_FOUND, Status.EVENTS_FULL)
    takers = {"OpenRequest": (Status.NOT_WRITABLE, Status.DRAINING), "AcquireRequest": (Status.NOT_WRITABLE,)}
    return FAILURES + takers.get(message, ())


class _Answering:
    """A ledger and a pump that give one answer, whatever is asked: the verbs make a message of it."""

    def __init__(self, given: Answer, asked_fence: int) -> None:
        self._given = given
        self._fence = asked_fence

    def ask(self, *_: object, **__: object) -> Answer:
        return self._given

    open = renew = acquire = release = close = ask

    def session_fence(self, _session_id: bytes) -> int:
        return self._fence

    def pump(self) -> bool:
        return False


REQUESTS: dict[str, tuple[str, Any]] = {
    "OpenRequest": ("open", sessions_pb2.OpenRequest(request_id=bytes(16))),
    "RenewRequest": ("renew", sessions_pb2.RenewRequest(session_id=bytes(32))),
    "AcquireRequest": ("acquire", sessions_pb2.AcquireRequest(session_id=bytes(32), request_id=bytes(16))),
    "ReleaseRequest": ("release", sessions_pb2.ReleaseRequest(session_id=bytes(32), request_id=bytes(16), product="p")),
    "CloseRequest": ("close", sessions_pb2.CloseRequest(session_id=bytes(32), request_id=bytes(16))),
}


def told_by_verbs(message: str, given: Answer, asked_fence: int = 0) -> Any:
    """The real verbs over a ledger that answers this."""
    stub: Any = _Answering(given, asked_fence)
    verbs = SessionVerbs(ledger=stub, clock_ns=lambda: 0, settings=SETTINGS, pump=stub, notices=stub, drain=stub)
    method, request = REQUESTS[message]
    arguments = (request, "") if message == "OpenRequest" else (request,)
    try:
        return getattr(verbs, method)(*arguments).SerializeToString(deterministic=True)
    except VerbError as error:
        return (error.code, error.message, to_rpc_status(error).SerializeToString(deterministic=True))


def told_by_wire(message: str, given: Answer, asked_fence: int = 0) -> Any:
    try:
        return _wire.encode(
            message,
            given,
            renew_grace_ns=RENEW_GRACE_NS,
            fence=asked_fence,
            offer_hold_ns=OFFER_HOLD_NS,
        )
    except _wire.Refused as refused:
        return (refused.code, refused.message, refused.details)


# --- every answer against the verbs -------------------------------------------------------------------------


@pytest.mark.parametrize("message", REQUESTS)
def test_random_answers_are_the_bytes_of_the_verbs(message: str) -> None:
    chance = random.Random(41)
    for number in range(1200):
        given = answer(chance, SUCCESSES[message][number % len(SUCCESSES[message])])
        assert told_by_wire(message, given) == told_by_verbs(message, given), given


@pytest.mark.parametrize(("message", "status"), [(message, status) for message in REQUESTS for status in can_fail_with(message)])
def test_failures_are_the_status_and_details_of_the_verbs(message: str, status: Status) -> None:
    chance = random.Random(43)
    for _ in range(40):
        given = answer(chance, status)
        assert told_by_wire(message, given) == told_by_verbs(message, given)


def test_a_session_that_is_not_found_is_told_with_all_that_is_known_of_it() -> None:
    chance = random.Random(47)
    for reason in EndReason:
        given = Answer(status=Status.NOT_FOUND, end_reason=reason)
        assert told_by_wire("RenewRequest", given)[1] == not_found_sentence("", reason)
        for message in ("RenewRequest", "CloseRequest"):
            asked = fence(chance)
            ours = told_by_wire(message, given, asked)
            assert ours == told_by_verbs(message, given, asked)
            assert ours[1] == not_found_sentence(public_id_of(asked), reason)


def test_every_bound_and_every_field_has_its_own_words() -> None:
    for status, words in ((Status.OVERLOADED, Bound), (Status.INVALID, InvalidField)):
        for detail in tuple(words)[1:]:
            given = Answer(status=status, detail=detail)
            assert told_by_wire("OpenRequest", given) == told_by_verbs("OpenRequest", given)


# --- sentences ----------------------------------------------------------------------------------------------


def sentence_by_wire(given: DenialView) -> str:
    data = _wire.encode("OpenRequest", Answer(status=Status.DENIED, denial=given))
    return sessions_pb2.OpenResponse.FromString(data).denial.message


@pytest.mark.parametrize("reason", DenialReason)
def test_each_denial_is_explained_in_the_same_words(reason: DenialReason) -> None:
    chance = random.Random(reason)
    for _ in range(400):
        given = replace(denial(chance), reason=reason)
        assert sentence_by_wire(given) == denial_sentence(given), given


def test_numbers_of_one_and_two_and_extremes_read_the_same() -> None:
    base = denial(random.Random(1))
    for capacity in INT32:
        for in_use in INT32:
            for reason in (DenialReason.NO_FREE_SEATS, DenialReason.DEFICIT, DenialReason.RESERVED):
                given = replace(base, reason=reason, capacity=capacity, in_use=in_use, reserved=capacity)
                assert sentence_by_wire(given) == denial_sentence(given)


def test_spans_of_time_are_written_alike() -> None:
    chance = random.Random(2)
    base = replace(denial(chance), reason=DenialReason.LEARNING)
    spans = [0, 1, 10**3, 10**9 - 1, 10**9, 999_999 * 10**9, 10**15, 10**15 + 1, 123_456_789_012]
    for span in spans + [nanoseconds(chance) for _ in range(2000)]:
        given = replace(base, retry_after_ns=span)
        assert sentence_by_wire(given) == denial_sentence(given)


# --- streams ------------------------------------------------------------------------------------------------


def waiting_by_verbs(given: Answer) -> sessions_pb2.OpenWaitingResponse:
    if given.status is Status.GRANTED:
        offered = sessions_pb2.OfferedGrant(grant=grant_message(given, SETTINGS), offer_hold=duration(OFFER_HOLD_NS))
        return sessions_pb2.OpenWaitingResponse(offered=offered)
    if given.denial is not None:
        return sessions_pb2.OpenWaitingResponse(denial=denial_message(given.denial))
    return sessions_pb2.OpenWaitingResponse(ended=session_ended_message(given.fence, given.end_reason))


def test_the_last_message_of_a_waiter_is_what_protobuf_writes() -> None:
    chance = random.Random(53)
    for number in range(600):
        given = answer(chance, SUCCESSES["OpenWaitingRequest"][number % 3])
        assert told_by_wire("OpenWaitingRequest", given) == waiting_by_verbs(given).SerializeToString(deterministic=True)


def result_by_verbs(session_id: bytes, asked_fence: int, given: Answer) -> sessions_pb2.KeepAliveResult:
    if given.status is Status.NOT_FOUND:
        ended = session_ended_message(asked_fence, given.end_reason)
        return sessions_pb2.KeepAliveResult(session_id=session_id, ended=ended)
    renewed = sessions_pb2.RenewResponse.FromString(told_by_verbs("RenewRequest", given))
    return sessions_pb2.KeepAliveResult(session_id=session_id, renewed=renewed)


@pytest.mark.parametrize("count", [1, 5, 256])
def test_the_results_of_a_stream_are_cut_and_written_like_the_verbs(count: int) -> None:
    chance = random.Random(count)
    results = []
    for _ in range(count):
        given = answer(chance, chance.choice((Status.RENEWED, Status.RENEWED, Status.NOT_FOUND)))
        results.append((chance.randbytes(32), fence(chance), given))
    parts = _cut([result_by_verbs(*result) for result in results])
    expected = [sessions_pb2.KeepAliveResponse(results=part).SerializeToString(deterministic=True) for part in parts]
    assert _wire.encode_keep_alive(results) == expected
    assert len(expected) > 1 or count < 256
    assert max(map(len, expected)) <= 64 * 1024


def test_a_message_of_a_stream_is_filled_to_the_last_byte_as_the_verbs_fill_it() -> None:
    plain = Answer(status=Status.RENEWED, fence=1 << 40, ttl_ns=60 * 10**9, change_version=1)
    one = replace(lease(random.Random(67)), state=LeaseState.ACTIVE)
    # 56 bytes each.
    fill = [(bytes(32), 1 << 40, plain)] * FILL_COUNT
    filling = [result_by_verbs(*fill[0])] * len(fill)
    counts = []
    for size in range(1, 33):
        last = (bytes(32), 1 << 40, replace(plain, leases=(replace(one, product="x" * size), replace(one, product="p"))))
        parts = list(_cut([*filling, result_by_verbs(*last)]))
        assert list(map(len, _wire.encode_keep_alive([*fill, last]))) == [
            sessions_pb2.KeepAliveResponse(results=part).ByteSize() for part in parts
        ]
        counts.append(len(parts))
    assert set(counts) == {1, 2}, "the boundary was not met"


def test_notices_are_what_protobuf_writes() -> None:
    chance = random.Random(59)
    for _ in range(300):
        given, session_id, asked = answer(chance, Status.RENEWED), chance.randbytes(32), fence(chance)
        notice = sessions_pb2.Notice(session_id=session_id)
        if given.end_reason:
            notice.session_ended.CopyFrom(session_ended_message(asked, given.end_reason))
        else:
            changed = sessions_pb2.LeasesChanged(leases=lease_messages(given.leases), change_version=given.change_version)
            notice.leases_changed.CopyFrom(changed)
        expected = sessions_pb2.KeepAliveResponse(notices=[notice]).SerializeToString(deterministic=True)
        assert _wire.encode_notice(session_id, asked, given) == expected


# --- by hand ------------------------------------------------------------------------------------------------

RENEWED = Answer(status=Status.RENEWED, fence=3 << 40 | 1042, ttl_ns=60 * 10**9, change_version=1)


def test_a_renewal_is_these_bytes() -> None:
    # 0a 02 08 3c: ttl 60 s | 12 .. renew_after: a third of it, moved by the fence | 18 01: change_version 1
    renew_after_ns = 60 * 10**9 * (900 + ((RENEWED.fence * 0x9E3779B97F4A7C15 % 2**64) >> 32) % 201) // 3000
    renew_after = duration(renew_after_ns).SerializeToString()
    expected = bytes.fromhex("0a02083c12") + bytes([len(renew_after)]) + renew_after + bytes.fromhex("1801")
    assert _wire.encode("RenewRequest", RENEWED) == expected


def test_a_close_is_these_bytes() -> None:
    assert _wire.encode("CloseRequest", Answer(status=Status.CLOSED, end_reason=EndReason.CLOSED)).hex() == "0801"
    assert _wire.encode("CloseRequest", Answer(status=Status.CLOSED, is_replayed=True)).hex() == "1001"
    assert _wire.encode("CloseRequest", Answer(status=Status.CLOSED)) == b""


def test_a_session_that_ended_is_these_bytes() -> None:
    # 1a 0a: ended, 10 bytes | 0a 06 "3.1042" | 10 02: expired
    given = Answer(status=Status.ENDED, fence=3 << 40 | 1042, end_reason=EndReason.EXPIRED)
    assert _wire.encode("OpenRequest", given).hex() == "1a0a0a06" + b"3.1042".hex() + "1002"


def test_a_denial_names_its_product_in_these_bytes() -> None:
    given = DenialView(DenialReason.MISSING_PRODUCT, "crm", 0, 0, 0, 0, 0, 0, 0)
    sentence = b"crm needs another product in the same session; ask for both together."
    denied = bytes.fromhex("0806120363726d52") + bytes([len(sentence)]) + sentence
    assert _wire.encode("ReleaseRequest", Answer(status=Status.DENIED, denial=given)) == b"\x12" + bytes([len(denied)]) + denied


def test_the_largest_answer_fits_into_its_room() -> None:
    chance = random.Random(61)
    long_names = replace(denial(chance), reason=DenialReason.DEFICIT, product="x" * 32, retry_after_ns=2**49 + 1)
    least = -(2**31)
    widest = replace(
        long_names, capacity=least, in_use=least, reserved=least, withheld=least, deficit=least, waiters=least
    )
    given = replace(answer(chance, Status.GRANTED), unavailable=(widest,) * 15, leases=_widest_leases(chance))
    data = told_by_wire("OpenRequest", given)
    assert data == told_by_verbs("OpenRequest", given)
    assert len(data) <= 16384
    assert types_pb2.Grant.DESCRIPTOR.fields[-1].number < 16, "tags of one byte"


def _widest_leases(chance: random.Random) -> tuple[Any, ...]:
    leases = (lease(chance) for _ in range(32))
    return tuple(replace(one, product=NAMES[-2], key_grace_ns=2**50 - 1, fence=2**63 - 1, seats=1000) for one in leases)
