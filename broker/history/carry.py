"""What a new history takes over from the old one that was set aside: all from before the position where the log begins.

An end that lies behind that position is taken back: the projection finds it again, or finds that it never was. The minute in which the
log begins is counted from there on only. One transaction; the old database goes when it is done.
"""

from __future__ import annotations

import logging
from pathlib import Path

import apsw

from broker.history.fold import MINUTE_NS
from broker.history.projector import Projector
from broker.history.schema import SCHEMA_VERSION, database_files, versions
from broker.history.store import HistoryStore

log = logging.getLogger("broker.history")

_BY_POSITION = (
    "INSERT OR IGNORE INTO main.{table} SELECT * FROM old.{table} WHERE position < :position",
    ("events", "capacity", "gaps", "leases", "sessions", "runs"),
)
_BY_MINUTE = (
    "INSERT OR IGNORE INTO main.{table} SELECT * FROM old.{table} WHERE minute < :minute",
    ("usage", "counts", "minutes"),
)
_WHOLE = ("INSERT OR IGNORE INTO main.{table} SELECT * FROM old.{table}", ("products", "pools"))
_TAKEN_BACK = (
    "UPDATE leases SET ended_ns = NULL, reason = 0 WHERE ended_ns > :at_ns",
    "UPDATE sessions SET ended_ns = NULL, reason = 0 WHERE ended_ns > :at_ns",
    "UPDATE runs SET ended_ns = NULL, is_clean = NULL WHERE ended_ns > :at_ns",
    "UPDATE pools SET seats_used = 0, capacity = 0, deficit = 0",
)


def old_database(database: Path) -> Path:
    """Where one that was set aside lies."""
    return database.with_suffix(".old.db")


def waits_for_old(database: Path) -> bool:
    """Whether nothing was projected into it yet, so that the one set aside is still to be taken over."""
    if not database.exists():
        return True
    try:
        connection = apsw.Connection(str(database))
        text = str(connection.execute("SELECT value FROM meta WHERE name = 'state'").get)
        connection.close()
    except apsw.Error:
        return True
    return text == "{}"


def carry_over(store: HistoryStore, projector: Projector) -> None:
    """Takes over what an old database has, into one that is empty. Nothing if there is none, or if it is of no use: that is logged."""
    old = old_database(store.path)
    if projector.state.position or not old.exists():
        return
    try:
        _must_be_ours(old, store.connection)
        store.connection.execute("ATTACH ? AS old", (str(old),))
        try:
            projector.begin_where_the_log_does(lambda start: _copy(store.connection, start))
        finally:
            store.connection.execute("DETACH old")
    except apsw.Error as error:
        log.warning("the old history could not be taken over, it stays in %s: %s", old, error)
        projector.reload()
        return
    for file in database_files(old):
        file.unlink(missing_ok=True)


def _must_be_ours(old: Path, connection: apsw.Connection) -> None:
    """apsw.Error if it is of no use."""
    other = apsw.Connection(str(old), apsw.SQLITE_OPEN_READONLY)
    try:
        version, broker_id = versions(other)
    finally:
        other.close()
    if version != SCHEMA_VERSION or broker_id != versions(connection)[1]:
        raise apsw.MismatchError(f"it is of version {version} and broker {broker_id.hex()}")


def _copy(connection: apsw.Connection, start: int) -> None:
    last_ns = connection.execute("SELECT at_ns FROM old.events WHERE position < ? ORDER BY position DESC LIMIT 1", (start,)).get
    minute = connection.execute("SELECT max(minute) FROM old.minutes WHERE position < ?", (start,)).get
    at_ns = max(int(last_ns or 0), int(minute or 0) * MINUTE_NS)
    values = {"position": start, "minute": at_ns // MINUTE_NS, "at_ns": at_ns}
    for statement, tables in (_BY_POSITION, _BY_MINUTE, _WHOLE):
        for table in tables:
            connection.execute(statement.format(table=table), values)
    for statement in _TAKEN_BACK:
        connection.execute(statement, values)
