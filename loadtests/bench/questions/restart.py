"""How long a broker is away: from exec to the first granted Open, after SIGKILL, with sessions in its log.

A broker on ports that stay the same opens its sessions by a storm, strictly, and is killed. Then, several times: it is executed again with warm files, a client
tries to open a session every few milliseconds, and the clock stops at the first grant; the broker is killed again. Eight emulated keys share the seats, so
the first grant needs a key that has been tried anew. Nothing is pinned: it is the whole machine that comes back.

Where the time goes is told by stages: until all is recovered, until the broker says that it serves, until the grant (which may be before that: ports are open
before it is said). What its log says stands below, with the instants since exec.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from broker.v1.sessions_pb2 import OpenRequest, OpenResponse
from broker.v1.sessions_pb2_grpc import SessionsStub
from broker.v1.types_pb2 import ProductRequest
from loadtests.bench.broker import BrokerPlan, config_text, running_broker, serve_command
from loadtests.bench.client import REQUEST_ID_SIZE, plan_for
from loadtests.bench.figures import Bar, spread
from loadtests.bench.parts import Bench, Finding
from loadtests.bench.processors import file_system
from loadtests.bench.servers import ServerFailed
from loadtests.own_broker import ROOT, own_environment
from loadtests.storm import run_storm

HWKEYS = 8
SIZES = ((10_000, 0.5), (1_000_000, 5.0))
SIZES_SHORT = ((1_000, 0.5),)
"""(sessions, seconds that a start may take)"""
STARTS, STARTS_SHORT = 5, 2
TRY_S = 0.005
CALL_S = 2.0
START_S = 300.0
LOG = "broker.log"
CHANNEL_OPTIONS = [(f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max")]
"""By itself gRPC waits a second after a refused connection."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start. Seconds since exec."""

    recovered_s: float
    serving_s: float
    granted_s: float
    lines: tuple[str, ...]


def measure(bench: Bench) -> Finding:
    """A bar for each size."""
    finding = Finding(f"From exec to the first granted Open, after SIGKILL, {HWKEYS} emulated keys; log on {file_system(bench.directory)}")
    for count, limit_s in SIZES_SHORT if bench.is_short else SIZES:
        bench.say(f"{count:,} sessions are opened")
        starts, size = measure_size(bench, count)
        finding.bars.append(Bar(f"Seconds from exec to the first granted Open, {count:,} sessions", spread([one.granted_s for one in starts]), limit_s))
        finding.sentences.append(sentence(count, size, starts))
        finding.lines += [f"the last start with {count:,} sessions:", *starts[-1].lines, ""]
    return finding


def sentence(count: int, size: int, starts: list[Start]) -> str:
    """The stages."""
    recovered, serving, granted = (
        spread(values).median for values in zip(*((one.recovered_s, one.serving_s, one.granted_s) for one in starts), strict=True)
    )
    return (
        f"{count:,} sessions, {size / 1e6:.0f} MB of log and snapshots: recovered after {recovered:.2f} s, serving after {serving:.2f} s,"
        f" granting after {granted:.2f} s (medians of {len(starts)})."
    )


def measure_size(bench: Bench, count: int) -> tuple[list[Start], int]:
    """The starts, and bytes of log and snapshots before the first."""
    plan = BrokerPlan(name=f"restart_{count}", data_plane=bench.data_plane, durability="strict", hwkeys=HWKEYS, addresses=free_addresses())
    folder = bench.directory / plan.name
    fill(bench, plan, folder, count)
    size = sum(path.stat().st_size for path in (folder / "data" / "journal").iterdir() if path.suffix in (".log", ".snap"))
    starts = []
    for number in range(STARTS_SHORT if bench.is_short else STARTS):
        bench.say(f"{count:,} sessions, start {number + 1}")
        since_unix_s = time.time()
        with started(plan, folder) as (process, since_s):
            starts.append(watched_start(process, since_s, since_unix_s, plan, folder))
    return starts, size


