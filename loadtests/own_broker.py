"""A broker of one's own: `usher serve --emulate` as a process on free loopback ports, and the admin's view of it.

    with own_broker(directory, keys=[{"name": "alpha", "seats": {"platform": 5}}], ttl_s=3) as broker:
        client.open(broker.clients, ...)
        broker.unplug("alpha")

The process is an ordinary one, so what is seen here is what a user gets. It is ended with the block: SIGTERM, and
SIGKILL if that is not heard. `BrokerView` alone works on any broker whose admin token can be read. Sync; any thread.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from broker.v1 import admin_pb2, admin_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent

CALL_S = 10.0
START_S = 60.0
STOP_S = 20.0
PAUSE_S = 0.05
"""Between two looks at something that is being waited for."""


class NotReady(Exception):
    """The broker did not do in time what was waited for; says what, and what there was instead."""


class BrokerView:
    """What an admin can see and do at one broker."""

    def __init__(self, admin: str, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._channel = grpc.insecure_channel(admin)
        self._stub = admin_pb2_grpc.AdminStub(self._channel)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def products(self) -> dict[str, admin_pb2.Product]:
        """Products by id, with their numbers now."""
        answer = self._stub.ListProducts(admin_pb2.ListProductsRequest(), metadata=self._metadata, timeout=CALL_S)
        return {product.product: product for product in answer.products}

    def keys_seen(self) -> list[admin_pb2.SecurityKey]:
        """The security keys."""
        answer = self._stub.ListKeys(admin_pb2.ListKeysRequest(), metadata=self._metadata, timeout=CALL_S)
        return list(answer.keys)

    def emulated_names(self) -> dict[str, str]:
        """Thumbprint -> name of the emulated keys."""
        request = admin_pb2.ListEmulatedKeysRequest()
        answer = self._stub.ListEmulatedKeys(request, metadata=self._metadata, timeout=CALL_S)
        return {one.thumbprint: one.name for one in answer.keys}

    def session_count(self) -> int:
        """Open sessions."""
        answer = self._stub.GetBroker(admin_pb2.GetBrokerRequest(), metadata=self._metadata, timeout=CALL_S)
        return int(answer.session_count)

    def events(self, after_sequence: int = 0) -> Iterator[admin_pb2.WatchEventsResponse]:
        """Events as they happen, until the channel is closed; grpc.RpcError then."""
        request = admin_pb2.WatchEventsRequest(after_sequence=after_sequence)
        yield from self._stub.WatchEvents(request, metadata=self._metadata)

    def plug(self, name: str) -> None:
        """Plugs an emulated key in; returns before it is proven."""
        self._set_plugged(name, True)

    def unplug(self, name: str) -> None:
        """Pulls an emulated key; returns before its seats are gone."""
        self._set_plugged(name, False)

    def _set_plugged(self, name: str, is_plugged: bool) -> None:
        request = admin_pb2.SetEmulatedKeyPluggedRequest(name=name, plugged=is_plugged)
        self._stub.SetEmulatedKeyPlugged(request, metadata=self._metadata, timeout=CALL_S)

    def await_product(
        self, product: str, is_so: Callable[[admin_pb2.Product], bool], what: str, *, within_s: float = 20.0
    ) -> admin_pb2.Product:
        """Waits until a product's numbers are as `is_so` wants them; the numbers. Raises NotReady."""
        end_s = time.monotonic() + within_s
        while True:
            seen = self.products().get(product, admin_pb2.Product(product=product))
            if is_so(seen):
                return seen
            if time.monotonic() > end_s:
                raise NotReady(f"{what}: not within {within_s:g} s; {product} has {numbers(seen)}")
            time.sleep(PAUSE_S)

    def await_proven(self, *, within_s: float = 30.0) -> None:
        """Waits until every key that is plugged in has been tried."""
        end_s = time.monotonic() + within_s
        while True:
            products = self.products().values()
            if products and not any(pool.starting for product in products for pool in product.pools):
                return
            if time.monotonic() > end_s:
                raise NotReady(f"the keys have not all been proven within {within_s:g} s")
            time.sleep(PAUSE_S)


