"""What a history can be asked: sessions, usage, events, and how far it has come. Each answer is from one moment of the database.

Asked beside the writer or without one, over a connection of `schema.open_to_read`, one thread at a time. Instants are ns of
the wall clock; a span is from `since_ns` on and before `until_ns`. Names of kinds and reasons are those of broker/model/words.py, in small letters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from broker.history.fold import MINUTE_NS, SESSIONS_POOL
from broker.history.schema import database_files, versions
from broker.model.words import DenialReason, EndReason, EventKind

INSTANT_MAX_NS = 2**62
UNKNOWN_PRODUCT = "(unknown)"
"""Stands for all products that were asked for and never declared."""
_COUNTER_BITS = 40
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1


@dataclass(frozen=True, slots=True)
class Span:
    """Which rows are asked for. Empty texts ask for all."""

    since_ns: int = 0
    until_ns: int = INSTANT_MAX_NS
    user: str = ""
    product: str = ""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session. `ended_ns` None: it is open, as far as the history has come; `reason` is then empty."""

    public_id: str
    user: str
    host: str
    app: str
    label: str
    instance_id: str
    identity: str
    opened_ns: int
    ended_ns: int | None
    reason: str
    products: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event. `reason` is of an end or a denial; numbers are None where the event is not about one."""

    position: int
    at_ns: int
    kind: str
    reason: str
    session: str
    user: str
    product: str
    pool: int | None
    seats: int
    deficit: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """The use of a product in a stretch of time that begins at `from_ns`.

    `seats_peak` is exact for a product with one pool; with several it is the sum of their peaks of a minute, and so at most too high.
    `seats_mean` is over the stretch as far as the history knows it.
    """

    product: str
    from_ns: int
    seats_peak: int
    seats_mean: float
    lease_count: int
    denials: dict[str, int]

    @property
    def denial_count(self) -> int:
        """For any reason."""
        return sum(self.denials.values())


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that the log no longer had when the history came to read them."""

    at_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class Run:
    """One start of the broker. `is_clean` None: it goes on."""

    generation: int
    started_ns: int
    ended_ns: int | None
    is_clean: bool | None


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How far a history has come, and what it holds."""

    version: int
    broker_id: str
    position: int
    committed: int
    """How far the log was committed when the history was last written."""
    first_ns: int | None
    last_ns: int | None
    size: int
    """Bytes of its files."""
    event_count: int
    """Of the log, in the minutes that are kept."""
    single_count: int
    """Of these, those that were kept one by one."""
    session_count: int
    runs: tuple[Run, ...]
    """The newest first, at most ten."""
    gaps: tuple[Gap, ...]


_SESSIONS = """
SELECT fence, user, host, app, label, instance_id, identity, opened_ns, ended_ns, reason, (
    SELECT group_concat(name, char(10)) FROM (
        SELECT DISTINCT coalesce(name, 'product ' || product) AS name FROM leases LEFT JOIN products USING (product)
        WHERE leases.fence = sessions.fence ORDER BY name))
FROM sessions
WHERE opened_ns < :until_ns AND (ended_ns IS NULL OR ended_ns >= :since_ns)
    {user} {product}
ORDER BY opened_ns DESC, fence DESC LIMIT :count_max
"""
_OF_USER = "AND user = :user"
_HOLDING = """AND EXISTS (SELECT 1 FROM leases WHERE leases.fence = sessions.fence
    AND product = (SELECT product FROM products WHERE name = :product))"""

_EVENTS = """
SELECT events.position, at_ns, kind, events.reason, events.fence, coalesce(user, ''),
    coalesce(name, iif(events.product < 0, '', 'product ' || events.product)), pool, seats, deficit
FROM events LEFT JOIN sessions ON sessions.fence = events.fence LEFT JOIN products ON products.product = events.product
WHERE events.position >= (SELECT coalesce(min(position), :position_max) FROM minutes WHERE minute >= :since_ns / {minute_ns})
    AND at_ns >= :since_ns AND at_ns < :until_ns {user} {product}
