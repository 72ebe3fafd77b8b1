"""The keyring's memory in the broker: durable words of the ledger, in the same log as the sessions that stand on the keys.

Implements `broker.keyring.memory.Memory` over `Ledger.note`. Called under the keyring's lock, from any of its threads; the ledger has a mutex of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker._ledger import Ledger
from broker.keyring.memory import MemoryFull
from broker.model.events import EventsFull


class LedgerMemory:
    """The notes of one ledger. `clock_ns` is CLOCK_MONOTONIC."""

    def __init__(self, ledger: Ledger, clock_ns: Callable[[], int]) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns

    def put(self, name: bytes, value: bytes) -> None:
        """Keeps a value, or with an empty one forgets it. MemoryFull: the ring of events is full, or there are as many words as may be."""
        try:
            self._ledger.note(self._clock_ns(), name, value)
        except (EventsFull, ValueError) as error:
            raise MemoryFull(str(error)) from error

    def all(self) -> Mapping[bytes, bytes]:
        """All that is kept, by name, from earlier runs too."""
        return self._ledger.notes()
