"""The million: ledger and model in lockstep with a fresh seed on each run, every possible outcome met a thousand times.

A million operations in episodes of all kinds by their shares; then some more of those kinds that meet best what chance has
left below its thousand. `USHER_LOCKSTEP_SEED` replays a run; the seed is printed in any case.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial

import pytest

from tests.ledger.episodes import KINDS, kind_names
from tests.ledger.lockstep import Failure, Tally, run_episode
from tests.ledger.outcomes import PAIRS, Pair

OPERATION_COUNT_MIN = 1_000_000
OPERATION_COUNT_MAX = 1_600_000
"""What is still lacking then is lacking for another reason than chance."""
MET_COUNT_MIN = 1_000
PROCESS_COUNT = 2


def _episode(seed: int, place: tuple[int, str]) -> tuple[str, Tally, str]:
    """One episode in a process of its own."""
    index, kind_name = place
    try:
        return kind_name, run_episode(seed, index, kind_name), ""
    except Failure as failure:
        return kind_name, Tally(), str(failure)


class Million:
    """What a run has met, by kind of episode."""

    def __init__(self, seed: int, processes: Executor) -> None:
        self._seed = seed
        self._processes = processes
        self._index = 0
        self._by_kind = {name: Tally() for name in KINDS}
        self.whole = Tally()

    def run(self) -> None:
        self._do(list(_base_kinds()))
        while (lacking := self.lacking()) and self.whole.operation_count < OPERATION_COUNT_MAX:
            best = self._best_kind(min(lacking, key=lambda pair: lacking[pair]))
            self._do([best] * 2 * PROCESS_COUNT)

    def lacking(self) -> dict[Pair, int]:
        return {
            pair: self.whole.pairs[pair] for pair in sorted(PAIRS) if self.whole.pairs[pair] < MET_COUNT_MIN
        }

    def _do(self, kinds: Sequence[str]) -> None:
        places = list(enumerate(kinds, self._index))
        self._index += len(places)
        for kind_name, tally, difference in self._processes.map(partial(_episode, self._seed), places):
            assert not difference, difference
            self.whole.add(tally)
            self._by_kind[kind_name].add(tally)

    def _best_kind(self, pair: Pair) -> str:
        """The kind of which the fewest operations meet it once more."""
        return max(
            KINDS, key=lambda name: self._by_kind[name].pairs[pair] / self._by_kind[name].operation_count
        )


def _base_kinds() -> Iterator[str]:
    operation_count = 0
    for name in kind_names():
        yield name
        operation_count += KINDS[name].operation_count
        if operation_count >= OPERATION_COUNT_MIN:
            return


@pytest.fixture(scope="module")
def million() -> Million:
    seed = int(os.environ.get("USHER_LOCKSTEP_SEED") or secrets.randbits(32))
    print(f"lockstep seed: USHER_LOCKSTEP_SEED={seed}")
    with ProcessPoolExecutor(PROCESS_COUNT, multiprocessing.get_context("spawn")) as processes:
        met = Million(seed, processes)
        met.run()
    print(f"{met.whole.operation_count} operations in {met.whole.episode_count} episodes")
    return met


def test_a_million_random_operations_agree(million: Million) -> None:
    assert million.whole.operation_count >= OPERATION_COUNT_MIN


def test_every_outcome_of_every_operation_is_met_a_thousand_times(million: Million) -> None:
    assert not million.lacking()


def test_no_outcome_is_met_that_the_table_does_not_know(million: Million) -> None:
    assert not million.whole.pairs.keys() - PAIRS
