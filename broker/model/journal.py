"""The journal's words and values: where reading the log ends and why, what was recovered, what failed, what was counted.

The numbers are those of ext/journal/journal_records.pxd (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from broker.errors import DataDirectoryError


class LogStop(IntEnum):
    """Why reading the log ended. From HEADER on the log is refused: nothing may build on it."""

    END = 1
    """All was read; nothing is behind."""
    TORN = 2
    """The last write was cut short by a crash: it was never told as committed, and will be cut."""
    HEADER = 3
    """A segment's header does not verify."""
    VERSION = 4
    """A newer broker wrote it."""
    BROKER = 5
    """Another broker wrote it."""
    MISNAMED = 6
    """A segment's name is not that of its header."""
    GAP = 7
    """Events are missing before what comes next."""
    DUPLICATE = 8
    """Events come a second time."""
    GENERATION = 9
    """A segment of an earlier start lies behind one of a later start."""
    DAMAGED = 10
    """A block does not verify, and valid ones are behind it."""
    EVENTS = 11
    """A block verifies, but does not hold whole events."""
    SHORT = 12
    """The log ends before the position that it must reach."""
    POSITION = 13
    """No event begins at the position from which to read."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where reading ended. `position` is the log position up to which all is verified, `offset` the byte of the file `segment`."""

    stop: LogStop
    position: int
    segment: str
    """Empty: there was none."""
    offset: int
    torn_size: int
    """Of what a crash left behind `offset`."""
    is_whole: bool
    """The torn block has its header and something up to the end of each of its sectors: perhaps not torn by a crash, but damaged after it was committed."""
    found: int
    """The position that stands where another was expected (GAP, DUPLICATE, MISNAMED)."""
    generation: int = 0
    """The start of the broker that wrote this segment."""

    @property
    def is_good(self) -> bool:
        """Whether a broker may go on from here."""
        return self.stop <= LogStop.TORN


_RESTORE = "restore the log directory from a backup, or start a new log and let the sessions be opened anew"
_REMEDIES = {
    LogStop.HEADER: ("the header of {segment} does not verify", _RESTORE),
    LogStop.VERSION: ("{segment} was written by a newer version", "start that version, or one newer than it"),
    LogStop.BROKER: ("{segment} was written by another broker", "give this broker its own data directory"),
    LogStop.MISNAMED: ("{segment} begins at position {found}, not where its name says", "give it back its own name"),
    LogStop.GAP: ("events from position {position} to {found} are missing before {segment}, byte {offset}", _RESTORE),
    LogStop.DUPLICATE: ("{segment} has events from position {found} a second time, at byte {offset}", "remove the file that does not belong there"),
    LogStop.GENERATION: ("{segment} is older than the segment before it", "remove the file that does not belong there"),
    LogStop.DAMAGED: ("{segment} is damaged at byte {offset} (position {position}), and valid events are behind that", _RESTORE),
    LogStop.EVENTS: ("{segment} holds no whole events at byte {offset} (position {position})", "please report it, with the file"),
    LogStop.SHORT: ("the log ends at position {position}, before what is known to have been committed", _RESTORE),
    LogStop.POSITION: ("{segment} has no event that begins where the snapshot ends", "use the snapshot that belongs to this log"),
}  # fmt: skip


_SNAPSHOT_REMEDIES = {
    LogStop.HEADER: ("the snapshot's header does not verify", _RESTORE),
    LogStop.VERSION: ("the snapshot was written by a newer version", "start that version, or one newer than it"),
    LogStop.BROKER: ("the snapshot was written by another broker", "give this broker its own data directory"),
    LogStop.MISNAMED: ("the snapshot ends elsewhere than its name says", "give it back its own name"),
    LogStop.SHORT: ("the snapshot is not as long as it was written", _RESTORE),
    LogStop.DAMAGED: ("the snapshot is damaged at byte {offset}", _RESTORE),
    LogStop.EVENTS: ("the snapshot holds no whole records at byte {offset}", "please report it, with the file"),
}


