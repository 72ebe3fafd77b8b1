"""The lockstep from the command line: a run, or one episode of a run again, shrunk to what is needed if asked.

    python -m tests.ledger --seed N --operations M      a run; without a seed a fresh one
    python -m tests.ledger --kind NAME ...              a run of episodes of one kind only
    python -m tests.ledger --seed N --episode K --kind NAME     one of its episodes
    python -m tests.ledger ... --shrink                 the smallest part of the episode that still fails
    python -m tests.ledger ... --extension PATH         another build of the ledger

Exit status 1 and the difference on stderr if there is one.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from functools import partial
from pathlib import Path

from tests.ledger.episodes import KINDS
from tests.ledger.lockstep import Failure, MakeSide, Tally, run, run_episode
from tests.ledger.outcomes import PAIRS
from tests.ledger.shrink import shrink
from tests.ledger.sides import LedgerSide


def main() -> int:
    told = _arguments()
    seed = secrets.randbits(32) if told.seed is None else told.seed
    print(f"seed {seed}", flush=True)
    make_ledger: MakeSide = partial(LedgerSide, extension=told.extension)
    try:
        if told.episode is None:
            _tell(run(seed, told.operations, make_ledger, told.kind))
        else:
            _tell(run_episode(seed, told.episode, told.kind or "everyday", make_ledger))
    except Failure as failure:
        print(failure, file=sys.stderr)
        if told.shrink:
            _tell_least(failure, make_ledger)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.ledger", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--episode", type=int)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--extension", type=Path)
    return parser.parse_args()


def _tell(tally: Tally) -> None:
    print(f"{tally.operation_count} operations in {tally.episode_count} episodes agree")
    for name, word in sorted(PAIRS):
        print(f"{tally.pairs[name, word]:8d}  {name}: {word}")


def _tell_least(failure: Failure, make_ledger: MakeSide) -> None:
    least, difference = shrink(failure.episode.settings, failure.operations, make_ledger)
    print(f"\nthe least of it, on {failure.episode.settings}:", file=sys.stderr)
    for operation in least:
        print(f"  {operation}", file=sys.stderr)
    print(difference, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
