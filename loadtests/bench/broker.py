"""The broker that is measured: an ordinary `usher serve` on free loopback ports, with seats for more than a million sessions.

What differs from the defaults, and why:

* one emulated key with more than a million seats of `platform` and of `crm`: nobody is denied;
* ttl of a day: no session of a long run expires because its turn to be renewed did not come;
* nothing is journaled unless the plan says so: most figures compare with servers that keep nothing. What is journaled lies in the bench's
  folder, on the file system of the checkout;
* request_ids are remembered for a second after their session, not for two minutes: an hour's logins come in seconds here, and
  each costs what forgetting it costs within the run.

What it did is told by its own /metrics. Any thread.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.v1.admin_pb2 import Product
from loadtests.bench.processors import running_on
from loadtests.bench.servers import STOP_S, Server, ServerFailed, Tls
from loadtests.own_broker import ROOT, NotReady, await_serving, inline_table, own_environment

NATIVE, GRPCIO = "native", "grpcio"
PRODUCTS = ("platform", "crm")
SEATS_OF_LICENCE = 65_000
LICENCES_OF_PRODUCT = 17
"""On one key. More than a million seats of each product, in licences of the greatest size that there is."""
DAY_S = 86_400
CONNECTIONS_MAX = 20_000
SCRAPE_S = 30.0
PROVEN_S = 60.0

RENEWED = "usher_renewals_total"
OPENED = "usher_sessions_opened_total"
CLOSED = 'usher_sessions_ended_total{reason="closed"}'
HISTORY_BEHIND = "usher_history_behind_bytes"
SETTLE_S = 900.0
SETTLE_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """How a broker is started."""

    name: str = "usher"
    data_plane: str = NATIVE
    threads: int = 1
    tls: Tls | None = None
    module: str = "broker.cli.main"
    module_words: Sequence[str] = ()
    """Before `serve`."""
    processors: Sequence[int | None] = ()
    durability: str = "none"
    history_days: int = 400
    hwkeys: int = 1
    """Emulated ones, which share the licences."""
    addresses: Sequence[str] = ("127.0.0.1:0",) * 3
    """Of clients, admin, http."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker. `server` is its client port; its count is that of renewals."""

    server: Server
    http: str
    process: subprocess.Popen[bytes] = field(repr=False)

    def counters(self) -> dict[str, float]:
        """Every sample of /metrics, by name and labels as they stand there."""
        return read_metrics(self.http)

    def settle(self) -> None:
        """Waits until the history has caught up, so that what a window leaves behind is in no other server's window. Raises ServerFailed."""
        end_s = time.monotonic() + SETTLE_S
        while self.counters().get(HISTORY_BEHIND, 0):
            if time.monotonic() > end_s:
                raise ServerFailed(f"{self.server.name}: the history has not caught up within {SETTLE_S:g} s")
            time.sleep(SETTLE_PAUSE_S)

    def signal(self) -> None:
        """SIGUSR1, which only `gil_holder` hears."""
        self.process.send_signal(signal.SIGUSR1)


def read_metrics(http: str) -> dict[str, float]:
    """The samples of a broker whose HTTP port this is."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=SCRAPE_S) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


@contextmanager
def bench_broker(directory: Path, plan: BrokerPlan) -> Iterator[Broker]:
    """Starts a broker, all of its keys proven, and ends it with the block. Raises ServerFailed."""
    directory.mkdir(parents=True, exist_ok=True)
    config_path = directory / "usher.toml"
    config_path.write_text(config_text(directory / "data", plan), encoding="utf-8")
    log_path = directory / "broker.log"
    command = serve_command(plan, config_path)
    with log_path.open("wb") as log, running_on(*plan.processors):
        process = subprocess.Popen(
            command, cwd=ROOT, env=own_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield from running_broker(process, directory / "data", log_path, plan)
        end_broker(process, plan.name)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def serve_command(plan: BrokerPlan, config_path: Path) -> list[str]:
    """How it is executed."""
    return [sys.executable, "-m", plan.module, *plan.module_words, "serve", "--emulate", "--config", str(config_path)]


def running_broker(process: subprocess.Popen[bytes], data_dir: Path, log_path: Path, plan: BrokerPlan) -> Iterator[Broker]:
    """The broker once it serves. Raises ServerFailed."""
    try:
        started = await_serving(process, data_dir, log_path)
        started.view.await_proven(within_s=PROVEN_S)
        for product in PRODUCTS:
            started.view.await_product(product, has_all_seats, f"seats of {product}", within_s=PROVEN_S)
    except NotReady as error:
        raise ServerFailed(str(error)) from error
    started.view.close()
    port = int(started.clients.rpartition(":")[2])
    authority = plan.tls.authority if plan.tls else None

    def count() -> int:
        return round(read_metrics(started.http)[RENEWED])

    yield Broker(Server(plan.name, process.pid, port, count, authority), started.http, process)


def has_all_seats(product: Product) -> bool:
    """Whether all licences of a product count."""
    return product.capacity == LICENCES_OF_PRODUCT * SEATS_OF_LICENCE


def end_broker(process: subprocess.Popen[bytes], name: str) -> None:
    """An orderly stop. Raises ServerFailed when the broker had ended before, or ends badly."""
    if process.poll() is not None:
        raise ServerFailed(f"{name} ended with status {process.returncode} while it was measured")
    process.terminate()
    if status := process.wait(STOP_S):
        raise ServerFailed(f"{name} ended with status {status}")


def config_text(data_dir: Path, plan: BrokerPlan) -> str:
    """The configuration file."""
    clients: dict[str, Any] = {"address": plan.addresses[0]}
    if plan.data_plane == NATIVE:
        clients |= {"data_plane": NATIVE, "threads": plan.threads, "connections_max": CONNECTIONS_MAX}
    if plan.tls:
        clients["tls"] = {"certificate": str(plan.tls.certificate), "private_key": str(plan.tls.private_key)}
    sections: dict[str, Mapping[str, Any]] = {
        "broker": {"data_dir": str(data_dir)},
        "clients": clients,
        "admin": {"address": plan.addresses[1]},
        "http": {"address": plan.addresses[2]},
        "sessions": {"ttl_s": DAY_S, "request_window_s": 1},
        "journal": {"durability": plan.durability, "history_days": plan.history_days},
    }
    lines = []
    for section, entries in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {toml_value(value)}" for name, value in entries.items()]
    fleet = ",\n".join(hwkey_text(number, plan.hwkeys) for number in range(plan.hwkeys))
    return "\n".join([*lines, "[emulation]", f"keys = [\n{fleet},\n]"]) + "\n"


def hwkey_text(number: int, count: int) -> str:
    """One emulated security key with its share of the licences, a line each."""
    licences = [{"product": product, "seats": SEATS_OF_LICENCE} for product in PRODUCTS for _ in range(LICENCES_OF_PRODUCT)]
    text = "".join(f"    {inline_table(one)},\n" for one in licences[number::count])
    return f"{{ name = \"alpha{number or ''}\", licences = [\n{text}] }}"


def toml_value(value: object) -> str:
    """A string, a whole number or an inline table."""
    return inline_table(value) if isinstance(value, Mapping) else json.dumps(value)
