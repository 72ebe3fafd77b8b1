"""Seeds in a row, run one after the other in whatever process: what `python -m tests.sim` gives each of its processes."""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass

from tests.sim.course import Scale, course_of
from tests.sim.world import Failure, World, replay_of


@dataclass(frozen=True, slots=True)
class Chunk:
    """Seeds in a row, run in one process. Given up when it is `until_s` on the machine's monotonic clock."""

    first: int
    count: int
    scale: Scale | None
    has_steps: bool
    until_s: float


def run_chunk(chunk: Chunk) -> tuple[int, list[str]]:
    """How many were run, and the failures' words."""
    logging.disable(logging.CRITICAL)
    failures: list[str] = []
    for seed in range(chunk.first, chunk.first + chunk.count):
        if time.monotonic() >= chunk.until_s:
            return seed - chunk.first, failures
        world = World(course_of(seed, chunk.scale), is_digested=chunk.has_steps)
        try:
            digest = world.run()
            if chunk.has_steps:
                print(*world.trail.lines(), f"{world.trail.step_count} steps, digest {digest:08x}", sep="\n", flush=True)
        except Failure as failure:
            failures.append(str(failure))
        except Exception:
            failures.append(f"{traceback.format_exc()}seed {seed}\nreplay: {replay_of(world.course)}")
    return chunk.count, failures
