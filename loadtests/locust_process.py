"""One locust run as a process, and what its statistics say, in our words.

locust runs headless and ends by itself; one that does not is ended some time after. Reports lie in a folder: NAME.html by
locust, NAME.json with its statistics, NAME.log with its words. Rows are typed by `loadtests.broker_user`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.own_broker import ROOT
from loadtests.scenarios import Scenario

STOP_S = 15
"""How long users may take to finish what they are at."""

OVERTIME_S = 60
"""For starting, stopping and writing the report; then the process is ended."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of answer to one kind of call."""

    kind: str
    name: str
    count: int
    failure_count: int
    response_times: Counter[int]
    """Milliseconds, rounded as locust does it -> how often."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    scenario: Scenario
    rows: tuple[Row, ...]
    status: int
    elapsed_s: float
    cpu_share: float
    """Of one core, by locust itself. Near 1, its numbers are about locust."""

    @property
    def request_count(self) -> int:
        """Calls made; notices are no calls."""
        return sum(row.count for row in self.rows if row.kind != "notice")

    @property
    def failure_count(self) -> int:
        """Calls that failed. A denial is none."""
        return sum(row.failure_count for row in self.rows)

    @property
    def requests_per_s(self) -> float:
        """Over the time asked for."""
        return self.request_count / self.elapsed_s if self.elapsed_s else 0.0

    def count_of(self, kind: str, prefix: str = "", without: str = "\0") -> int:
        """Good answers of a kind, to calls whose name begins so and does not contain `without`."""
        rows = (row for row in self.rows if row.kind == kind and row.name.startswith(prefix) and without not in row.name)
        return sum(row.count - row.failure_count for row in rows)

    def percentile_ms(self, part: float) -> float:
        """Of all calls together."""
        return percentile(sum((row.response_times for row in self.rows if row.kind != "notice"), Counter()), part)


def percentile(times: Counter[int], part: float) -> float:
    """The time within which this part of the calls was answered."""
    left = part * sum(times.values())
    for time_ms in sorted(times):
        left -= times[time_ms]
        if left <= 0:
            return float(time_ms)
    return 0.0


def run_locust(scenario: Scenario, target: str, folder: Path, *, user_count: int, seconds: int) -> Run:
    """Runs a scenario to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"{scenario.name}.json"
    report.unlink(missing_ok=True)
    command = locust_command(scenario, target, folder, user_count, seconds)
    cpu_before_s, begin_s = children_cpu_s(), time.monotonic()
    with (folder / f"{scenario.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=locust_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            status = process.wait(seconds + STOP_S + OVERTIME_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wall_s = time.monotonic() - begin_s
    rows = tuple(read_rows(json.loads(report.read_text(encoding="utf-8")))) if report.exists() else ()
    return Run(scenario, rows, status, float(seconds), (children_cpu_s() - cpu_before_s) / wall_s)


def locust_command(scenario: Scenario, target: str, folder: Path, user_count: int, seconds: int) -> list[str]:
    """The command line."""
    locustfile = ROOT / "loadtests" / "locustfiles" / f"{scenario.name}.py"
    words = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--loglevel", "WARNING"]
    words += ["-f", str(locustfile), "--host", target, "-u", str(user_count), "-r", str(scenario.spawn_per_s)]
    words += ["-t", f"{seconds}s", "--stop-timeout", str(STOP_S), "--exit-code-on-error", "1"]
    return [*words, "--html", str(folder / f"{scenario.name}.html"), "--json-file", str(folder / scenario.name)]


def locust_environment() -> dict[str, str]:
    """Ours, with this checkout importable."""
    return dict(os.environ) | {"PYTHONPATH": str(ROOT)}


def read_rows(entries: Iterable[dict[str, Any]]) -> Iterable[Row]:
    """locust's JSON as rows."""
    for one in entries:
        times = Counter({round(float(time_ms)): count for time_ms, count in one["response_times"].items()})
        yield Row(one["method"] or "", one["name"], one["num_requests"], one["num_failures"], times)


def children_cpu_s() -> float:
    """CPU of all child processes that have ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
