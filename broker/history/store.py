"""A history that is being written: what the fold says changed, and the position that it belongs to, in one transaction.

Rows go in many at once, by statements of up to ROWS_MAX rows: each statement runs without the GIL, and taking it back beside a busy
thread costs milliseconds. One thread, which need not be the one that opened it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from broker.history.changes import Changes
from broker.history.fold import Fold, FoldState, PoolUse
from broker.history.schema import open_to_write
from broker.history.snapshot import LedgerState

ROWS_MAX = 512
POOL_COLUMNS = "pool, product, terms, is_emulated, seats_used, capacity, deficit, since_ns"

_STATEMENTS: dict[str, tuple[str, int, str]] = {
    "events": ("INSERT INTO events VALUES", 10, ""),
    "sessions": ("INSERT OR REPLACE INTO sessions VALUES", 11, ""),
    "leases": ("INSERT OR REPLACE INTO leases VALUES", 9, ""),
    "capacity": ("INSERT INTO capacity VALUES", 7, ""),
    "gaps": ("INSERT OR REPLACE INTO gaps VALUES", 3, ""),
    "products": ("INSERT OR REPLACE INTO products VALUES", 2, ""),
    "pools": ("INSERT OR REPLACE INTO pools VALUES", 8, ""),
    "runs": ("INSERT OR REPLACE INTO runs VALUES", 5, ""),
    "usage": (
        "INSERT INTO usage VALUES",
        4,
        " ON CONFLICT DO UPDATE SET seats_peak = max(seats_peak, excluded.seats_peak), seat_ns = seat_ns + excluded.seat_ns",
    ),
    "counts": ("INSERT INTO counts VALUES", 5, " ON CONFLICT DO UPDATE SET count = count + excluded.count"),
    "minutes": (
        "INSERT INTO minutes VALUES",
        4,
        " ON CONFLICT DO UPDATE SET event_count = event_count + excluded.event_count,"
        " single_count = single_count + excluded.single_count",
    ),
    "session_ends": (
        "WITH ends AS (VALUES",
        3,
        ") UPDATE sessions SET ended_ns = ends.column2, reason = ends.column3 FROM ends"
        " WHERE sessions.fence = ends.column1 AND sessions.ended_ns IS NULL",
    ),
    "lease_ends": (
        "WITH ends AS (VALUES",
        4,
        ") UPDATE leases SET ended_ns = ends.column3, reason = ends.column4 FROM ends"
        " WHERE leases.fence = ends.column1 AND leases.product = ends.column2 AND leases.ended_ns IS NULL",
    ),
    "run_ends": (
        "WITH ends AS (VALUES",
        3,
        ") UPDATE runs SET ended_ns = ends.column2, is_clean = ends.column3 FROM ends WHERE runs.generation = ends.column1",
    ),
}


class HistoryStore:
    """The database, opened to write. HistoryUnusable, OSError, apsw.Error: see `open_to_write`."""

    def __init__(self, path: Path, broker_id: bytes) -> None:
        self.path = path
        self.connection = open_to_write(path, broker_id)

    def close(self) -> None:
        """Ends all use."""
        self.connection.close()

    def fold(self) -> Fold:
        """A fold that goes on where the database ends."""
        facts = json.loads(str(self.connection.execute("SELECT value FROM meta WHERE name = 'state'").get))
        rows = self.connection.execute(f"SELECT {POOL_COLUMNS} FROM pools")
        return Fold(FoldState(**facts), [PoolUse.of_row(row) for row in rows])

    def write(self, changes: Changes, state: FoldState, facts: dict[str, Any] | None = None) -> None:
        """All of a stretch, or nothing. `facts` go into `meta`."""
        with self.connection:
            for name, rows in _steps(changes):
                self._in_groups(_STATEMENTS[name], rows)
            self.set_facts({"state": json.dumps(state.as_facts()), **(facts or {})})

    def take_over(self, ledger: LedgerState, state: FoldState) -> None:
        """Who is there and holds what is as in the ledger from now on: what is not known yet begins, what is no longer there has ended,
        nobody knows why. Within the caller's transaction."""
        execute = self.connection.execute
        present, held = {row[0] for row in ledger.sessions}, {row[:2] for row in ledger.leases}
        open_fences = {fence for (fence,) in execute("SELECT fence FROM sessions WHERE ended_ns IS NULL")}
        open_leases = set(execute("SELECT fence, product FROM leases WHERE ended_ns IS NULL"))
        sessions = [(*row[:7], row[7] + state.offset_ns, None, 0, state.position) for row in ledger.sessions if row[0] not in open_fences]
        leases = [
            (fence, product, state.position, pool, 0, 0, state.now_ns, None, 0)
            for fence, product, pool in ledger.leases
            if (fence, product) not in open_leases
        ]
        self._in_groups(_STATEMENTS["session_ends"], [(fence, state.now_ns, 0) for fence in sorted(open_fences - present)])
        self._in_groups(_STATEMENTS["lease_ends"], [(*which, state.now_ns, 0) for which in sorted(open_leases - held)])
        self._in_groups(_STATEMENTS["sessions"], sessions)
        self._in_groups(_STATEMENTS["leases"], leases)

    def set_facts(self, facts: dict[str, Any]) -> None:
        """Words of `meta`; None removes one."""
        for name, value in facts.items():
            if value is None:
                self.connection.execute("DELETE FROM meta WHERE name = ?", (name,))
            else:
                self.connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (name, value))

    def _in_groups(self, statement: tuple[str, int, str], rows: Sequence[Sequence[Any]]) -> None:
        """Groups of ROWS_MAX and then of falling powers of two: few different statements, all of them kept prepared."""
        head, width, tail = statement
        one = "(" + ",".join("?" * width) + ")"
        start = 0
        for size in _group_sizes(len(rows)):
            flat = [value for row in rows[start : start + size] for value in row]
            self.connection.execute(head + ",".join([one] * size) + tail, flat)
            start += size


def _group_sizes(count: int) -> Iterator[int]:
    size = ROWS_MAX
    while count:
        while size > count:
            size //= 2
        yield size
        count -= size


def _steps(changes: Changes) -> Iterator[tuple[str, Sequence[Sequence[Any]]]]:
    """Statements in an order in which ends find what they end: what began in this stretch and still goes on comes behind them."""
    yield "products", changes.products
    yield "pools", changes.pools
    yield "runs", changes.runs
    yield "run_ends", changes.run_ends
    yield "events", changes.events
    yield "session_ends", changes.session_ends
    yield "sessions", list(changes.sessions.values())
    yield "lease_ends", [(*which, *end) for which, end in changes.lease_ends.items()]
    yield "leases", [*changes.leases_before, *changes.leases.values()]
    yield "capacity", changes.capacity
    yield "gaps", changes.gaps
    yield "usage", [(*where, *sums) for where, sums in changes.usage.items()]
    yield "counts", [(*where, count) for where, count in changes.counts.items()]
    yield "minutes", [(minute, *row) for minute, row in changes.minutes.items()]
