"""Durability while the broker runs: committer, snapshots, history, the minute's mark, the disk that fills up; what answers wait for; the view of it all.

    start   watch over the log's failure → committer → the run's beginning on the disk                           (signals blocked in each)
    follow  gate → compactor → history: what nobody who opens a session waits for, behind the first grants, and imported then
    chores  every few seconds, in the event loop: wall mark (each minute) · ballast given back · renew-only said again (each minute)
    stop    compactor → end of the run journaled → committer drained and joined → history → watch

`view`, `committed` and `port` may be called from any thread; the rest from the event loop's, `stop` from a thread that may wait. With durability
"none", and where the log cannot be written, there is nothing to run: answers leave at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from broker.app.config import Config
from broker.app.data_directory import DataDirectory
from broker.app.foundation import LEARNING_NOTE, Foundation, Kept, build_ledger, clock_ns
from broker.app.journal_watch import JournalWatch
from broker.app.logs import facts
from broker.app.ring_reading import RingReading
from broker.journal.store import JournalStore
from broker.model.durability import DurabilityView, SnapshotView
from broker.model.events import EventsFull

if TYPE_CHECKING:
    from broker.history.writer import HistoryCounters, HistoryWriter
    from broker.journal.compaction import Compactor
    from broker.verbs.commits import CommitWaiters, Gate
    from broker.verbs.events import EventSource

log = logging.getLogger("broker.app")

CHORES_S = 5.0
MINUTE_NS = 60 * 10**9
COMMITTER_S = 30.0
COMPACTOR_S = 10.0
STOP_S = COMMITTER_S + COMPACTOR_S + 5.0
"""The most that `stop` takes."""
_POSITIONS = 2**64

WallClock = Callable[[], int]
"""Wall time in nanoseconds that never goes back behind what was journaled (semantics rule 21)."""


class Durability:
    """What keeps one broker's sessions."""

    def __init__(self, config: Config, directory: DataDirectory, foundation: Foundation) -> None:
        self._config = config
        self._ledger = foundation.ledger
        self._foundation = foundation
        kept = foundation.kept
        self._running = _Running(config, directory, foundation, kept) if kept is not None and not kept.unwritable else None
        self._minute_ns = clock_ns()

    # --- what others need of it -------------------------------------------------------------------------

    @property
    def gate(self) -> Gate:
        """What the control plane's answers wait at. After `follow`."""
        from broker.verbs.commits import OPEN_GATE

        if self._running is None:
            return OPEN_GATE
        assert self._running.gate is not None, "follow comes first"
        return self._running.gate

    @property
    def events(self) -> EventSource:
        """What the event pump reads."""
        return self._running.events if self._running else self._ledger

    @property
    def port(self) -> object | None:
        """The journal for the data plane; None: there is nothing to wake or to wait for."""
        return self._running.store.journal.port() if self._running else None

    @property
    def is_holding(self) -> bool:
        """Whether the data plane's answers wait for the disk."""
        return self._running is not None and self._config.journal.is_strict

    def committed(self) -> int | None:
        """Log position up to which all is on the disk; None if nothing is written."""
        return self._running.store.committed if self._running else None

    def history(self) -> HistoryCounters | None:
        """How far the history is; None if none is written."""
        return self._running.history.counters() if self._running and self._running.history else None

    # --- its life -----------------------------------------------------------------------------------------

    def start(self, on_failure: Callable[[], None]) -> None:
        """Commits from now on. `on_failure` is called from a thread of its own right before the process ends."""
        if self._running is not None:
            self._running.start(on_failure)

    def follow(self) -> None:
        """Serves those who read the log: calls of the control plane that wait for it, snapshots, history. After `start`."""
        if self._running is not None:
            self._running.follow()

    async def run_chores(self, wall_ns: WallClock) -> None:
        """Every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(CHORES_S)
            self.do_chores(wall_ns)

    def do_chores(self, wall_ns: WallClock) -> None:
        """What is to be looked after; at most some system calls."""
        if self._running is not None:
            self._running.look_for_room()
            if self._config.journal.is_strict:
                self._running.end_learning()
        if clock_ns() - self._minute_ns < MINUTE_NS:
            return
        self._minute_ns = clock_ns()
        kept = self._foundation.kept
        if self._running is not None:
            self._mark(wall_ns())
        elif kept is not None:
            log.error("RENEW-ONLY: the log cannot be written, nobody new gets in", extra=facts(cause=kept.unwritable))

    def close_gate(self) -> None:
        """Nobody waits any more. Once the listeners have stopped, before `stop`; in the event loop."""
        if self._running is not None and self._running.waiters is not None:
            self._running.waiters.close()

    def stop(self) -> None:
        """The run ends in order: its last event is committed before this returns. Waits for the disk; RuntimeError if that takes too long."""
        if self._running is not None:
            self._running.stop()

    def view(self) -> DurabilityView:
        """How it stands."""
        journal, kept = self._config.journal, self._foundation.kept
        if kept is None:
            return DurabilityView(journal.durability)
        return DurabilityView(
            mode=journal.durability,
            is_writable=self._running is not None,
            is_learning=clock_ns() < self._foundation.learns_until_ns,
            is_failed=kept.store.failure is not None,
            recovery=self._foundation.facts,
            snapshot=self._running.snapshot() if self._running else SnapshotView(),
            snapshot_after_size=journal.snapshot_after_size,
            log_size_max=journal.log_size_max,
            ballast_size=kept.ballast.size,
            counters=kept.store.journal.counters(),
        )

    def _mark(self, unix_ns: int) -> None:
        try:
            self._ledger.mark_wall(clock_ns(), unix_ns)
        except EventsFull:
            log.warning("the minute's mark found no room in the ring of events: the disk is slow")


class _Running:
    """A log that is being written, and all that hangs on it."""

    def __init__(self, config: Config, directory: DataDirectory, foundation: Foundation, kept: Kept) -> None:
        self.store = kept.store
        self._config = config
        self._directory = directory
        self._ledger = ledger = foundation.ledger
        self._learns_until_ns = foundation.learns_until_ns
        self._is_unsure = LEARNING_NOTE in ledger.notes()
        self._ballast = kept.ballast
        self.events = RingReading(ledger, self._committed_position if config.journal.is_strict else None)
        self.waiters: CommitWaiters | None = None
        self.gate: Gate | None = None
        self.history: HistoryWriter | None = None
        self._compactor: Compactor | None = None
        self._watch: JournalWatch | None = None

    def start(self, on_failure: Callable[[], None]) -> None:
        self._watch = JournalWatch(self.store.journal, on_failure)
        self._watch.start()
        self.store.start()
        self._await_begun()

    def follow(self) -> None:
        self._open_gate()
        self.history = _history(self._config, self._directory, self.store) if self._config.journal.history_days else None
        self._compactor = self._made_compactor()
        self._compactor.start()
        if self.history is not None:
            self.history.start()

    def _open_gate(self) -> None:
        from broker.verbs.commits import AtOnce, CommitWaiters, Gate

        journal = self.store.journal
        if self._config.journal.is_strict:
            self.waiters = CommitWaiters(journal)
            self.waiters.start()
        self.gate = Gate(self._ledger, self.waiters or AtOnce(journal.wake))

    def _made_compactor(self) -> Compactor:
        from broker.journal.compaction import Compactor

        shadow = partial(build_ledger, self._config, self._directory, is_lossy=True)
        return Compactor(self.store, shadow, needed_from=self._needed_from)

    def _await_begun(self) -> None:
        """Until the log says that a run has begun. Else the next start would take the run before for the last one; a relaxed broker, whose
        answers leave early, would then not know that some may be missing. Nothing is served yet: who waits is the start."""
        journal, position = self.store.journal, self._ledger.position
        told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        journal.watch(told)
        try:
            while self._committed_position() < position:
                if not select.select([told], [], [], COMMITTER_S)[0]:
                    raise RuntimeError("the beginning of the run is not on the disk: it does not answer")
                os.eventfd_read(told)
        finally:
            journal.unwatch(told)
            os.close(told)

    def look_for_room(self) -> None:
        if self.store.journal.counters().spare_errno:
            self._ballast.release()

    def end_learning(self) -> None:
        """Once it is over, whoever holds an answer that is not in the log has been heard of: the next start need not learn again. With a relaxed broker not
        before nobody is answered any more."""
        if not self._is_unsure or clock_ns() < self._learns_until_ns:
            return
        with contextlib.suppress(EventsFull):  # then it is tried again, or the next start learns in vain
            self._ledger.note(clock_ns(), LEARNING_NOTE, b"")
            self._is_unsure = False

    def stop(self) -> None:
        if self._watch is None:
            return
        if self._compactor is not None:
            self._compactor.stop(COMPACTOR_S)
        self.end_learning()
        try:
            self._ledger.end_run(clock_ns())
        except EventsFull:
            log.warning("the end of the run found no room in the ring of events: the disk is slow, and the next start takes this for a crash")
        if not self.store.stop(COMMITTER_S):
            raise RuntimeError("the last events are not on the disk: it does not answer")
        if self.history is not None:
            self.history.stop()
        self._watch.stop()

    def snapshot(self) -> SnapshotView:
        if self._compactor is None:
            return SnapshotView()
        now = self._compactor.facts()
        return SnapshotView(
            unix_ns=now.unix_s * 10**9,
            size=now.size,
            behind_size=now.log_behind_size,
            written_count=now.written_count,
            failed_count=now.failed_count,
            last_error=now.failure,
        )

    def _committed_position(self) -> int:
        """Of the ledger."""
        journal = self.store.journal
        return (journal.committed - journal.base) % _POSITIONS

    def _needed_from(self) -> int | None:
        return self.history.position if self.history is not None else None


def _history(config: Config, directory: DataDirectory, store: JournalStore) -> HistoryWriter:
    from broker.history.retention import Retention
    from broker.history.writer import HistoryWriter

    return HistoryWriter(
        config.journal_folder,
        directory.path / "history" / "history.db",
        directory.broker_id,
        lambda: store.committed,
        retention=Retention(days=config.journal.history_days),
    )
