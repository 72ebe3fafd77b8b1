"""A ledger made anew from what is on the disk: the newest snapshot that can be believed, then the log behind it.

The start does it with the ledger that will serve, compaction with one that it throws away. Everything is verified before the ledger
sees it; what can go on without the GIL does. Raises DataDirectoryError's tree where it must be refused, and has changed nothing then.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from broker._journal import (
    CrashPoint,
    LogDisk,
    SnapshotReading,
    read_snapshot,
    segment_positions,
    snapshot_positions,
)
from broker.errors import DataDirectoryError
from broker.model.journal import SnapshotDamaged

log = logging.getLogger("broker.journal")

PROGRESS_NS = 2_000_000_000
Clock = Callable[[], int]
"""Monotonic nanoseconds."""


class Replayed(Protocol):
    """What events are done again in: broker._ledger.Ledger, before it is resumed."""

    def replay(self, events: bytes) -> None:
        """Whole events, in order. ValueError says which cannot be."""


class Shadow(Replayed, Protocol):
    """One that can be written out."""

    def dump(self, cursor: int, size_max: int) -> tuple[bytes, int]:
        """State records from the cursor on, and the next cursor; 0 begins, and 0 as the next one means the end."""


class ReplayRefused(DataDirectoryError):
    """An event verifies, but cannot have happened after those before it: a fault of ours, or of another version."""

    def __init__(self, path: Path, position: int, cause: ValueError) -> None:
        super().__init__(
            path,
            f"an event behind position {position} cannot be: {cause}",
            "please report it, with the log directory; to serve meanwhile, restore a backup or start with a new log",
        )
        self.position = position


@dataclass(frozen=True, slots=True)
class Start:
    """Where a recovery begins: at a snapshot, or at the first event ever."""

    snapshot: SnapshotReading | None
    damaged: tuple[str, ...] = ()
    """Files of snapshots that were passed over."""
    warnings: tuple[str, ...] = ()

    @property
    def position(self) -> int:
        """Of the first event of the log that is needed."""
        return 0 if self.snapshot is None else self.snapshot.position


def choose_start(place: LogDisk, broker_id: bytes, crash_point: CrashPoint | None = None) -> Start:
    """The newest snapshot that verifies; without any, the beginning of the log. A damaged one, or one that the disk cannot read, is passed over if an
    older one, or the log from its first event on, says the same; else SnapshotDamaged or OSError."""
    first: SnapshotDamaged | OSError | None = None
    damaged: list[str] = []
    for position in snapshot_positions(place):
        try:
            snapshot = read_snapshot(place, broker_id=broker_id, position=position, crash_point=crash_point)
        except (SnapshotDamaged, OSError) as error:
            if not _is_replaceable(error):
                raise
            first = first or error
            damaged.append(f"{position:016x}.snap")
            continue
        if first is not None and not _reaches_back(place, position):
            raise first
        return Start(snapshot, tuple(damaged), _passed_over(first, snapshot.name))
    if first is not None and not _reaches_back(place, 0):
        raise first
    return Start(None, tuple(damaged), _passed_over(first, "the whole log"))


def _is_replaceable(error: SnapshotDamaged | OSError) -> bool:
    """Whether it is the file that is bad: its bytes, or the sectors that they lie on."""
    return error.is_replaceable if isinstance(error, SnapshotDamaged) else error.errno == errno.EIO


def _reaches_back(place: LogDisk, position: int) -> bool:
    oldest = segment_positions(place)[:1]
    return bool(oldest) and oldest[0] <= position


def _passed_over(damage: Exception | None, instead: str) -> tuple[str, ...]:
    return () if damage is None else (f"{damage}; not needed this time: recovered from {instead}. Look after the disk.",)


@dataclass(slots=True)
class Progress:
    """Says every two seconds how far a long recovery is, if somebody waits for it."""

    clock: Clock = time.monotonic_ns
    is_quiet: bool = False
    begun_ns: int = field(init=False)
    said_ns: int = field(init=False)
    size: int = 0

    def __post_init__(self) -> None:
        self.begun_ns = self.said_ns = self.clock()

    def add(self, what: str, position: int, size: int) -> None:
        """So many bytes more are done."""
        self.size += size
        now_ns = self.clock()
        if now_ns - self.said_ns >= PROGRESS_NS and not self.is_quiet:
            self.said_ns = now_ns
            rate = self.size * 1000 // max(1, now_ns - self.begun_ns)
            log.info("recovering from the %s: position %d, %d MB done, %d MB/s", what, position, self.size // 1_000_000, rate)

    @property
    def duration_ns(self) -> int:
        """Since it was made."""
        return self.clock() - self.begun_ns


def replay_snapshot(start: Start, ledger: Replayed, progress: Progress) -> Iterator[int]:
    """Block by block; gives how many bytes each had, so that the caller can pause."""
    snapshot = start.snapshot
    if snapshot is None:
        return
    for events in snapshot:
        _replay(ledger, events, Path(snapshot.name), snapshot.position)
        progress.add("snapshot", snapshot.position, len(events))
        yield len(events)


def replay_log(reading: Iterator[tuple[int, bytes]], name: str, ledger: Replayed, progress: Progress) -> Iterator[int]:
    """The same, of the log."""
    for position, events in reading:
        _replay(ledger, events, Path(name), position)
        progress.add("log", position + len(events), len(events))
        yield len(events)


def _replay(ledger: Replayed, events: bytes, path: Path, position: int) -> None:
    try:
        ledger.replay(events)
    except ValueError as error:
        raise ReplayRefused(path, position, error) from error
