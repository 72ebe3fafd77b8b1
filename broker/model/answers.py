"""What the ledger answers to one command: plain values, equal when the answers are the same.

The compiled ledger and the plain-Python model of tests/model make the very same values, so that the lockstep
suites compare them with ==. Times are durations in nanoseconds from the instant of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.model.words import DenialReason, EndReason, LeaseState, Status


@dataclass(frozen=True, slots=True)
class LeaseView:
    """One lease as its holder sees it. `fence` is its charge's; `pool` the broker's number of the pool."""

    product: str
    state: LeaseState
    end_reason: EndReason
    seats: int
    is_shared: bool
    is_emulated: bool
    fence: int
    pool: int
    key_grace_ns: int


@dataclass(frozen=True, slots=True)
class DenialView:
    """Why one product was not given, with the numbers summed over its pools at the instant of the decision."""

    reason: DenialReason
    product: str
    capacity: int
    in_use: int
    reserved: int
    withheld: int
    deficit: int
    waiters: int
    retry_after_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One command's outcome; which fields are set depends on `status`.

    GRANTED: session_id, fence, ttl_ns, change_version, leases, unavailable. DENIED: denial.
    ENDED: fence, end_reason. RENEWED: fence, ttl_ns, change_version, leases (the changed ones).
    ACQUIRED: fence, change_version, leases, unavailable. RELEASED: fence, change_version, detail (1 if it was held).
    CLOSED: fence, end_reason. INVALID, OVERLOADED: detail. NOT_FOUND: end_reason, NONE if it is not known (any more).
    """

    status: Status
    session_id: bytes = b""
    fence: int = 0
    ttl_ns: int = 0
    change_version: int = 0
    is_replayed: bool = False
    leases: tuple[LeaseView, ...] = ()
    unavailable: tuple[DenialView, ...] = ()
    denial: DenialView | None = None
    end_reason: EndReason = EndReason.NONE
    detail: int = 0
