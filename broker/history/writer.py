"""The writer of the history inside a broker: a thread that follows the log, keeps the promise of retention, and never harms anybody.

    writer = HistoryWriter(log_directory, database, broker_id, committed=lambda: journal.committed)
    writer.start()          # a thread of its own, not a daemon
    writer.position         # the log before it is no longer needed here
    writer.stop()           # joined; what is committed by then is projected first, for at most STOP_S

It reads at most once in `interval_s`, and while it has a backlog it works half of the time only, so that the rest of Python stays quick;
request paths have no part in it at all. Whatever goes wrong - a full disk, a damaged database, another writer - is logged,
counted, shown, and tried again: the broker does not end by it. A database that cannot be gone on with is set aside and made anew.

A rebuild is asked for by a file beside the database (`request_rebuild`), which works from another process.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw

from broker.errors import BrokerError
from broker.history.carry import carry_over
from broker.history.lock import WriterLock
from broker.history.projector import Projector
from broker.history.rebuild import begin_anew, is_rebuild_requested
from broker.history.retention import Retention, retire
from broker.history.schema import HistoryUnusable
from broker.history.store import HistoryStore

INTERVAL_S = 1.0
RETRY_S = 10.0
RETENTION_S = 3600.0
STOP_S = 2.0
PAUSE_S_MAX = 0.25

log = logging.getLogger("broker.history")


@dataclass(frozen=True, slots=True)
class HistoryCounters:
    """What the writer has done since its start."""

    position: int
    """Log position: everything before it is in the history."""
    behind_size: int
    """Bytes of committed events that are not yet in it."""
    events: int
    transactions: int
    gaps: int
    """Times that events were gone from the log before they were read."""
    gap_size: int
    """Bytes of events that are missing for that reason."""
    rebuilds: int
    failures: int
    failure: str
    """Why it does not go on now; empty if it does."""


class HistoryWriter:
    """See above. Every public member may be used from any thread."""

    def __init__(
        self,
        log_directory: Path,
        database: Path,
        broker_id: bytes,
        committed: Callable[[], int],
        *,
        retention: Retention | None = None,
        interval_s: float = INTERVAL_S,
        retry_s: float = RETRY_S,
        is_paced: bool = True,
    ) -> None:
        self._log_directory = log_directory
        self._database = database
        self._broker_id = broker_id
        self._committed = committed
        self._retention = retention or Retention()
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._is_paced = is_paced
        self._thread = threading.Thread(target=self._run, name="history")
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self._position = 0
        self._events = self._transactions = self._rebuilds = self._failures = 0
        self._gaps = self._gap_size = 0
        self._failure = ""
        self._retention_due_s = 0.0

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for that; what was committed before is projected, if that is soon done."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def position(self) -> int:
        """Log position: everything before it is in the history. 0 until the database is open."""
        return self._position

    def wait_for(self, position: int, limit_s: float) -> bool:
        """Waits until the history has come to a log position; whether it has. For tests and for who wants to report at once."""
        with self._moved:
            return self._moved.wait_for(lambda: self._position >= position, limit_s)

    def counters(self) -> HistoryCounters:
        """As of now."""
        behind = max(0, self._committed() - self._position)
        return HistoryCounters(
            self._position, behind, self._events, self._transactions, self._gaps, self._gap_size, self._rebuilds, self._failures, self._failure
        )  # fmt: skip

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with contextlib.closing(WriterLock(self._database)):
                    self._serve()
            except (apsw.Error, OSError, BrokerError) as error:
                self._fail(str(error))
            except Exception:
                log.exception("the history's writer failed; the broker goes on without it, please report this")
                self._fail("a bug of usher: see the log")
            self._stopping.wait(self._retry_s if self._failure else 0)

    def _fail(self, reason: str) -> None:
        if reason != self._failure:
            log.warning("the history cannot be written: %s", reason)
        self._failures += 1
        self._failure = reason

    def _serve(self) -> None:
        """With the lock: until it is to stop, or to begin anew."""
        if is_rebuild_requested(self._database):
            self._begin_anew("a rebuild was asked for")
        try:
            store = HistoryStore(self._database, self._broker_id)
        except HistoryUnusable as unusable:
            self._begin_anew(str(unusable))
            store = HistoryStore(self._database, self._broker_id)
        with contextlib.closing(store):
            projector = Projector(store, self._log_directory, self._broker_id, self._committed)
            if projector.is_of_this_log():
                self._follow(store, projector)
                return
        self._begin_anew(f"{self._database} was not made from this log")

    def _begin_anew(self, reason: str) -> None:
        self._rebuilds += 1
        log.warning("the history is made anew from the log: %s", reason)
        begin_anew(self._database)

    def _follow(self, store: HistoryStore, projector: Projector) -> None:
        carry_over(store, projector)
        if self._failure:
            log.info("the history is written again")
            self._failure = ""
        self._tell(projector, 0)
        while not is_rebuild_requested(self._database):
            is_last = self._stopping.is_set()
            self._catch_up(projector, time.monotonic() + STOP_S if is_last else None)
            if is_last:
                return
            self._retire(store, projector)
            self._stopping.wait(self._interval_s)

    def _catch_up(self, projector: Projector, limit_s: float | None) -> None:
        begun_s = time.monotonic()
        for count in projector.steps():
            self._tell(projector, count)
            now_s = time.monotonic()
            if limit_s is not None and now_s > limit_s:
                log.info("the history is behind; it goes on from there at the next start")
                return
            if limit_s is None and self._stopping.is_set():
                return
            if limit_s is None and self._is_paced:
                self._stopping.wait(min(now_s - begun_s, PAUSE_S_MAX))
            begun_s = time.monotonic()

    def _tell(self, projector: Projector, count: int) -> None:
        self._events += count
        self._transactions += count > 0
        if projector.gap_count != self._gaps:
            self._gaps, self._gap_size = projector.gap_count, projector.gap_size
            log.warning("the log no longer had %d bytes of events when the history came to read them", projector.gap_size)
        with self._moved:
            self._position = projector.state.position
            self._moved.notify_all()

    def _retire(self, store: HistoryStore, projector: Projector) -> None:
        if time.monotonic() < self._retention_due_s:
            return
        for _ in retire(store.connection, self._retention, projector.state.now_ns):
            if self._stopping.wait(0.01):
                return
        self._retention_due_s = time.monotonic() + RETENTION_S
