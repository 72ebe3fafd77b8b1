"""Verbs as gRPC methods: bytes in, a verb, bytes out; VerbError as a status with its google.rpc.ErrorInfo.

Messages are parsed here and not by gRPC, because gRPC answers garbage with UNKNOWN, and this API promises INVALID_ARGUMENT.
Each request is counted when its outcome is known and before the call is aborted: grpc.aio does not wait for the
`finally` of an aborted call. What a verb answered leaves through a gate, when the events behind it are on the disk. Event loop's thread
only; verbs that may wait run in a worker thread, one at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from broker.verbs.commits import OPEN_GATE, Gate
from broker.verbs.errors import VerbError, as_verb_error, invalid_field, to_rpc_status
from broker.verbs.stats import RequestStats, outcome_of_answer, outcome_of_status

Context = aio.ServicerContext[bytes, bytes]
RequestType = TypeVar("RequestType", bound=Message)
DETAILS_METADATA = "grpc-status-details-bin"

_STATUS_CODES = {code.name: code for code in grpc.StatusCode}


def parse(request_type: type[RequestType], data: bytes) -> RequestType:
    """The message in the bytes; INVALID_ARGUMENT for garbage and for text that is not UTF-8."""
    try:
        return request_type.FromString(data)
    except DecodeError as error:
        name = request_type.DESCRIPTOR.full_name
        raise invalid_field("message", f"The message is not a valid {name}.") from error


async def abort(context: Context, error: VerbError) -> NoReturn:
    """Ends the call with the error's status and details."""
    details = to_rpc_status(error).SerializeToString()
    await context.abort(_STATUS_CODES[error.status], error.message, ((DETAILS_METADATA, details),))


def unary(
    method: str,
    request_type: type[RequestType],
    verb: Callable[[RequestType, Context], Awaitable[Message] | Message],
    stats: RequestStats,
    guard: Callable[[Context], None] | None = None,
    gate: Gate = OPEN_GATE,
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """A unary method. `method` is its name in the statistics ("Sessions/Open"); the guard sees the call before
    anything of its request is looked at, and raises if it may not go on; the gate is what its answer waits at."""

    async def serve(data: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        try:
            if guard is not None:
                guard(context)
            answer = verb(parse(request_type, data), context)
            response = await answer if isinstance(answer, Awaitable) else answer
            await gate.pass_answer(response)
        except Exception as raised:
            error = as_verb_error(raised, method)
            await gate.pass_error(error)
            stats.observe(method, outcome_of_status(error.status), time.perf_counter() - started)
            await abort(context, error)
        stats.observe(method, outcome_of_answer(response), time.perf_counter() - started)
        return response.SerializeToString()

    return grpc.unary_unary_rpc_method_handler(serve)


class WorkerThread:
    """Runs verbs that may wait for a disk or a lock, one at a time, off the event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    def apart(
        self, verb: Callable[[RequestType], Message]
    ) -> Callable[[RequestType, Context], Awaitable[Message]]:
        """The same verb, in a worker thread."""

        async def in_thread(request: RequestType, _context: Context) -> Message:
            async with self._turn:
                return await asyncio.to_thread(verb, request)

        return in_thread


async def first_of(*steps: Awaitable[object]) -> None:
    """Waits until one of the steps ends, cancels the others, and raises what the ended one raised."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


