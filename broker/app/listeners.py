"""The three listeners of a broker: client port, admin port, HTTP port; bound first, served later, stopped by the shutdown's table.

All three are bound before any of them serves (socket_activation.py), so that a port in use is found before a client gets in. Admin and HTTP share the
event loop; the client port is the native data plane's, with threads of its own, which serves already when the others are opened; or grpcio's in the same loop.
Listening sockets are our own, so that they can be given to us and handed over (takeover.py); before grpcio, which
binds for itself, stands a relay. Only the client port on grpcio is bound by it, unless systemd gives its socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

from broker.app.config import ClientsSection, Config
from broker.app.data_directory import DataDirectory
from broker.app.http_server import HttpServer
from broker.app.native_clients import NativeClients
from broker.app.parts import Parts
from broker.app.relay import Relay, fresh_name
from broker.errors import AddressInUse
from broker.model.listener import ListenerCounters
from broker.service.admin_server import build_admin_server
from broker.service.client_server import build_client_server
from broker.service.server import GrpcServer
from broker.web.app import Health, build_http
from broker.web.door import JsonDoor
from broker.web.metrics import LedgerBounds, UsherCollector, build_registry, metrics_endpoint


class ClientServer(Protocol):
    """What serves the client port."""

    async def start(self) -> None:
        """Serves from now on."""

    async def set_serving(self, is_serving: bool) -> None:
        """What health answers; calls are served either way."""

    async def stop(self, grace_s: float) -> None:
        """Takes nothing new, lets calls under way finish for so long, and ends."""


class RelayedServer:
    """A gRPC listener behind a relay."""

    def __init__(self, server: GrpcServer, relay: Relay) -> None:
        self._server = server
        self._relay = relay

    async def start(self) -> None:
        """Serves from now on."""
        await self._server.start()
        await self._relay.start()

    async def set_serving(self, is_serving: bool) -> None:
        """What health answers; calls are served either way."""
        await self._server.set_serving(is_serving)

    async def stop(self, grace_s: float) -> None:
        """Takes nothing new, lets calls under way finish for so long, and ends."""
        self._relay.stop_accepting()
        await self._server.stop(grace_s)
        await self._relay.stop()


@dataclass(slots=True)
class Standing:
    """What /healthz says."""

    is_stopping: bool = False
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class Listeners:
    """The bound listeners; `addresses` are the real ones: clients, admin, HTTP."""

    clients: ClientServer
    admin: ClientServer
    http: HttpServer
    addresses: tuple[str, str, str]
    is_moving: Callable[[], bool]
    """Whether the data plane has moved since it was last asked: its first loop does ten times a second, at least."""
    standing: Standing = field(default_factory=Standing)

    async def start(self, on_http_end: Callable[[asyncio.Task[None]], None]) -> None:
        """Serves on all three; `on_http_end` hears when the HTTP one ends, which the others never do by themselves."""
        await self.admin.start()
        await self.http.start()
        self.http.on_end(on_http_end)
        if not isinstance(self.clients, NativeClients):
            await self.clients.start()

    def say_failed(self) -> None:
        """The log has failed, and the process is about to end. From any thread, waits for nothing."""
        self.standing.is_failed = True

    async def say_stopping(self) -> None:
        """Tells balancers and health checks to look elsewhere; calls are still served."""
        self.standing.is_stopping = True
        await self.clients.set_serving(False)
        await self.admin.set_serving(False)


def open_listeners(
    config: Config,
    directory: DataDirectory,
    parts: Parts,
    native: NativeClients | None,
    sockets: Mapping[str, socket.socket],
) -> Listeners:
    """All three on their sockets. AddressInUse, or ConfigError. Call it in the event loop; `native` is the data plane, unless it is grpcio's."""
    counters = None if native is None else native.counters
    clients, clients_port = (native, native.port) if native is not None else _clients(config, parts, sockets.get("clients"))
    admin, admin_port = _admin(config, directory, parts, sockets["admin"])
    standing = Standing()
    http = _http(config, parts, standing, counters, sockets["http"])
    addresses = (
        str(config.clients.address.with_port(clients_port)),
        str(config.admin.address.with_port(admin_port)),
        str(config.http.address.with_port(http.port)),
    )
    return Listeners(clients, admin, http, addresses, _movement(counters), standing)


