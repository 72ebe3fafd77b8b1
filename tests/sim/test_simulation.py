"""The simulation itself: one seed is one course, in every process; seeds that failed once; fresh ones."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sim.scenarios import SCENARIOS, Scenario
from tests.sim.world import run_seed

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("USHER_SIM_SECONDS", "5"))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The keyring says a lot in a simulated minute."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _course_in_another_process(seed: int, hash_seed: int) -> str:
    command = [sys.executable, "-m", "tests.sim", "--start", str(seed), "--seeds", "1", "--steps"]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return next(line for line in done.stdout.splitlines() if "digest" in line)


@pytest.mark.parametrize("seed", [1, 16])
def test_one_seed_gives_one_course_whatever_the_hashes_of_a_process(seed: int) -> None:
    first, second = (_course_in_another_process(seed, hash_seed) for hash_seed in (1, 2))
    assert first == second
    assert f"digest {run_seed(seed):08x}" in first


def test_different_seeds_give_different_courses() -> None:
    assert len({run_seed(seed) for seed in range(10)}) == 10


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_seed_that_once_failed_keeps_every_promise(scenario: Scenario) -> None:
    run_seed(scenario.seed, scenario.scale)


def test_fresh_seeds_keep_every_promise() -> None:
    seed = secrets.randbits(40)
    print(f"first seed {seed}")
    until_s = time.monotonic() + SECONDS
    while time.monotonic() < until_s:
        run_seed(seed)
        seed += 1


def test_processes_side_by_side_run_as_many_seeds_as_asked_for_and_count_them() -> None:
    command = [sys.executable, "-m", "tests.sim", "--start", "1", "--seeds", "20", "--processes", "2", "--scale", "brief"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith("20 seeds in ")
    assert done.stdout.endswith("0 failed\n")