def numbers(product: admin_pb2.Product) -> str:
    """A product's numbers in words."""
    text = f"capacity {product.capacity}, in use {product.in_use}, free {product.free}"
    return f"{text}, deficit {product.deficit}" if product.deficit else text


@dataclass(slots=True)
class OwnBroker:
    """A broker process. Addresses are "127.0.0.1:PORT"."""

    process: subprocess.Popen[bytes]
    clients: str
    http: str
    view: BrokerView
    log_path: Path

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        self.view.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


@contextmanager
def own_broker(
    directory: Path,
    *,
    keys: Sequence[Mapping[str, Any]],
    ttl_s: float = 60.0,
    renew_grace_s: float = 10.0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[OwnBroker]:
    """Starts a broker with these emulated keys, all of them proven, and ends it with the block. `settings`: entries of
    the configuration by section, besides what a broker of one's own always has. Raises NotReady."""
    directory.mkdir(parents=True, exist_ok=True)
    config_path = directory / "usher.toml"
    config_path.write_text(config_text(directory, keys, ttl_s, renew_grace_s, settings or {}), encoding="utf-8")
    log_path = directory / "broker.log"
    command = [sys.executable, "-m", "broker.cli.main", "serve", "--emulate", "--config", str(config_path)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=own_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        broker = await_serving(process, directory / "data", log_path)
        broker.view.await_proven()
        yield broker
        broker.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def own_environment() -> dict[str, str]:
    """The caller's, without what he has set for his own broker: USHER_DATA_DIR goes before a configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("USHER_")}


def config_text(
    directory: Path,
    keys: Sequence[Mapping[str, Any]],
    ttl_s: float,
    renew_grace_s: float,
    settings: Mapping[str, Mapping[str, Any]],
) -> str:
    """The configuration: free ports on loopback, this fleet."""
    sections: dict[str, dict[str, Any]] = {
        "broker": {"data_dir": str(directory / "data")},
        **{section: {"address": "127.0.0.1:0"} for section in ("clients", "admin", "http")},
        "sessions": {"ttl_s": ttl_s, "renew_grace_s": renew_grace_s},
    }
    for section, entries in settings.items():
        sections.setdefault(section, {}).update(entries)
    lines = [line for name, entries in sections.items() for line in section_lines(name, entries)]
    fleet = ",\n".join(f"    {inline_table(one)}" for one in keys)
    return "\n".join([*lines, "[emulation]", f"keys = [\n{fleet},\n]"]) + "\n"


def section_lines(name: str, entries: Mapping[str, Any]) -> list[str]:
    """A section of TOML."""
    return [f"[{name}]", *(f"{entry} = {toml_value(value)}" for entry, value in entries.items())]


def toml_value(value: Any) -> str:
    """A string, a number, a boolean or a table of such."""
    return inline_table(value) if isinstance(value, Mapping) else json.dumps(value)


def inline_table(table: Mapping[str, Any]) -> str:
    """A TOML inline table of strings, whole numbers and such tables."""
    entries = (
        f"{name} = {toml_value(value)}"
        for name, value in table.items()
    )
    return "{ " + ", ".join(entries) + " }"


def await_serving(process: subprocess.Popen[bytes], data_directory: Path, log_path: Path) -> OwnBroker:
    """Waits until a broker process has said where it serves. Raises NotReady with the end of its log."""
    run_file = data_directory / "running.json"
    end_s = time.monotonic() + START_S
    while not run_file.exists():
        if process.poll() is not None or time.monotonic() > end_s:
            tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
            raise NotReady(f"the broker did not start:\n{tail}")
        time.sleep(PAUSE_S)
    run = json.loads(run_file.read_text(encoding="utf-8"))
    token = (data_directory / "admin.token").read_text(encoding="utf-8").strip()
    return OwnBroker(process, run["clients"], run["http"], BrokerView(run["admin"], token), log_path)