def _clients(config: Config, parts: Parts, listening: socket.socket | None) -> tuple[ClientServer, int]:
    """The client port on grpcio, and its number."""

    def build(address: str) -> tuple[GrpcServer, int]:
        return build_client_server(
            verbs=parts.sessions,
            stats=parts.stats,
            tls=parts.core.certificates.of("clients"),
            address=address,
            connections_max=config.clients.connections_max,
            streams_max=config.clients.streams_max,
            gate=parts.core.durability.gate,
        )

    if listening is not None:
        return _relayed(listening, build)
    return _bound("clients.address", config.clients, build)


def _admin(
    config: Config, directory: DataDirectory, parts: Parts, listening: socket.socket
) -> tuple[ClientServer, int]:
    return _relayed(
        listening,
        lambda address: build_admin_server(
            verbs=parts.admin,
            stats=parts.stats,
            token=directory.admin_token,
            tls=parts.core.certificates.of("admin"),
            address=address,
            gate=parts.core.durability.gate,
        ),
    )


def _relayed(
    listening: socket.socket, build: Callable[[str], tuple[GrpcServer, int]]
) -> tuple[RelayedServer, int]:
    """A gRPC server of ours behind a socket that it did not bind."""
    name = fresh_name()
    server, _ = build(f"unix-abstract:{name}")
    relay = Relay(listening, name)
    return RelayedServer(server, relay), relay.port


def _movement(counters: Callable[[], ListenerCounters] | None) -> Callable[[], bool]:
    """Whether the data plane's rounds have grown since the last question; grpcio's live in the event loop, which asks."""
    rounds = -1

    def is_moving() -> bool:
        nonlocal rounds
        before, rounds = rounds, counters().rounds if counters is not None else rounds + 1
        return rounds != before

    return is_moving


def _bound(
    option: str, section: ClientsSection, build: Callable[[str], tuple[GrpcServer, int]]
) -> tuple[GrpcServer, int]:
    try:
        return build(str(section.address))
    except OSError as error:
        raise AddressInUse(str(section.address), option, error.strerror or str(error)) from error


def _http(
    config: Config,
    parts: Parts,
    standing: Standing,
    data_plane: Callable[[], ListenerCounters] | None,
    listener: socket.socket,
) -> HttpServer:
    collector = UsherCollector(
        ledger=parts.core.ledger,
        keyring=parts.core.keyring,
        stats=parts.stats,
        broker=parts.broker_facts,
        bounds=LedgerBounds(**asdict(config.bounds)),
        is_emulating=parts.core.fleet is not None,
        is_draining=lambda: parts.core.drain.is_draining,
        data_plane=data_plane,
        durability=parts.core.durability.view,
        history=parts.core.durability.history,
    )
    application = build_http(
        door=JsonDoor(verbs=parts.sessions, stats=parts.stats, hosts=_hosts(config), gate=parts.core.durability.gate),
        health=lambda: _health(parts, standing),
        metrics=metrics_endpoint(build_registry(collector)),
    )
    return HttpServer(application, listener, config.http.tls, config.broker.drain_s)


def _hosts(config: Config) -> set[str]:
    """The names in the settings, and the address itself where it is one."""
    own = set() if config.http.address.is_every_interface else {config.http.address.host_header}
    return own | set(config.http.hosts)


def _health(parts: Parts, standing: Standing) -> Health:
    """Whether clients should come here, in one word and a sentence. Renew-only is a yes: whoever has a session must find this broker."""
    if standing.is_failed:
        return Health(False, "failed", "the disk refused the log")
    if standing.is_stopping:
        return Health(False, "stopping", "the broker is stopping")
    if parts.core.drain.is_draining:
        return Health(False, "draining", "an admin lets no new session in")
    durability = parts.core.durability.view()
    if not durability.is_writable:
        return Health(True, "renew_only", "the log cannot be written: sessions go on, nobody new gets in")
    if durability.is_learning:
        return Health(True, "learning", "after an unclean end no new charges for one ttl")
    if parts.core.keyring.is_starting:
        return Health(True, "starting", "security keys are being proven")
    return Health(True, "serving", "")