def free_addresses() -> tuple[str, ...]:
    """Three, which nobody has now."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    try:
        return tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in listening)
    finally:
        for one in listening:
            one.close()


def fill(bench: Bench, plan: BrokerPlan, folder: Path, count: int) -> None:
    """Opens the sessions, lets the history come after, and kills the broker. Raises ServerFailed."""
    folder.mkdir(parents=True)
    (folder / "usher.toml").write_text(config_text(folder / "data", plan), encoding="utf-8")
    with started(plan, folder) as (process, _), contextmanager(running_broker)(process, folder / "data", folder / LOG, plan) as broker:
        changes = {"sessions": count, "duration_s": 0.1, "warmup_s": 0.0, "processor": None}
        result = run_storm(plan_for(broker.server, bench.pace, **changes))
        if result.errors or result.sessions_opened_first != count:
            raise ServerFailed(f"{plan.name}: {result.sessions_opened_first} of {count} sessions; {'; '.join(result.error_examples)}")
        broker.settle()


@contextmanager
def started(plan: BrokerPlan, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A broker process and the instant of its exec; killed with the block."""
    (folder / "data" / "running.json").unlink(missing_ok=True)
    with (folder / LOG).open("wb") as log:
        since_s = time.monotonic()
        process = subprocess.Popen(
            serve_command(plan, folder / "usher.toml"), cwd=ROOT, env=own_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process, since_s
    finally:
        process.kill()
        process.wait()


def watched_start(process: subprocess.Popen[bytes], since_s: float, since_unix_s: float, plan: BrokerPlan, folder: Path) -> Start:
    """Waits for the first grant. Raises ServerFailed."""
    granted_s = first_grant_s(process, plan.addresses[0]) - since_s
    lines = list(log_lines(folder / LOG, since_unix_s))
    stages = {message: at_s for at_s, message, _ in reversed(lines)}
    texts = tuple(f"  {at_s:7.3f} s  {message}{f'  {facts}' if facts else ''}" for at_s, message, facts in lines)
    return Start(stages.get("recovered", math.nan), stages.get("serving", math.nan), granted_s, texts)


def first_grant_s(process: subprocess.Popen[bytes], address: str) -> float:
    """The instant of the first granted Open. Each try is a new request; one that waits in the listening socket is answered once the broker
    serves. Raises ServerFailed."""
    end_s = time.monotonic() + START_S
    with grpc.insecure_channel(address, CHANNEL_OPTIONS) as channel:
        stub = SessionsStub(channel)
        while time.monotonic() < end_s and process.poll() is None:
            try:
                answer: OpenResponse = stub.Open(open_request(), timeout=CALL_S, wait_for_ready=True)
            except grpc.RpcError:
                continue
            if answer.HasField("grant"):
                return time.monotonic()
            time.sleep(TRY_S)
    raise ServerFailed(f"nobody was granted anything within {START_S:g} s")


def open_request() -> OpenRequest:
    """Of somebody new."""
    request = OpenRequest(request_id=os.urandom(REQUEST_ID_SIZE), products=[ProductRequest(product="platform")])
    request.holder.user, request.holder.host, request.holder.app = "restart", "bench", "bench"
    return request


def log_lines(path: Path, since_unix_s: float) -> Iterator[tuple[float, str, str]]:
    """(seconds since exec, message, facts) of what a broker says about itself, of its keys only the first and the last."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            at_s = datetime.datetime.fromisoformat(entry.pop("time")).timestamp() - since_unix_s
            facts = ", ".join(f"{name} {entry[name]}" for name in ("sessions", "charges", "leases", "requests") if name in entry)
            found.append((at_s, str(entry["message"]), facts))
    hwkeys = [index for index, (_, message, _) in enumerate(found) if "security key" in message][1:-1]
    yield from (one for index, one in enumerate(found) if index not in hwkeys)
