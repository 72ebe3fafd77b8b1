"""A real `usher serve` process on free ports, for the suites that need the whole broker.

    with running_broker(tmp_path, settings={"sessions": {"ttl_s": 2}}) as broker:
        channel = grpc.insecure_channel(broker.clients)
        broker.unplug("alpha")

The broker runs with emulated keys unless `emulate=False`; without `emulated_keys` it has the demo fleet: key alpha gives 5 platform
seats, bravo 10 platform seats, charlie 10 crm and 5 telephony seats. Emulated keys are described as in the section
[emulation] of the configuration: `{"name": "alpha", "seats": {"platform": 5}}`, or with terms
`{"name": "alpha", "licences": [{"product": "platform", "seats": 5, "sharing": "user"}]}`.

Ports are chosen by the kernel; the process says them in `running.json` of its data directory when it serves. Its log
goes to `broker.log` in the directory of the test and is shown when it does not start.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from broker.v1 import admin_pb2, admin_pb2_grpc
from tests.support.toml_text import toml_text
from tests.support.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 60.0
STOP_S = 20.0
CALL_S = 20.0
PROGRAM = ("-m", "broker.cli.main")


@dataclass(slots=True)
class RunningBroker:
    """One broker process. Addresses are "127.0.0.1:PORT"; `http` too, without a scheme."""

    process: subprocess.Popen[bytes]
    data_directory: Path
    config_path: Path
    log_path: Path
    clients: str
    admin: str
    http: str
    admin_token: str
    generation: int
    root_certificate: Path | None = None
    """What to trust on the admin port, when [admin] has tls."""
    _channels: list[grpc.Channel] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Base URL of the HTTP port."""
        return f"http://{self.http}"

    @property
    def admin_metadata(self) -> tuple[tuple[str, str], ...]:
        """What every Admin call carries."""
        return (("authorization", f"Bearer {self.admin_token}"),)

    def log_text(self) -> str:
        """All that the process has logged so far."""
        return self.log_path.read_text(errors="replace")

    # --- the Admin service, for the common needs of tests ---------------------------------------------

    def admin_stub(self) -> admin_pb2_grpc.AdminStub:
        """A stub of the Admin service; give `metadata=broker.admin_metadata` with each call."""
        if not self._channels:
            self._channels.append(self._admin_channel())
        return admin_pb2_grpc.AdminStub(self._channels[0])

    def products(self) -> dict[str, admin_pb2.Product]:
        """Products by id, with their numbers now."""
        answer = self.admin_stub().ListProducts(
            admin_pb2.ListProductsRequest(), metadata=self.admin_metadata, timeout=CALL_S
        )
        return {product.product: product for product in answer.products}

    def sessions(self) -> list[admin_pb2.Session]:
        """All open sessions, over all pages."""
        found: list[admin_pb2.Session] = []
        page_token = ""
        while True:
            answer = self.admin_stub().ListSessions(
                admin_pb2.ListSessionsRequest(page_size=256, page_token=page_token),
                metadata=self.admin_metadata,
                timeout=CALL_S,
            )
            found.extend(answer.sessions)
            page_token = answer.next_page_token
            if not page_token:
                return found

    def plug(self, name: str) -> None:
        """Plugs an emulated key in; returns before it is proven."""
        self._set_plugged(name, True)

    def unplug(self, name: str) -> None:
        """Pulls an emulated key; returns before its seats are gone."""
        self._set_plugged(name, False)

    def await_capacity(self, product: str, capacity: int, *, within_s: float = 30.0) -> None:
        """Waits until the product's proven capacity is as said."""

        def is_so() -> bool:
            now = self.products().get(product)
            return (now.capacity if now else 0) == capacity

        until(is_so, f"capacity {capacity} of {product}", within_s=within_s)

    def await_proven(self, *, within_s: float = 30.0) -> None:
        """Waits until no pool is starting: every key that was plugged in at the start has been tried."""

        def is_so() -> bool:
            products = self.products()
            return bool(products) and not any(pool.starting for one in products.values() for pool in one.pools)

        until(is_so, "all keys tried", within_s=within_s)

    # --- ending it ----------------------------------------------------------------------------------------

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        return self.signal(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL and wait: a crash."""
        return self.signal(signal.SIGKILL)

    def signal(self, number: int) -> int:
        """Sends a signal that ends the process, and waits for the end; the exit code."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def _set_plugged(self, name: str, is_plugged: bool) -> None:
        request = admin_pb2.SetEmulatedKeyPluggedRequest(name=name, plugged=is_plugged)
        self.admin_stub().SetEmulatedKeyPlugged(request, metadata=self.admin_metadata, timeout=CALL_S)

    def _admin_channel(self) -> grpc.Channel:
        if self.root_certificate is None:
            return grpc.insecure_channel(self.admin)
        return grpc.secure_channel(self.admin, grpc.ssl_channel_credentials(self.root_certificate.read_bytes()))


@contextmanager
def running_broker(
    directory: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    emulated_keys: Sequence[Mapping[str, Any]] | None = None,
    emulate: bool = True,
    arguments: Sequence[str] = (),
    root_certificate: Path | None = None,
    await_proven: bool = True,
) -> Iterator[RunningBroker]:
    """Starts a broker in a directory and stops it at the end; used again in the same directory, it is a restart.

    `settings` are sections of usher.toml, laid over free ports; `arguments` are more words for `usher serve`.
    With `await_proven` the keys that are plugged in have been proven before the block begins.
    """
    config_path = write_config(directory, settings or {}, emulated_keys)
    broker = start_broker(directory, config_path, emulate=emulate, arguments=arguments, root_certificate=root_certificate)
    try:
        if await_proven and emulate:
            broker.await_proven()
        yield broker
    finally:
        try:
            broker.stop()
        finally:
            if broker.process.poll() is None:
                broker.process.kill()
                broker.process.wait()


@dataclass(slots=True)
class StartingBroker:
    """A broker process that may serve one day, or die before: crash tests end it anywhere."""

    process: subprocess.Popen[bytes]
    directory: Path
    config_path: Path
    root_certificate: Path | None = None
    has_served: bool = False
    _has_news: threading.Event = field(default_factory=threading.Event)

    @property
    def log_path(self) -> Path:
        """Where all that it says goes."""
        return self.directory / "broker.log"

    def await_news(self, within_s: float = START_S) -> bool:
        """Waits until it serves or has ended; whether it came to serve."""
        self._has_news.wait(within_s)
        return self.has_served

    def serving(self) -> RunningBroker:
        """The broker when it serves; AssertionError with its log when it does not."""
        data_directory = self.directory / "data"
        run_file = data_directory / "running.json"
        if not self.await_news() or not run_file.exists():
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the broker did not start:\n{self.log_path.read_text(errors='replace')}")
        run = json.loads(run_file.read_text())
        token = (data_directory / "admin.token").read_text().strip()
        return RunningBroker(
            self.process,
            data_directory,
            self.config_path,
            self.log_path,
            run["clients"],
            run["admin"],
            run["http"],
            token,
            run["generation"],
            self.root_certificate,
        )

    def _follow_log(self) -> None:
        assert self.process.stdout is not None
        with self.log_path.open("ab", buffering=0) as log:
            for line in self.process.stdout:
                log.write(line)
                if b'"message": "serving"' in line:
                    self.has_served = True
                    self._has_news.set()
        self._has_news.set()

    def follow(self) -> None:
        """Begins to copy the process's output to its file."""
        threading.Thread(target=self._follow_log, name="broker-log", daemon=True).start()


def begin_broker(
    directory: Path,
    config_path: Path,
    *,
    emulate: bool = True,
    arguments: Sequence[str] = (),
    root_certificate: Path | None = None,
    program: Sequence[str] = PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> StartingBroker:
    """Starts `usher serve` and returns at once. `environment` is laid over that of all brokers under test."""
    command = serve_command(config_path, emulate=emulate, arguments=arguments, program=program)
    surroundings = process_environment() | dict(environment or {})
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=surroundings
    )
    starting = StartingBroker(process, directory, config_path, root_certificate)
    starting.follow()
    return starting


def start_broker(
    directory: Path,
    config_path: Path,
    *,
    emulate: bool = True,
    arguments: Sequence[str] = (),
    root_certificate: Path | None = None,
) -> RunningBroker:
    """Starts `usher serve` and returns when it serves; AssertionError with its log when it does not."""
    return begin_broker(
        directory, config_path, emulate=emulate, arguments=arguments, root_certificate=root_certificate
    ).serving()


def serve_command(
    config_path: Path, *, emulate: bool = True, arguments: Sequence[str] = (), program: Sequence[str] = PROGRAM
) -> list[str]:
    """The command line of one broker. `program`: what Python runs in the place of `usher`."""
    words = [sys.executable, *program, "serve", "--config", str(config_path)]
    return words + (["--emulate"] if emulate else []) + list(arguments)


def process_environment() -> dict[str, str]:
    """The environment of a broker or a command under test: this checkout, nothing of the caller's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("USHER_")}
    return kept | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def write_config(
    directory: Path, settings: Mapping[str, Mapping[str, Any]], emulated_keys: Sequence[Mapping[str, Any]] | None
) -> Path:
    """Writes the usher.toml of a broker in a directory, which is made; where it is."""
    sections: dict[str, dict[str, Any]] = {
        "broker": {"data_dir": str(directory / "data")},
        "clients": {"address": "127.0.0.1:0"},
        "admin": {"address": "127.0.0.1:0"},
        "http": {"address": "127.0.0.1:0"},
        # Strict, as everywhere; small, because a suite has many brokers.
        "journal": {"segment_size": 1 << 20, "ballast_size": 0},
    }
    if emulated_keys is not None:
        sections["emulation"] = {"keys": list(emulated_keys)}
    for name, entries in settings.items():
        sections.setdefault(name, {}).update(entries)
    directory.mkdir(parents=True, exist_ok=True)
    config_path = directory / "usher.toml"
    config_path.write_text(toml_text(sections))
    return config_path
