"""Snapshots beside the running broker: the newest one and the log behind it become the next one, and old segments go.

The ledger that serves is not asked: a shadow of it is made from the disk, written out, and thrown away. So nothing here holds its mutex,
and each step is bounded: a block read and done again, a block written. Between steps the thread rests as long as the step took, at a low priority,
but not when the log nears its bound. Two snapshots are kept, and the log from the older one on: one of them may rot.

    due     the events behind the newest snapshot are more than snapshot_after_size and than that snapshot itself,
            or the log has grown over half of log_size_max
    kept    what the older snapshot needs, and what history has not read yet; history loses when the log is at log_size_max

Room: two segments are left to the log, rather than a snapshot finished. Memory: a second ledger for as long as it takes. A failure (a full disk) is said, and tried again a minute later; it is fatal to nobody.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Generator

from broker._journal import SnapshotWriter, read_log, snapshot_positions
from broker.errors import DataDirectoryError
from broker.journal.recovery import Progress, Shadow, choose_start, replay_log, replay_snapshot
from broker.journal.store import JournalStore
from broker.model.journal import SnapshotFacts

log = logging.getLogger("broker.journal")

SNAPSHOTS_KEPT = 2
SEGMENTS_LEFT_FREE = 2
DUMP_SIZE_MAX = 256 * 1024
CHECK_S = 1.0
RETRY_S = 60.0
REST_S_MAX = 0.05
NICENESS = 10

MakeShadow = Callable[[], Shadow]
"""A new ledger, as large as the one that serves, of the same broker and secret."""
NeededFrom = Callable[[], int | None]
"""The log position from which on history still reads; None: it needs nothing."""


def compact(store: JournalStore, make_shadow: MakeShadow) -> Generator[int, None, None]:
    """Writes one snapshot of all that is committed as it begins. Each step does a bounded piece and gives its bytes; closing the generator abandons it.
    DataDirectoryError, OSError: nothing has changed."""
    until = store.committed
    progress = Progress(is_quiet=True)
    start = choose_start(store.place, store.broker_id)
    for warning in start.warnings:
        log.error("%s", warning)
    store.put_aside(start.damaged)
    if start.position >= until:
        return
    shadow = make_shadow()
    yield from replay_snapshot(start, shadow, progress)
    reading = read_log(store.place, broker_id=store.broker_id, position=start.position, until=until)
    yield from replay_log(reading, store.place.name, shadow, progress)
    yield from _write(store, shadow, until)


def _write(store: JournalStore, shadow: Shadow, until: int) -> Generator[int, None, None]:
    writer = SnapshotWriter(
        store.place,
        broker_id=store.broker_id,
        generation=store.generation,
        position=until,
        salt_seed=store.settings.salt_seed,
        crash_point=store.crash_point,
    )
    try:
        cursor = 0
        while True:
            events, cursor = shadow.dump(cursor, DUMP_SIZE_MAX)
            _leave_room(store)
            writer.write(events)
            yield len(events)
            if cursor == 0:
                break
        writer.commit()
    finally:
        writer.abandon()


def _leave_room(store: JournalStore) -> None:
    """A snapshot that took the log's last room would end the broker: rather none."""
    if store.place.free_size() < SEGMENTS_LEFT_FREE * store.settings.segment_size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: what is left is for the log", store.place.name)


def retire(store: JournalStore, needed_from: int | None) -> int:
    """Lets snapshots and segments go that nobody needs; how many bytes of events history loses by it. OSError: a snapshot could not be removed."""
    positions = snapshot_positions(store.place)
    for position in positions[SNAPSHOTS_KEPT:]:
        store.place.drop(f"{position:016x}.snap")
    # A single snapshot is not trusted alone: the log from the beginning is the other.
    below = positions[SNAPSHOTS_KEPT - 1] if len(positions) >= SNAPSHOTS_KEPT else 0
    lost_size = 0
    needed_from = below if needed_from is None else max(needed_from, store.journal.oldest)
    if needed_from < below:
        if store.committed - needed_from <= store.settings.log_size_max:
            below = needed_from
        else:
            lost_size = below - needed_from
            log.error("the log is at its bound of %d bytes: history loses %d bytes of events that it has not read", store.settings.log_size_max, lost_size)
    if below > store.journal.oldest:
        store.journal.retire(below)
    return lost_size