class LogDamaged(DataDirectoryError):
    """The log cannot be believed: `end` says where and why. Nothing was changed."""

    def __init__(self, path: Path, end: LogEnd) -> None:
        reason, remedy = _REMEDIES[end.stop]
        facts = {"segment": end.segment, "position": end.position, "offset": end.offset, "found": end.found}
        super().__init__(path, reason.format(**facts), remedy)
        self.end = end


class SnapshotDamaged(DataDirectoryError):
    """A snapshot cannot be believed: `stop` says why, `offset` at which byte of the file. Nothing was changed."""

    def __init__(self, path: Path, name: str, stop: LogStop, offset: int) -> None:
        reason, remedy = _SNAPSHOT_REMEDIES.get(stop, _SNAPSHOT_REMEDIES[LogStop.DAMAGED])
        super().__init__(path / name, reason.format(offset=offset), remedy)
        self.stop = stop
        self.offset = offset

    @property
    def is_replaceable(self) -> bool:
        """Whether an older snapshot, and the log from there on, say the same. Not if somebody else wrote it."""
        return self.stop not in (LogStop.VERSION, LogStop.BROKER)


class JournalStep(IntEnum):
    """What failed."""

    WRITE = 1
    SYNC = 2
    SEGMENT = 3
    """A new segment: its room, its header, its name."""
    SOURCE = 4
    """Events were overwritten before they were read."""
    SETTLE = 5


@dataclass(frozen=True, slots=True)
class JournalFailure:
    """Why the committer stopped for good. Up to `position` all is committed."""

    step: JournalStep
    errno: int
    position: int

    def __str__(self) -> str:
        return f"{self.step.name.lower()}: errno {self.errno}; committed up to position {self.position}"


SYNC_BUCKET_BOUNDS_NS = tuple(16_000 * 2**step for step in range(19))
"""Upper bounds of all buckets of JournalCounters.sync_bucket_counts but the last."""


@dataclass(frozen=True, slots=True)
class JournalCounters:
    """What the journal has done since its start. Sizes are bytes."""

    groups: int
    event_size: int
    written_size: int
    """With headers; not the zeros of spare segments."""
    syncs: int
    """Of groups."""
    sync_ns: int
    sync_bucket_counts: tuple[int, ...]
    """Not cumulative."""
    largest_group_size: int
    rolls: int
    rolls_without_spare: int
    """A segment was needed before the spare one was ready: commits waited for it."""
    retired: int
    wakes: int
    segment_count: int
    log_size: int
    """Of all segments, as they stand on the disk."""
    committed: int
    """Log position."""
    oldest: int
    """Log position of the first event that is kept."""
    spare_errno: int
    """Why there is no spare segment (a full disk); 0: there is one, or it is being made. Fatal when the next one is needed."""


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was found on the disk and done again in the ledger. Sizes are bytes, positions log positions."""

    snapshot: str
    """Its file; empty: there was none, the log began at 0."""
    snapshot_position: int
    snapshot_size: int
    """Of the file."""
    position: int
    """Up to here everything is in the ledger."""
    log_size: int
    """Of the events behind the snapshot."""
    torn_size: int
    """Of what a crash left behind the last whole block: cut, and kept aside in `torn_file`."""
    torn_file: str
    duration_ns: int
    warnings: tuple[str, ...]
    """Sentences for the admin: a damaged snapshot that an older one replaced, a last block that is perhaps damaged."""


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """How it stands with snapshots."""

    position: int
    """The newest one holds all before this log position; 0: there is none."""
    size: int
    """Of its file."""
    unix_s: int
    """When it was written, by the wall clock; 0: by an earlier run, or there is none."""
    written_count: int
    """In this run."""
    duration_ns: int
    """Of the last one that was written in this run."""
    failed_count: int
    failure: str
    """Why the last attempt failed; empty once one succeeds."""
    log_behind_size: int
    """Bytes of committed events behind the newest snapshot: what the next start must do again."""
    history_lost_size: int
    """Bytes of events that went before history had them, because the log was at its bound."""
