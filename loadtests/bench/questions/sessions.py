"""Whether many sessions make a Renew dear: CPU per RPC at a million live sessions over that at a thousand.

Two brokers, measured in turn; each Renew goes to a uniformly random session.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from loadtests.bench.broker import BrokerPlan, bench_broker
from loadtests.bench.client import renew_sample
from loadtests.bench.figures import Bar, ratio_spread, result_row
from loadtests.bench.parts import Bench, Finding, Subject, in_turn

SMALL, LARGE = 1_000, 1_000_000
LIMIT = 1.3


def measure(bench: Bench) -> Finding:
    """Two rows and the ratio."""
    counts = (SMALL // 10, SMALL) if bench.is_short else (SMALL, LARGE)
    subjects: dict[str, Subject] = {}
    with ExitStack() as stack:
        for count in counts:
            plan = BrokerPlan(name=f"usher_renew_{count}", data_plane=bench.data_plane, processors=(bench.places.server,))
            broker = stack.enter_context(bench_broker(bench.directory / plan.name, plan))
            subjects[plan.name] = partial(renew_sample, broker.server, bench.pace, sessions=count)
        samples = in_turn(subjects, bench.pace.rounds, bench.say)
    small, large = (samples[name] for name in subjects)
    finding = Finding(f"{counts[1]:,} live sessions beside {counts[0]:,}, Renew, closed loop")
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    ratio = ratio_spread(large, small, lambda one: one.cpu_us)
    finding.bars = [Bar(f"Renew, CPU per RPC at {counts[1]:,} sessions ÷ at {counts[0]:,}", ratio, LIMIT)]
    return finding
