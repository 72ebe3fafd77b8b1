"""What can be read of the ledger at one instant: sessions, pools, products, counters. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from broker.model.answers import LeaseView
from broker.model.terms import PoolTerms


@dataclass(frozen=True, slots=True)
class SessionView:
    """One open session, without its secret. Leases that ended and were not yet acknowledged are among them."""

    fence: int
    user: bytes
    host: bytes
    app: bytes
    label: bytes
    instance_id: bytes
    identity: bytes
    age_ns: int
    ends_in_ns: int
    leases: tuple[LeaseView, ...]


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool's numbers now. Seats are in use by active and lingering charges alike."""

    pool: int
    product: str
    terms: PoolTerms
    is_emulated: bool
    is_starting: bool
    capacity: int
    grace_seats: int
    in_use: int
    in_use_peak: int
    deficit: int
    charge_count: int
    lingering_count: int
    key_grace_count: int
    lease_count: int
    charge_total: int


@dataclass(frozen=True, slots=True)
class ProductView:
    """One product's counters since the start; the tuples are indexed by DenialReason and EndReason."""

    product: str
    lease_total: int
    denial_totals: tuple[int, ...]
    end_totals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Counters:
    """What the whole ledger holds, and what it did since the start (the names in `_total`).

    Record counts include ended leases not yet acknowledged; `request_count` leaves out remembered denials, which
    `denial_count` counts; `ended_totals` is indexed by EndReason; `event_size` is bytes not yet drained.
    """

    session_count: int
    lease_count: int
    charge_count: int
    request_count: int
    denial_count: int
    text_size: int
    opened_total: int
    renewed_total: int
    acquired_total: int
    released_total: int
    replayed_total: int
    denied_total: int
    not_found_total: int
    reused_total: int
    invalid_total: int
    overloaded_total: int
    events_full_total: int
    drained_total: int
    not_writable_total: int
    event_dropped_total: int
    event_total: int
    event_size: int
    stall_total: int
    stalled_ns: int
    ended_totals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a run begins with: what was replayed before `Ledger.resume`."""

    sessions: int
    """That live."""
    charges: int
    leases: int
    """Records, those included whose end the holder has not acknowledged."""
    requests: int
    """Remembered ones."""
    notes: int
    was_clean: bool
    """The last run was ended by `end_run`; False also if there was none."""
    last_wall_ns: int
    """The wall clock's high-water mark: the latest that any run has journaled, this one included."""
