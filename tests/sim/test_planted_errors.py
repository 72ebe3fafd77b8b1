"""Errors planted on purpose, each of which the simulation must find, and by a broken promise."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.sim.course import course_of
from tests.sim.planted import PLANTED, Planted
from tests.sim.world import Failure, World

SEEDS_MAX = 1_000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _first_failure(error: Planted) -> Failure | None:
    """Of so many seeds; a Failure says which."""
    for seed in range(SEEDS_MAX):
        try:
            World(course_of(seed, error.scale), error.parts()).run()
        except Failure as failure:
            return failure
    return None


@pytest.mark.parametrize("error", PLANTED, ids=lambda error: error.name)
def test_a_planted_error_is_found(error: Planted) -> None:
    failure = _first_failure(error)
    assert failure is not None, f"{SEEDS_MAX} seeds, and it was not found"
    print(failure.accusation)
    assert failure.accusation.startswith(("Accusation", "ReplayRefused"))
    assert f"--start {failure.seed} --seeds 1" in str(failure)
