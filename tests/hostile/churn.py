"""Connections opened and closed by the million, and what they leave in memory: `python -m tests.hostile.churn`.

A storm in a process of its own connects, logs in and out, and closes; the listener is in this one. After a warm-up what malloc has
given out must stay where it is: GROWTH_MAX for all connections together, some bytes each in a short run and none in a
long one. Exit status 1: it grew, a call failed, or a connection is still counted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from broker._listener import ServerContext
from loadtests.storm import StormPlan
from tests.hostile.memory import in_use_size
from tests.listener.harness import Served, serving
from tests.support.certificates import CertificateFiles, TestAuthority

GROWTH_MAX = 256 * 1024
WARM_COUNT = 2_000
ROUND_S = 5.0
PARALLEL = 32
SEATS = 1000


@dataclass(frozen=True, slots=True)
class Churned:
    """What came of it. `left_size`: bytes in use at the end above those after the warm-up."""

    connection_count: int
    left_size: int
    peak_size: int
    resident_mib: float
    seconds: float

    def __str__(self) -> str:
        each = self.left_size / max(1, self.connection_count)
        return (
            f"{self.connection_count} connections in {self.seconds:.0f} s, {self.left_size} bytes left ({each:.3f} each), "
            f"{self.resident_mib:.0f} MiB resident"
        )


def resident_mib() -> float:
    """This process, by the kernel."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


def storm(served: Served, seconds: float, seed: int, ca: Path | None) -> None:
    """One storm of connections, in a process of its own. AssertionError when a call of it went wrong."""
    plan = StormPlan(
        port=served.port, cycle="churn", connections=PARALLEL, streams=1, duration_s=seconds, warmup_s=0, seed=seed, sources=32,
        tls_ca=str(ca) if ca else None,
    )  # fmt: skip
    command = [sys.executable, "-m", "loadtests.storm", "--plan", "-"]
    answer = subprocess.run(command, input=plan.to_json(), capture_output=True, text=True, check=False, timeout=seconds + 120)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    told = json.loads(answer.stdout)
    assert told["is_good"], told


def settle(served: Served) -> int:
    """Bytes in use when every connection has been given back."""
    served.wait_until(lambda now: now.connections == 0)
    assert served.ledger.counters().session_count == 0
    return in_use_size()


def churn(connection_count: int, *, seconds: float | None, seed: int, tls: tuple[Path, CertificateFiles] | None, round_s: float = ROUND_S) -> Churned:
    """Storms until so many connections, or so many seconds, have gone by; with a TLS server's authority and files, or without."""
    ca = tls[0] if tls else None
    context = ServerContext(tls[1].certificate, tls[1].private_key) if tls else None
    with serving(seats={"platform": SEATS}, tls=context) as served:
        warm_seconds = round_s
        while served.counters().connections_accepted < WARM_COUNT:
            storm(served, warm_seconds, seed, ca)
        warm_count, warm_size = served.counters().connections_accepted, settle(served)
        peak_size, begin = warm_size, time.monotonic()
        while (done := served.counters().connections_accepted - warm_count) < connection_count:
            if seconds is not None and time.monotonic() - begin > seconds:
                break
            storm(served, round_s, seed + done, ca)
            peak_size = max(peak_size, left := settle(served))
        now = served.counters()
        assert now.connections_closed == now.connections_accepted, now
        return Churned(done, left - warm_size, peak_size - warm_size, resident_mib(), time.monotonic() - begin)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.churn")
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, help="at most; as long as it takes if not said")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--tls", action="store_true")
    told = parser.parse_args()
    seed = secrets.randbits(31) if told.seed is None else told.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        authority = TestAuthority(Path(folder))
        tls = (authority.ca, authority.server()) if told.tls else None
        found = churn(told.connections, seconds=told.seconds, seed=seed, tls=tls)
    print(found)
    return int(found.left_size > GROWTH_MAX)


if __name__ == "__main__":
    sys.exit(main())
