"""`usher history`: who held what in the past, how much was used, what happened; and the history made anew.

Reads the history's database beside a running broker or without one; the broker is not asked and need not run. Instants on the command line
are local time unless they say otherwise; those in JSON are RFC 3339, UTC.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from broker.app.data_directory import BROKER_ID_FILE, default_data_dir
from broker.cli.options import DIRECTORY, data_dir_option, json_option
from broker.cli.output import complain, print_json, print_table, say, span
from broker.errors import DataDirectoryError
from broker.history import queries
from broker.history.queries import Span
from broker.history.rebuild import is_rebuild_requested, is_written_by_another, rebuild, request_rebuild
from broker.history.schema import open_to_read

AGO = re.compile(r"(\d+)\s*(s|min|m|h|d|w)", re.ASCII)
UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BUCKETS = {"minute": 1, "hour": 60, "day": 1440}
FOLLOW_S = 0.5

Command = Callable[..., Any]


class Instant(click.ParamType[int]):
    """An instant in ns: 2026-01-31, 2026-01-31T09:05, with Z or an offset, or how long ago: 90min, 12h, 7d."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """As click wants it."""
        if isinstance(value, int):
            return value
        if match := AGO.fullmatch(value.strip()):
            return time.time_ns() - int(match[1]) * UNITS_S[match[2]] * 10**9
        try:
            instant = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            self.fail(f"{value!r} is no time: 2026-01-31, 2026-01-31T09:05, 2026-01-31T09:05Z, or ago: 90min, 12h, 7d", param, ctx)
        return int(instant.timestamp()) * 10**9


@dataclass(frozen=True, slots=True)
class Place:
    """Where a broker's history and log lie."""

    data_dir: Path
    journal: Path

    @property
    def database(self) -> Path:
        return self.data_dir / "history" / "history.db"

    def broker_id(self) -> bytes:
        """Whose log it is. DataDirectoryError."""
        path = self.data_dir / BROKER_ID_FILE
        try:
            return bytes.fromhex(path.read_text())
        except (OSError, ValueError) as error:
            reason = f"the broker's id cannot be read: {error}"
            raise DataDirectoryError(path, reason, "name the broker's data directory with --data-dir, and be its user or root") from None


def place_options(command: Command) -> Command:
    """`--data-dir` and `--journal`; arrive as `data_dir` and `journal`."""
    journal = click.option(
        "--journal", type=DIRECTORY, help="Where the log lies, if the configuration names another place than journal/ in the data directory."
    )
    return data_dir_option(journal(command))


def filter_options(command: Command) -> Command:
    """`--since`, `--until` and `--product`."""
    for name, says in (
        ("--product", "Only of this product."),
        ("--until", "Only before this time."),
        ("--since", "Only from this time on: 2026-01-31, 2026-01-31T09:05, or ago: 90min, 12h, 7d."),
    ):
        kind = Instant() if name != "--product" else click.STRING
        command = click.option(name, type=kind, help=says)(command)
    return command


@click.group()
def history() -> None:
    """Look into the past: sessions, use of seats, events. Reads files; the broker need not run."""


