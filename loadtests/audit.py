"""An auditor of seats: recounts them from a broker's events alone, and names every seat given beyond capacity.

It shares nothing with the ledger but the meaning of its events, so that a load run is judged by other sums than those that
made it. Rule checked (semantics.md 6-7): when a charge is taken, the pool's charges are within its capacity,
hence no charge is taken under a deficit. Pure: events in, findings out; one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.v1 import admin_pb2

FINDINGS_MAX = 20
"""More would only repeat the first."""


@dataclass(slots=True)
class PoolCount:
    """One pool as its events tell it."""

    capacity: int = 0
    in_use: int = 0
    in_use_peak: int = 0
    deficit_peak: int = 0

    def note_deficit(self) -> None:
        """Keeps the largest."""
        self.deficit_peak = max(self.deficit_peak, self.in_use - self.capacity)


@dataclass(slots=True)
class Audit:
    """The sums so far. `missed_count` events were not seen: then findings prove nothing."""

    pools: dict[int, PoolCount] = field(default_factory=dict)
    opened_count: int = 0
    ended_count: int = 0
    event_count: int = 0
    missed_count: int = 0
    findings: list[str] = field(default_factory=list)

    def start_from(self, products: Iterable[admin_pb2.Product]) -> None:
        """Takes over the pools of a broker as they stand, before any event is fed."""
        for product in products:
            for pool in product.pools:
                self.pools[pool.pool] = PoolCount(pool.capacity, pool.in_use)

    def feed(self, answer: admin_pb2.WatchEventsResponse) -> None:
        """The next events of the stream."""
        self.missed_count += answer.missed_count
        for event in answer.events:
            self.event_count += 1
            self._on_event(event)

    @property
    def in_use(self) -> int:
        """Seats charged in all pools."""
        return sum(pool.in_use for pool in self.pools.values())

    @property
    def deficit_peak(self) -> int:
        """The largest deficit of any pool."""
        return max((pool.deficit_peak for pool in self.pools.values()), default=0)

    def _on_event(self, event: admin_pb2.Event) -> None:
        pool = self.pools.setdefault(event.pool, PoolCount())
        match event.kind:
            case admin_pb2.EVENT_KIND_SESSION_OPENED:
                self.opened_count += 1
            case admin_pb2.EVENT_KIND_SESSION_ENDED:
                self.ended_count += 1
            case admin_pb2.EVENT_KIND_CAPACITY_CHANGED:
                pool.capacity = event.seats
                pool.note_deficit()
            case admin_pb2.EVENT_KIND_LEASE_STARTED if event.seats:
                self._on_charge(event, pool)
            case admin_pb2.EVENT_KIND_CHARGE_FREED:
                pool.in_use -= event.seats

    def _on_charge(self, event: admin_pb2.Event, pool: PoolCount) -> None:
        pool.in_use += event.seats
        pool.in_use_peak = max(pool.in_use_peak, pool.in_use)
        if pool.in_use > pool.capacity and len(self.findings) < FINDINGS_MAX:
            self.findings.append(
                f"event {event.sequence}: session {event.session} was given a seat of {event.product}:"
                f" then {pool.in_use} in use of {pool.capacity}"
            )
