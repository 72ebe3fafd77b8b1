"""Many rounds of kill -9 on one machine: `python -m tests.crash --rounds 1000 --seed 7`.

Ends after the rounds, or after the seconds if those are given and come first. Status 1: a promise was broken, and what was is said with the seed.
A fresh data directory every so many rounds, so that a start stays short; each ends with everybody's silence.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.report import Report
from tests.crash.rounds import Campaign

ROUNDS_OF_A_DIRECTORY = 50


def run(rounds: int, seconds: float, seed: int) -> Report:
    """Campaign after campaign; stops at the first one with faults."""
    report, begin_s = Report(seed), time.monotonic()
    for number in range(0, rounds, ROUNDS_OF_A_DIRECTORY):
        if report.faults or time.monotonic() - begin_s > seconds:
            break
        with tempfile.TemporaryDirectory(prefix="usher-crash-") as directory:
            data_plane = "grpcio" if number // ROUNDS_OF_A_DIRECTORY % 5 == 4 else "native"
            campaign = Campaign(Path(directory), seed=seed + number, data_plane=data_plane)
            for _ in range(min(ROUNDS_OF_A_DIRECTORY, rounds - number)):
                campaign.round()
                if campaign.auditor.faults or time.monotonic() - begin_s > seconds:
                    break
            if not campaign.auditor.faults:
                campaign.silence()
            report.add(campaign)
            print(report.line(), flush=True)
    return report


def main() -> int:
    """Does what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=None)
    told = parser.parse_args()
    report = run(told.rounds, told.seconds, secrets.randbits(31) if told.seed is None else told.seed)
    print(report.text())
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
