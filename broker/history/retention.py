"""How long a history is kept: by days and by rows, counted back from the last event. Nothing here reads a clock.

Old rows go in slices of their own transactions, so that neither the writer's next step nor a reader waits long. Their pages are
used again; the file does not shrink.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from broker.history.fold import MINUTE_NS

DAY_NS = 86_400 * 10**9
SLICE_ROWS = 5000


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept. `days` is for everything; events and sessions are kept shorter if theirs says so.

    A thousand events take about 60 KB, a thousand sessions with two leases 250 KB, a year of one busy pool's minutes 20 MB.
    """

    days: int = 400
    event_days: int = 90
    session_days: int = 400
    events_max: int = 10_000_000
    sessions_max: int = 2_000_000


def retire(connection: apsw.Connection, retention: Retention, now_ns: int) -> Iterator[int]:
    """Removes what is too old as of `now_ns`, a slice at a time; gives how many rows went with each. To be taken to its end or dropped."""
    event_limit = _position_at(connection, now_ns - min(retention.days, retention.event_days) * DAY_NS)
    beyond = connection.execute("SELECT position FROM events ORDER BY position DESC LIMIT 1 OFFSET ?", (retention.events_max - 1,)).get
    yield from _slices(connection, "events", "position", "position < ?", (max(event_limit, beyond or 0),))
    yield from _sessions(connection, retention, now_ns)
    oldest_ns = (now_ns - retention.days * DAY_NS) // MINUTE_NS * MINUTE_NS
    oldest_position = _position_at(connection, oldest_ns)
    for table in ("usage", "counts"):
        yield _delete(connection, f"DELETE FROM {table} WHERE minute < ?", (oldest_ns // MINUTE_NS,))
    yield from _slices(connection, "capacity", "position", "at_ns < ?", (oldest_ns,))
    yield from _slices(connection, "gaps", "position", "position < ?", (oldest_position,))
    yield from _slices(connection, "runs", "generation", "ended_ns < ?", (oldest_ns,))
    yield from _slices(connection, "minutes", "minute", "minute < ?", (oldest_ns // MINUTE_NS,))


def _position_at(connection: apsw.Connection, at_ns: int) -> int:
    """The first position of the first minute from an instant on; 0 if all are older: then nothing is known to be."""
    position = connection.execute("SELECT position FROM minutes WHERE minute >= ? ORDER BY minute LIMIT 1", (at_ns // MINUTE_NS,)).get
    return int(position or 0)


def _sessions(connection: apsw.Connection, retention: Retention, now_ns: int) -> Iterator[int]:
    """Ended ones only: who is still there is no history yet."""
    cutoff_ns = now_ns - min(retention.days, retention.session_days) * DAY_NS
    beyond = connection.execute("SELECT fence FROM sessions ORDER BY fence DESC LIMIT 1 OFFSET ?", (retention.sessions_max,)).get
    while fences := _ended_sessions(connection, cutoff_ns, int(beyond or 0)):
        with connection:
            connection.executemany("DELETE FROM leases WHERE fence = ?", fences)
            connection.executemany("DELETE FROM sessions WHERE fence = ?", fences)
        yield len(fences)


def _ended_sessions(connection: apsw.Connection, cutoff_ns: int, fence_max: int) -> list[Any]:
    """Some that ended before an instant, or have a fence up to one."""
    old = "SELECT fence FROM sessions WHERE opened_ns < ? AND ended_ns < ? LIMIT ?"
    many = "SELECT fence FROM sessions WHERE fence <= ? AND ended_ns IS NOT NULL ORDER BY fence LIMIT ?"
    found = connection.execute(old, (cutoff_ns, cutoff_ns, SLICE_ROWS)).fetchall()
    return found + connection.execute(many, (fence_max, SLICE_ROWS)).fetchall()


def _slices(connection: apsw.Connection, table: str, identity: str, condition: str, values: tuple[int, ...]) -> Iterator[int]:
    statement = f"DELETE FROM {table} WHERE {identity} IN (SELECT {identity} FROM {table} WHERE {condition} LIMIT {SLICE_ROWS})"
    while count := _delete(connection, statement, values):
        yield count


def _delete(connection: apsw.Connection, statement: str, values: tuple[int, ...]) -> int:
    with connection:
        connection.execute(statement, values)
    return connection.changes()
