"""A toy echo server in plain Python around the sans-I/O connection: sockets and a clock, one thread a connection.

Methods of /toy.Echo: Unary answers its message; Repeat (server stream) says it ten times; Join (client stream) answers
all messages in one; Chat (bidi) answers each; Slow never answers; Fail finishes with a status, a sentence and details;
Metadata answers what headers were kept; Large answers as many bytes as the message says.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from broker._h2 import Event, ServerConnection

METHODS = {
    "/toy.Echo/Unary": "unary",
    "/toy.Echo/Repeat": "server_stream",
    "/toy.Echo/Join": "client_stream",
    "/toy.Echo/Chat": "bidi",
    "/toy.Echo/Slow": "unary",
    "/toy.Echo/Fail": "unary",
    "/toy.Echo/Metadata": "unary",
    "/toy.Echo/Large": "unary",
}
NAMES = [path.rpartition("/")[2] for path in METHODS]
REPEATS = 10
FAILURE = (5, "no such seat: 100% gone — прости\n", b"\x08\x05\x12\x04gone")
SETTINGS = {
    "is_metadata_kept": 1,
    "streams_max": 1024,
    "message_size_max": 8 << 20,
    "buffered_size_max": 32 << 20,
    "memory_size_max": 64 << 20,
}


class Echo:
    """Answers events; remembers which kinds came."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._joined: dict[int, list[bytes]] = {}
        self.kinds: list[str] = []

    def take(self, event: Event) -> None:
        """One event."""
        kind, name, method, data, is_last, _, metadata, _, _ = event
        self.kinds.append(kind)
        if kind == "message" and is_last:
            self._answer(name, NAMES[method], data, metadata)
        elif kind == "message" and NAMES[method] == "Chat":
            self._connection.message(name, data)
        elif kind == "message":
            self._joined.setdefault(name, []).append(data)
        elif kind == "half_closed":
            if NAMES[method] == "Join":
                self._connection.message(name, b"".join(self._joined.pop(name, [])))
            self._connection.finish(name)

    def _answer(self, name: int, method: str, data: bytes, metadata: tuple[tuple[bytes, bytes], ...]) -> None:
        if method == "Slow":
            return
        if method == "Fail":
            self._connection.finish(name, *FAILURE)
            return
        answers = {
            "Repeat": [data] * REPEATS,
            "Metadata": [b"\n".join(b"=".join(pair) for pair in metadata)],
            "Large": [bytes(int(data))] if method == "Large" else [],
        }
        for answer in answers.get(method, [data]):
            self._connection.message(name, answer)
        self._connection.finish(name)


class Pump:
    """Listens on a free port of 127.0.0.1 and serves each connection in a thread."""

    def __init__(self, **settings: int) -> None:
        self._settings = SETTINGS | settings
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.served: list[ServerConnection] = []
        self.echoes: list[Echo] = []
        self.has_cancelled = threading.Event()
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            connection = ServerConnection(METHODS, time.monotonic_ns(), **self._settings)
            echo = Echo(connection)
            self.served.append(connection)
            self.echoes.append(echo)
            self._sockets.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer, connection, echo))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket, connection: ServerConnection, echo: Echo) -> None:
        with peer, contextlib.suppress(OSError):
            while not connection.can_close:
                while data := connection.output(now_ns=time.monotonic_ns()):
                    peer.sendall(data)
                due = connection.next_due_ns()
                peer.settimeout(None if due is None else max(0.001, (due - time.monotonic_ns()) / 1e9))
                try:
                    received = peer.recv(65536)
                except TimeoutError:
                    events = connection.on_time(time.monotonic_ns())
                else:
                    if not received:
                        return
                    events = connection.feed(time.monotonic_ns(), received)
                for event in events:
                    echo.take(event)
                    if event[0] == "cancelled":
                        self.has_cancelled.set()

    def close(self) -> None:
        """Ends everything and waits for it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for peer in self._sockets:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def pump(**settings: int) -> Iterator[Pump]:
    """A pump that is closed at the end."""
    one = Pump(**settings)
    try:
        yield one
    finally:
        one.close()
