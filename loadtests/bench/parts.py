"""What a part of the bench is: a question, measured in rounds, that ends in rows, bars and sentences.

A part gets a `Bench` and gives a `Finding`. Its subjects are measured in turn: in each round every one once, in an order that
moves on by one from round to round, so that none is always the one after the hot or the cold one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.client import Pace
from loadtests.bench.figures import Bar, Sample
from loadtests.bench.processors import Places

SESSIONS = 100_000
SESSIONS_SHORT = 500

Subject = Callable[[], Sample]
"""Measures one window of one server."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part needs to know."""

    directory: Path
    pace: Pace
    places: Places
    data_plane: str
    say: Callable[[str], None]
    """Progress, for people who wait."""
    is_short: bool = False

    @property
    def session_count(self) -> int:
        """How many sessions the renewals go to."""
        return SESSIONS_SHORT if self.is_short else SESSIONS


@dataclass(slots=True)
class Finding:
    """What a part found. `rows` go into the results of the file; sentences and lines are shown below the table."""

    title: str
    rows: list[dict[str, object]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """Drawn text: kept as it is."""


def in_turn(subjects: Mapping[str, Subject], rounds: int, say: Callable[[str], None]) -> dict[str, list[Sample]]:
    """Every subject once a round; the samples of each in the order of the rounds."""
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in rotated(list(subjects), number):
            say(f"round {number + 1} of {rounds}: {name}")
            samples[name].append(subjects[name]())
    return samples


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The same names, beginning further on."""
    start = by % len(names)
    return [*names[start:], *names[:start]]
