"""Findings about the wall clock: does the machine keep it in step, and has it gone back behind what the log's files bear.

Licences begin and end by the wall clock. A clock that is set back over five minutes makes the broker suspect it (semantics rule 21); the
broker compares with the mark in its log, which only it reads. Here the times of the log's own files stand for that mark: they were
written by this machine's clock, and the newest is at most a minute of work behind it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.doctor.finding import Finding, good, trouble, warning

STEP_BACK_S = 300.0
TIME_ERROR = 5
"""What adjtimex(2) returns for a clock that nothing keeps in step."""
_TIMEX_SIZE = 208
"""`struct timex` of 64-bit Linux; larger than that of others."""


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """`now_unix_s` of the wall clock. `is_synchronised` None: the kernel did not say."""

    now_unix_s: float
    is_synchronised: bool | None


def read_synchronised() -> bool | None:
    """Whether the kernel counts the clock as kept in step by somebody (NTP, PTP, the host of a virtual machine). Reads only."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):
        return None
    # All zeros: modes = 0, which changes nothing.
    answer = adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE + 64))
    return None if answer < 0 else answer != TIME_ERROR


def clock_findings(clock: ClockFacts, log_folder: Path) -> Iterator[Finding]:
    """Everything about the clock."""
    if clock.is_synchronised is False:
        yield warning(
            "clock", "wall clock", "nothing keeps it in step: licences may begin and end early or late",
            "turn time synchronisation on (`timedatectl set-ntp true`, chrony); in a container: on the host",
        )  # fmt: skip
    elif clock.is_synchronised:
        yield good("clock", "wall clock", "the kernel says that it is kept in step")
    name, newest_unix_s = _newest(log_folder)
    behind_s = newest_unix_s - clock.now_unix_s
    if behind_s > STEP_BACK_S:
        yield trouble(
            "clock", "wall clock", f"is {behind_s / 60:.0f} min behind {name}, which was written here: it has been set back",
            "set it right; meanwhile the broker lets nothing expired revive and nothing new begin",
        )  # fmt: skip


def _newest(folder: Path) -> tuple[str, float]:
    found = ("", 0.0)
    try:
        for path in folder.iterdir():
            found = max(found, (path.name, path.stat().st_mtime), key=lambda one: one[1])
    except OSError:
        return found
    return found
