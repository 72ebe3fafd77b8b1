"""The native data plane inside the broker: its socket, its loops' threads, their start, their end.

    asyncio loop ── start, set_serving, drain ──► Listener ◄── run(0), run(1) ... ── threads usher-clients-N

The face is that of `broker.service.server.GrpcServer`. Each thread is native and not a daemon, has all signals blocked, and enters
`Listener.run` once, which lets the GIL go until the end (design 12). Loop 0 also keeps the ledger's time, so that a
loop that ends unasked ends the broker: `on_failure` is called in its thread.

The compiled module is imported late: an install may lack it, and serve over grpcio.
"""

from __future__ import annotations

import importlib
import logging
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from broker._ledger import Ledger
from broker.app.config import GRPCIO, NATIVE, Config, to_ns
from broker.app.logs import facts
from broker.app.process_rules import behind_traces
from broker.app.shutdown import in_thread
from broker.errors import ConfigError, ConfigFault
from broker.model.listener import ListenerCounters

if TYPE_CHECKING:
    from broker._listener import ServerContext

log = logging.getLogger("broker.app")

BACKLOG = 4096
"""Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn."""
CUT_S = 2.0
"""How long after its grace a drain may still take before the loops are stopped."""

LAST_COMMANDS_FILE = "last-commands"
"""In the data directory: what a fatal signal leaves of the ledger's last commands, with names of users, 0600."""

OnFailure = Callable[[str, BaseException], None]


class Serving(Protocol):
    """The part of `broker._listener.Listener` that is used here."""

    def run(self, number: int) -> None: ...
    def set_serving(self, is_serving: bool) -> None: ...
    def drain(self, grace_ns: int) -> None: ...
    def keep_port(self) -> None: ...
    def stop(self) -> None: ...
    def wake(self) -> None: ...
    def counters(self) -> ListenerCounters: ...


def require_data_plane(config: Config) -> None:
    """ConfigError if the configured data plane is not in this install.

    It is never replaced in silence: a server that is slower by a factor of twenty for want of a package would be a
    riddle on the day of the first rush.
    """
    if not config.clients.is_native:
        return
    try:
        importlib.import_module("broker._listener")
    except ImportError as error:
        reason = f'is "{NATIVE}", and this install has no compiled data plane ({error})'
        remedy = (
            "install nghttp2 1.43 or newer and OpenSSL 3 with their headers (Debian: libnghttp2-dev libssl-dev) and build again"
            f' with `make build`, or write data_plane = "{GRPCIO}" in [clients]: the same service, slower'
        )
        raise ConfigError((ConfigFault(config.source, "clients.data_plane", reason, remedy),)) from error


class NativeClients:
    """The loops of one listener. Built and used in the event loop's thread; `wake`, `say_failed` and `counters` from any."""

    def __init__(self, listener: Serving, listening: socket.socket, thread_count: int, on_failure: OnFailure) -> None:
        self._listener = listener
        self._listening = listening
        self._on_failure = on_failure
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"usher-clients-{number}", daemon=False)
            for number in range(thread_count)
        ]

    @property
    def port(self) -> int:
        """The port that is really bound."""
        return int(self._listening.getsockname()[1])

    async def start(self) -> None:
        """Serves from now on."""
        self._listening.listen(BACKLOG)
        self._listener.set_serving(True)
        for thread in self._threads:
            thread.start()

    async def set_serving(self, is_serving: bool) -> None:
        """What health answers; calls are served either way."""
        self._listener.set_serving(is_serving)

    def keep_port(self) -> None:
        """Somebody else has the listening socket, too: connections to come wait there when this one stops."""
        self._listener.keep_port()

    async def stop(self, grace_s: float) -> None:
        """Takes no new connections, asks the present ones to go, lets calls finish for so long, and ends the threads."""
        self._is_stopping = True
        if any(thread.ident is not None for thread in self._threads):
            self._listener.set_serving(False)
            self._listener.drain(to_ns(grace_s))
            await in_thread(lambda: self._join(grace_s))()
        self._listening.close()

    def say_failed(self) -> None:
        """Health says NOT_SERVING from now on: the process is about to end. From any thread."""
        self._listener.set_serving(False)

    def wake(self) -> None:
        """Something may be due in the ledger."""
        self._listener.wake()

    def counters(self) -> ListenerCounters:
        """What the listener has counted so far."""
        return self._listener.counters()

    def _join(self, grace_s: float) -> None:
        begun = [thread for thread in self._threads if thread.ident is not None]
        for thread in begun:
            thread.join(grace_s + CUT_S)
        if any(thread.is_alive() for thread in begun):
            log.warning("the data plane did not drain in time and is cut off", extra=facts(grace_s=grace_s))
            self._listener.stop()
        for thread in begun:
            thread.join()

    def _run(self, number: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        part = f"the data plane's thread {number}"
        try:
            self._listener.run(number)
        except BaseException as error:
            self._on_failure(part, error)
        else:
            if not self._is_stopping:
                self._on_failure(part, RuntimeError("it ended by itself"))


def open_native_clients(
    config: Config,
    ledger: Ledger,
    tls: ServerContext | None,
    on_failure: OnFailure,
    listening: socket.socket,
    *,
    journal: object | None = None,
    is_holding: bool = False,
) -> NativeClients:
    """The data plane on a bound, non-blocking socket, not yet serving. ConfigError for bounds beyond the memory; then the socket is closed.
    `journal` is its port, to be woken; with `is_holding` answers wait for it."""
    from broker._listener import Listener, install_fatal_dump

    clients = config.clients
    try:
        listener = Listener(
            ledger,
            listening.fileno(),
            thread_count=clients.threads,
            tls=tls,
            renew_grace_ns=to_ns(config.sessions.renew_grace_s),
            connections_max=clients.connections_max,
            streams_max=clients.streams_max,
            handshake_ns=to_ns(clients.handshake_s),
            headers_ns=to_ns(clients.headers_s),
            body_ns=to_ns(clients.body_s),
            idle_ns=to_ns(clients.idle_s),
            write_ns=to_ns(clients.write_s),
            journal=journal,
            is_holding=is_holding,
        )
        behind_traces(lambda: install_fatal_dump(listener, config.data_dir / LAST_COMMANDS_FILE))
    except (OSError, ValueError, MemoryError) as error:
        listening.close()
        reason = f"the data plane cannot be built so: {error or 'not enough memory'}"
        raise ConfigError((ConfigFault(config.source, "clients", reason, "write smaller bounds"),)) from error
    return NativeClients(listener, listening, clients.threads, on_failure)
