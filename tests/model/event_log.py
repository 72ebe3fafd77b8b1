"""The event ring of the ledger model: a list of events and the bytes that they would take.

Sizes in bytes. A command asks for the room of its worst case before it decides; losses of capacity never ask: for
them a reserve is kept, and an event for which even that has no room is dropped (semantics rule 26). A lossy ring always has room:
its oldest events are dropped.
"""

from __future__ import annotations

from broker.model.events import HEADER_SIZE, Event, EventsFull
from broker.model.words import DenialReason, EndReason, EventKind
from tests.model.clock import Clock
from tests.model.records import Charge, Holder, Pool

RESERVE_SIZE = 65536
OPENED_FIXED_SIZE = HEADER_SIZE + 40
REQUEST_SIZE = HEADER_SIZE + 32
POOL_SIZE = HEADER_SIZE + 24


class NoEventRoom(Exception):
    """A command's worst case does not fit; it has changed nothing."""


def opened_size(holder: Holder) -> int:
    """Of a SESSION_OPENED: header, 40 bytes, the texts, rounded up to 8."""
    return (OPENED_FIXED_SIZE + sum(len(text) for text in holder) + 7) // 8 * 8


def text_size(size: int) -> int:
    """Of an event with so many bytes of text behind its header."""
    return HEADER_SIZE + (size + 7) // 8 * 8


class EventLog:
    """Events not yet drained, oldest first."""

    def __init__(self, clock: Clock, ring_size: int, is_lossy: bool) -> None:
        self._clock = clock
        self._is_lossy = is_lossy
        self._ring_size = ring_size
        self._sizes: list[int] = []
        self.events: list[Event] = []
        self.size = 0
        self.total = 0
        self.dropped_total = 0
        self.last_ns = clock.ledger_ns
        """Of the newest event."""

    def has_room(self, size: int) -> bool:
        """Beside the reserve. What tells nothing needs no room, even where the reserve is in use."""
        return self._is_lossy or size == 0 or self.size + size + RESERVE_SIZE <= self._ring_size

    def need(self, size: int) -> None:
        if not self.has_room(size):
            raise NoEventRoom

    def need_control(self, size: int) -> None:
        """For what the control plane writes and is told about: the reserve will do."""
        if not self._is_lossy and self.size + size > self._ring_size:
            raise EventsFull

    def add(
        self,
        kind: EventKind,
        *,
        pool: Pool | None = None,
        product: int = -1,
        reason: EndReason | DenialReason = EndReason.NONE,
        fence: int = 0,
        charge: Charge | None = None,
        seats: int = 0,
        deficit: int = 0,
        holder: Holder | None = None,
        size: int = HEADER_SIZE,
    ) -> None:
        size = size if holder is None else opened_size(holder)
        while self._is_lossy and self.size + size > self._ring_size:
            self.dropped_total += 1
            self.size -= self._sizes.pop(0)
            self.events.pop(0)
        if self.size + size > self._ring_size:
            self.dropped_total += 1
            return
        self.total += 1
        self.last_ns = self._clock.ledger_ns
        self.size += size
        self._sizes.append(size)
        self.events.append(
            Event(
                self.total,
                self._clock.ledger_ns,
                kind,
                reason,
                fence,
                0 if charge is None else charge.fence,
                -1 if pool is None else pool.number,
                product if pool is None else pool.product.index,
                seats,
                deficit,
                *(holder or ()),
            )
        )

    def restart(self) -> None:
        """A new ring; the numbers of the events go on."""
        self._sizes, self.events = [], []
        self.size = self.dropped_total = 0

    def drain(self, size_max: int) -> list[Event]:
        """The oldest events, as many as go whole into size_max."""
        count = size = 0
        while count < len(self._sizes) and size + self._sizes[count] <= size_max:
            size += self._sizes[count]
            count += 1
        drained, self.events, self._sizes = self.events[:count], self.events[count:], self._sizes[count:]
        self.size -= size
        return drained
