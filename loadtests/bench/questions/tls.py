"""What TLS costs: Renew over plaintext and over TLS 1.3 with a server's certificate, and the bare nghttp2 server both ways.

Connections stay open, so it is the records that cost, not handshakes. The storm's own share is TLS too: rates are bounded by either side.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from loadtests.bench.broker import BrokerPlan, bench_broker
from loadtests.bench.certificates import loopback_tls
from loadtests.bench.client import renew_sample
from loadtests.bench.figures import ratio_spread, result_row
from loadtests.bench.parts import Bench, Finding, Subject, in_turn
from loadtests.bench.servers import is_built, nghttp2_noop

PAIRS = (("usher_renew_tls", "usher_renew_plain"), ("nghttp2_noop_tls", "nghttp2_noop_plain"))


def measure(bench: Bench) -> Finding:
    """Two ratios for each server; there is no bar."""
    finding = Finding("TLS beside plaintext, Renew, closed loop")
    with ExitStack() as stack:
        samples = in_turn(subjects_of(bench, stack), bench.pace.rounds, bench.say)
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    for above, below in PAIRS:
        if above in samples:
            rates = ratio_spread(samples[above], samples[below], lambda one: one.requests_per_s)
            costs = ratio_spread(samples[above], samples[below], lambda one: one.cpu_us)
            finding.sentences.append(f"{above} ÷ {below}: requests/s {rates.text()}, CPU per request {costs.text()}.")
    return finding


def subjects_of(bench: Bench, stack: ExitStack) -> dict[str, Subject]:
    """Two brokers, and two peers if they are built."""
    place = (bench.places.server,)
    tls = loopback_tls(bench.directory / "certificates")
    subjects: dict[str, Subject] = {}
    for name, identity in (("usher_renew_plain", None), ("usher_renew_tls", tls)):
        plan = BrokerPlan(name=name, data_plane=bench.data_plane, tls=identity, processors=place)
        broker = stack.enter_context(bench_broker(bench.directory / name, plan))
        subjects[name] = partial(renew_sample, broker.server, bench.pace, sessions=bench.session_count)
    if is_built("nghttp2_noop"):
        for name, identity in (("nghttp2_noop_plain", None), ("nghttp2_noop_tls", tls)):
            server = stack.enter_context(nghttp2_noop(place, name=name, tls=identity))
            subjects[name] = partial(renew_sample, server, bench.pace)
    return subjects
