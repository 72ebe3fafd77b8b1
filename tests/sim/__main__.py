"""Seeds from the command line: as many courses as asked for, or as fit into some time, and how fast.

    python -m tests.sim --seeds N --start S      seeds S to S+N-1
    python -m tests.sim --seconds T              fresh seeds, of which the first is printed
    python -m tests.sim --start S --seeds 1 --steps    one course, with its last steps and its digest

Exit status 1 if one fails; it says how to run it again, and what happened last.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time

from tests.sim.course import course_of
from tests.sim.world import Failure, World


def main() -> int:
    told = _arguments()
    logging.disable(logging.CRITICAL)
    start = secrets.randbits(40) if told.start is None else told.start
    print(f"first seed {start}", flush=True)
    begun_s, seed, failures = time.monotonic(), start, 0
    while seed - start < told.seeds if told.seconds is None else time.monotonic() - begun_s < told.seconds:
        failures += not _passes(seed, has_steps=told.steps)
        seed += 1
        if failures >= told.failures:
            break
    seconds = max(time.monotonic() - begun_s, 1e-9)
    print(f"{seed - start} seeds in {seconds:.1f} s ({(seed - start) / seconds * 60:.0f} a minute), {failures} failed")
    return 1 if failures else 0


def _passes(seed: int, *, has_steps: bool) -> bool:
    world = World(course_of(seed))
    try:
        digest = world.run()
    except Failure as failure:
        print(failure, file=sys.stderr, flush=True)
        return False
    except Exception:
        print(f"seed {seed}\nreplay: python -m tests.sim --start {seed} --seeds 1", file=sys.stderr, flush=True)
        raise
    if has_steps:
        print(*world.trail.lines(), f"{world.trail.step_count} steps, digest {digest:08x}", sep="\n")
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--failures", type=int, default=1, help="stop after so many")
    parser.add_argument("--steps", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
