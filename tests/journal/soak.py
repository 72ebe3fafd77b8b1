"""Courses of fresh seeds for a while: the log alone and a ledger over it, crash after crash, as `make soak` runs them.

    python -m tests.journal.soak [--seconds S] [--seed N]

A course that fails ends it and names its seed: `run_course(N)` of tests/journal/test_ledger_lives.py, or `Course(N)` of tests/journal/test_crashes.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback

from tests.journal.test_crashes import Course
from tests.journal.test_ledger_lives import run_course

LOGS_PER_LEDGER = 20
"""A course of the log alone takes a fraction of one with a ledger."""


def run(seconds: float, seed: int) -> int:
    """The exit status."""
    end = time.monotonic() + seconds
    first = seed
    while time.monotonic() < end:
        try:
            if seed % LOGS_PER_LEDGER:
                Course(seed).run()
            else:
                run_course(seed)
        except Exception:
            traceback.print_exc()
            print(f"seed {seed} of {'Course' if seed % LOGS_PER_LEDGER else 'run_course'} fails")
            return 1
        seed += 1
    print(f"{seed - first} courses from seed {first} on: nothing acknowledged was lost")
    return 0


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    logging.disable(logging.CRITICAL)
    sys.exit(run(chosen.seconds, chosen.seed))


if __name__ == "__main__":
    main()
