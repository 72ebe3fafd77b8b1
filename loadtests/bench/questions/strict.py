"""What durability costs: Open and Close, each on the disk before it is answered, beside Redis that does the same, and C++ gRPC that does nothing.

128 operations in flight everywhere, a closed loop, one after the other; server and its committer share one processor. Each Open and each Close
is an operation and writes, as each ZADD and each ZREM does at Redis (`loadtests/bench/redis.py`). All files lie on one file system.

The history is written behind by the broker, in Python: after each window it is waited for, outside of the window, so that no other
server's window pays for it. So CPU a request stands here twice: of the window, all threads; and up to the moment when the history has caught up,
over all requests. A second broker without history shows the difference.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from functools import partial

from loadtests.bench.broker import CLOSED, OPENED, Broker, BrokerPlan, bench_broker
from loadtests.bench.client import Pace, login_sample, renew_sample
from loadtests.bench.figures import Bar, Sample, ratio_spread, result_row, spread
from loadtests.bench.parts import Bench, Finding, Subject, in_turn
from loadtests.bench.processors import file_system, process_cpu_ns
from loadtests.bench.questions.peers import rate
from loadtests.bench.redis import NAME as REDIS
from loadtests.bench.redis import RedisAnswer, is_here, redis_sample, redis_server
from loadtests.bench.servers import grpc_cpp_noop, is_built

IN_FLIGHT, CONNECTIONS = 128, 8
STRICT, BARE, NONE, CPP = "usher_open_close_strict", "usher_open_close_strict_no_history", "usher_open_close_none_128", "grpc_cpp_noop_128"
REDIS_LIMIT, CPP_LIMIT = 1.5, 1.0


def durable_pace(pace: Pace) -> Pace:
    """128 in flight."""
    return dataclasses.replace(pace, connections=CONNECTIONS, streams=IN_FLIGHT // CONNECTIONS)


def measure(bench: Bench) -> Finding:
    """Rows, the two bars, the ratio of strict and none."""
    finding = Finding(f"Durable before it is answered, {IN_FLIGHT} operations in flight; files on {file_system(bench.directory)}")
    answers: list[RedisAnswer] = []
    whole_costs: list[float] = []
    with ExitStack() as stack:
        samples = in_turn(subjects_of(bench, stack, finding, answers, whole_costs), bench.pace.rounds, bench.say)
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    for row in finding.rows:
        if row["name"] == REDIS:
            row["p50_us"] = round(spread([one.p50_us for one in answers]).median, 1)
            row["p99_us"] = round(spread([one.p99_us for one in answers]).median, 1)
    for other, limit in ((REDIS, REDIS_LIMIT), (CPP, CPP_LIMIT)):
        if other in samples:
            what = f"Open and Close, strict, operations/s ÷ {other}"
            finding.bars.append(Bar(what, ratio_spread(samples[STRICT], samples[other], rate), limit, is_floor=True))
    finding.sentences += sentences(samples, whole_costs)
    return finding


def sentences(samples: dict[str, list[Sample]], whole_costs: list[float]) -> list[str]:
    """What has no bar."""
    rates = ratio_spread(samples[STRICT], samples[NONE], rate)
    costs = ratio_spread(samples[STRICT], samples[NONE], lambda one: one.cpu_us)
    return [
        f"strict ÷ none: operations/s {rates.text()}, CPU per RPC {costs.text()}.",
        f"CPU per RPC with all threads until the history has caught up: {spread(whole_costs).text()} µs.",
    ]


def subjects_of(
    bench: Bench, stack: ExitStack, finding: Finding, answers: list[RedisAnswer], whole_costs: list[float]
) -> dict[str, Subject]:
    """Everything started. Peers that are not here are left out, and that is said."""
    place, pace = (bench.places.server,), durable_pace(bench.pace)

    def broker(name: str, **changes: object) -> Broker:
        plan = dataclasses.replace(BrokerPlan(name=name, data_plane=bench.data_plane, processors=place), **changes)  # type: ignore[arg-type]
        return stack.enter_context(bench_broker(bench.directory / name, plan))

    strict, bare = broker(STRICT, durability="strict"), broker(BARE, durability="strict", history_days=0)
    subjects: dict[str, Subject] = {
        STRICT: partial(settled_sample, strict, pace, whole_costs),
        BARE: partial(login_sample, bare, pace),
        NONE: partial(login_sample, broker(NONE), pace),
    }
    if is_here():
        redis = stack.enter_context(redis_server(bench.directory / "redis", place))
        subjects[REDIS] = partial(redis_sample, redis, IN_FLIGHT, pace.seconds, bench.places.client, answers)
    else:
        finding.sentences.append(f"{REDIS}: Redis is not here (tools/setup-bench): left out.")
    if is_built("grpc_cpp_noop"):
        subjects[CPP] = partial(renew_sample, stack.enter_context(grpc_cpp_noop(place)), pace)
    else:
        finding.sentences.append("grpc_cpp_noop is not built (tools/setup-bench): left out.")
    return subjects


def settled_sample(broker: Broker, pace: Pace, whole_costs: list[float]) -> Sample:
    """A window, and then the history's catching up; what all of it costs a request goes into `whole_costs`."""
    broker.settle()
    cpu_ns, done = process_cpu_ns(broker.server.pid), operations(broker)
    sample = login_sample(broker, pace)
    broker.settle()
    whole_costs.append((process_cpu_ns(broker.server.pid) - cpu_ns) / 1e3 / (operations(broker) - done))
    return sample


def operations(broker: Broker) -> float:
    """Opens and Closes that a broker has counted."""
    counters = broker.counters()
    return counters[OPENED] + counters[CLOSED]
