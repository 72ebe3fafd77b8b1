"""A real process that is killed at each named point, again and again on one directory: what it had said was committed is there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker._journal import CRASH_POINTS
from tests.journal.lives import Life
from tests.journal.material import STREAM

REPOSITORY = Path(__file__).resolve().parents[2]
LIVES = 5


def die(directory: Path, generation: int, crash_point: str) -> tuple[int, int]:
    """How far it said that it was committed, and how it ended."""
    command = [sys.executable, "-m", "tests.journal.keeper", str(directory), str(generation), crash_point]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    return max([0, *(int(line[1]) for line in lines if len(line) == 2)]), done.returncode


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_process_that_is_killed_there_loses_nothing_that_it_said(tmp_path: Path, point: str) -> None:
    chance = random.Random(point)
    acknowledged = 0
    deaths = 0
    for generation in range(1, LIVES + 1):
        said, status = die(tmp_path / "log", generation, f"{point}:{chance.randrange(1, 24)}")
        deaths += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL)
        acknowledged = max(acknowledged, said)
    assert deaths >= 3
    life = Life(tmp_path / "log", LIVES + 1)
    assert life.ledger.events == STREAM[: life.report.position]
    assert life.report.position >= acknowledged > 1_000
    assert life.report.warnings == ()
    life.end()
