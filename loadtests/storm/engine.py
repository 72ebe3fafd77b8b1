"""Runs storms: from a plan to the compiled engine, in a thread of its own, to a result.

The engine's thread lets the GIL go for the whole storm, so a storm in the background costs this process's Python nothing.
A caller's Ctrl-C ends the measurement in good order; a second one ends everything.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loadtests._storm import StormEngine
from loadtests.storm.plan import StormPlan
from loadtests.storm.requests import heads, open_request, template, templates
from loadtests.storm.result import Fault, StormResult, latency_of, merged

DESCRIPTORS_SPARE = 64
PAUSE_S = 0.05
LIMIT_NONE = 0xFFFFFFFF

Progress = tuple[str, int, int, int, int, int]
"""(phase, answered, faults, connections up, calls in flight, backlog)"""


class BackgroundStorm:
    """A storm in a thread of its own. `start` once, `join` or `stop`, then `result`."""

    def __init__(self, plan: StormPlan) -> None:
        """OSError, ValueError, MemoryError: what stands in the way, before anything is sent."""
        raise_descriptor_limit(plan.connections)
        self.plan = plan
        self._engine = engine_of(plan)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="storm")
        self._result: StormResult | None = None

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the measurement; again: ends everything."""
        self._engine.stop()

    def join(self, wait_s: float | None = None) -> bool:
        """Whether it is over, by then."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def progress(self) -> Progress:
        """How far it is."""
        return self._engine.progress()

    @property
    def result(self) -> StormResult:
        """What came of it, once it is over. OSError if this machine refused something."""
        assert not self._thread.is_alive(), "the storm is not over"
        if self._failure is not None:
            raise self._failure
        if self._result is None:
            self._result = result_of(self.plan, self._engine)
        return self._result

    def _run(self) -> None:
        try:
            if self.plan.processor is not None:
                os.sched_setaffinity(0, {self.plan.processor})  # of this thread alone
            self._engine.run()
        except BaseException as error:
            self._failure = error


def run_storm(plan: StormPlan, on_progress: Callable[[Progress], None] | None = None, every_s: float = 1.0) -> StormResult:
    """The whole storm; `on_progress` is called about every so often. Raises as BackgroundStorm does."""
    storm = BackgroundStorm(plan)
    storm.start()
    while True:
        try:
            while not storm.join(every_s):
                if on_progress is not None:
                    on_progress(storm.progress())
            return storm.result
        except KeyboardInterrupt:
            storm.stop()


@contextmanager
def background_storm(plan: StormPlan) -> Iterator[BackgroundStorm]:
    """A storm beside the block, which begins when all connections are up and set-up is done; stopped with the block."""
    storm = BackgroundStorm(plan)
    storm.start()
    try:
        while storm.progress()[0] in ("connect", "prepare") and not storm.join(0):
            time.sleep(PAUSE_S)
        yield storm
    finally:
        storm.stop()
        storm.join()


def raise_descriptor_limit(connections: int) -> None:
    """Of open files, for this process and those that it starts later; root may go beyond the hard limit. OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + DESCRIPTORS_SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    hard_wanted = hard if hard == resource.RLIM_INFINITY else max(hard, wanted)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard_wanted))
    except (OSError, ValueError) as error:
        raise OSError(
            f"{connections} connections need {wanted} open files; this process may have {hard} (ulimit -n)"
        ) from error


def socket_address(host: str, port: int) -> bytes:
    """A sockaddr_in or sockaddr_in6."""
    packed = ipaddress.ip_address(host).packed
    if len(packed) == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, 0) + packed + bytes(4)


def plan_values(plan: StormPlan) -> dict[str, object]:
    """A plan as the engine takes it."""
    run_nonce = secrets.randbits(63)
    watched = plan.watched_process
    return {
        "address": socket_address(plan.host, plan.port),
        "cycle": plan.cycle,
        "connections": plan.connections,
        "streams": {"idle": 0, "churn": 1}.get(plan.cycle, plan.streams),
        "sources": plan.sources,
        "sessions": plan.sessions,
        "interval_ns": 1e9 / plan.rate_per_s if plan.rate_per_s else 0.0,
        "is_poisson": plan.arrivals == "poisson",
        "allows_denials": plan.allows_denials,
        "closes_sessions": plan.closes_sessions,
        "ends_with_server": plan.ends_with_server,
        "warmup_ns": round(plan.warmup_s * 1e9),
        "duration_ns": round(plan.duration_s * 1e9),
        "patience_ns": round(plan.patience_s * 1e9),
        "connect_limit_ns": round(plan.connect_limit_s * 1e9),
        "nonce": run_nonce,
        "pool_nonce": run_nonce ^ 1 if plan.closes_sessions else plan.seed & 0x7FFFFFFFFFFFFFFF,
        "watched_clock": 0 if watched is None else (~watched << 3) | 2,  # as clock_getcpuclockid(3) makes it
        "seed": plan.seed & 0x7FFFFFFFFFFFFFFF,
    }


def engine_of(plan: StormPlan) -> StormEngine:
    """The engine of a plan."""
    scheme = "http" if plan.tls_ca is None else "https"
    authority = f"[{plan.host}]:{plan.port}" if ":" in plan.host else f"{plan.host}:{plan.port}"
    tls = None
    if plan.tls_ca is not None:
        files = (plan.tls_certificate, plan.tls_private_key)
        certificate, private_part = (None if name is None else os.fsencode(name) for name in files)
        tls = (plan.host.encode(), True, os.fsencode(plan.tls_ca), certificate, private_part)
    return StormEngine(
        plan_values(plan),
        heads(plan.path, authority, scheme),
        templates(plan.cycle, plan.products, plan.body),
        template(open_request(plan.products[:1])),
        tls,
    )


def result_of(plan: StormPlan, engine: StormEngine) -> StormResult:
    """What an engine that has run counted."""
    counts = engine.counts()
    window_ns, cpu_ns, watched_ns = engine.window()
    latencies = {name: latency_of(histogram) for name, histogram in engine.latencies().items()}
    sessions = engine.sessions()
    twice = len(sessions) - len(set(sessions))
    faults = [Fault(kind, count, example) for kind, (count, example) in engine.faults().items()]
    if twice:
        faults.append(Fault("session_twice", twice, "sessions opened first were given an id that another one has"))
    limit = counts["streams_limit"]
    return StormResult(
        cycle=plan.cycle,
        requests=counts["measured"],
        requests_per_s=counts["measured"] / window_ns * 1e9 if window_ns else 0.0,
        elapsed_s=window_ns / 1e9,
        client_cpu_s=cpu_ns / 1e9,
        watched_cpu_s=None if plan.watched_process is None else watched_ns / 1e9,
        latency=merged(latencies.values()),
        latencies=latencies,
        sent=counts["sent"],
        answered=counts["answered"],
        retried_unprocessed=counts["retried_unprocessed"],
        cut=counts["cut"],
        unanswered_at_end=counts["unanswered_at_end"],
        statuses=engine.statuses(),
        answers=engine.answers(),
        reasons=engine.reasons(),
        faults=tuple(faults),
        connects=counts["connects"],
        connect_failures=counts["connect_failures"],
        connections_at_end=counts["links_at_end"],
        goaways=counts["goaways"],
        streams_limit=limit if limit < plan.streams and plan.cycle != "idle" else None,
        arrivals=counts["arrived"],
        backlog_peak=counts["backlog_peak"],
        unsent_at_end=counts["unsent_at_end"],
        is_server_gone=engine.is_server_gone,
        sessions_opened_first=len(sessions),
    )
