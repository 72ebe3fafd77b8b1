"""What a history must say, counted once more from the decoded events, slowly and in another way.

For logs in which the wall clock makes no large steps, and no second has too many events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from broker.model.events import Event, decode_events
from broker.model.words import JOURNAL_KINDS, EventKind
from tests.history.stories import MINUTE_NS

SESSIONS_POOL = -1
TABLES = ("products", "pools", "runs", "events", "sessions", "leases", "usage", "counts", "minutes", "capacity", "gaps")

Rows = list[tuple[Any, ...]]


def tables_of(database: Path, *names: str) -> dict[str, Rows]:
    """All rows of a history, in the order of their identities; the state that is gone on from as `state`."""
    connection = apsw.Connection(str(database), apsw.SQLITE_OPEN_READONLY)
    # Every table's identity is its first columns, and that is the order in which they lie.
    found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names or TABLES}
    if not names:
        found["state"] = connection.execute("SELECT value FROM meta WHERE name = 'state'").fetchall()
    connection.close()
    return found


@dataclass(slots=True)
class Recount:
    """Of a whole log."""

    sessions: dict[int, list[Any]] = field(default_factory=dict)
    leases: dict[tuple[int, int], list[list[Any]]] = field(default_factory=dict)
    counts: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    event_counts: Counter[int] = field(default_factory=Counter)
    seats: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Of each pool: from when on how many."""
    runs: list[list[int]] = field(default_factory=list)
    """From when until when somebody ran."""
    ahead_ns: int = 0
    """Of the wall clock before the ledger's."""
    now_ns: int = 0
    is_running: bool = False
    is_told: bool = False
    """Whether the last event is history."""

    def take(self, event: Event) -> None:
        """The next one."""
        if event.kind in (EventKind.WALL_CLOCK, EventKind.RUN_STARTED):
            self.ahead_ns = event.detail - event.time_ns
        self.now_ns = max(self.now_ns, event.time_ns + self.ahead_ns)
        if event.kind is EventKind.RUN_STARTED:
            self.runs.append([self.now_ns, self.now_ns])
            self.is_running = True
        if self.is_running:
            self.runs[-1][1] = self.now_ns
        if event.kind is EventKind.RUN_ENDED:
            self.is_running = False
        self.is_told = event.kind not in JOURNAL_KINDS or event.kind in (EventKind.RUN_STARTED, EventKind.RUN_ENDED)
        if self.is_told:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        minute = self.now_ns // MINUTE_NS
        self.event_counts[minute] += 1
        self.counts[minute, event.kind, event.product, event.reason] += event.seats if event.kind is EventKind.DENIED else 1
        if event.kind is EventKind.SESSION_OPENED:
            texts = [text.decode() for text in (event.user, event.host, event.app, event.label, event.instance_id, event.identity)]
            self.sessions[event.fence] = [event.fence, *texts, self.now_ns, None, 0]
            self._seats(SESSIONS_POOL, self.now_ns, 1)
        elif event.kind is EventKind.SESSION_ENDED:
            self.sessions[event.fence][8:] = [self.now_ns, event.reason]
            self._seats(SESSIONS_POOL, self.now_ns, -1)
        elif event.kind is EventKind.LEASE_STARTED:
            lease = [event.fence, event.product, event.pool, event.charge, event.seats, self.now_ns, None, 0]
            self.leases.setdefault((event.fence, event.product), []).append(lease)
            if event.seats:
                self._seats(event.pool, self.now_ns, event.seats)
        elif event.kind is EventKind.LEASE_ENDED:
            self.leases[event.fence, event.product][-1][6:] = [self.now_ns, event.reason]
        elif event.kind is EventKind.CHARGE_FREED:
            self._seats(event.pool, self.now_ns, -event.seats)

    def _seats(self, pool: int, at_ns: int, change: int) -> None:
        steps = self.seats.setdefault(pool, [(0, 0)])
        steps.append((at_ns, steps[-1][1] + change))

    def usage(self) -> Rows:
        """(minute, pool, peak, seats x ns) of each minute, looked at by itself; sums go as far as time is known to have passed."""
        rows = []
        first, last = self.runs[0][0] // MINUTE_NS, self.now_ns // MINUTE_NS
        for pool, steps in self.seats.items():
            for minute in range(first, last + 1):
                row = _use_of(steps, minute * MINUTE_NS, self.runs)
                if row is not None:
                    rows.append((minute, pool, *row))
        return sorted(rows)


def _use_of(steps: list[tuple[int, int]], minute_ns: int, runs: list[list[int]]) -> tuple[int, int] | None:
    ends = [at_ns for at_ns, _ in steps[1:]] + [2**62]
    peak, sum_ns, is_used = 0, 0, False
    for (at_ns, seats), next_ns in zip(steps, ends, strict=True):
        span_ns = sum(
            max(0, min(next_ns, until_ns, minute_ns + MINUTE_NS) - max(at_ns, from_ns, minute_ns)) for from_ns, until_ns in runs
        )
        has_changed = minute_ns <= at_ns < minute_ns + MINUTE_NS
        if (span_ns > 0 and seats) or has_changed:
            is_used = True
            peak = max(peak, seats)
            sum_ns += seats * span_ns
    return (peak, sum_ns) if is_used else None


def recount(data: bytes) -> Recount:
    """Of whole events."""
    found = Recount()
    for event in decode_events(data):
        found.take(event)
    return found


def told_positions(data: bytes) -> list[int]:
    """Where the events begin that are history."""
    count, found = Recount(), []
    for position, event in zip(positions(data), decode_events(data), strict=True):
        count.take(event)
        if count.is_told:
            found.append(position)
    return found


def positions(data: bytes) -> Iterator[int]:
    """Where events begin."""
    position = 0
    while position < len(data):
        yield position
        position += int.from_bytes(data[position : position + 4], "little")
