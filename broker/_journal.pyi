"""The journal: the log of the ledger's events, its committer, snapshots, and the disks that they can lie on.

    with the data directory locked, for a snapshot that ends at position p:
        journal = Journal(directory / "log", broker_id=..., generation=...)
        for position, events in journal.recover(p): ...     # LogDamaged: refused, and nothing was changed
        journal.begin(ledger)                                # cuts a torn tail, begins a segment
        threading.Thread(target=journal.run)                 # not a daemon

The format stands at the head of ext/journal/_journal.pyx. A log position is a byte of the event stream since the broker's first start.
Events are bytes for broker.model.events.decode_events.
"""

from collections.abc import Iterator
from os import PathLike

from broker._ledger import Ledger
from broker.model.journal import JournalCounters, JournalFailure, LogEnd

OPERATIONS: tuple[str, ...]
"""What a SimulatedDisk can be told to fail at."""

CRASH_POINTS: tuple[str, ...]
"""Where a test can want the process to die: ext/journal/crash.pxi says where each is."""

class CrashPoint:
    """`after_sync:3`: the process ends by SIGKILL when it is there the third time; without a number the first. For tests. One that is given to
    several parts counts for all of them. ValueError."""

    def __init__(self, text: str) -> None: ...

def checksum(data: bytes, before: int = 0, *, is_by_table: bool = False) -> int:
    """CRC32C of RFC 3720; `before` is that of what came before. For tests."""

class LogDisk:
    """Where a log lies, and small files beside it. OSError, where a file or the disk is not as it should be."""

    name: str
    def close(self) -> None:
        """Gives back the lock and all descriptors; nothing may use it any more."""
    def file_names(self) -> list[str]:
        """Of all files, in order."""
    def free_size(self) -> int:
        """Bytes that can still be written."""
    def file_size(self, name: str) -> int:
        """Bytes of any file."""
    def load(self, name: str) -> bytes:
        """A small file: its first 64 KiB."""
    def store(self, name: str, data: bytes) -> None:
        """Makes or replaces a small file: after a crash it is the old one or the new one; durable when this returns."""
    def drop(self, name: str) -> None:
        """Removes a file; durable with the next change of names that is."""
    def move(self, name: str, new_name: str) -> None:
        """Gives a file another name; durable as above."""

class RealDisk(LogDisk):
    """A directory of the file system, made (0700) if need be. DataDirectoryError if it cannot be used."""

    def __init__(self, path: str | PathLike[str]) -> None: ...

class SimulatedDisk(LogDisk):
    """A disk in memory, for tests and simulations: one seed, one course. What a crash keeps: ext/journal/simulated_disk.pxi.

    size_max: bytes of all files before it is full. writes_short: a third of the writes take only a part. `now_ns` is its clock, which only
    `slow` moves. One thread at a time.
    """

    def __init__(self, seed: int, *, size_max: int = ..., writes_short: bool = False) -> None: ...
    def crash(self) -> None:
        """Power is lost and comes back: of what was not synced any part is there. All faults are over, the lock is free."""
    def fail(self, operation: str, errno_value: int, *, after: int = 0, is_lasting: bool = False) -> None:
        """One of OPERATIONS fails, after so many that do not; only once, or always."""
    def slow(self, operation: str, cost_ns: int) -> None:
        """Each takes so long."""
    def power_off_after(self, count: int) -> None:
        """After so many more operations of any kind all fail and nothing happens, until `crash`."""
    def mend(self) -> None:
        """No fault that was asked for comes any more."""
    @property
    def is_off(self) -> bool: ...
    @property
    def operations(self) -> int:
        """Counted since the beginning."""
    @property
    def now_ns(self) -> int: ...
    size_max: int
    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes:
        """A file as it reads now. FileNotFoundError."""
    def put(self, name: str, data: bytes) -> None:
        """Makes or replaces a file, durable at once."""
    def remove(self, name: str) -> None: ...

class EventQueue:
    """Events from anywhere: a source beside the ledger. Positions begin at 0. Any thread."""

    def __init__(self, size: int) -> None:
        """size: bytes that it holds until they are committed."""
    def put(self, events: bytes) -> bool:
        """Whether there was room. ValueError: these are not whole events. The committer is not woken by it."""
    @property
    def position(self) -> int:
        """Behind all that was put."""
    @property
    def free_size(self) -> int: ...

class LogReading(Iterator[tuple[int, bytes]]):
    """(log position, whole events), in order, without a hole. Raises LogDamaged where the log must be refused, OSError for the disk.

    Everything is verified before it is given. Holds one segment in memory.
    """

    end: LogEnd | None
    """Where and why it ended; None before that."""
    @property
    def position(self) -> int:
        """Up to here all was given."""
    def __next__(self) -> tuple[int, bytes]: ...

def read_log(
    place: str | PathLike[str] | LogDisk, *, broker_id: bytes, position: int | None = None, until: int | None = None
) -> LogReading:
    """The log from a position on (None: from the oldest segment), without the lock. Beside a running committer `until` must be a position
    that is committed: nothing behind it is looked at."""

