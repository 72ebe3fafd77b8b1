"""A history made anew from the log, and what of the old one is kept: rows from before the log begins.

The log is kept only as far back as snapshots and a bound on its size let it; a history reaches back for months. So a rebuild sets the old database
aside (`history.old.db`), projects what the log holds, and takes over what lies before. Every part can be interrupted and is gone
on with: as long as the old database lies there and the new one says that it waits for it, it is taken over.

The files: history.db (-wal, -shm), history.old.db, history.lock, history.rebuild (asks the writer of a running broker for a rebuild).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from broker.history.carry import carry_over, old_database, waits_for_old
from broker.history.lock import WriterLock, is_held
from broker.history.owner import make_file
from broker.history.projector import Projector
from broker.history.schema import database_files
from broker.history.store import HistoryStore

EVENTS_PER_STEP = 20_000


def request_rebuild(database: Path) -> None:
    """Asks who writes the history to make it anew; it looks once in its interval."""
    make_file(_request(database))


def is_rebuild_requested(database: Path) -> bool:
    """Whether somebody asked, and nobody has begun."""
    return _request(database).exists()


def is_written_by_another(database: Path, log_directory: Path) -> bool:
    """Whether a broker runs that writes this history, or this log."""
    return is_held(database.with_suffix(".lock")) or is_held(log_directory / "lock")


def begin_anew(database: Path, *, keeps_old: bool = True) -> None:
    """Sets the database aside, if it is any good, so that the next opening makes a new one. With the writer's lock."""
    old = old_database(database)
    is_waited_for = keeps_old and old.exists() and waits_for_old(database)
    for new_file, old_file in zip(database_files(database), database_files(old), strict=True):
        if is_waited_for or not keeps_old:
            new_file.unlink(missing_ok=True)
        else:
            old_file.unlink(missing_ok=True)
            if new_file.exists():
                new_file.rename(old_file)
        if not keeps_old:
            old_file.unlink(missing_ok=True)
    _request(database).unlink(missing_ok=True)


def rebuild(database: Path, log_directory: Path, broker_id: bytes, tell: Callable[[int, int, int], None], *, keeps_old: bool = True) -> int:
    """Makes the history anew while no broker runs; the number of events. `tell` hears position, first and last position after each
    transaction. HistoryBusy if another process writes; LogDamaged, OSError."""
    with contextlib.closing(WriterLock(database)):
        begin_anew(database, keeps_old=keeps_old)
        with contextlib.closing(HistoryStore(database, broker_id)) as store:
            projector = Projector(store, log_directory, broker_id, None)
            carry_over(store, projector)
            first, last, count = projector.state.position, projector.log_end(), 0
            for step in projector.steps(EVENTS_PER_STEP):
                count += step
                tell(projector.state.position, first, last)
    return count


def _request(database: Path) -> Path:
    return database.with_suffix(".rebuild")
