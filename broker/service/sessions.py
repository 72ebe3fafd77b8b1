"""The Sessions service: the session verbs as gRPC methods.

KeepAlive runs two tasks a stream, one answering requests and one sending notices, and writes under a lock, because gRPC
takes one message at a time. A stream ends when its client half-closes or leaves, on an error, or when the server stops
(UNAVAILABLE: open it again elsewhere or later); its sessions live on. What tells of a session waits at the gate, a message
at a time: the next request of a stream is read when the answers to the one before have left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import grpc
from google.protobuf.message import Message

from broker.service.methods import Context, RequestType, abort, first_of, parse, unary
from broker.service.tls import identity_of
from broker.v1 import sessions_pb2
from broker.verbs.commits import OPEN_GATE, Gate
from broker.verbs.errors import VerbError, as_verb_error
from broker.verbs.keep_alive import KeepAliveStream
from broker.verbs.sessions import SessionVerbs
from broker.verbs.stats import OK, RequestStats, outcome_of_answer, outcome_of_status

SERVICE = "broker.v1.Sessions"


def sessions_handler(
    verbs: SessionVerbs, stats: RequestStats, *, is_mutual: bool, stopping: asyncio.Event, gate: Gate = OPEN_GATE
) -> grpc.GenericRpcHandler:
    """The whole service. `stopping` ends its streams; `is_mutual`: callers are who their certificates say; `gate`: what answers wait at.

    Of KeepAlive each message is counted, and what a stream ended with if not well.
    """
    identity = _certificate_identity if is_mutual else _no_identity
    streams = _Streams(verbs, stats, stopping, gate)

    def open_session(request: sessions_pb2.OpenRequest, context: Context) -> sessions_pb2.OpenResponse:
        return verbs.open(request, identity(context))

    def served(
        name: str, request_type: type[RequestType], verb: Callable[[RequestType, Context], Message]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        return unary(f"Sessions/{name}", request_type, verb, stats, gate=gate)

    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Open": served("Open", sessions_pb2.OpenRequest, open_session),
        "Renew": served("Renew", sessions_pb2.RenewRequest, lambda request, _: verbs.renew(request)),
        "Acquire": served("Acquire", sessions_pb2.AcquireRequest, lambda request, _: verbs.acquire(request)),
        "Release": served("Release", sessions_pb2.ReleaseRequest, lambda request, _: verbs.release(request)),
        "Close": served("Close", sessions_pb2.CloseRequest, lambda request, _: verbs.close(request)),
        "KeepAlive": grpc.stream_stream_rpc_method_handler(streams.keep_alive),
        "OpenWaiting": grpc.unary_stream_rpc_method_handler(streams.open_waiting),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def stopping_error() -> VerbError:
    """What a stream ends with when the server stops."""
    return VerbError("UNAVAILABLE", "DRAINING", "The broker is stopping; open the stream again later. No session has ended by this.")


class _Streams:
    """The streaming methods."""

    def __init__(self, verbs: SessionVerbs, stats: RequestStats, stopping: asyncio.Event, gate: Gate) -> None:
        self._verbs = verbs
        self._stats = stats
        self._stopping = stopping
        self._gate = gate

    async def keep_alive(self, _requests: AsyncIterator[bytes], context: Context) -> None:
        """One KeepAlive stream, from its first message to its end."""
        stream = self._verbs.keep_alive_stream()
        call = _KeepAliveCall(stream, context, self._stats, self._gate)
        try:
            await context.send_initial_metadata(())
            await first_of(call.answer_requests(), call.send_notices(), stream.overflow(), _raise_when(self._stopping))
        except Exception as raised:
            error = as_verb_error(raised, "Sessions/KeepAlive")
            self._stats.observe("Sessions/KeepAlive", outcome_of_status(error.status), 0.0)
        else:
            return
        finally:
            stream.close()
        await abort(context, error)

    async def open_waiting(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        """One OpenWaiting: a single message, as long as there is no waitlist."""
        started = time.perf_counter()
        try:
            response = self._verbs.open_waiting(parse(sessions_pb2.OpenWaitingRequest, data))
        except Exception as raised:
            error = as_verb_error(raised, "Sessions/OpenWaiting")
            self._stats.observe("Sessions/OpenWaiting", outcome_of_status(error.status), time.perf_counter() - started)
            await abort(context, error)
        self._stats.observe("Sessions/OpenWaiting", outcome_of_answer(response), time.perf_counter() - started)
        yield response.SerializeToString()


class _KeepAliveCall:
    """The two directions of one stream."""

    def __init__(self, stream: KeepAliveStream, context: Context, stats: RequestStats, gate: Gate) -> None:
        self._stream = stream
        self._context = context
        self._stats = stats
        self._gate = gate
        self._turn = asyncio.Lock()

    async def answer_requests(self) -> None:
        """Until the client has no more requests."""
        while True:
            data: object = await self._context.read()
            if not isinstance(data, bytes):
                return  # gRPC's mark for the end of the requests
            responses = self._answer(data)
            if responses:
                await self._gate.wait()
            for response in responses:
                await self._write(response)

    async def send_notices(self) -> None:
        """Until cancelled."""
        while True:
            notices = await self._stream.notices()
            await self._gate.wait()
            await self._write(notices)

    def _answer(self, data: bytes) -> list[sessions_pb2.KeepAliveResponse]:
        started = time.perf_counter()
        responses = self._stream.answer(parse(sessions_pb2.KeepAliveRequest, data))
        self._stats.observe("Sessions/KeepAlive", OK, time.perf_counter() - started)
        return responses

    async def _write(self, response: sessions_pb2.KeepAliveResponse) -> None:
        async with self._turn:
            await self._context.write(response.SerializeToString())


async def _raise_when(stopping: asyncio.Event) -> None:
    await stopping.wait()
    raise stopping_error()


def _certificate_identity(context: Context) -> str:
    return identity_of(context.auth_context())


def _no_identity(_context: Context) -> str:
    return ""
