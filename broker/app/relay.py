"""A relay from a listening socket of ours to a server that binds its own: bytes in, bytes out, half-closes kept.

grpcio binds by itself and takes no socket from anybody. For a socket that is handed over, by systemd or from one broker to the next, it
listens on an abstract unix socket of a random name, and this carries each connection there. TLS passes through untouched. The admin port has
little traffic; client apps never come this way. Event loop's thread; at most CONNECTIONS_MAX at once, more are closed as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket

BACKLOG = 1024
CONNECTIONS_MAX = 512
CHUNK_SIZE = 64 * 1024


def fresh_name() -> str:
    """A name for an abstract unix socket that nobody guesses and nobody has."""
    return f"usher-{secrets.token_hex(16)}"


class Relay:
    """Connections of one socket, carried to one unix socket."""

    def __init__(self, listening: socket.socket, name: str) -> None:
        self._listening = listening
        self._name = name
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> socket.socket:
        """The socket that it accepts from."""
        return self._listening

    @property
    def port(self) -> int:
        """The port that is really bound."""
        return int(self._listening.getsockname()[1])

    async def start(self) -> None:
        """Carries from now on."""
        self._server = await asyncio.start_server(self._accept, sock=self._listening, backlog=BACKLOG)

    def stop_accepting(self) -> None:
        """Connections to come wait in the kernel for the next broker, or are refused if there is none."""
        if self._server is not None:
            self._server.close()
        self._listening.close()

    async def stop(self) -> None:
        """Ends what is left; after the server behind it has stopped."""
        self.stop_accepting()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS_MAX:
            writer.close()
            return
        task = asyncio.create_task(self._carry(reader, writer), name="usher-relay")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection("\0" + self._name)
        except OSError:
            writer.close()  # the server behind has gone
            return
        outward = asyncio.create_task(_pump(reader, inner_writer), name="usher-relay-outward")
        try:
            # The server's end is the end: a client that only reads on must not keep its place for ever.
            await _pump(inner_reader, writer)
        finally:
            outward.cancel()
            inner_writer.close()
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carries one direction to its end, and says there that it has ended. Either side may go at any time."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_SIZE):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
