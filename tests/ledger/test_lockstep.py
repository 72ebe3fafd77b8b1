"""The million: ledger and model in lockstep with a fresh seed on each run, every possible outcome met a thousand times.

`USHER_LOCKSTEP_SEED` replays a run; the seed is printed in any case.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from tests.ledger.lockstep import Failure, Tally, run
from tests.ledger.outcomes import PAIRS

OPERATION_COUNT = 1_100_000
"""A tenth more than the million, so that the rarest outcome stays above its thousand."""
PROCESS_COUNT = 2
MET_COUNT_MIN = 1_000


def _share_of_the_run(seed: int, first: int) -> tuple[Tally, str]:
    """Every second episode, in a process of its own."""
    try:
        return run(seed, OPERATION_COUNT // PROCESS_COUNT, first=first, step=PROCESS_COUNT), ""
    except Failure as failure:
        return Tally(), str(failure)


@pytest.fixture(scope="module")
def tally() -> Tally:
    seed = int(os.environ.get("USHER_LOCKSTEP_SEED") or secrets.randbits(32))
    print(f"lockstep seed: USHER_LOCKSTEP_SEED={seed}")
    whole = Tally()
    with ProcessPoolExecutor(PROCESS_COUNT, multiprocessing.get_context("spawn")) as processes:
        for part, difference in processes.map(partial(_share_of_the_run, seed), range(PROCESS_COUNT)):
            assert not difference, difference
            whole.add(part)
    return whole


def test_a_million_random_operations_agree(tally: Tally) -> None:
    assert tally.operation_count >= 1_000_000


def test_every_outcome_of_every_operation_is_met_a_thousand_times(tally: Tally) -> None:
    seldom = {pair: tally.pairs[pair] for pair in sorted(PAIRS) if tally.pairs[pair] < MET_COUNT_MIN}
    assert not seldom


def test_no_outcome_is_met_that_the_table_does_not_know(tally: Tally) -> None:
    assert not tally.pairs.keys() - PAIRS
