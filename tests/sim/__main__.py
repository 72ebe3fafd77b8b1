"""Seeds from the command line: as many courses as asked for, or as fit into some time, and how fast.

    python -m tests.sim --seeds N --start S      seeds S to S+N-1
    python -m tests.sim --seconds T              fresh seeds, of which the first is printed
    python -m tests.sim --seconds T --processes 2      as many processes side by side; each gets the next few hundred seeds when it is done
    python -m tests.sim --start S --seeds 1 --steps    one course, with its last steps and its digest

The last line counts: seeds, seconds, seeds a minute, failures. Exit status 1 if one fails; it says how to run it again, and what happened last.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from tests.sim.chunk import Chunk, run_chunk
from tests.sim.course import Scale

CHUNK_COUNT = 256


def main() -> int:
    told = _arguments()
    start = secrets.randbits(40) if told.start is None else told.start
    print(f"first seed {start}", flush=True)
    begun_s = time.monotonic()
    run_count = failed_count = 0
    for count, failures in _ran(told, start, begun_s):
        run_count += count
        failed_count += len(failures)
        for failure in failures:
            print(failure, file=sys.stderr, flush=True)
        if failed_count >= told.failures:
            break
    seconds = max(time.monotonic() - begun_s, 1e-9)
    print(f"{run_count} seeds in {seconds:.1f} s ({run_count / seconds * 60:.0f} a minute), {failed_count} failed")
    return 1 if failed_count else 0


def _ran(told: argparse.Namespace, start: int, begun_s: float) -> Iterator[tuple[int, list[str]]]:
    """Of each chunk that was run: how many seeds, and what failed."""
    chunks = _chunks(told, start, begun_s)
    if told.processes <= 1:
        yield from map(run_chunk, chunks)
        return
    with ProcessPoolExecutor(told.processes, mp_context=get_context("spawn")) as pool:
        under_way: set[Future[tuple[int, list[str]]]] = {pool.submit(run_chunk, chunk) for _, chunk in zip(range(told.processes), chunks, strict=False)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                under_way |= {pool.submit(run_chunk, chunk) for chunk in [next(chunks, None)] if chunk}


def _chunks(told: argparse.Namespace, start: int, begun_s: float) -> Iterator[Chunk]:
    until_s = float("inf") if told.seconds is None else begun_s + told.seconds
    end = start + told.seeds if told.seconds is None else 1 << 62
    scale = Scale(told.scale) if told.scale else None
    for first in range(start, end, CHUNK_COUNT):
        if time.monotonic() >= until_s:
            return
        yield Chunk(first, min(CHUNK_COUNT, end - first), scale, told.steps, until_s)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--scale", choices=[scale.value for scale in Scale], help="of all courses, instead of each seed's own")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many")
    parser.add_argument("--steps", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
