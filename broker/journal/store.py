"""One broker's journal from its opened directory to its close: recovered, begun, committed by a thread of its own.

    store = JournalStore.open(directory, broker_id=..., generation=..., settings=...)     # locked; RestoredBackup, AlreadyRunning
    report = store.recover(ledger)            # LogDamaged, SnapshotDamaged: refused, nothing was changed; may be done again, with another ledger
    ledger.resume(now_ns, wall_ns)
    store.begin(ledger)                       # OSError: cannot write
    store.start()                             # the committer's thread; a simulation calls store.journal.step() instead
    ...
    store.stop(); store.close()

The committer itself is broker._journal.Journal, as `journal`. Called by one thread, but for what Journal lets any thread do.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path

from broker._journal import CrashPoint, EventQueue, Journal, LogDisk
from broker._ledger import Ledger
from broker.errors import DataDirectoryError
from broker.journal.recovery import (
    Clock,
    Progress,
    Replayed,
    Start,
    choose_start,
    replay_log,
    replay_snapshot,
)
from broker.journal.settings import JournalSettings
from broker.journal.state import STATE_NAME, LogState, RestoredBackup, StatePlace, outside_place, read_all
from broker.model.journal import JournalFailure, LogEnd, LogStop, RecoveryReport

log = logging.getLogger("broker.journal")

SEGMENT_OVERHEAD_SIZE = 4112
"""Header of a segment, header of a block."""
TORN_KEPT_MAX, DAMAGED_KEPT_MAX = 8, 1
"""Tails that crashes left, and snapshots that did not verify: the newest are kept for who wants to look."""
HALF_SNAPSHOT_NAME = "snapshot-new"


class JournalStore:
    """The log of one broker, its snapshots and its state."""

    def __init__(
        self, journal: Journal, broker_id: bytes, generation: int, settings: JournalSettings, crash_point: CrashPoint | None, clock: Clock
    ) -> None:
        self.journal = journal
        self.broker_id = broker_id
        self.generation = generation
        self.settings = settings
        self.crash_point = crash_point
        self.start_of_recovery = Start(None)
        self.report: RecoveryReport | None = None
        self._clock = clock
        self._has_tried = False
        self._thread: threading.Thread | None = None
        self._states: tuple[StatePlace, ...] = (StatePlace(journal.place, STATE_NAME),)
        if settings.state_file is not None:
            self._states += (outside_place(settings.state_file),)
        self._seen = read_all(self._states, broker_id)

    @classmethod
    def open(
        cls,
        place: str | Path | LogDisk,
        *,
        broker_id: bytes,
        generation: int,
        settings: JournalSettings | None = None,
        clock: Clock = time.monotonic_ns,
    ) -> JournalStore:
        """Locks the directory, making it if need be, and looks whether a backup was restored. DataDirectoryError, OSError."""
        settings = settings or JournalSettings()
        crash_point = CrashPoint(settings.crash_point) if settings.crash_point else None
        journal = Journal(
            place,
            broker_id=broker_id,
            generation=generation,
            segment_size=settings.segment_size,
            group_size_max=min(settings.group_size_max, settings.segment_size // 4096 * 4096 - SEGMENT_OVERHEAD_SIZE),
            salt_seed=settings.salt_seed,
            crash_point=crash_point,
            sync_delay_ns=settings.sync_delay_ns,
        )
        try:
            store = cls(journal, broker_id, generation, settings, crash_point, clock)
            store._must_be_later_than(store._seen)
        except BaseException:
            journal.close()
            raise
        return store

    @property
    def place(self) -> LogDisk:
        """Where all of it lies."""
        return self.journal.place

    # --- what is known to have been -------------------------------------------------------------------------------------------

    def _must_be_later_than(self, seen: LogState) -> None:
        """This start comes behind all that are known: else the numbers of sessions would come a second time, accepted or not."""
        if seen.generation < self.generation:
            return
        if not self.settings.accepts_restored:
            raise RestoredBackup(Path(self.place.name), seen, generation=self.generation)
        raise DataDirectoryError(
            Path(self.place.name),
            f"this is start {self.generation} of a broker that had been started {seen.generation} times",
            f"write {seen.generation} into the file `generation` of the data directory",
        )

    def _check_end(self, start: Start, end: LogEnd) -> None:
        """Nothing of the log or the snapshot is of this start or a later one, and nothing that was committed is missing."""
        latest = max(end.generation, start.snapshot.generation if start.snapshot else 0)
        if not self._has_tried:
            self._must_be_later_than(LogState(self.broker_id, latest, end.position))
        if end.position < self._seen.committed and not self.settings.accepts_restored:
            raise RestoredBackup(Path(self.place.name), self._seen, generation=self.generation, position=end.position)

    def write_state(self) -> None:
        """What is committed by now is known from now on. OSError."""
        state = LogState(self.broker_id, self.generation, self.journal.committed)
        for place in self._states:
            place.write(state)

    # --- recovery ----------------------------------------------------------------------------------------------------------------

    def recover(self, ledger: Replayed) -> RecoveryReport:
        """Snapshot and log into a new ledger. DataDirectoryError's tree: refused, with what to do; OSError: the disk cannot be read."""
        progress = Progress(self._clock)
        start = choose_start(self.place, self.broker_id, self.crash_point)
        for _ in replay_snapshot(start, ledger, progress):
            pass
        reading = self.journal.recover(start.position)
        for _ in replay_log(reading, self.place.name, ledger, progress):
            pass
        assert reading.end is not None
        self._check_end(start, reading.end)
        self.start_of_recovery = start
        self.report = _report(start, reading.end, progress.duration_ns)
        _say(self.report)
        return self.report

    def begin(self, ledger: Ledger | EventQueue) -> None:
        """From here on the ledger's events are the log's: to be called after it was resumed. OSError: this broker cannot write here; after ENOSPC it may be tried again,
        and `recover` may, with another ledger."""
        self._has_tried = True  # and may leave an empty segment of this start
        self._drop_half_snapshot()
        self._write_first_state()
        self.journal.begin(ledger)
        with contextlib.suppress(OSError):
            self._tidy()

    def _write_first_state(self) -> None:
        """This start is known before anything of it is; of the log no more than before, for what was read is not yet known to be on the disk."""
        assert self.report is not None, "recover comes before begin"
        committed = self._seen.committed
        state = LogState(self.broker_id, self.generation, committed if committed <= self.report.position else 0)
        for place in self._states:
            place.write(state)

    def _drop_half_snapshot(self) -> None:
        """What a crash left of one that was being written: its room may be what is missing."""
        with contextlib.suppress(OSError):
            self.place.drop(HALF_SNAPSHOT_NAME)

    def _tidy(self) -> None:
        """Of what is kept for who wants to look at it, the newest stays."""
        self.put_aside(self.start_of_recovery.damaged)
        torn = [name for name in self.place.file_names() if name.startswith("torn-")]
        torn.sort(key=lambda name: int(name.rpartition("-")[2]))
        for name in torn[:-TORN_KEPT_MAX]:
            self.place.drop(name)

    def put_aside(self, snapshots: tuple[str, ...]) -> None:
        """Damaged ones, so that they count no more. OSError."""
        for name in snapshots:
            self.place.move(name, f"damaged-{name}")
        damaged = [name for name in self.place.file_names() if name.startswith("damaged-")]
        for name in damaged[:-DAMAGED_KEPT_MAX]:
            self.place.drop(name)

    # --- running -------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the committer's thread. It is no daemon: who starts it stops it."""
        self._thread = threading.Thread(target=self.journal.run, name="usher-committer")
        self._thread.start()

    def stop(self, wait_s: float = 30.0) -> bool:
        """Commits all that was written before, and ends the thread; whether it has ended in this time."""
        self.journal.stop()
        if self._thread is not None:
            self._thread.join(wait_s)
            return not self._thread.is_alive()
        return True

    def close(self) -> None:
        """Writes the state down and gives back the lock. After `stop`."""
        if self.is_begun and self.failure is None:
            try:
                self.write_state()
            except OSError as error:
                log.warning("the journal's state could not be written: %s", error)
        self.journal.close()

    @property
    def is_begun(self) -> bool:
        """Whether `begin` has succeeded."""
        return self.journal.is_begun

    @property
    def committed(self) -> int:
        """Log position."""
        return self.journal.committed

    @property
    def failure(self) -> JournalFailure | None:
        """Why the committer stopped for good, or None."""
        return self.journal.failure