ORDER BY events.position DESC LIMIT :count_max
"""

# Nothing of a user is older than the user's first session.
_EVENTS_OF_USER = """AND sessions.user = :user
    AND events.position >= (SELECT coalesce(min(position), :position_max) FROM sessions WHERE user = :user)"""

_SEATS = """
SELECT from_minute, product, max(peak), sum(seat_ns) FROM (
    SELECT minute / :step * :step AS from_minute, product, sum(seats_peak) AS peak, sum(seat_ns) AS seat_ns
    FROM usage JOIN pools USING (pool) WHERE minute >= :first AND minute < :end AND pool >= 0 GROUP BY minute, product)
GROUP BY from_minute, product
"""
_COUNTS = """
SELECT minute / :step * :step AS from_minute, product, kind, reason, sum(count) FROM counts
WHERE minute >= :first AND minute < :end AND kind IN (:started, :denied)
GROUP BY from_minute, product, kind, reason
"""


def public_id_of(fence: int) -> str:
    """As people see it: "generation.counter"; empty for 0, which is no session."""
    return f"{fence >> _COUNTER_BITS}.{fence & _COUNTER_MASK}" if fence else ""


def sessions(connection: apsw.Connection, span: Span, count_max: int) -> Iterator[SessionRecord]:
    """Who was there at some time in a span, the last opened first."""
    statement = _SESSIONS.format(user=_OF_USER if span.user else "", product=_HOLDING if span.product else "")
    for row in connection.execute(statement, _values(span, count_max)):
        fence, user, host, app, label, instance_id, identity, opened_ns, ended_ns, reason, names = row
        held = tuple(names.split("\n")) if names else ()
        why = _end_word(reason) if ended_ns is not None else ""
        yield SessionRecord(public_id_of(fence), user, host, app, label, instance_id, identity, opened_ns, ended_ns, why, held)


def events(connection: apsw.Connection, span: Span, count_max: int) -> Iterator[EventRecord]:
    """What happened in a span, the newest first: those that were kept one by one."""
    statement = _EVENTS.format(
        minute_ns=MINUTE_NS,
        user=_EVENTS_OF_USER if span.user else "",
        product="AND products.name = :product" if span.product else "",
    )
    for row in connection.execute(statement, _values(span, count_max)):
        position, at_ns, kind, reason, fence, user, product, pool, seats, deficit = row
        why = (_denial_word if kind == EventKind.DENIED else _end_word)(reason)
        session = public_id_of(fence)
        yield EventRecord(
            position, at_ns, _word(EventKind, kind), why, session, user, product, pool if pool >= 0 else None, seats, deficit
        )


def usage(connection: apsw.Connection, span: Span, step_minutes: int | None = None) -> list[UsageRecord]:
    """The use of each product, for each so many minutes (None: the span as a whole), in the order of time and of names.

    The span is widened to whole minutes. Nothing is said of time in which nothing was used or denied.
    """
    first, end = span.since_ns // MINUTE_NS, -(-span.until_ns // MINUTE_NS)
    covered = _covered(connection, first, end)
    step = step_minutes or max(1, end)
    values = {"step": step, "first": first, "end": end, "started": EventKind.LEASE_STARTED, "denied": EventKind.DENIED}
    names: dict[Any, Any] = dict(connection.execute("SELECT product, name FROM products"))
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for from_minute, product, peak, seat_ns in connection.execute(_SEATS, values):
        found.setdefault((from_minute, product), _nothing()).update(seats_peak=peak, seat_ns=seat_ns)
    for from_minute, product, kind, reason, count in connection.execute(_COUNTS, values):
        row = found.setdefault((from_minute, product), _nothing())
        if kind == EventKind.DENIED:
            row["denials"][_denial_word(reason)] = count
        else:
            row["lease_count"] = count
    records = []
    for (from_minute, product), row in found.items():
        name = names.get(product, f"product {product}" if product >= 0 else UNKNOWN_PRODUCT)
        begin = max(from_minute, covered[0])
        span_ns = max(1, min(from_minute + step, covered[1]) - begin) * MINUTE_NS
        records.append(
            UsageRecord(name, begin * MINUTE_NS, row["seats_peak"], row["seat_ns"] / span_ns, row["lease_count"], row["denials"])
        )
    wanted = [record for record in records if span.product in ("", record.product)]
    return sorted(wanted, key=lambda record: (record.from_ns, record.product))


def status(connection: apsw.Connection, path: Path) -> HistoryStatus:
    """Of the database at a path."""
    version, broker_id = versions(connection)
    facts: dict[Any, Any] = dict(connection.execute("SELECT name, value FROM meta"))
    state = json.loads(str(facts["state"]))
    position = int(state.get("position", 0))
    sums = connection.execute("SELECT min(minute), sum(event_count), sum(single_count) FROM minutes").fetchone()
    first_minute, event_count, single_count = sums or (None, None, None)
    return HistoryStatus(
        version=version,
        broker_id=broker_id.hex(),
        position=position,
        committed=max(position, int(facts.get("committed", 0))),
        first_ns=None if first_minute is None else first_minute * MINUTE_NS,
        last_ns=state.get("now_ns") or None,
        size=sum(file.stat().st_size for file in database_files(path) if file.exists()),
        event_count=event_count or 0,
        single_count=single_count or 0,
        session_count=int(connection.execute("SELECT count(*) FROM sessions").get),
        runs=tuple(_runs(connection)),
        gaps=tuple(Gap(at_ns, until - begin) for begin, until, at_ns in connection.execute("SELECT * FROM gaps ORDER BY position")),
    )


def sessions_peak(connection: apsw.Connection, span: Span) -> int:
    """The most sessions that were open at once."""
    statement = "SELECT max(seats_peak) FROM usage WHERE pool = ? AND minute >= ? AND minute < ?"
    values = (SESSIONS_POOL, span.since_ns // MINUTE_NS, -(-span.until_ns // MINUTE_NS))
    return int(connection.execute(statement, values).get or 0)


def product_names(connection: apsw.Connection) -> list[str]:
    """All that were ever declared, in order."""
    return [str(name) for (name,) in connection.execute("SELECT name FROM products ORDER BY name")]


def _runs(connection: apsw.Connection) -> Iterator[Run]:
    statement = "SELECT generation, started_ns, ended_ns, is_clean FROM runs ORDER BY generation DESC LIMIT 10"
    for generation, started_ns, ended_ns, is_clean in connection.execute(statement):
        yield Run(generation, started_ns, ended_ns, None if is_clean is None else bool(is_clean))


def _covered(connection: apsw.Connection, first: int, end: int) -> tuple[int, int]:
    """The part of a span, in minutes, of which the history knows something."""
    row = connection.execute("SELECT min(minute), max(minute) FROM minutes").fetchone()
    if row is None or row[0] is None:
        return first, first
    state = json.loads(str(connection.execute("SELECT value FROM meta WHERE name = 'state'").get))
    last = max(int(row[1]), int(state["now_ns"]) // MINUTE_NS)
    return max(first, int(row[0])), min(end, last + 1)


def _nothing() -> dict[str, Any]:
    return {"seats_peak": 0, "seat_ns": 0, "lease_count": 0, "denials": {}}


def _values(span: Span, count_max: int) -> dict[str, Any]:
    return {
        "since_ns": span.since_ns, "until_ns": span.until_ns, "user": span.user, "product": span.product,
        "count_max": count_max, "position_max": INSTANT_MAX_NS,
    }  # fmt: skip


def _end_word(reason: int) -> str:
    return _word(EndReason, reason) if reason else ""


def _denial_word(reason: int) -> str:
    return _word(DenialReason, reason) if reason else ""


def _word(words: type[EventKind] | type[EndReason] | type[DenialReason], number: int) -> str:
    """A newer broker's words stay what they are: numbers."""
    try:
        return words(number).name.lower()
    except ValueError:
        return f"unknown_{number}"
