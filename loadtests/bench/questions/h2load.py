"""Whether another client than ours sees the same: h2load against every server, plaintext.

It sends one and the same request, so Usher renews one session all the time. h2load itself takes about as much of its processor as a bare
server does of its own: where it is the limit, its rates say little and the server's CPU per request still holds.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from shutil import which

from loadtests.bench.broker import BrokerPlan, bench_broker
from loadtests.bench.client import h2load_sample, opened_session, renew_sample
from loadtests.bench.figures import ratio_spread, result_row
from loadtests.bench.parts import Bench, Finding, Subject, in_turn
from loadtests.bench.servers import grpc_aio_noop, grpc_cpp_noop, is_built, nghttp2_noop


def measure(bench: Bench) -> Finding:
    """Each server by h2load and by the storm; the ratio of the server's CPU per request."""
    finding = Finding("The same servers under h2load")
    if which("h2load") is None:
        finding.sentences.append("h2load is not here (tools/setup-bench): left out.")
        return finding
    with ExitStack() as stack:
        subjects = subjects_of(bench, stack)
        samples = in_turn(subjects, min(3, bench.pace.rounds), bench.say)
    for name in (name for name in subjects if name.endswith("_h2load")):
        row = result_row(name, samples[name])
        del row["p50_us"], row["p99_us"], row["client_share"]
        finding.rows.append(row)
        by_storm = samples[name.removesuffix("_h2load")]
        rates = ratio_spread(samples[name], by_storm, lambda one: one.requests_per_s)
        costs = ratio_spread(samples[name], by_storm, lambda one: one.cpu_us)
        finding.sentences.append(f"{name} ÷ storm: requests/s {rates.text()}, CPU per request {costs.text()}.")
    return finding


def subjects_of(bench: Bench, stack: ExitStack) -> dict[str, Subject]:
    """Every server that is here, measured by both clients; both renew one session at Usher."""
    place = (bench.places.server,)
    broker = stack.enter_context(bench_broker(bench.directory / "h2load", BrokerPlan(data_plane=bench.data_plane, processors=place)))
    session = opened_session(broker)
    starts = (("nghttp2_noop", nghttp2_noop), ("grpc_cpp_noop", grpc_cpp_noop), ("grpc_aio_noop", grpc_aio_noop))
    servers = {"usher_renew_one": broker.server}
    servers |= {name: stack.enter_context(start(place)) for name, start in starts if name == "grpc_aio_noop" or is_built(name)}
    subjects: dict[str, Subject] = {}
    for name, server in servers.items():
        subjects[name] = partial(renew_sample, server, bench.pace, sessions=1 if server is broker.server else 0)
        subjects[f"{name}_h2load"] = partial(h2load_sample, server, session, bench.directory, bench.pace)
    return subjects
