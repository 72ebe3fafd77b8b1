"""How denials become events in the ledger model: singly up to 100 a second of one product, above that counted (semantics rule 27).

A second is one of ledger time. What was only counted is told as one event in a later second: before the next denial of
the product, or by `advance`. All unknown products share one count.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.model.words import DenialReason, EventKind
from tests.model.capacity import Capacity
from tests.model.clock import Clock
from tests.model.event_log import EventLog
from tests.model.records import DenialCount

SECOND_NS = 1_000_000_000
SINGLE_COUNT_MAX = 100


class DenialCounts:
    """The counts themselves stand in the products."""

    def __init__(self, clock: Clock, log: EventLog, capacity: Capacity) -> None:
        self._clock = clock
        self._log = log
        self._capacity = capacity

    @property
    def _second(self) -> int:
        return self._clock.ledger_ns // SECOND_NS

    def tell(self, count: DenialCount, reason: DenialReason) -> None:
        if count.second != self._second:
            if count.pending_count:
                self.tell_pending(count)
            count.second = self._second
            count.single_count = 0
        if count.single_count < SINGLE_COUNT_MAX:
            count.single_count += 1
            self._log.add(EventKind.DENIED, product=count.product, reason=reason, seats=1)
        else:
            count.pending_count += 1
            count.last_reason = reason

    def tell_pending(self, count: DenialCount) -> None:
        product, reason, seats = count.product, count.last_reason, count.pending_count
        self._log.add(EventKind.DENIED, product=product, reason=reason, seats=seats)
        count.pending_count = 0

    def pending(self) -> Iterator[DenialCount]:
        """In the order of the products, the unknown ones last."""
        for count in [*(each.denials for each in self._capacity.products), self._capacity.unknown_denials]:
            if count.pending_count:
                yield count

    def pending_total(self) -> int:
        """Denials that were only counted and not told yet."""
        counts = [product.denials.pending_count for product in self._capacity.products]
        return sum(counts) + self._capacity.unknown_denials.pending_count

    def due(self) -> Iterator[DenialCount]:
        """Those of an earlier second."""
        return (count for count in self.pending() if count.second < self._second)
