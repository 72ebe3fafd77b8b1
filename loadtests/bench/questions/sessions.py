"""Whether many sessions make a Renew dear: CPU per RPC at a million live sessions over that at a thousand.

Two brokers, measured in turn; each Renew goes to a uniformly random session. Strict ones, too: there Opens and Closes of others are measured beside so
many sessions as well, since a Renew is seldom written down.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from loadtests.bench.broker import Broker, BrokerPlan, bench_broker
from loadtests.bench.client import Pace, login_sample, renew_sample
from loadtests.bench.figures import Bar, Sample, ratio_spread, result_row
from loadtests.bench.parts import Bench, Finding, Subject, in_turn

SMALL, LARGE = 1_000, 1_000_000
LIMIT = 1.3


def measure(bench: Bench) -> Finding:
    """Two rows and the ratio."""
    return measured(bench, "none")


def measure_strict(bench: Bench) -> Finding:
    """Renew, and Open with Close, of strict brokers: two rows and a ratio each."""
    return measured(bench, "strict")


def measured(bench: Bench, durability: str) -> Finding:
    """Rows and ratios of brokers of this durability. Opens and Closes are only looked at where they are written down."""
    counts = (SMALL // 10, SMALL) if bench.is_short else (SMALL, LARGE)
    subjects: dict[str, Subject] = {}
    suffix = "" if durability == "none" else f"_{durability}"
    with ExitStack() as stack:
        for count in counts:
            plan = BrokerPlan(
                name=f"usher_renew{suffix}_{count}", data_plane=bench.data_plane, processors=(bench.places.server,), durability=durability
            )
            broker = stack.enter_context(bench_broker(bench.directory / plan.name, plan))
            bench.say(f"{count:,} sessions are opened")
            renew_sample(broker.server, bench.pace, sessions=count)
            broker.settle()
            subjects[plan.name] = partial(renew_sample, broker.server, bench.pace, sessions=count)
            if suffix:
                subjects[f"usher_open_close{suffix}_{count}"] = partial(settled_login, broker, bench.pace)
        samples = in_turn(subjects, bench.pace.rounds, bench.say)
    finding = Finding(f"{counts[1]:,} live sessions beside {counts[0]:,}, durability {durability}, closed loop")
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    for words, name in (("Renew", "renew"), ("Open and Close", "open_close")):
        if f"usher_{name}{suffix}_{counts[0]}" in samples:
            small, large = (samples[f"usher_{name}{suffix}_{count}"] for count in counts)
            ratio = ratio_spread(large, small, lambda one: one.cpu_us)
            what = f"{words}{', strict' if suffix else ''}, CPU per RPC at {counts[1]:,} sessions ÷ at {counts[0]:,}"
            finding.bars.append(Bar(what, ratio, LIMIT))
    return finding


def settled_login(broker: Broker, pace: Pace) -> Sample:
    """A window of Opens and Closes; the history catches up behind it."""
    sample = login_sample(broker, pace)
    broker.settle()
    return sample
