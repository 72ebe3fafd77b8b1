"""The client of the bench: the storm generator, the same for every server, and h2load as a second opinion of it.

One storm is one process or this one, on a processor of its own; it tells the measured window only. The server's processor
time is read by the storm itself at the two ends of that window, so set-up and warm-up are in no figure. What the storm counted
must be what the server counted.

A Renew goes to a random one of the opened sessions; to a server that does nothing, with 32 random bytes as the id. The request
weighs the same for all.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from broker.v1.sessions_pb2 import OpenRequest, RenewRequest
from broker.v1.sessions_pb2_grpc import SessionsStub
from broker.v1.types_pb2 import ProductRequest
from loadtests.bench.broker import CLOSED, OPENED, Broker
from loadtests.bench.figures import Sample
from loadtests.bench.processors import places, process_cpu_ns, running_on
from loadtests.bench.servers import Server, ServerFailed
from loadtests.storm import StormPlan, StormResult, run_storm

RENEW_PATH = "/broker.v1.Sessions/Renew"
REQUEST_ID_SIZE = 16
CALL_S = 20.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how wide. The defaults are those of the published figures."""

    rounds: int = 7
    seconds: float = 2.0
    warmup_s: float = 0.5
    connections: int = 8
    streams: int = 32
    """Calls in flight on each connection."""

    def shortened(self) -> Pace:
        """To see that it runs; says nothing about speed."""
        return dataclasses.replace(self, rounds=2, seconds=0.5, warmup_s=0.1)


def plan_for(server: Server, pace: Pace, **changes: Any) -> StormPlan:
    """A storm of Renews against a server, from the client's processor. Sessions are left open: the same seed is given the same ones
    in the next round, so rounds do not pile them up."""
    plan = StormPlan(
        port=server.port,
        connections=pace.connections,
        streams=pace.streams,
        cycle="renew",
        duration_s=pace.seconds,
        warmup_s=pace.warmup_s,
        closes_sessions=False,
        tls_ca=str(server.authority) if server.authority else None,
        processor=places().client,
        watched_process=server.pid,
    )
    return dataclasses.replace(plan, **changes)


def sample_of(server: Server, result: StormResult, step: str | None = None) -> Sample:
    """The window; the latencies are those of all calls, or of one step of the cycle. Raises ServerFailed if anything in the run was not answered as it should be."""
    if result.errors or set(result.statuses) - {0} or not result.requests:
        said = "; ".join(result.error_examples)
        raise ServerFailed(f"{server.name}: {result.requests} requests, statuses {dict(result.statuses)}; {said}")
    if result.watched_cpu_s is None:
        raise ServerFailed(f"{server.name}: its processor time could not be read")
    buckets = result.latencies[step].buckets if step else result.buckets
    return Sample(result.requests, result.elapsed_s, result.watched_cpu_s, result.client_cpu_s, buckets)


def renew_sample(server: Server, pace: Pace, *, sessions: int = 0, **changes: Any) -> Sample:
    """A window of Renews, after which the server must have counted exactly what the storm did."""
    before = server.count()
    result = run_storm(plan_for(server, pace, sessions=sessions, **changes))
    check_counts(
        server.name,
        renewals=(server.count() - before, result.answers.get("renewed", 0)),
        sessions=(result.answers.get("granted", 0) + result.answers.get("replayed", 0), sessions),
    )
    return sample_of(server, result)


def login_sample(broker: Broker, pace: Pace, *, step: str | None = None, **changes: Any) -> Sample:
    """A window of Opens and Closes, distinct holders, a new charge each; every one is counted by the broker. With `step` "open" the
    latencies are those of the Opens."""
    before = broker.counters()
    result = run_storm(plan_for(broker.server, pace, cycle="open_close", products=("platform",), **changes))
    after = broker.counters()
    check_counts(
        broker.server.name,
        opened=(after[OPENED] - before[OPENED], result.answers.get("granted", 0)),
        closed=(after[CLOSED] - before[CLOSED], result.answers.get("closed", 0)),
    )
    return sample_of(broker.server, result, step)


def check_counts(name: str, **pairs: tuple[float, float]) -> None:
    """Raises ServerFailed where the server's count, the first of each pair, is not the client's."""
    for what, (counted, answered) in pairs.items():
        if counted != answered:
            raise ServerFailed(f"{name} counted {what}: {counted:.0f}; the client was answered {answered:.0f}")


def opened_session(broker: Broker) -> bytes:
    """The id of a session that lives until the broker ends."""
    request = OpenRequest(request_id=bytes(REQUEST_ID_SIZE), products=[ProductRequest(product="platform")])
    request.holder.user, request.holder.host, request.holder.app = "bench", "bench", "bench"
    with grpc.insecure_channel(f"127.0.0.1:{broker.server.port}") as channel:
        return bytes(SessionsStub(channel).Open(request, timeout=CALL_S).grant.session_id)


# --- h2load --------------------------------------------------------------------------------------------------------------


def h2load_command(server: Server, body: Path, pace: Pace) -> list[str]:
    """The same connections and streams; one and the same body each time. It takes whole seconds only."""
    return [
        *("h2load", "-D", f"{max(1, round(pace.seconds))}", "-c", str(pace.connections), "-m", str(pace.streams), "-t", "1"),
        *("-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"),
        f"{'https' if server.authority else 'http'}://127.0.0.1:{server.port}{RENEW_PATH}",
    ]


def h2load_sample(server: Server, session_id: bytes, directory: Path, pace: Pace) -> Sample:
    """A run of h2load that renews one session. It counts HTTP 200 and no grpc-status, so the server's count is held beside it: within
    what may be in flight at the end. Its latencies are not taken: they are means. Raises ServerFailed."""
    body = directory / f"{server.name}.body"
    message = RenewRequest(session_id=session_id, change_version=1).SerializeToString()
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    count_before, cpu_before = server.count(), process_cpu_ns(server.pid)
    with running_on(places().client):
        answer = subprocess.run(h2load_command(server, body, pace), capture_output=True, text=True, check=False)
    cpu_s = (process_cpu_ns(server.pid) - cpu_before) / 1e9
    done, failed, good, elapsed_s = h2load_numbers(answer.stdout + answer.stderr)
    in_flight = pace.connections * pace.streams
    if answer.returncode or failed or good != done or not 0 <= server.count() - count_before - done <= in_flight:
        raise ServerFailed(f"{server.name} under h2load: {server.count() - count_before} counted\n{answer.stdout}{answer.stderr}")
    return Sample(done, elapsed_s, cpu_s, 0.0, ())


def h2load_numbers(text: str) -> tuple[int, int, int, float]:
    """Requests done, failed ones, those of HTTP 2xx, seconds: of what h2load prints."""
    done = re.search(r"(\d+) done, \d+ succeeded, (\d+) failed", text)
    good = re.search(r"status codes: (\d+) 2xx", text)
    elapsed = re.search(r"finished in ([\d.]+)(ms|s|m)\b", text)
    if not (done and good and elapsed):
        raise ServerFailed(f"h2load said:\n{text}")
    scale = {"ms": 1e-3, "s": 1.0, "m": 60.0}[elapsed[2]]
    return int(done[1]), int(done[2]), int(good[1]), float(elapsed[1]) * scale
