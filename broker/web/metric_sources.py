"""What the metrics read of the ledger and the keyring: their narrow faces, and the bounds that a ledger does not tell.

So the Collector names what it needs and nothing else. All of it is read at scrape time, from
whatever thread the scrape runs in: every method here must be safe to call from any thread and must not wait for
the network, a disk or a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from broker.keyring import KeyringViews
from broker.model.views import Counters, PoolView, ProductView


class LedgerReading(Protocol):
    """The part of the ledger that only reads. Each call is one instant under the ledger's mutex."""

    def pools(self) -> list[PoolView]: ...
    def products(self) -> list[ProductView]: ...
    def counters(self) -> Counters: ...
    def memory_size(self) -> int: ...


class KeyringReading(Protocol):
    """The keyring, or what stands for it."""

    def views(self) -> KeyringViews: ...


@dataclass(frozen=True, slots=True)
class LedgerBounds:
    """How much the ledger was built to hold: the very arguments of its constructor, by the same names."""

    sessions_max: int
    leases_max: int
    charges_max: int
    requests_max: int
    denials_max: int
    text_size_max: int
    event_ring_size: int
