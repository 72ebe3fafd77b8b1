"""The keyring's memory in the broker: durable words of the ledger, in the same log as the sessions that stand on the keys.

Implements `broker.keyring.memory.Memory` over `Ledger.note`. Nothing waits for a word to be on the disk: the log keeps the order, so
what follows from a word is never there without it; and what is spent is written seconds ahead (`broker/keyring/grace.py`).
Called under the keyring's lock, from any of its threads; the ledger has a mutex of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker._ledger import Ledger
from broker.keyring import MemoryFull
from broker.model.events import EventsFull

PREFIX = b"keyring/"


class LedgerMemory:
    """The keyring's notes in one ledger, under names of their own. `clock_ns` is CLOCK_MONOTONIC."""

    def __init__(self, ledger: Ledger, clock_ns: Callable[[], int]) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns

    def put(self, name: bytes, value: bytes) -> None:
        """Keeps a value, or with an empty one forgets it. MemoryFull: no room for its event, or as many words as may be."""
        try:
            self._ledger.note(self._clock_ns(), PREFIX + name, value)
        except (EventsFull, ValueError) as error:
            raise MemoryFull(str(error)) from error

    def all(self) -> Mapping[bytes, bytes]:
        """All that is kept, by name, from earlier runs too."""
        notes = self._ledger.notes()
        return {name.removeprefix(PREFIX): value for name, value in notes.items() if name.startswith(PREFIX)}
