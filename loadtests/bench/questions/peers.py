"""How Usher stands beside its peers: a bare nghttp2 server, C++ gRPC and grpc.aio, all of which do nothing.

One thread each, plaintext, closed loop: the same connections and streams are kept full by the same client. A window of each in
every round; ratios within the round. Usher has 100,000 sessions, and each Renew goes to a random one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from loadtests.bench.broker import BrokerPlan, bench_broker
from loadtests.bench.client import login_sample, renew_sample
from loadtests.bench.figures import Bar, Sample, ratio_spread, result_row
from loadtests.bench.parts import Bench, Finding, Subject, in_turn
from loadtests.bench.servers import grpc_aio_noop, grpc_cpp_noop, is_built, nghttp2_noop

RENEW, LOGIN = "usher_renew", "usher_open_close_none"
NGHTTP2, CPP, AIO = "nghttp2_noop", "grpc_cpp_noop", "grpc_aio_noop"


def measure(bench: Bench) -> Finding:
    """Five rows, and the bars that hold between them."""
    finding = Finding("Usher beside its peers, one thread each, closed loop")
    with ExitStack() as stack:
        samples = in_turn(subjects_of(bench, stack, finding), bench.pace.rounds, bench.say)
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    finding.bars = bars(samples)
    return finding


def subjects_of(bench: Bench, stack: ExitStack, finding: Finding) -> dict[str, Subject]:
    """Everything started, each with how it is measured. Peers that are not built are left out, and that is said."""
    place = (bench.places.server,)
    broker = stack.enter_context(bench_broker(bench.directory / "peers", BrokerPlan(data_plane=bench.data_plane, processors=place)))
    subjects: dict[str, Subject] = {
        RENEW: partial(renew_sample, broker.server, bench.pace, sessions=bench.session_count),
        LOGIN: partial(login_sample, broker, bench.pace),
    }
    for name, start in ((NGHTTP2, nghttp2_noop), (CPP, grpc_cpp_noop), (AIO, grpc_aio_noop)):
        if name != AIO and not is_built(name):
            finding.sentences.append(f"{name} is not built (tools/setup-bench): left out.")
            continue
        subjects[name] = partial(renew_sample, stack.enter_context(start(place)), bench.pace)
    return subjects


def rate(sample: Sample) -> float:
    """Requests a second."""
    return sample.requests_per_s


def cost(sample: Sample) -> float:
    """Processor time of the server, a request."""
    return sample.cpu_us


BARS = (
    ("Renew, requests/s ÷ C++ gRPC no-op", RENEW, CPP, rate, 3.0, True),
    ("Renew, requests/s ÷ grpc.aio no-op", RENEW, AIO, rate, 25.0, True),
    ("Renew, CPU per RPC ÷ bare nghttp2 no-op", RENEW, NGHTTP2, cost, 2.5, False),
    ("Open and Close without durability, requests/s ÷ C++ gRPC no-op", LOGIN, CPP, rate, 1.0, True),
)


def bars(samples: Mapping[str, Sequence[Sample]]) -> list[Bar]:
    """Those whose both sides were measured."""
    return [
        Bar(what, ratio_spread(samples[above], samples[below], figure), limit, is_floor)
        for what, above, below, figure, limit, is_floor in BARS
        if above in samples and below in samples
    ]
