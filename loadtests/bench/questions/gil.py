"""What a busy Python does to the data plane: Renew while a thread of the broker's process holds the GIL, a second at a time.

An open loop at a rate that the broker bears easily; latencies are counted from the time at which a request was due, so a stall
hides nothing. Windows with and without the GIL held come in turn, at one and the same broker. That it is held is shown by a scrape of
/metrics, which needs it.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack

from loadtests.bench.broker import GRPCIO, Broker, BrokerPlan, bench_broker
from loadtests.bench.client import renew_sample
from loadtests.bench.figures import Bar, Sample, histogram_lines, merged, ratio_spread, result_row, spread
from loadtests.bench.parts import Bench, Finding, in_turn
from loadtests.bench.servers import ServerFailed

RATE_PER_S = 40_000
RATE_GRPCIO_PER_S = 200
FREE, HELD = "usher_renew_gil_free", "usher_renew_gil_held"
SCRAPE_HELD_S = 0.3
"""A scrape that takes less while the GIL is held for seconds was lucky: it is tried again."""
SCRAPES_MAX = 200
LIMIT = 1.2


def measure(bench: Bench) -> Finding:
    """Both histograms, and the ratio of p99."""
    pace = dataclasses.replace(bench.pace, seconds=max(1.5 if bench.is_short else 3.0, bench.pace.seconds))
    rate = RATE_GRPCIO_PER_S if bench.data_plane == GRPCIO else RATE_PER_S
    plan = BrokerPlan(data_plane=bench.data_plane, module="loadtests.bench.gil_holder", processors=(bench.places.server,))
    scrapes_s: list[float] = []
    with ExitStack() as stack:
        broker = stack.enter_context(bench_broker(bench.directory / "gil", plan))

        def free() -> Sample:
            return renew_sample(broker.server, pace, sessions=bench.session_count, rate_per_s=rate)

        def held() -> Sample:
            scrapes_s.append(hold(broker))
            try:
                return renew_sample(broker.server, pace, sessions=bench.session_count, rate_per_s=rate)
            finally:
                release(broker)

        samples = in_turn({FREE: free, HELD: held}, bench.pace.rounds, bench.say)
    return finding_of(samples, rate, scrapes_s)


def scrape_s(broker: Broker) -> float:
    """Seconds that a scrape takes now."""
    before = time.monotonic()
    broker.counters()
    return time.monotonic() - before


def is_free(broker: Broker) -> bool:
    """Whether Python answers at once, as far as one look can say."""
    return scrape_s(broker) < SCRAPE_HELD_S


def hold(broker: Broker) -> float:
    """Makes the GIL be held; the seconds that a scrape then takes. Raises ServerFailed when none is slow."""
    broker.signal()
    for _ in range(SCRAPES_MAX):
        taken_s = scrape_s(broker)
        if taken_s >= SCRAPE_HELD_S:
            return taken_s
    raise ServerFailed("the GIL was not held: Python answered at once")


def release(broker: Broker) -> None:
    """Lets the GIL go, and waits until it is. Raises ServerFailed when it stays held."""
    broker.signal()
    if not any(is_free(broker) for _ in range(SCRAPES_MAX)):
        raise ServerFailed("the GIL is still held")


def finding_of(samples: dict[str, list[Sample]], rate: int, scrapes_s: list[float]) -> Finding:
    """Rows, the bar, both histograms."""
    finding = Finding(f"The GIL held for a second at a time, Renew at {rate:,}/s")
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    ratio = ratio_spread(samples[HELD], samples[FREE], lambda one: one.percentile_us(0.99))
    finding.bars = [Bar("Renew, p99 with the GIL held ÷ without", ratio, LIMIT)]
    finding.sentences.append(
        f"A scrape of /metrics took {spread(scrapes_s).median:.2f} s while the GIL was held (median): it was held indeed."
    )
    finding.lines = histogram_lines({name: merged(one.buckets for one in several) for name, several in samples.items()})
    return finding