def _report(start: Start, end: LogEnd, duration_ns: int) -> RecoveryReport:
    warnings = start.warnings
    torn_file = f"torn-{end.position:016x}-{end.generation}" if end.stop is LogStop.TORN else ""
    if end.is_whole:
        warnings += (
            f"the last block of the log does not verify, but is not cut short either (position {end.position}): perhaps a crash, perhaps"
            f" damage to events that were committed. It is kept as {torn_file}; compare what clients hold with `usher sessions`.",
        )
    return RecoveryReport(
        snapshot=start.snapshot.name if start.snapshot else "",
        snapshot_position=start.position,
        snapshot_size=start.snapshot.size if start.snapshot else 0,
        position=end.position,
        log_size=end.position - start.position,
        torn_size=end.torn_size,
        torn_file=torn_file,
        duration_ns=duration_ns,
        warnings=warnings,
    )


def _say(report: RecoveryReport) -> None:
    for warning in report.warnings:
        log.warning("%s", warning)
    if report.torn_size:
        log.warning("a crash left %d bytes half written: they were never told as committed, and are kept as %s", report.torn_size, report.torn_file)
    log.info(
        "recovered up to position %d in %.2f s: snapshot %s of %d bytes, %d bytes of log",
        report.position, report.duration_ns / 1e9, report.snapshot or "none", report.snapshot_size, report.log_size,
    )  # fmt: skip
