"""Whether a second data-plane thread pays: CPU per operation with two threads over that with one, Usher and the bare nghttp2 server.

Two threads and a client on two processors cannot be kept apart, so nothing is pinned here, with one thread or with two: the number
of threads is all that differs, and the bare server shows what this placing costs by itself.

The lock: what a Renew takes of the ledger's mutex at most is what `Ledger.execute` takes in all for it, in batches of 32 over
100,000 random sessions; times the rate of two threads, that is the share of time in which the mutex is held. Hashing and signing are
done outside of it, so the true share is smaller.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from loadtests.bench.broker import BrokerPlan, bench_broker
from loadtests.bench.client import renew_sample
from loadtests.bench.figures import Bar, Sample, Spread, ratio_spread, result_row, spread
from loadtests.bench.ledger import renew_hold_ns
from loadtests.bench.parts import Bench, Finding, Subject, in_turn
from loadtests.bench.servers import is_built, nghttp2_noop

LIMIT = 1.15
HOLD_LIMIT = 0.25
COUNTS = (1, 2)


def measure(bench: Bench) -> Finding:
    """Four rows, one bar for the cost and one for the lock."""
    finding = Finding("Two data-plane threads beside one, Renew, closed loop, nothing pinned")
    with ExitStack() as stack:
        samples = in_turn(subjects_of(bench, stack), bench.pace.rounds, bench.say)
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    if "nghttp2_noop_2_threads" in samples:
        bare = ratio(samples, "nghttp2_noop")
        finding.sentences.append(f"The bare nghttp2 server, CPU per request, two threads ÷ one: {bare.text()}.")
    finding.bars = [Bar("Renew, CPU per RPC, two threads ÷ one", ratio(samples, "usher_renew"), LIMIT), lock_bar(bench, samples)]
    return finding


def subjects_of(bench: Bench, stack: ExitStack) -> dict[str, Subject]:
    """Brokers and peers with one and with two threads."""
    subjects: dict[str, Subject] = {}
    for threads in COUNTS:
        name = f"usher_renew_{threads}_threads"
        plan = BrokerPlan(name=name, data_plane=bench.data_plane, threads=threads)
        broker = stack.enter_context(bench_broker(bench.directory / name, plan))
        subjects[name] = partial(renew_sample, broker.server, bench.pace, sessions=bench.session_count, processor=None)
    for threads in COUNTS if is_built("nghttp2_noop") else ():
        name = f"nghttp2_noop_{threads}_threads"
        server = stack.enter_context(nghttp2_noop((), name=name, threads=threads))
        subjects[name] = partial(renew_sample, server, bench.pace, processor=None)
    return subjects


def ratio(samples: dict[str, list[Sample]], name: str) -> Spread:
    """CPU per request, two threads over one."""
    return ratio_spread(samples[f"{name}_2_threads"], samples[f"{name}_1_threads"], lambda one: one.cpu_us)


def lock_bar(bench: Bench, samples: dict[str, list[Sample]]) -> Bar:
    """The share of time in which the mutex is held, at most."""
    hold_ns = renew_hold_ns(bench.session_count)
    shares = [one.requests_per_s * hold_ns / 1e9 for one in samples["usher_renew_2_threads"]]
    return Bar(f"Lock hold × rate (at most {hold_ns:.0f} ns a Renew)", spread(shares), HOLD_LIMIT)
