"""What idle connections cost: memory of the broker for each, and p99 of Renew on the other connections.

A storm in another thread of the client holds connections open and says nothing on them. The broker and the client may each open as
many files as the machine lets them, so the number is 20,000 or what fits; the finding says which. Memory is the broker's anonymous
memory (user space: not the kernel's socket buffers): first when sessions are open and renewals have been, then while the connections are
there. Renews: an open loop at a moderate rate, with and without them in turn. Connections come anew in each round.

So many connections cost the machine and the client something, too: the kernel's timers, the client's own 20,000 sockets. So there is a third
window, in which as many idle connections stand at the bare nghttp2 server instead: the bar is for what the broker adds to that. Without that
server the bar is for all of it.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from loadtests.bench.broker import CONNECTIONS_MAX, GRPCIO, BrokerPlan, bench_broker
from loadtests.bench.client import plan_for, renew_sample
from loadtests.bench.figures import Bar, Sample, Spread, ratio_spread, result_row, spread
from loadtests.bench.parts import Bench, Finding, Subject, in_turn
from loadtests.bench.processors import anonymous_size
from loadtests.bench.servers import Server, ServerFailed, is_built, nghttp2_noop
from loadtests.storm import StormPlan, background_storm

SIZE_LIMIT = 40 * 1024
RATIO_LIMIT = 1.2
"""The contract says "unaffected"; this is what the bench takes for it."""
FILES_BESIDE = 500
SOURCES = 4
"""Addresses that they come from: beyond 14,000 of one address the kernel searches long for a free port."""
IDLE_S = 600.0
"""Longer than any window: the block ends it."""
SETTLE_S, SETTLE_SHORT_S = 12.0, 0.1
"""From the last connection to the window: that they are made, and that the broker looks once whether each has sent its preface in time, is over."""
RATE_PER_S = 20_000
RATE_GRPCIO_PER_S = 200
ALONE, BESIDE, ELSEWHERE = "usher_renew_alone", "usher_renew_beside_idle", "usher_renew_idle_elsewhere"

WORDS = {ALONE: "without any", ELSEWHERE: "with them at the bare server"}


def connection_count(is_short: bool) -> int:
    """As many as were promised, or as fit beside the process's other files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fitting = CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, soft - FILES_BESIDE)
    return 200 if is_short else fitting


def measure(bench: Bench) -> Finding:
    """Two rows, and bars for memory and latency."""
    count = connection_count(bench.is_short)
    rate = RATE_GRPCIO_PER_S if bench.data_plane == GRPCIO else RATE_PER_S
    sizes: list[float] = []
    with ExitStack() as stack:
        plan = BrokerPlan(data_plane=bench.data_plane, processors=(bench.places.server,))
        broker = stack.enter_context(bench_broker(bench.directory / "idle", plan))

        def alone() -> Sample:
            return renew_sample(broker.server, bench.pace, sessions=bench.session_count, rate_per_s=rate)

        alone()
        before = anonymous_size(broker.server.pid)

        def beside() -> Sample:
            with idle_connections(bench, broker.server, count):
                sizes.append((anonymous_size(broker.server.pid) - before) / count)
                return alone()

        subjects: dict[str, Subject] = {ALONE: alone, BESIDE: beside}
        if is_built("nghttp2_noop"):
            other = stack.enter_context(nghttp2_noop((bench.places.server,)))

            def elsewhere() -> Sample:
                with idle_connections(bench, other, count):
                    return alone()

            subjects[ELSEWHERE] = elsewhere
        samples = in_turn(subjects, bench.pace.rounds, bench.say)
    return finding_of(samples, spread(sizes), count, rate)


@contextmanager
def idle_connections(bench: Bench, server: Server, count: int) -> Iterator[None]:
    """All of them stand while the block runs. Raises ServerFailed if one does not."""
    with background_storm(idle_plan(bench, server, count)) as storm:
        time.sleep(SETTLE_SHORT_S if bench.is_short else SETTLE_S)
        yield
    if storm.result.errors:
        raise ServerFailed(f"idle connections at {server.name}: {'; '.join(storm.result.error_examples)}")


def idle_plan(bench: Bench, server: Server, count: int) -> StormPlan:
    """Connections and nothing else, held until the block ends."""
    return plan_for(server, bench.pace, cycle="idle", connections=count, duration_s=IDLE_S, sources=SOURCES, watched_process=None)


def finding_of(samples: dict[str, list[Sample]], size: Spread, count: int, rate: int) -> Finding:
    """Rows and bars."""
    finding = Finding(f"{count:,} idle connections, Renew on others at {rate:,}/s")
    finding.rows = [result_row(name, several) for name, several in samples.items()]
    kib = Spread(size.low / 1024, size.median / 1024, size.high / 1024)
    finding.bars = [Bar(f"KiB of user-space memory an idle connection, {count:,} of them", kib, SIZE_LIMIT / 1024)]
    other = ELSEWHERE if ELSEWHERE in samples else ALONE
    p99 = ratio_spread(samples[BESIDE], samples[other], lambda one: one.percentile_us(0.99))
    finding.bars.append(Bar(f"Renew, p99 beside idle connections ÷ {WORDS[other]}", p99, RATIO_LIMIT))
    return finding
