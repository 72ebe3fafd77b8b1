"""What commands print: tables for people, JSON for programs.

Names come from client apps and may hold anything: control characters are escaped before they reach a terminal, and rich's markup is
never interpreted. A table that goes to a pipe is not cut to a width. JSON has stable member names, seconds
as numbers (`_s`), instants as RFC 3339 text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 500


def print_json(value: Any) -> None:
    """One JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def print_json_line(value: Any) -> None:
    """One JSON document on one line, for streams of them."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table; a column whose name begins with # is of numbers. Without rows: the sentence `empty`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column.startswith("#")
        table.add_column(column.removeprefix("#"), justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    if table.row_count:
        console().print(table)
    else:
        say(empty)


def say(sentence: str, style: str = "") -> None:
    """One line."""
    console().print(Text(printable(sentence), style=style), soft_wrap=True)


def complain(sentence: str) -> None:
    """One line on standard error."""
    print(f"usher: {printable(sentence)}", file=sys.stderr, flush=True)


def console() -> Console:
    """Standard output as it is now; a pipe has no width."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def printable(value: object) -> str:
    """A value as text that does nothing to a terminal."""
    text = str(value)
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def seconds(duration: Duration) -> float:
    """A duration of the protocol in seconds."""
    return duration.seconds + duration.nanos / 1e9


def instant(timestamp: Timestamp) -> str | None:
    """An instant of the protocol as text; None if it is not set."""
    if not (timestamp.seconds or timestamp.nanos):
        return None
    return timestamp.ToDatetime().isoformat(timespec="seconds") + "Z"


def span(duration_s: float) -> str:
    """A duration for people: 45 s, 12 min, 3.5 h, 8 days."""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if duration_s < limit_s:
            return f"{duration_s / unit_s:.3g} {unit}"
    return f"{duration_s / 86_400:.3g} days"


class WordSet(Protocol):
    """An enum of the protocol."""

    def Name(self, number: Any) -> str: ...  # noqa: N802 - protobuf's


def word(words: WordSet, number: int, prefix: str) -> str:
    """A word of the protocol for people and JSON: KEY_STATE_PRESENT as present; a newer broker's as unknown_17."""
    try:
        return words.Name(number).removeprefix(prefix).lower()
    except ValueError:
        return f"unknown_{number}"
