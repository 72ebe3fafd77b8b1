"""The task that keeps one asyncio client's sessions alive: renewer.py with tasks for threads. Decisions are the Keeper's.

One task reads the answers of a KeepAlive stream, another writes what is due; both belong to the client's loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from grpc import aio

from broker.client.errors import translate
from broker.client.keeper import Keeper, News
from broker.client.retry import RetryPolicy
from broker.client.state import SessionState
from broker.v1 import sessions_pb2, sessions_pb2_grpc

KeepAliveCall = aio.StreamStreamCall[sessions_pb2.KeepAliveRequest, sessions_pb2.KeepAliveResponse]

_NANOSECONDS = 1_000_000_000

_log = logging.getLogger("broker.client")


class AsyncRenewer:
    """Keeps sessions alive over a stub. `deliver` is called with news for sessions."""

    def __init__(
        self,
        stub: sessions_pb2_grpc.SessionsAsyncStub,
        target: str,
        policy: RetryPolicy,
        draw: Callable[[], float],
        deliver: Callable[[News], None],
    ) -> None:
        self._stub = stub
        self._target = target
        self._policy = policy
        self._draw = draw
        self._deliver = deliver
        self._keeper = Keeper(round(policy.attempt_s * _NANOSECONDS))
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        """Something to send, or to wait for, may be other than before."""

    def add(self, state: SessionState) -> None:
        """Keeps a session from now on. Overloaded at the client's bound."""
        self._keeper.add(state, time.monotonic_ns())
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="usher-client-renewals")

    def remove(self, state: SessionState) -> None:
        """Keeps a session no more."""
        self._keeper.remove(state.session_id)
        self._changed.set()

    def hasten(self, state: SessionState) -> None:
        """Renews a session at once if what is known of it is in doubt."""
        self._keeper.hasten_if_in_doubt(state, time.monotonic_ns())
        self._changed.set()

    async def stop(self) -> None:
        """Ends the stream and the task."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        failure_count = 0
        while True:
            await self._await_sessions()
            was_heard = await self._run_stream()
            failure_count = 1 if was_heard else failure_count + 1
            self._deliver(self._keeper.on_stream_lost(time.monotonic_ns()))
            await asyncio.sleep(self._draw() * self._policy.pause_s_bound(failure_count))

    async def _await_sessions(self) -> None:
        while not len(self._keeper):
            self._changed.clear()
            await self._changed.wait()

    async def _run_stream(self) -> bool:
        """One stream, from its start to its end; whether the broker answered on it."""
        call = self._stub.KeepAlive()
        writer = asyncio.create_task(self._write(call), name="usher-client-renewals-out")
        was_heard = False
        try:
            async for response in call:
                was_heard = True
                self._deliver(self._keeper.on_response(response, time.monotonic_ns()))
                self._changed.set()
        except aio.AioRpcError as error:
            _log.info("the renewal stream broke, it will be made again: %s", translate(error, self._target))
        except asyncio.CancelledError:
            if is_cancelled():
                raise  # this task; else only the call was, by the writer
        finally:
            writer.cancel()
            call.cancel()
        return was_heard

    async def _write(self, call: KeepAliveCall) -> None:
        """Sends what is due; cancels the call when an answer is late."""
        while not self._keeper.is_late(now_ns := time.monotonic_ns()):
            self._changed.clear()
            message = self._keeper.compose(now_ns)
            if message is None:
                await self._await_change(now_ns)
                continue
            try:
                await call.write(message)
            except (aio.AioRpcError, asyncio.InvalidStateError):
                return  # the reader meets the same end and says it
            except Exception:
                call.cancel()  # else the reader would wait for ever for answers to nothing
                raise
        call.cancel()

    async def _await_change(self, now_ns: int) -> None:
        wake_ns = self._keeper.wake_ns()
        span_s = None if wake_ns is None else max(0, wake_ns - now_ns) / _NANOSECONDS
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), span_s)


def is_cancelled() -> bool:
    """Whether the running task itself was cancelled: grpc raises CancelledError for a cancelled call, too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
