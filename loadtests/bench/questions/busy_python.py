"""What a busy Python does to what is durable: strict Open while the GIL is held, while the history is made anew, while it is asked long questions.

As `gil`, with Opens and Closes on the disk before they are answered; an open loop at a quarter of what the same broker does in a closed loop. The windows come in turn
at one broker, and before each the history has caught up:

* held: a thread sleeps in C and keeps the GIL (`gil_holder`); a slow scrape shows it;
* rebuild: the broker makes its history anew when the window begins, and is asked again whenever it has begun; the events that it wrote meanwhile are told;
* query: `usher history sessions` for all time as JSON, over and over, by a process of its own beside broker and client, wherever the
  machine puts it.

What holds the data plane up there is not the GIL, but that others want the processor, too: broker and projection share one here.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from broker.history.rebuild import is_rebuild_requested, request_rebuild
from loadtests.bench.broker import Broker, BrokerPlan, bench_broker
from loadtests.bench.client import login_sample
from loadtests.bench.figures import Bar, Sample, histogram_lines, merged, ratio_spread, result_row, spread
from loadtests.bench.parts import Bench, Finding, Subject, in_turn
from loadtests.bench.processors import file_system
from loadtests.bench.questions.gil import LIMIT, hold, release
from loadtests.bench.questions.strict import durable_pace
from loadtests.bench.servers import ServerFailed
from loadtests.own_broker import ROOT, own_environment

FREE, HELD, REBUILD, QUERY = (f"usher_open_strict_{mood}" for mood in ("free", "gil_held", "rebuild", "query"))
SHARE = 0.25
LOOK_S = 0.02
BEGIN_S = 30.0
EVENTS = "usher_history_events_total"
WORDS = {HELD: "with the GIL held", REBUILD: "while the history is made anew", QUERY: "beside a long history query"}


@dataclasses.dataclass(slots=True)
class Evidence:
    """That what was meant to be busy was."""

    scrapes_s: list[float] = dataclasses.field(default_factory=list)
    projected: list[float] = dataclasses.field(default_factory=list)
    queries: list[float] = dataclasses.field(default_factory=list)


def measure(bench: Bench) -> Finding:
    """A row for each, the ratios of p99 of Open, the histograms."""
    evidence = Evidence()
    with ExitStack() as stack:
        plan = BrokerPlan(
            data_plane=bench.data_plane, module="loadtests.bench.gil_holder", processors=(bench.places.server,), durability="strict"
        )
        broker = stack.enter_context(bench_broker(bench.directory / "busy", plan))
        rate = login_sample(broker, durable_pace(bench.pace)).requests_per_s * SHARE
        subjects = subjects_of(bench, broker, rate, evidence)
        samples = in_turn(subjects, bench.pace.rounds, bench.say)
    finding = Finding(f"Strict Open beside a busy Python, {rate:,.0f} operations/s; log on {file_system(bench.directory)}")
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    for name, words in WORDS.items():
        ratio = ratio_spread(samples[name], samples[FREE], lambda one: one.percentile_us(0.99))
        finding.bars.append(Bar(f"Strict Open, p99 {words} ÷ without", ratio, LIMIT))
    finding.sentences = sentences(evidence)
    finding.lines = histogram_lines({name: merged(one.buckets for one in samples[name]) for name in (FREE, HELD)})
    return finding


def sentences(evidence: Evidence) -> list[str]:
    """That it was as meant."""
    return [
        f"A scrape of /metrics took {spread(evidence.scrapes_s).median:.2f} s while the GIL was held (median).",
        f"Events projected during a window of rebuilding (median): {spread(evidence.projected).median:,.0f}.",
        f"Queries begun during a window (median): {spread(evidence.queries).median:.0f}.",
    ]


def subjects_of(bench: Bench, broker: Broker, rate: float, evidence: Evidence) -> dict[str, Subject]:
    """The four windows."""
    pace = dataclasses.replace(bench.pace, seconds=max(1.5 if bench.is_short else 3.0, bench.pace.seconds))
    data_dir = bench.directory / "busy" / "data"

    def free() -> Sample:
        broker.settle()
        return window()

    def window() -> Sample:
        return login_sample(broker, pace, step="open", rate_per_s=rate)

    def held() -> Sample:
        broker.settle()
        evidence.scrapes_s.append(hold(broker))
        try:
            return window()
        finally:
            release(broker)

    def rebuilding() -> Sample:
        broker.settle()
        before = broker.counters()[EVENTS]
        begin_rebuild(data_dir)
        with repeated(lambda: ask_for_rebuild(data_dir)):
            sample = window()
        evidence.projected.append(broker.counters()[EVENTS] - before)
        return sample

    def querying() -> Sample:
        broker.settle()
        begun = 0

        def once() -> None:
            nonlocal begun
            begun += 1
            query(data_dir)

        with repeated(once):
            sample = window()
        evidence.queries.append(begun)
        return sample

    return {FREE: free, HELD: held, REBUILD: rebuilding, QUERY: querying}


def ask_for_rebuild(data_dir: Path) -> None:
    """Asks if the last one has begun."""
    database = data_dir / "history" / "history.db"
    if not is_rebuild_requested(database):
        request_rebuild(database)


def begin_rebuild(data_dir: Path) -> None:
    """Returns once the broker is at it. Raises ServerFailed."""
    ask_for_rebuild(data_dir)
    end_s = time.monotonic() + BEGIN_S
    while is_rebuild_requested(data_dir / "history" / "history.db"):
        if time.monotonic() > end_s:
            raise ServerFailed("the broker does not make its history anew")
        time.sleep(LOOK_S)


def query(data_dir: Path) -> None:
    """All sessions that there ever were. Raises ServerFailed."""
    words = ["history", "sessions", "--data-dir", str(data_dir), "--since", "400d", "--json"]
    command = [sys.executable, "-m", "broker.cli.main", *words]
    answer = subprocess.run(command, cwd=ROOT, env=own_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if answer.returncode:
        raise ServerFailed(f"usher history sessions: {answer.stderr.decode(errors='replace')}")


@contextmanager
def repeated(act: Callable[[], None]) -> Iterator[None]:
    """Does it over and over in a thread while the block runs. What it raises, the block's end raises."""
    is_over = threading.Event()
    failures: list[BaseException] = []

    def go_on() -> None:
        try:
            while not is_over.is_set():
                act()
                is_over.wait(LOOK_S)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=go_on, name="busy")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if failures:
        raise failures[0]
