"""Processors and processes: who runs where, and what a process has taken of time and memory.

Processor time is that of the whole process, all threads, those that have ended too, in nanoseconds: the kernel's clock of
another process, whose number is made of its id as in clock_getcpuclockid(3). Linux only.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROCESS_CLOCK_SCHED = 2
"""CPUCLOCK_SCHED of the kernel: time on a processor by the scheduler's count, not by ticks."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where server and client run. With one processor to share, nothing is pinned and figures mean little."""

    server: int | None
    client: int | None

    @property
    def text(self) -> str:
        """For the report."""
        if self.server is None:
            return "one processor for server and client together: compare nothing but CPU time"
        return f"servers on processor {self.server}, the client on {self.client}"


def places() -> Places:
    """The first processor that we may use for the client, as interrupts come there too, the last for servers."""
    allowed = sorted(os.sched_getaffinity(0))
    return Places(allowed[-1], allowed[0]) if len(allowed) > 1 else Places(None, None)


@contextmanager
def running_on(*processors: int | None) -> Iterator[None]:
    """The calling thread, and the processes that it starts meanwhile, on these processors; None: wherever."""
    before = os.sched_getaffinity(0)
    chosen = {number for number in processors if number is not None}
    if chosen:
        os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_cpu_ns(pid: int) -> int:
    """Processor time of a process up to now. OSError when it is gone."""
    return time.clock_gettime_ns((~pid << 3) | PROCESS_CLOCK_SCHED)


def anonymous_size(pid: int | str = "self") -> int:
    """Bytes of anonymous memory that a process really has."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no line 'Anonymous:'")


def file_system(path: Path) -> str:
    """Kind and device of the file system that a path lies on."""
    found = ("", "unknown", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, place, kind, *_ = line.split()
        if path.resolve().is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind, device)
    return f"{found[1]} ({found[2]})" if found[2] else found[1]


QUIET_SHARE = 0.05
"""Of all processors; what is busy beyond it before we begin is somebody else at work."""
LOOK_S = 1.0


def busy_share(look_s: float = LOOK_S) -> float:
    """The part of all processors that is busy now."""
    before = processor_ticks()
    time.sleep(look_s)
    busy, total = (after - old for old, after in zip(before, processor_ticks(), strict=True))
    return busy / total if total else 0.0


def processor_ticks() -> tuple[int, int]:
    """(busy, all) of all processors since the machine started; waiting for a disk is not busy."""
    user, nice, system, idle, waiting, *rest = (int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + waiting


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cpu_count": os.cpu_count(),
        "processor": names[0] if names else "unknown",
        "python": platform.python_version(),
        "places": places().text,
        "busy_before": round(busy_share(), 3),
    }
