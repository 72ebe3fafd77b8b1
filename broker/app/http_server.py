"""The HTTP listener: uvicorn in the broker's own event loop, on a socket of our own, with no say over signals.

The socket is bound before (socket_activation.py), so that a port in use is found before anything is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from broker.app.config import TlsSettings

BACKLOG = 1024
CONNECTIONS_MAX = 1024
START_S = 10.0
KEEP_ALIVE_S = 15
HEADERS_SIZE_MAX = 16 * 1024


class HttpServer:
    """Serves one ASGI application on one bound socket."""

    def __init__(self, application: Any, listener: socket.socket, tls: TlsSettings | None, grace_s: float) -> None:
        self._listener = listener
        settings = uvicorn.Config(
            application,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(grace_s)),
            h11_max_incomplete_event_size=HEADERS_SIZE_MAX,
            **_tls_arguments(tls),
        )
        self._server = _QuietServer(settings)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is really bound."""
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Begins to serve; returns when it does."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="usher-http")
        begun = asyncio.create_task(self._server.begun.wait())
        await asyncio.wait((begun, self._task), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if self._task.done():
            await self._task
            raise RuntimeError("uvicorn ended before it had begun")

    def on_end(self, callback: Callable[[asyncio.Task[None]], None]) -> None:
        """Calls back when it has ended, asked to or not. After `start`."""
        assert self._task is not None
        self._task.add_done_callback(callback)

    async def stop(self) -> None:
        """Takes nothing new, lets calls under way end within the grace, and returns when all is closed."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._listener.close()


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: signals are the broker's. `begun` is set when it serves."""

    def __init__(self, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, and says so."""
        await super().startup(sockets)
        self.begun.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def _tls_arguments(tls: TlsSettings | None) -> dict[str, Any]:
    if tls is None:
        return {}
    arguments: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.private_key}
    if tls.client_ca:
        arguments |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return arguments
