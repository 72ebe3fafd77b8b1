"""The tables of what is counted, in the compiled part and in the statistics of the verbs: the same names, numbers and bounds."""

from __future__ import annotations

import re
from pathlib import Path

from broker.verbs.stats import BUCKET_BOUNDS_SECONDS, OUTCOMES

SOURCE = (Path(__file__).resolve().parents[2] / "ext" / "listener" / "totals.pxi").read_text(encoding="utf-8")


def test_outcomes_have_the_numbers_of_the_statistics() -> None:
    numbers = {name.lower(): int(number) for name, number in re.findall(r"^    OUTCOME_(\w+) = (\d+)$", SOURCE, re.MULTILINE)}
    assert numbers == {name: number for number, name in enumerate(OUTCOMES)}


def test_buckets_have_the_bounds_of_the_statistics() -> None:
    assert tuple(int(bound) / 1e9 for bound in re.findall(r"\b(\d+)LL\b", SOURCE)) == BUCKET_BOUNDS_SECONDS
