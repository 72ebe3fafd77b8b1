"""What a broker stands on: its ledger, recovered from snapshot and log, and the log that goes on from there.

    lock, generation (data directory) → log locked → snapshot + log ──replay──► ledger ──resume──► the log begins → committer

All of it happens in the main thread, before the event loop and before a port is bound, so that a stop amid minutes of replay is a stop at once.
With durability "none" there is only an empty ledger.

If the log can be read but not begun (no room, read-only, no leave), the ballast is given back and it is tried once more; then the broker serves
renew-only (semantics rule 28): the same log is replayed into a ledger that waits for no journal, sessions can be renewed, released and closed, and
nobody new gets in until the broker is started again. What is released or closed meanwhile is not on the disk: the next start finds such a session
open for one more ttl, which costs seats for a minute and gives none away.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from broker._ledger import Ledger
from broker.app.ballast import Ballast
from broker.app.config import Config, to_ns
from broker.app.data_directory import FULL, UNWRITABLE, DataDirectory
from broker.app.logs import facts
from broker.errors import ConfigError, ConfigFault, DataDirectoryError
from broker.journal.settings import JournalSettings
from broker.journal.store import JournalStore
from broker.model.durability import RecoveryFacts
from broker.model.journal import RecoveryReport
from broker.model.views import Recovered

log = logging.getLogger("broker.app")

clock_ns = time.monotonic_ns

LEARNING_NOTE = b"run/learning"
"""Stands in the log as long as clients may hold answers that are not in it: while a relaxed broker serves, and until a learning is over. So neither another
durability nor a restart amid the learning cuts it short."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The log under a foundation. `unwritable` says why nothing can be written to it; empty: it is being written."""

    store: JournalStore
    ballast: Ballast
    report: RecoveryReport
    recovered: Recovered
    unwritable: str = ""


@dataclass(frozen=True, slots=True)
class Foundation:
    """A ledger whose time runs, and its log; `kept` is None with durability "none". `learns_until_ns`: CLOCK_MONOTONIC, 0 for never."""

    ledger: Ledger
    kept: Kept | None = None
    learns_until_ns: int = 0
    facts: RecoveryFacts = field(default_factory=RecoveryFacts)

    @property
    def wall_high_ns(self) -> int:
        """The latest wall time that the runs before have seen (semantics rule 21); 0: nothing is known."""
        return self.kept.recovered.last_wall_ns if self.kept else 0


@contextmanager
def founded(config: Config, directory: DataDirectory, *, accepts_restored: bool = False) -> Iterator[Foundation]:
    """The foundation as long as the block lasts. DataDirectoryError says what is wrong with the log and what to do; ConfigError for bounds
    beyond the memory."""
    if not config.journal.is_kept:
        yield Foundation(build_ledger(config, directory, is_lossy=True))
        return
    with _troubles(config), contextlib.ExitStack() as begun:
        store = _opened(config, directory, accepts_restored)
        begun.callback(store.close)
        foundation = _recovered(config, directory, store, accepts_restored)
        ended = begun.pop_all()
    with ended:
        yield foundation