class Compactor:
    """The thread that writes snapshots when they are due. `start` and `stop` by one thread; `facts` by any."""

    def __init__(self, store: JournalStore, make_shadow: MakeShadow, *, needed_from: NeededFrom = lambda: None, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._make_shadow = make_shadow
        self._needed_from = needed_from
        self._wall_clock = clock
        self._stopping = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._thread: threading.Thread | None = None
        self._retry_at = 0.0
        self._unix_s = self._written_count = self._failed_count = self._duration_ns = self._history_lost_size = 0
        self._failure = ""
        self._position, self._size = _newest(store)

    # --- what is due -------------------------------------------------------------------------------------------------------------

    @property
    def log_behind_size(self) -> int:
        """Events behind the newest snapshot."""
        return max(0, self._store.committed - self._position)

    @property
    def is_due(self) -> bool:
        """Whether the next snapshot should be written."""
        settings = self._store.settings
        if self.log_behind_size == 0:
            return False
        return self.log_behind_size > max(settings.snapshot_after_size, self._size) or self.log_behind_size > settings.log_size_max // 2

    @property
    def _is_pressed(self) -> bool:
        return self.log_behind_size > self._store.settings.log_size_max * 3 // 4

    def facts(self) -> SnapshotFacts:
        """How it stands."""
        return SnapshotFacts(
            position=self._position,
            size=self._size,
            unix_s=self._unix_s,
            written_count=self._written_count,
            duration_ns=self._duration_ns,
            failed_count=self._failed_count,
            failure=self._failure,
            log_behind_size=self.log_behind_size,
            history_lost_size=self._history_lost_size,
        )

    # --- one snapshot --------------------------------------------------------------------------------------------------------------

    def compact(self) -> bool:
        """Writes a snapshot now, in the caller's thread, and lets go what is not needed any more; False: it failed, or was stopped."""
        with self._one_at_a_time:
            return self._compact()

    def _compact(self) -> bool:
        begun_ns = time.monotonic_ns()
        steps = compact(self._store, self._make_shadow)
        try:
            while True:
                step_ns = time.monotonic_ns()
                if next(steps, None) is None:
                    break
                if self._rest(time.monotonic_ns() - step_ns):
                    return False
            self._written(time.monotonic_ns() - begun_ns)
        except (OSError, DataDirectoryError, MemoryError) as error:
            self._failed(error)
            return False
        except Exception as error:
            # Of ours. The broker serves on, and the log keeps all; but somebody must hear of it.
            log.exception("a fault in writing a snapshot, please report it")
            self._failed(error)
            return False
        finally:
            steps.close()
        return True

    def _rest(self, step_ns: int) -> bool:
        """As long as the step took; whether it must stop."""
        if self._is_pressed or self._thread is None:
            return self._stopping.is_set()
        return self._stopping.wait(min(step_ns / 1e9, REST_S_MAX))

    def _written(self, duration_ns: int) -> None:
        self._position, self._size = _newest(self._store)
        self._unix_s = int(self._wall_clock())
        self._written_count += 1
        self._duration_ns = duration_ns
        self._failure = ""
        log.info("snapshot up to position %d: %d bytes in %.1f s", self._position, self._size, duration_ns / 1e9)
        self._history_lost_size += retire(self._store, self._needed_from())
        # Last: the state outside may lie on a disk that is gone, and the log here must not grow for that.
        self._store.write_state()

    def _failed(self, error: Exception) -> None:
        self._failed_count += 1
        self._failure = str(error)
        self._retry_at = time.monotonic() + RETRY_S
        log.error("no snapshot could be written, the log keeps growing: %s; tried again in %d s", error, RETRY_S)

    # --- the thread --------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Watches from now on. No daemon: who starts it stops it."""
        self._thread = threading.Thread(target=self._run, name="usher-compactor")
        self._thread.start()

    def stop(self, wait_s: float = 10.0) -> bool:
        """Abandons what it is at; whether the thread has ended in this time. Before the store stops."""
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # Of this thread only: Linux counts niceness by thread.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._stopping.wait(CHECK_S):
            if self._store.failure is not None:
                return
            if self.is_due and time.monotonic() >= self._retry_at:
                self.compact()


def _newest(store: JournalStore) -> tuple[int, int]:
    """Position and size of the newest snapshot; zeros without one."""
    positions = snapshot_positions(store.place)
    return (positions[0], store.place.file_size(f"{positions[0]:016x}.snap")) if positions else (0, 0)
