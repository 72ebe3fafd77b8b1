"""The keyring's way to the ledger: capacity that keys prove, lose and no longer have, as ledger commands.

Implements `broker.keyring.CapacitySink`. Called by the keyring's threads; the ledger has its own mutex. After each command
the ticker is woken, because only `Ledger.advance` starts and ends key grace.
"""

from __future__ import annotations

from collections.abc import Callable

from broker._ledger import Ledger
from broker.model.events import EventsFull
from broker.model.terms import PoolTerms
from broker.model.words import EndReason

LAPSE_NS = 60_000_000_000


class LedgerSink:
    """Implements `CapacitySink` over one ledger. `clock_ns` is CLOCK_MONOTONIC; `wake` makes the ticker look again."""

    def __init__(self, ledger: Ledger, clock_ns: Callable[[], int], wake: Callable[[], None]) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._wake = wake

    def declare_pool(self, product: str, terms: PoolTerms, is_emulated: bool) -> int:
        """The pool of equal terms of a product; ValueError at the ledger's bound, or while nothing new can be written down."""
        try:
            return self._ledger.declare_pool(product, terms, is_emulated)
        except EventsFull as error:
            raise ValueError(f"{error}: reload the licences") from error

    def set_starting(self, pool: int, is_starting: bool) -> None:
        """Whether keys of the pool are still being tried for the first time."""
        self._ledger.set_starting(self._clock_ns(), pool, is_starting)

    def prove_source(self, source_id: int, pool: int, seats: int, proven_until_ns: int, grace_until_ns: int) -> None:
        """A licence on a key that has just proven itself gives seats."""
        self._ledger.prove_source(self._clock_ns(), source_id, pool, seats, proven_until_ns, grace_until_ns)
        self._wake()

    def lapse_source(self, source_id: int, pool: int, seats: int, grace_until_ns: int, cause: EndReason) -> None:
        """Charges of an earlier run may stand on it until the end of its grace. Its proof ends in the instant in which it is told:
        whoever looks at the ledger next finds it over, so that no seat comes of it."""
        now_ns = self._clock_ns()
        # The end and the cause that count come with the loss: a grace that were over by then would end as KEY_LOST.
        self._ledger.prove_source(now_ns, source_id, pool, seats, now_ns, max(grace_until_ns, now_ns + LAPSE_NS))
        self._ledger.lose_source(now_ns, source_id, grace_until_ns, cause)
        self._wake()

    def lose_source(self, source_id: int, grace_until_ns: int, cause: EndReason) -> None:
        """Its seats are gone; charges may stand on them until the end of their grace."""
        self._ledger.lose_source(self._clock_ns(), source_id, grace_until_ns, cause)
        self._wake()

    def remove_source(self, source_id: int) -> None:
        """The number will be used for something else: it gives no seats and no grace from now on."""
        now_ns = self._clock_ns()
        self._ledger.lose_source(now_ns, source_id, now_ns, EndReason.POLICY_CHANGED)
        self._wake()