@contextmanager
def _troubles(config: Config) -> Iterator[None]:
    """What the disk says of the log, in the words of our errors."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename) if error.filename else config.journal_folder
        remedy = "look after the disk, or restore a backup to another one and name it in journal.folder"
        raise DataDirectoryError(where, f"the disk of the log has a fault: {error.strerror or error}", remedy) from error


def _opened(config: Config, directory: DataDirectory, accepts_restored: bool) -> JournalStore:
    return JournalStore.open(
        config.journal_folder,
        broker_id=directory.broker_id,
        generation=directory.generation,
        settings=journal_settings(config, accepts_restored),
    )


def build_ledger(config: Config, directory: DataDirectory, *, is_lossy: bool) -> Ledger:
    """An empty ledger of the configured bounds. ConfigError if they are beyond the memory. `is_lossy`: nobody writes its events down."""
    sessions = config.sessions
    try:
        return Ledger(
            broker_id=directory.broker_id,
            secret=directory.secret,
            generation=directory.generation,
            start_ns=clock_ns(),
            ttl_ns=to_ns(sessions.ttl_s),
            renew_grace_ns=to_ns(sessions.renew_grace_s),
            request_window_ns=to_ns(sessions.request_window_s),
            denial_window_ns=to_ns(sessions.denial_window_s),
            is_lossy=is_lossy,
            **asdict(config.bounds),
        )
    except (ValueError, MemoryError) as error:
        reason = f"the ledger cannot be built so large: {error or 'not enough memory'}"
        raise ConfigError((ConfigFault(config.source, "bounds", reason, "write smaller bounds"),)) from error


def journal_settings(config: Config, accepts_restored: bool) -> JournalSettings:
    """What the configuration says of the log. Crash tests put their own in its place."""
    journal = config.journal
    return JournalSettings(
        segment_size=journal.segment_size,
        snapshot_after_size=journal.snapshot_after_size,
        log_size_max=journal.log_size_max,
        state_file=journal.state_file,
        accepts_restored=accepts_restored,
    )


def _recovered(config: Config, directory: DataDirectory, store: JournalStore, accepts_restored: bool) -> Foundation:
    ballast = Ballast(config.journal_folder, config.journal.ballast_size)
    ledger = build_ledger(config, directory, is_lossy=False)
    report, recovered = _replayed(store, ledger)
    unwritable = directory.unwritable or _begin(store, ledger, ballast)
    if unwritable:
        ledger = build_ledger(config, directory, is_lossy=True)
        report, recovered = _replayed(store, ledger)
        ledger.set_writable(clock_ns(), False)
        log.error("the log cannot be written: RENEW-ONLY, nobody new gets in", extra=facts(cause=unwritable))
    else:
        ballast.make()
    size = report.snapshot_size + report.log_size
    was_clean = recovered.was_clean or not (report.snapshot or report.log_size)  # a first start follows no run
    found = RecoveryFacts(recovered.sessions, size, report.duration_ns, was_clean, report.warnings)
    _say(recovered, was_clean)
    was_unsure = LEARNING_NOTE in ledger.notes()
    is_unsure = accepts_restored or was_unsure or not (config.journal.is_strict or was_clean)
    until_ns = _learn(config, ledger) if is_unsure else 0
    if not (unwritable or was_unsure) and (is_unsure or not config.journal.is_strict):
        ledger.note(clock_ns(), LEARNING_NOTE, b"1")
    return Foundation(ledger, Kept(store, ballast, report, recovered, unwritable), until_ns, found)


def _replayed(store: JournalStore, ledger: Ledger) -> tuple[RecoveryReport, Recovered]:
    report = store.recover(ledger)
    return report, ledger.resume(clock_ns(), time.time_ns())


def _begin(store: JournalStore, ledger: Ledger, ballast: Ballast) -> str:
    """Why the log cannot be written; empty if it can, and has begun."""
    for is_last in (False, True):
        try:
            store.begin(ledger)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            if is_last or error.errno not in FULL or not ballast.release():
                return error.strerror or str(error)
        else:
            return ""
    raise AssertionError("unreachable")


def _learn(config: Config, ledger: Ledger) -> int:
    """Answers may have left that are not in the log: nobody new gets in until whoever holds a seat has had to renew, and was told to come again."""
    until_ns = clock_ns() + to_ns(config.sessions.ttl_s + config.sessions.renew_grace_s)
    ledger.set_learning(clock_ns(), until_ns)
    log.warning("the last answers may be missing in the log: no new charges for one ttl", extra=facts(seconds=config.sessions.ttl_s))
    return until_ns


def _say(recovered: Recovered, was_clean: bool) -> None:
    counts = {"sessions": recovered.sessions, "charges": recovered.charges, "leases": recovered.leases, "requests": recovered.requests}
    log.info("recovered", extra=facts(**counts, was_clean=was_clean))
