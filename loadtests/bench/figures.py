"""The arithmetic of the bench: one measured window, the spread of several, ratios, and bars.

Whatever is compared is measured in turn, round by round, so that the machine's moods hit both; a ratio is made of the two
windows of one round, and what is told is the median of these ratios with their quartiles. Pure: no clock, no process.

Latencies are histograms with fixed bounds, so those of several windows can be added. A percentile is the upper bound of the
bucket that it falls into: a little too high, never too low.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Buckets = tuple[tuple[float, int], ...]
"""(upper bound in microseconds, count), rising; empty buckets are left out."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured window of one server: what was answered in it, and the processor time that all threads of server and client took."""

    requests: int
    elapsed_s: float
    server_cpu_s: float
    client_cpu_s: float
    buckets: Buckets

    @property
    def requests_per_s(self) -> float:
        """Answered requests a second."""
        return self.requests / self.elapsed_s

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's processor time for each request."""
        return self.server_cpu_s / self.requests * 1e6

    @property
    def server_share(self) -> float:
        """Of one processor, by the server: near 1 when the server is the limit."""
        return self.server_cpu_s / self.elapsed_s

    @property
    def client_share(self) -> float:
        """Of one processor, by the client: near 1 the rate says more about the client."""
        return self.client_cpu_s / self.elapsed_s

    def percentile_us(self, part: float) -> float:
        """The latency that this part of the requests kept within."""
        return percentile_us(self.buckets, part)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median between its quartiles."""

    low: float
    median: float
    high: float

    def rounded(self, digits: int) -> list[float]:
        """The quartiles, as they are written into files."""
        return [round(self.low, digits), round(self.high, digits)]

    def text(self) -> str:
        """The median and, in brackets, the quartiles; two places, more for what would be nothing with them."""
        form = ".2f" if self.median >= 0.1 else ".2g"
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def ratio_spread(above: Sequence[Sample], below: Sequence[Sample], figure: Callable[[Sample], float]) -> Spread:
    """Of above / below, each from one round; both must have been measured in the same rounds."""
    return spread([figure(one) / figure(other) for one, other in zip(above, below, strict=True)])


def merged(several: Iterable[Buckets]) -> Buckets:
    """One histogram of several with the same bounds."""
    counts: Counter[float] = Counter()
    for buckets in several:
        counts.update(dict(buckets))
    return tuple(sorted(counts.items()))


def percentile_us(buckets: Buckets, part: float) -> float:
    """The bound that this part (0 to 1) of what was counted kept within; NaN for nothing."""
    wanted = math.ceil(part * sum(count for _, count in buckets))
    seen = 0
    for upper_us, count in buckets:
        seen += count
        if seen >= max(wanted, 1):
            return upper_us
    return math.nan


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure should be, and what it is. Only the median counts; nothing ends with a status because of one."""

    what: str
    measured: Spread
    limit: float
    is_floor: bool = False
    """At least the limit; otherwise at most."""

    @property
    def is_met(self) -> bool:
        """Whether the median is on the right side."""
        return self.measured.median >= self.limit if self.is_floor else self.measured.median <= self.limit

    @property
    def limit_text(self) -> str:
        """The bar in words."""
        return f"{'≥' if self.is_floor else '≤'} {self.limit:g}"

    def as_json(self) -> dict[str, object]:
        """For the file."""
        return {
            "what": self.what,
            "median": round(self.measured.median, 4),
            "quartiles": self.measured.rounded(4),
            "bar": self.limit_text,
            "is_met": self.is_met,
        }


def result_row(name: str, samples: Sequence[Sample]) -> dict[str, object]:
    """A server's row of the file: medians over its rounds, and quartiles beside them."""
    rates = spread([one.requests_per_s for one in samples])
    costs = spread([one.cpu_us for one in samples])
    return {
        "name": name,
        "requests_per_s": round(rates.median),
        "cpu_us": round(costs.median, 3),
        "p50_us": round(spread([one.percentile_us(0.5) for one in samples]).median, 1),
        "p99_us": round(spread([one.percentile_us(0.99) for one in samples]).median, 1),
        "requests_per_s_quartiles": rates.rounded(0),
        "cpu_us_quartiles": costs.rounded(3),
        "server_share": round(spread([one.server_share for one in samples]).median, 3),
        "client_share": round(spread([one.client_share for one in samples]).median, 3),
        "rounds": len(samples),
    }


def histogram_lines(histograms: Mapping[str, Buckets], *, width: int = 30) -> list[str]:
    """Several histograms side by side, one line for each doubling of the latency, bars on a scale of their own each."""
    octaves = {name: octave_counts(buckets) for name, buckets in histograms.items()}
    seen = [octave for counts in octaves.values() for octave in counts]
    lines = [" " * 14 + "".join(f"{name:<{width + 12}}" for name in histograms)]
    for octave in range(min(seen, default=0), max(seen, default=-1) + 1):
        line = f"≤ {2**octave:>9,} µs"
        for counts in octaves.values():
            count = counts.get(octave, 0)
            marks = "█" * math.ceil(width * count / max(counts.values()))
            line += f"  {count:>9,} {marks:<{width}}"
        lines.append(line.rstrip())
    return lines


def octave_counts(buckets: Buckets) -> dict[int, int]:
    """Counts by the power of two of microseconds that bounds them."""
    counts: Counter[int] = Counter()
    for upper_us, count in buckets:
        counts[max(0, math.ceil(math.log2(upper_us)))] += count
    return dict(counts)
