"""Servers that lie to a storm: Sessions as one function over bytes, and HTTP/2 frame by frame.

`lying_sessions` is grpcio with generic handlers, so that an answer can be anything: several messages, none, other bytes. `FrameServer`
speaks through the h2 package and decides for each call of each connection what becomes of it. Both serve on loopback, port 0.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events

from broker.v1 import sessions_pb2, types_pb2

Call = Callable[[str, bytes, grpc.ServicerContext], Iterator[bytes]]
"""(method, request, context) -> the messages of the answer."""

READ_SIZE = 65536
ANSWER = b"\x00\x00\x00\x00\x00"
"""An empty message behind its gRPC prefix."""


class HonestSessions:
    """Sessions with seats for all; subclasses lie in one of its methods."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._granted: dict[bytes, bytes] = {}
        self._mutex = threading.Lock()

    def __call__(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from getattr(self, method.lower())(request, context)

    def grant(self, session_id: bytes, replayed: bool) -> bytes:
        """An OpenResponse."""
        return bytes(sessions_pb2.OpenResponse(grant=types_pb2.Grant(session_id=session_id, replayed=replayed)).SerializeToString())

    def fresh_id(self) -> bytes:
        """A session id that was never given."""
        return next(self._ids).to_bytes(32, "big")

    def open(self, request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        request_id = sessions_pb2.OpenRequest.FromString(request).request_id
        with self._mutex:
            is_known = request_id in self._granted
            session_id = self._granted.setdefault(request_id, self._granted.get(request_id) or self.fresh_id())
        yield self.grant(session_id, is_known)

    def renew(self, _: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
        yield b""

    def close(self, _: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
        yield bytes(sessions_pb2.CloseResponse(end_reason=types_pb2.END_REASON_CLOSED).SerializeToString())


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, call: Call) -> None:
        self._call = call

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = handler_call_details.method.rpartition("/")[2]
        return grpc.unary_stream_rpc_method_handler(lambda request, context: self._call(method, request, context))


@contextmanager
def lying_sessions(call: Call, *, workers: int = 8) -> Iterator[int]:
    """A grpcio server whose answers `call` gives; its port."""
    with ThreadPoolExecutor(workers) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers([_AnyMethod(call)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait()


class FrameServer:
    """An HTTP/2 server of one thread a connection. `on_calls(connection, calls)` is told of the streams that have asked and
    not been answered, and says more by `answer`, `refuse`, `goaway`, `cut`."""

    def __init__(self, on_calls: Callable[[FrameConnection, list[int]], None]) -> None:
        self.on_calls = on_calls
        self.connections: list[FrameConnection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, name="frames")]

    def __enter__(self) -> FrameServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_listening()
        for thread in self._threads:
            thread.join()

    def stop_listening(self) -> None:
        """No new connections. Again: nothing."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            connection = FrameConnection(self, client, len(self.connections))
            self.connections.append(connection)
            self._threads.append(threading.Thread(target=connection.serve, name="frames"))
            self._threads[-1].start()


class FrameConnection:
    """One connection; its methods are called in its own thread."""

    def __init__(self, server: FrameServer, client: socket.socket, number: int) -> None:
        self.number = number
        self.answered_count = 0
        self._server = server
        self._client = client
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._asking: list[int] = []
        self._is_cut = False

    def serve(self) -> None:
        """Until either side ends it."""
        self._h2.initiate_connection()
        with self._client:
            self._send()
            while not self._is_cut and (data := self._read()):
                for event in self._h2.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded) and event.stream_id is not None:
                        self._asking.append(event.stream_id)
                self._server.on_calls(self, list(self._asking))
                self._send()

    def answer(self, stream_id: int) -> None:
        """An empty message and grpc-status 0."""
        self._asking.remove(stream_id)
        self.answered_count += 1
        self._h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        self._h2.send_data(stream_id, ANSWER)
        self._h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)

    def refuse(self, stream_id: int) -> None:
        """RST_STREAM, REFUSED_STREAM."""
        self._asking.remove(stream_id)
        self._h2.reset_stream(stream_id, 7)

    def goaway(self, last_stream_id: int) -> None:
        """GOAWAY; streams above were not processed. The last word."""
        self._h2.close_connection(0, last_stream_id=last_stream_id)
        self._asking.clear()

    def babble(self, data: bytes) -> None:
        """Bytes that h2 would not say."""
        with suppress(OSError):
            self._client.sendall(data)

    def cut(self) -> None:
        """The end, without a word. Any thread."""
        self._send()
        self._is_cut = True
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _read(self) -> bytes:
        try:
            return self._client.recv(READ_SIZE)
        except OSError:
            return b""

    def _send(self) -> None:
        self.babble(self._h2.data_to_send())