class SnapshotWriter:
    """A snapshot of all up to a log position, which may be read once `commit` has returned. One at a time in a directory; any thread, one at a
    time. OSError of any method: it is abandoned. crash_point: for tests."""

    def __init__(
        self,
        place: str | PathLike[str] | LogDisk,
        *,
        broker_id: bytes,
        generation: int,
        position: int,
        salt_seed: int | None = None,
        crash_point: str | CrashPoint | None = None,
    ) -> None: ...
    @property
    def size(self) -> int:
        """Of the file so far."""
    def write(self, events: bytes) -> None:
        """The next ones, whole, any number. ValueError if they are not."""
    def commit(self) -> str:
        """Synced and named; the name."""
    def abandon(self) -> None:
        """As if it had never been begun; nothing if it is committed."""

class SnapshotReading(Iterator[bytes]):
    """Whole events, in order. Holds one block in memory. SnapshotDamaged also from `next`, if the disk changed its mind, OSError if it
    does not give what it gave."""

    name: str
    position: int
    """All before this log position is in it."""
    generation: int
    """Of the start of the broker that wrote it."""
    @property
    def size(self) -> int:
        """Of the file."""
    def __next__(self) -> bytes: ...

def snapshot_positions(place: str | PathLike[str] | LogDisk) -> list[int]:
    """Up to where each snapshot that lies there goes, by its name, newest first."""

def segment_positions(place: str | PathLike[str] | LogDisk) -> list[int]:
    """Where each segment that lies there begins, by its name, oldest first."""

def read_snapshot(
    place: str | PathLike[str] | LogDisk, *, broker_id: bytes, position: int | None = None, crash_point: str | CrashPoint | None = None
) -> SnapshotReading:
    """The snapshot up to this log position (None: the newest). All of it is verified first: SnapshotDamaged, OSError. FileNotFoundError without
    one."""

class Journal:
    """The log of one broker, locked, and its committer. AlreadyRunning names who holds the lock.

    generation: of this start of the broker, 1..2**23-1. segment_size, group_size_max (of the events of one commit): bytes. salt_seed: random
    unless given, for simulations. crash_point, sync_delay_ns (added to each sync): for tests and benchmarks.
    """

    place: LogDisk

    def __init__(
        self,
        place: str | PathLike[str] | LogDisk,
        *,
        broker_id: bytes,
        generation: int,
        segment_size: int = ...,
        group_size_max: int = ...,
        salt_seed: int | None = None,
        crash_point: str | CrashPoint | None = None,
        sync_delay_ns: int = 0,
    ) -> None: ...
    def recover(self, position: int = 0) -> LogReading:
        """What was committed from this log position on; to be read to its end before `begin`. A log that ends before it is refused."""
    def begin(self, source: Ledger | EventQueue) -> None:
        """Makes what was recovered durable, cuts a torn tail (kept aside), starts a segment. From here on the source's events belong to
        the log: those of a ledger from the first one that nobody has drained, and nobody else may drain it. OSError: the broker cannot write; after ENOSPC it may be tried again."""
    def run(self) -> JournalFailure | None:
        """The committer, in the caller's thread, without the GIL and with signals blocked: until `stop`, or a failure, which it gives."""
    def step(self) -> bool:
        """One group or chore in the caller's thread, instead of `run`; False: nothing to do, or it has failed."""
    def wake(self) -> None:
        """Events were written. Any thread; costs a load unless the committer sleeps. Who forgets it waits up to 100 ms."""
    def stop(self) -> None:
        """`run` returns once all that was written before is committed. Any thread."""
    def close(self) -> None:
        """Gives back the lock, after `run` has returned."""
    def watch(self, descriptor: int) -> None:
        """An eventfd, non-blocking, that is written to after each commit, and at once. ValueError at the bound of 16."""
    def unwatch(self, descriptor: int) -> None:
        """Before the eventfd is closed."""
    def retire(self, position: int) -> None:
        """A durable snapshot holds all before this log position: segments that lie wholly before it go, one at a time."""
    @property
    def is_begun(self) -> bool: ...
    @property
    def committed(self) -> int:
        """Log position up to which all is on the disk."""
    @property
    def oldest(self) -> int:
        """Log position of the first event that is kept."""
    @property
    def base(self) -> int:
        """Log position = position of the source + base, modulo 2**64."""
    @property
    def failure_fd(self) -> int:
        """An eventfd, readable once the committer has failed."""
    @property
    def failure(self) -> JournalFailure | None:
        """Why the committer stopped for good: nothing was tried again, and nothing may be told as committed any more."""
    def counters(self) -> JournalCounters: ...
    def port(self) -> object:
        """A JournalPort (ext/journal/journal_records.pxd) in a capsule that keeps the journal alive: wake, watch, unwatch without the GIL."""
