"""The ledger's events for people, when a journal is the one for whom the ring waits: a cursor of the pump's own.

Implements `broker.verbs.events.EventSource` over `Ledger.read_events`. In strict mode nothing that is not on the disk is given: an admin's list of
events and a client's notice are answers too (semantics rule 25). A pump that is slower than the ring is overtaken, and finds a gap. One
thread at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

_SIZE = struct.Struct("<I")
_SEQUENCE = struct.Struct("<Q")
_SEQUENCE_OFFSET = 8
"""Of an event's header (broker.model.events)."""
EVENT_SIZE_MAX = 4096
"""No event is larger; less room than that is not asked for."""


class Ring(Protocol):
    """The part of the ledger that is read."""

    def read_events(self, position: int, size_max: int = ...) -> tuple[bytes, int, int]: ...


class RingReading:
    """A cursor that begins with the oldest event that is kept. `committed_position` says up to where (a position of the ledger) events may
    be given; None: all of them."""

    def __init__(self, ring: Ring, committed_position: Callable[[], int] | None) -> None:
        self._ring = ring
        self._committed_position = committed_position
        self._position = 0
        self._sequence = 0

    def drain_block(self, size_max: int = 64 * 1024) -> tuple[bytes, int, int]:
        """The next whole events, and the sequences of the first and the last; of none, those of `Ledger.drain_block`."""
        until = self._committed_position() if self._committed_position is not None else None
        if until is not None and until <= self._position:
            return self._nothing()
        data, position, _lost_size = self._ring.read_events(self._position, max(size_max, EVENT_SIZE_MAX))
        if until is not None and position > until:
            data = data[: max(0, len(data) - (position - until))]
            position = until
        if not data:
            return self._nothing()
        self._position = position
        first = _SEQUENCE.unpack_from(data, _SEQUENCE_OFFSET)[0]
        self._sequence = first + _event_count(data) - 1
        return data, first, self._sequence

    def _nothing(self) -> tuple[bytes, int, int]:
        return b"", self._sequence + 1, self._sequence


def _event_count(data: bytes) -> int:
    """Events in a block: each begins with its size."""
    count = position = 0
    while position < len(data):
        position += _SIZE.unpack_from(data, position)[0]
        count += 1
    return count
