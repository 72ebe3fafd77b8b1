"""The tables of the history, their version, and how a database of them is opened.

A history is one SQLite database, a projection of the log: whatever stands here was committed there before. Instants are nanoseconds of
the wall clock since 1970 (`_ns`), minutes whole minutes since then, positions bytes of the event stream since the broker's first start. Numbers of
kinds and reasons are those of broker/model/words.py, and of the log. Texts come from client apps.

    meta       name, value              version, broker, and what the projection goes on from: see broker/history/fold.py
    products   product, name            the ledger's numbers for products ...
    pools      pool, product, terms ... ... and for pools; seats_used, capacity, deficit as of `position`. Pool -1 counts open sessions
    runs       generation               each start of the broker: when, until when, whether it ended by itself
    events     position                 what happened, one by one; in a second of more than EVENTS_SINGLE_MAX only so many of them
    sessions   fence                    who was there, from when until when, why it ended (as long as it is open: no end, reason 0)
    leases     fence, product, position which products it held
    usage      minute, pool             the most seats charged at once, and seats x nanoseconds; no row: none were
    counts     minute, kind, product, reason   how many events of a kind: all of them, also those that `events` does not hold
    minutes    minute                   the first position in it, how many events, and how many of them stand in `events`
    capacity   position                 each change of a pool's capacity
    gaps       position                 events that were gone from the log before they could be read

One process writes (broker/history/lock.py); any number read beside it. A database of another version is set aside, never changed.
SQLite must be 3.51.3 or newer: before that, two connections that write and check-point at once can damage a database.
"""

from __future__ import annotations

import json
from pathlib import Path

import apsw

from broker.history.errors import HistoryError, HistoryMissing
from broker.history.owner import make_file, make_folder

SCHEMA_VERSION = 1
SQLITE_VERSION_MIN = 3_051_003
APPLICATION_ID = 0x55534852  # USHR
BUSY_WAIT_MS = 5000
CHECKPOINT_PAGES = 4000

TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE products(product INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE pools(
    pool INTEGER PRIMARY KEY, product INTEGER NOT NULL, terms TEXT NOT NULL, is_emulated INTEGER NOT NULL,
    seats_used INTEGER NOT NULL, capacity INTEGER NOT NULL, deficit INTEGER NOT NULL, since_ns INTEGER NOT NULL
);
CREATE TABLE runs(
    generation INTEGER PRIMARY KEY, position INTEGER NOT NULL, started_ns INTEGER NOT NULL, ended_ns INTEGER,
    is_clean INTEGER
);
CREATE TABLE events(
    position INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind INTEGER NOT NULL, reason INTEGER NOT NULL, fence INTEGER NOT NULL,
    charge INTEGER NOT NULL, pool INTEGER NOT NULL, product INTEGER NOT NULL, seats INTEGER NOT NULL, deficit INTEGER NOT NULL
);
CREATE TABLE sessions(
    fence INTEGER PRIMARY KEY, user TEXT NOT NULL, host TEXT NOT NULL, app TEXT NOT NULL, label TEXT NOT NULL,
    instance_id TEXT NOT NULL, identity TEXT NOT NULL, opened_ns INTEGER NOT NULL, ended_ns INTEGER, reason INTEGER NOT NULL,
    position INTEGER NOT NULL
);
CREATE INDEX sessions_by_user ON sessions(user);
CREATE INDEX sessions_by_opening ON sessions(opened_ns);
CREATE TABLE leases(
    fence INTEGER, product INTEGER, position INTEGER, pool INTEGER NOT NULL, charge INTEGER NOT NULL, seats INTEGER NOT NULL,
    started_ns INTEGER NOT NULL, ended_ns INTEGER, reason INTEGER NOT NULL,
    PRIMARY KEY(fence, product, position)
) WITHOUT ROWID;
CREATE TABLE usage(
    minute INTEGER, pool INTEGER, seats_peak INTEGER NOT NULL, seat_ns INTEGER NOT NULL, PRIMARY KEY(minute, pool)
) WITHOUT ROWID;
CREATE TABLE counts(
    minute INTEGER, kind INTEGER, product INTEGER, reason INTEGER, count INTEGER NOT NULL,
    PRIMARY KEY(minute, kind, product, reason)
) WITHOUT ROWID;
CREATE TABLE minutes(
    minute INTEGER PRIMARY KEY, position INTEGER NOT NULL, event_count INTEGER NOT NULL, single_count INTEGER NOT NULL
);
CREATE TABLE capacity(
    position INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, pool INTEGER NOT NULL, product INTEGER NOT NULL,
    capacity INTEGER NOT NULL, deficit INTEGER NOT NULL, reason INTEGER NOT NULL
);
CREATE TABLE gaps(
    position INTEGER PRIMARY KEY, until_position INTEGER NOT NULL, at_ns INTEGER NOT NULL
);
"""


def open_to_write(path: Path, broker_id: bytes) -> apsw.Connection:
    """The database, made if there is none. HistoryUnusable if it is of another version, of another broker, damaged, or no history at all:
    then its files are to be set aside. OSError and apsw.Error for the disk."""
    must_be_safe()
    make_folder(path.parent)
    make_file(path)
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_WAIT_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "normal")
        connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        if not connection.pragma("application_id") and not connection.execute("SELECT count(*) FROM sqlite_schema").get:
            _make(connection, broker_id)
        _judge(connection, broker_id)
    except apsw.Error as error:
        connection.close()
        if isinstance(error, apsw.NotADBError | apsw.CorruptError):
            raise HistoryUnusable(path, f"is damaged ({error})") from None
        raise
    except HistoryUnusable as unusable:
        connection.close()
        raise HistoryUnusable(path, unusable.reason) from None
    return connection


def open_to_read(path: Path) -> apsw.Connection:
    """The database beside its writer, or without one. HistoryMissing if there is none, HistoryError if it cannot be read."""
    must_be_safe()
    if not path.exists():
        raise HistoryMissing(path)
    try:
        connection = _connect_to_read(path)
        connection.set_busy_timeout(BUSY_WAIT_MS)
        version, _ = versions(connection)
    except apsw.Error as error:
        raise HistoryError(path, f"cannot be read: {error}", "read it as the broker's user or root, or make it anew: `usher history rebuild`") from None
    if version != SCHEMA_VERSION:
        connection.close()
        raise HistoryError(path, f"is of version {version}; this usher reads {SCHEMA_VERSION}", "use the same version as the broker")
    return connection


def _connect_to_read(path: Path) -> apsw.Connection:
    """Who may not write into the folder cannot make the files that readers share; without a writer none are needed."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(f"{path.absolute().as_uri()}?mode=ro", flags)
        versions(connection)
    except apsw.CantOpenError:
        if path.with_name(path.name + "-wal").exists():
            raise
        connection = apsw.Connection(f"{path.absolute().as_uri()}?mode=ro&immutable=1", flags)
    return connection


def must_be_safe() -> None:
    """RuntimeError on a SQLite that is known to damage databases."""
    if apsw.SQLITE_VERSION_NUMBER < SQLITE_VERSION_MIN:
        raise RuntimeError(f"SQLite {apsw.sqlite_lib_version()} can damage databases; apsw 3.51.3 or newer brings a good one")


def versions(connection: apsw.Connection) -> tuple[int, bytes]:
    """Version and broker id of a database; (0, b"") of one that is not a history."""
    if connection.pragma("application_id") != APPLICATION_ID:
        return 0, b""
    facts = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('version', 'broker_id')"))
    return int(facts["version"]), bytes.fromhex(str(facts["broker_id"]))


def database_files(path: Path) -> list[Path]:
    """All that belongs to a database."""
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]


class HistoryUnusable(Exception):
    """This database cannot be gone on with. `reason` completes "the database ..."."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path
        self.reason = reason


def _make(connection: apsw.Connection, broker_id: bytes) -> None:
    facts = {"version": SCHEMA_VERSION, "broker_id": broker_id.hex(), "state": json.dumps({})}
    with connection:
        connection.execute(TABLES)
        connection.executemany("INSERT INTO meta VALUES(?, ?)", facts.items())
        connection.pragma("application_id", APPLICATION_ID)


def _judge(connection: apsw.Connection, broker_id: bytes) -> None:
    version, owner = versions(connection)
    if version == 0:
        raise HistoryUnusable(Path(), "is not a history")
    if version != SCHEMA_VERSION:
        raise HistoryUnusable(Path(), f"is of version {version}, not {SCHEMA_VERSION}")
    if owner != broker_id:
        raise HistoryUnusable(Path(), f"is of another broker ({owner.hex()})")
