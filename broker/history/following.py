"""The log as the history reads it: slices behind a position, up to what is committed.

A slice is about a segment's worth of verified blocks; between slices nothing is held. `LogFollower` finds out when events that are still to be
projected were retired from the log, or when the log is another one than the history was made from. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker._journal import read_log
from broker.model.journal import LogDamaged, LogStop


@dataclass(frozen=True, slots=True)
class Gone:
    """Events were retired before they were read: the log begins at `oldest` now."""

    oldest: int


class LogFollower:
    """A log directory of one broker, read without its lock."""

    def __init__(self, directory: Path, broker_id: bytes) -> None:
        self.directory = directory
        self._broker_id = broker_id

    def slices(self, position: int, until: int | None) -> Iterator[tuple[int, bytes]]:
        """Whole events from a position on. LogDamaged, OSError. Beside a committer `until` must be committed."""
        return read_log(self.directory, broker_id=self._broker_id, position=position, until=until)

    def oldest(self, until: int | None) -> int | None:
        """The log's first position; None: it is empty."""
        try:
            for position, _ in read_log(self.directory, broker_id=self._broker_id, until=until):
                return position
        except LogDamaged as damaged:
            if damaged.end.stop is not LogStop.SHORT:
                raise
        return None

    def header_at(self, position: int, until: int | None) -> bytes | None:
        """The header of the event that begins there; None if no event does, or not any more."""
        try:
            for _, data in self.slices(position, until):
                return data[:64]
        except LogDamaged:
            return None
        return None
