"""How long a strict Open waits: its p99 at half of saturation, beside what the disk takes for a sync.

In each round the disk is asked first, while nobody else writes: a block of 16 KiB behind the last one, into a file whose room is made, and
`fdatasync`, two hundred times. Then each broker: a closed loop with 128 in flight says what saturation is, and an open loop at half of that is measured,
Opens and Closes in turn; told are the latencies of the Opens, from the time at which each was due. One broker has the disk as it is, for the other 4 ms are
added to each sync. An Open that comes right after a sync has begun waits for the rest of it and for its own: hence twice the sync.

The bar is asked with the median of the probe, which is the harder question, and with its p99. History is waited for between the windows.
"""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import ExitStack
from pathlib import Path

from loadtests.bench.broker import Broker, BrokerPlan, bench_broker
from loadtests.bench.client import login_sample
from loadtests.bench.figures import Bar, Sample, Spread, result_row, spread
from loadtests.bench.parts import Bench, Finding
from loadtests.bench.processors import file_system
from loadtests.bench.questions.strict import durable_pace

DELAY_NS = 4_000_000
PROBES, PROBES_SHORT = 200, 20
BLOCK_SIZE = 16 * 1024
BESIDE_US = 2_000.0
HALF = 0.5


@dataclasses.dataclass(slots=True)
class Disk:
    """What a broker stands on, and what was measured of it, round by round."""

    broker: Broker
    delay_us: float
    full: list[Sample] = dataclasses.field(default_factory=list)
    half: list[Sample] = dataclasses.field(default_factory=list)


def measure(bench: Bench) -> Finding:
    """Two rows a broker, two bars a broker."""
    medians: list[float] = []
    slowest: list[float] = []
    with ExitStack() as stack:
        disks = {name: started(bench, stack, name, delay_ns) for name, delay_ns in (("", 0), ("_slow", DELAY_NS))}
        for number in range(bench.pace.rounds):
            bench.say(f"round {number + 1} of {bench.pace.rounds}")
            median_us, slow_us = probe_us(bench.directory, PROBES_SHORT if bench.is_short else PROBES)
            medians.append(median_us)
            slowest.append(slow_us)
            for disk in disks.values():
                measure_once(bench, disk)
    return finding_of(bench, disks, medians, slowest)


def started(bench: Bench, stack: ExitStack, name: str, delay_ns: int) -> Disk:
    """A broker on a disk that is so much slower."""
    plan = BrokerPlan(name=f"usher_open{name}", data_plane=bench.data_plane, processors=(bench.places.server,), durability="strict")
    if delay_ns:
        plan = dataclasses.replace(plan, module="loadtests.bench.slow_disk", module_words=(str(delay_ns),))
    return Disk(stack.enter_context(bench_broker(bench.directory / plan.name, plan)), delay_ns / 1e3)


def measure_once(bench: Bench, disk: Disk) -> None:
    """Saturation, and half of it."""
    disk.broker.settle()
    disk.full.append(login_sample(disk.broker, durable_pace(bench.pace)))
    disk.broker.settle()
    rate = disk.full[-1].requests_per_s * HALF
    disk.half.append(login_sample(disk.broker, bench.pace, step="open", rate_per_s=rate))
    disk.broker.settle()


def probe_us(directory: Path, count: int) -> tuple[float, float]:
    """(median, p99) of a sync of one more block, in microseconds."""
    path = directory / "probe"
    block = os.urandom(BLOCK_SIZE)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, BLOCK_SIZE * count)
        os.fsync(descriptor)
        taken = sorted(sync_us(descriptor, block, BLOCK_SIZE * number) for number in range(count))
    finally:
        os.close(descriptor)
        path.unlink()
    return taken[count // 2], taken[min(count - 1, count * 99 // 100)]


def sync_us(descriptor: int, block: bytes, offset: int) -> float:
    """One write and sync."""
    before = time.perf_counter_ns()
    os.pwrite(descriptor, block, offset)
    os.fdatasync(descriptor)
    return (time.perf_counter_ns() - before) / 1e3


def finding_of(bench: Bench, disks: dict[str, Disk], medians: list[float], slowest: list[float]) -> Finding:
    """Rows, bars, what the disk takes."""
    finding = Finding(f"Strict Open at half of saturation, open loop; log on {file_system(bench.directory)}")
    for name, disk in disks.items():
        finding.rows += [result_row(f"usher_open_close{name}_saturated", disk.full), result_row(f"usher_open{name}_at_half", disk.half)]
        added = f" with {disk.delay_us / 1e3:g} ms added" if disk.delay_us else ""
        for what, probed in (("median", medians), ("p99", slowest)):
            bar = f"Strict Open{added}, p99 at half of saturation ÷ (2 × {what} sync + 2 ms)"
            finding.bars.append(Bar(bar, allowed_share(disk, probed), 1.0))
    finding.sentences.append(f"A sync of {BLOCK_SIZE // 1024} KiB by itself: median {spread(medians).text()} µs, p99 {spread(slowest).text()} µs.")
    return finding


def allowed_share(disk: Disk, probed_us: list[float]) -> Spread:
    """p99 over what it may be, each of one round."""
    pairs = zip(disk.half, probed_us, strict=True)
    return spread([one.percentile_us(0.99) / (2 * (sync + disk.delay_us) + BESIDE_US) for one, sync in pairs])