@history.command()
@data_dir_option
@filter_options
@click.option("--user", default="", help="Only of this user.")
@click.option("--count", "count_max", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the newest.")
@json_option
def sessions(
    data_dir: Path | None, since: int | None, until: int | None, product: str | None, user: str, count_max: int, is_json: bool
) -> None:
    """List sessions that were open at some time, the newest first."""
    with _reading(data_dir) as connection:
        found = list(queries.sessions(connection, _span(since, until, user, product), count_max))
    if is_json:
        print_json({"sessions": [_session_json(one) for one in found]})
        return
    columns = ("Session", "User", "Host", "App", "Products", "Opened", "Open for", "Ended")
    print_table(columns, [_session_row(one) for one in found], empty="No session.")


@history.command()
@data_dir_option
@filter_options
@click.option("--by", type=click.Choice(list(BUCKETS)), help="A row for each minute, hour or day (UTC) instead of one for all.")
@json_option
def usage(
    data_dir: Path | None, since: int | None, until: int | None, product: str | None, by: str | None, is_json: bool
) -> None:
    """Show how many seats of each product were in use, and how many requests were denied."""
    asked = _span(since, until, "", product)
    with _reading(data_dir) as connection:
        found = queries.usage(connection, asked, BUCKETS[by] if by else None)
        session_peak = queries.sessions_peak(connection, asked)
    if is_json:
        print_json({"sessions_peak": session_peak, "usage": [_usage_json(one) for one in found]})
        return
    columns = ("From", "Product", "#Peak", "#Mean", "#Leases", "#Denials", "Denied for")
    print_table(columns, [_usage_row(one) for one in found], empty="Nothing was used.")


@history.command()
@data_dir_option
@filter_options
@click.option("--user", default="", help="Only of sessions of this user.")
@click.option("--count", "count_max", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the newest.")
@json_option
def events(
    data_dir: Path | None, since: int | None, until: int | None, product: str | None, user: str, count_max: int, is_json: bool
) -> None:
    """List what happened, the newest first."""
    with _reading(data_dir) as connection:
        found = list(queries.events(connection, _span(since, until, user, product), count_max))
    if is_json:
        print_json({"events": [_event_json(one) for one in found]})
        return
    columns = ("Time", "What", "Why", "Session", "User", "Product", "#Seats", "#Deficit")
    print_table(columns, [_event_row(one) for one in found], empty="No event.")


@history.command()
@place_options
@json_option
def status(data_dir: Path | None, journal: Path | None, is_json: bool) -> None:
    """Show how far the history has come, and what is missing in it."""
    place = _place(data_dir, journal)
    with _reading(data_dir) as connection:
        found = queries.status(connection, place.database)
    is_written = is_written_by_another(place.database, place.journal)
    if is_json:
        print_json(_status_json(found, is_written))
        return
    for line in _status_lines(found, place.database, is_written):
        say(line)
    for gap in found.gaps:
        complain(f"{gap.size} bytes of events behind {_local(gap.at_ns)} were gone from the log before they were read: that time is incomplete")


@history.command("rebuild")
@place_options
@click.option("--discard-older", is_flag=True, help="Do not keep what is older than the log.")
@json_option
def rebuild_command(data_dir: Path | None, journal: Path | None, discard_older: bool, is_json: bool) -> None:
    """Make the history anew from the log; what is older than the log is kept.

    If the broker runs, it is asked to do so, and does it beside its work.
    """
    place = _place(data_dir, journal)
    broker_id = place.broker_id()
    if is_written_by_another(place.database, place.journal):
        _ask_for_rebuild(place, discard_older)
        count = _follow_rebuild(place, _Progress(is_json))
    else:
        count = rebuild(place.database, place.journal, broker_id, _Progress(is_json), keeps_old=not discard_older)
    if is_json:
        print_json({"events": count, "database": str(place.database)})
    else:
        say(f"The history is made anew: {place.database}.")


def _ask_for_rebuild(place: Place, discard_older: bool) -> None:
    if discard_older:
        raise click.UsageError("--discard-older needs a stopped broker")
    request_rebuild(place.database)
    say("The broker makes its history anew.")


def _follow_rebuild(place: Place, tell: Callable[[int, int, int], None]) -> int:
    """Looks at the database until it has come to where the log was when it was asked for; events in it."""
    while is_rebuild_requested(place.database):
        time.sleep(FOLLOW_S)
    first = None
    while True:
        with contextlib.suppress(DataDirectoryError), _reading(place.data_dir) as connection:
            found = queries.status(connection, place.database)
            first = found.position if first is None else first
            tell(found.position, first, found.committed)
            if found.position and found.position >= found.committed:
                return found.event_count
        time.sleep(FOLLOW_S)


class _Progress:
    """A line each second."""

    def __init__(self, is_silent: bool) -> None:
        self._is_silent = is_silent
        self._begun_s = self._told_s = time.monotonic()

    def __call__(self, position: int, first: int, last: int) -> None:
        now_s = time.monotonic()
        if self._is_silent or now_s - self._told_s < 1 or last <= first:
            return
        self._told_s = now_s
        share = (position - first) / (last - first)
        left = span((now_s - self._begun_s) * (1 - share) / share) if share > 0 else "unknown"
        say(f"{share:.0%} of {(last - first) / 1e6:.0f} MB, {left} left")


# --- where, and which -------------------------------------------------------------------------------------------------------


def _place(data_dir: Path | None, journal: Path | None) -> Place:
    base = data_dir or default_data_dir()
    return Place(base, journal or base / "journal")


@contextlib.contextmanager
def _reading(data_dir: Path | None) -> Iterator[Any]:
    connection = open_to_read(_place(data_dir, None).database)
    try:
        yield connection
    finally:
        connection.close()


def _span(since: int | None, until: int | None, user: str, product: str | None) -> Span:
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until")
    return Span(since or 0, queries.INSTANT_MAX_NS if until is None else until, user, product or "")


# --- shapes -----------------------------------------------------------------------------------------------------------------


def _utc(at_ns: int | None) -> str | None:
    if at_ns is None:
        return None
    return datetime.datetime.fromtimestamp(at_ns / 1e9, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _local(at_ns: int | None) -> str:
    return "" if at_ns is None else datetime.datetime.fromtimestamp(at_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _session_json(one: queries.SessionRecord) -> dict[str, Any]:
    return {
        "session": one.public_id,
        "user": one.user,
        "host": one.host,
        "app": one.app,
        "label": one.label,
        "instance_id": one.instance_id,
        "identity": one.identity,
        "products": list(one.products),
        "opened": _utc(one.opened_ns),
        "ended": _utc(one.ended_ns),
        "end_reason": one.reason or None,
    }


def _session_row(one: queries.SessionRecord) -> tuple[object, ...]:
    end = "open" if one.ended_ns is None else f"{_local(one.ended_ns)} {one.reason.replace('_', ' ')}"
    lasted = "" if one.ended_ns is None else span((one.ended_ns - one.opened_ns) / 1e9)
    return (one.public_id, one.user, one.host, one.app, ", ".join(one.products), _local(one.opened_ns), lasted, end)


def _usage_json(one: queries.UsageRecord) -> dict[str, Any]:
    return {
        "from": _utc(one.from_ns),
        "product": one.product,
        "seats_peak": one.seats_peak,
        "seats_mean": round(one.seats_mean, 6),
        "lease_count": one.lease_count,
        "denials": one.denials,
    }


def _usage_row(one: queries.UsageRecord) -> tuple[object, ...]:
    reasons = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in sorted(one.denials.items()))
    return (_local(one.from_ns), one.product, one.seats_peak, f"{one.seats_mean:.2f}", one.lease_count, one.denial_count, reasons)


def _event_json(one: queries.EventRecord) -> dict[str, Any]:
    return {
        "position": one.position,
        "time": _utc(one.at_ns),
        "kind": one.kind,
        "reason": one.reason or None,
        "session": one.session or None,
        "user": one.user or None,
        "product": one.product or None,
        "pool": one.pool,
        "seats": one.seats,
        "deficit": one.deficit,
    }


def _event_row(one: queries.EventRecord) -> tuple[object, ...]:
    words = (one.kind.replace("_", " "), one.reason.replace("_", " "))
    return (_local(one.at_ns), *words, one.session, one.user, one.product, one.seats or "", one.deficit or "")


def _status_json(found: queries.HistoryStatus, is_written: bool) -> dict[str, Any]:
    return {
        "version": found.version,
        "broker_id": found.broker_id,
        "written_now": is_written,
        "position": found.position,
        "behind_bytes": found.committed - found.position,
        "first": _utc(found.first_ns),
        "last": _utc(found.last_ns),
        "size_bytes": found.size,
        "event_count": found.event_count,
        "single_event_count": found.single_count,
        "session_count": found.session_count,
        "runs": [
            {"generation": run.generation, "started": _utc(run.started_ns), "ended": _utc(run.ended_ns), "clean": run.is_clean}
            for run in found.runs
        ],
        "gaps": [{"time": _utc(gap.at_ns), "size_bytes": gap.size} for gap in found.gaps],
    }


def _status_lines(found: queries.HistoryStatus, database: Path, is_written: bool) -> Iterator[str]:
    yield f"{database}: {found.size / 1e6:.1f} MB, version {found.version}, broker {found.broker_id}"
    yield f"from {_local(found.first_ns) or 'nothing yet'} to {_local(found.last_ns)}; " + (
        "written by a running broker" if is_written else "nobody writes it now"
    )
    counted = found.event_count - found.single_count
    yield f"{found.event_count} events, {counted} of them only counted (in seconds of too many), {found.session_count} sessions"
    yield f"up to position {found.position} of the log, {found.committed - found.position} bytes behind when it was last written"
    for run in found.runs:
        ended = {None: "still runs, or ended without a word", True: "ended by itself", False: "ended without a word"}[run.is_clean]
        yield f"start {run.generation}: {_local(run.started_ns)} to {_local(run.ended_ns) or '...'}, {ended}"
