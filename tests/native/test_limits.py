"""The bounds: one file, and what Python sees of it."""

from __future__ import annotations

import re
from pathlib import Path

from broker.limits import LIMITS

PXD = Path(__file__).resolve().parents[2] / "ext" / "limits.pxd"


def declared() -> dict[str, int]:
    """Every bound of ext/limits.pxd."""
    text = PXD.read_text()
    plain = re.findall(r"^    ([A-Z][A-Z0-9_]+) = (\d+)", text, re.MULTILINE)
    large = re.findall(r"#define USHER_([A-Z_]+) (\d+)LL", text)
    return {name: int(number) for name, number in plain + large}


def test_python_sees_every_bound_of_the_one_file() -> None:
    assert declared() == LIMITS

