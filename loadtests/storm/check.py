"""What the broker itself says about a storm: its counters before and after, held against the storm's sums.

Works on any broker whose /metrics can be read, whatever its data plane (names: broker/web/metric_families.py). Each line must
agree to the unit, as long as nobody else talks to that broker. Calls that were cut with their connection may have been
carried out or not: so many may the broker have more, never fewer.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtests.storm.result import StormResult

SETTLE_S = 5.0
"""For the broker's counters: a reading may be a moment old."""
PAUSE_S = 0.1

Samples = Mapping[str, float]
"""Sample name with its labels, as it stands on the page -> value."""

LINE = re.compile(r"^(usher_\w+(?:\{[^}]*\})?) (\S+)$")
REQUESTS = re.compile(r'^usher_requests_total\{.*method="Sessions/(Open|Renew|Acquire|Close)"')

GRPC_NOT_FOUND = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """One sum, as both sides have it."""

    what: str
    storm: int
    broker: int
    uncertain: int
    """The broker may have as many more."""

    @property
    def agrees(self) -> bool:
        """Whether both say the same."""
        return 0 <= self.broker - self.storm <= self.uncertain


def read_samples(http: str) -> dict[str, float]:
    """All samples of the broker with this HTTP port. OSError."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    found = (LINE.match(line) for line in page.splitlines())
    return {match[1]: float(match[2]) for match in found if match}


def grew(name: str) -> Callable[[Samples, Samples], int]:
    """How much one sample grew."""
    return lambda before, after: round(after.get(name, 0.0) - before.get(name, 0.0))


def requests_grew(before: Samples, after: Samples) -> int:
    """How many calls of the storm's methods were answered, however."""
    return round(sum(value - before.get(name, 0.0) for name, value in after.items() if REQUESTS.match(name)))


SUMS: tuple[tuple[str, Callable[[StormResult], int], Callable[[Samples, Samples], int]], ...] = (
    ("sessions granted", lambda r: r.answers["granted"], grew("usher_sessions_opened_total")),
    ("sessions renewed", lambda r: r.answers["renewed"], grew("usher_renewals_total")),
    ("products acquired", lambda r: r.answers["acquired"], grew("usher_acquisitions_total")),
    ("sessions closed", lambda r: r.answers["closed"], grew('usher_sessions_ended_total{reason="closed"}')),
    ("answers replayed", lambda r: r.answers["replayed"] + r.answers["closed_again"], grew("usher_replays_total")),
    ("requests denied", lambda r: r.answers["denied"], grew("usher_denied_requests_total")),
    ("sessions not found", lambda r: r.statuses.get(GRPC_NOT_FOUND, 0), grew("usher_sessions_not_found_total")),
    ("calls answered", lambda r: r.answered - r.answers["ok"], requests_grew),
)
"""(what, the storm's sum, the broker's sum)"""


def compare(result: StormResult, before: Samples, after: Samples) -> tuple[Comparison, ...]:
    """All sums, side by side."""
    return tuple(
        Comparison(what, of_storm(result), of_broker(before, after), result.cut) for what, of_storm, of_broker in SUMS
    )


class Witness:
    """Reads the broker's counters when made, and again when asked."""

    def __init__(self, http: str) -> None:
        self._http = http
        self._before = read_samples(http)

    def compare(self, result: StormResult) -> tuple[Comparison, ...]:
        """All sums, once they agree or the broker has had its time."""
        end_s = time.monotonic() + SETTLE_S
        while True:
            comparisons = compare(result, self._before, read_samples(self._http))
            if all(one.agrees for one in comparisons) or time.monotonic() > end_s:
                return comparisons
            time.sleep(PAUSE_S)
