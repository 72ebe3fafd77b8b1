"""The ledger against the plain model for as long as one likes: `python -m tests.fuzz.lockstep --seconds 60`.

Runs of tests/ledger one after the other, each with a seed of its own drawn from the one given. A difference is printed as
`python -m tests.ledger` prints it, with the seed that runs it again. Exit status 1: there was one.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time

from tests.ledger.lockstep import Failure, run
from tests.ledger.sides import LedgerSide

OPERATIONS_OF_RUN = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.lockstep")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--operations", type=int, default=OPERATIONS_OF_RUN, help="of each run")
    told = parser.parse_args()
    first = secrets.randbits(32) if told.seed is None else told.seed
    chance = random.Random(first)
    print(f"seed {first}", flush=True)
    end = time.monotonic() + told.seconds
    operation_count = run_count = 0
    while run_count == 0 or time.monotonic() < end:
        seed = chance.getrandbits(32)
        try:
            operation_count += run(seed, told.operations, LedgerSide).operation_count
        except Failure as failure:
            print(f"python -m tests.ledger --seed {seed} --operations {told.operations}\n{failure}")
            return 1
        run_count += 1
    print(f"{operation_count} operations in {run_count} runs agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
