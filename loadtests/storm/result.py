"""What came of a storm: counts, latencies, errors with an example each. Plain values that can be kept as JSON.

Two kinds of numbers: `requests`, rates, latencies and CPU are of the measured window; `sent`, `answered`, `answers`,
`statuses` and `errors` are of the whole storm, set-up, warm-up and clean-up included, so that a server's own counters can be
held against them. Every request that was sent is in exactly one of: answered, retried_unprocessed, cut, unanswered_at_end.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Bucket = tuple[float, int]
"""(its largest value in µs, how many). Bounds are fixed, so buckets of several storms can be merged by them."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies in microseconds: percentiles to within 1 %, the largest exact."""

    count: int = 0
    mean_us: float = 0.0
    max_us: float = 0.0
    buckets: tuple[Bucket, ...] = ()
    """Those that are not empty, rising."""

    def percentile(self, percent: float) -> float:
        """The value that this part of all is not above; 0 if there is none."""
        return percentile_of(self.buckets, percent, self.max_us)

    def count_above(self, limit_us: float) -> int:
        """How many took longer, by the bounds of the buckets."""
        return sum(count for upper_us, count in self.buckets if upper_us > limit_us)

    @property
    def p50_us(self) -> float:
        """The median."""
        return self.percentile(50)

    @property
    def p90_us(self) -> float:
        """Nine of ten."""
        return self.percentile(90)

    @property
    def p99_us(self) -> float:
        """All but one of a hundred."""
        return self.percentile(99)

    @property
    def p999_us(self) -> float:
        """All but one of a thousand."""
        return self.percentile(99.9)


def percentile_of(buckets: Sequence[Bucket], percent: float, max_us: float) -> float:
    """The end of the bucket that the rank falls into, never above the largest value."""
    wanted = sum(count for _, count in buckets) * percent / 100
    seen = 0
    for upper_us, count in buckets:
        seen += count
        if seen >= wanted:
            return min(upper_us, max_us)
    return max_us


def latency_of(histogram: Sequence[Any]) -> Latency:
    """A histogram of the engine, in nanoseconds, as microseconds."""
    count, sum_ns, largest_ns, buckets = histogram
    rising = tuple((upper_ns / 1e3, number) for upper_ns, number in buckets)
    return Latency(count, sum_ns / count / 1e3 if count else 0.0, largest_ns / 1e3, rising)


def merged(latencies: Iterable[Latency]) -> Latency:
    """All of them as one."""
    present = [one for one in latencies if one.count]
    sums: dict[float, int] = {}
    for upper_us, number in (bucket for one in present for bucket in one.buckets):
        sums[upper_us] = sums.get(upper_us, 0) + number
    count = sum(one.count for one in present)
    total_us = sum(one.mean_us * one.count for one in present)
    max_us = max((one.max_us for one in present), default=0.0)
    return Latency(count, total_us / count if count else 0.0, max_us, tuple(sorted(sums.items())))


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of error: how often, and the first in words."""

    kind: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class StormResult:
    """What came of one storm. `is_good` when nothing was wrong, as far as the client can see; check.py asks the broker."""

    cycle: str
    requests: int
    """Answered in the measured window."""
    requests_per_s: float
    elapsed_s: float
    """Of the measured window."""
    client_cpu_s: float
    watched_cpu_s: float | None
    """CPU of the watched process in the window."""
    latency: Latency
    latencies: Mapping[str, Latency]
    """By call: open, reopen, renew, acquire, close, noop."""
    sent: int
    answered: int
    retried_unprocessed: int
    """Sent again: the server had not processed them."""
    cut: int
    """Lost with their connection, and sent again with the same request id."""
    unanswered_at_end: int
    statuses: Mapping[int, int]
    """By gRPC code."""
    answers: Mapping[str, int]
    """By kind: granted, replayed, denied, ended, renewed, acquired, closed, closed_again, ok, failed."""
    reasons: Mapping[str, int]
    """Of google.rpc.ErrorInfo."""
    faults: tuple[Fault, ...]
    connects: int
    connect_failures: int
    connections_at_end: int
    goaways: int
    streams_limit: int | None
    """The fewest concurrent calls that the server allowed on a connection, where that is fewer than were wanted."""
    arrivals: int
    """Of an open loop: calls that were meant to be sent."""
    backlog_peak: int
    unsent_at_end: int
    is_server_gone: bool
    sessions_opened_first: int
    notes: tuple[str, ...] = field(default=())

    @property
    def errors(self) -> int:
        """Everything that was not as it should be."""
        return sum(fault.count for fault in self.faults)

    @property
    def is_good(self) -> bool:
        """No error, and something was measured."""
        return self.errors == 0 and (self.requests > 0 or self.cycle == "idle")

    @property
    def opened(self) -> int:
        """Sessions granted, not counting repetitions."""
        return self.answers.get("granted", 0)

    @property
    def closed(self) -> int:
        """Sessions closed, not counting repetitions."""
        return self.answers.get("closed", 0)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Of all measured calls."""
        return self.latency.buckets

    @property
    def p50_us(self) -> float:
        """The median of all measured calls."""
        return self.latency.p50_us

    @property
    def p90_us(self) -> float:
        """Nine of ten."""
        return self.latency.p90_us

    @property
    def p99_us(self) -> float:
        """All but one of a hundred."""
        return self.latency.p99_us

    @property
    def p999_us(self) -> float:
        """All but one of a thousand."""
        return self.latency.p999_us

    @property
    def max_us(self) -> float:
        """The largest, exactly."""
        return self.latency.max_us

    @property
    def error_examples(self) -> tuple[str, ...]:
        """One line for each kind of error."""
        return tuple(f"{fault.kind} ({fault.count}): {fault.example}" for fault in self.faults)

    def to_json(self) -> str:
        """All fields, and what is computed from them."""
        computed = ("errors", "is_good", "opened", "closed", "p50_us", "p90_us", "p99_us", "p999_us", "max_us")
        return json.dumps(dataclasses.asdict(self) | {name: getattr(self, name) for name in computed})
