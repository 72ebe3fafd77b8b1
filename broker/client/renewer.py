"""The thread that keeps one sync client's sessions alive: it runs KeepAlive streams, one after another.

The stream has no deadline of its own; each renewal on it has (`RetryPolicy.attempt_s`): one that is not answered in time
breaks the stream, and a new one is made after a jittered pause, for as long as there are sessions. Decisions are the
Keeper's. Threads: this one reads the answers; grpc's own thread runs `_messages`, which sends; any thread adds and
removes. All meet under `condition`. Daemon, because an app that ends without closing must end: the ttl frees its seats.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from broker.client.errors import translate
from broker.client.keeper import Keeper, News
from broker.client.retry import RetryPolicy
from broker.client.state import SessionState
from broker.v1 import sessions_pb2, sessions_pb2_grpc

_NANOSECONDS = 1_000_000_000

_log = logging.getLogger("broker.client")


@dataclass(slots=True)
class _Stream:
    """One KeepAlive call, as its two threads share it."""

    call: grpc.Call | None = None
    is_over: bool = False


class Renewer:
    """Keeps sessions alive over a stub. `deliver` is called, without the lock, with news for sessions."""

    def __init__(
        self,
        stub: sessions_pb2_grpc.SessionsStub,
        target: str,
        policy: RetryPolicy,
        draw: Callable[[], float],
        deliver: Callable[[News], None],
    ) -> None:
        self.condition = threading.Condition()
        """Guards the keeper and every session's state."""
        self._stub = stub
        self._target = target
        self._policy = policy
        self._draw = draw
        self._deliver = deliver
        self._keeper = Keeper(round(policy.attempt_s * _NANOSECONDS))
        self._thread: threading.Thread | None = None
        self._stream = _Stream(is_over=True)
        self._is_stopping = False

    def add(self, state: SessionState) -> None:
        """Keeps a session from now on. Overloaded at the client's bound."""
        with self.condition:
            self._keeper.add(state, time.monotonic_ns())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="usher-client-renewals", daemon=True)
                self._thread.start()
            self.condition.notify_all()

    def remove(self, state: SessionState) -> None:
        """Keeps a session no more."""
        with self.condition:
            self._keeper.remove(state.session_id)
            self.condition.notify_all()

    def hasten(self, state: SessionState) -> None:
        """Renews a session at once if what is known of it is in doubt."""
        with self.condition:
            self._keeper.hasten_if_in_doubt(state, time.monotonic_ns())
            self.condition.notify_all()

    def stop(self) -> None:
        """Ends the stream and the thread."""
        with self.condition:
            self._is_stopping = True
            call = self._stream.call
            self.condition.notify_all()
        if call is not None:
            call.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._policy.attempt_s)

    def _run(self) -> None:
        failure_count = 0
        while self._await_sessions():
            was_heard = self._run_stream()
            failure_count = 1 if was_heard else failure_count + 1
            with self.condition:
                news = self._keeper.on_stream_lost(time.monotonic_ns())
            self._deliver(news)
            self._pause(self._draw() * self._policy.pause_s_bound(failure_count))

    def _await_sessions(self) -> bool:
        """Whether to go on: there are sessions to keep."""
        with self.condition:
            self.condition.wait_for(lambda: self._is_stopping or len(self._keeper) > 0)
            return not self._is_stopping

    def _pause(self, span_s: float) -> None:
        with self.condition:
            self.condition.wait_for(lambda: self._is_stopping, span_s)

    def _run_stream(self) -> bool:
        """One stream, from its start to its end; whether the broker answered on it."""
        stream = _Stream()
        was_heard = False
        try:
            call = self._stub.KeepAlive(self._messages(stream))
            self._begin(stream, call)
            for response in call:
                was_heard = True
                self._take_in(response)
        except grpc.RpcError as error:
            self._log_break(error)
        except ValueError as error:  # grpc's word for a channel that was closed
            _log.debug("renewals end: %s", error)
        finally:
            self._finish(stream)
        return was_heard

    def _begin(self, stream: _Stream, call: grpc.Call) -> None:
        with self.condition:
            stream.call = call
            self._stream = stream
            is_stopping = self._is_stopping
        if is_stopping:
            call.cancel()

    def _finish(self, stream: _Stream) -> None:
        with self.condition:
            stream.is_over = True
            self.condition.notify_all()
        if stream.call is not None:
            stream.call.cancel()

    def _take_in(self, response: sessions_pb2.KeepAliveResponse) -> None:
        with self.condition:
            news = self._keeper.on_response(response, time.monotonic_ns())
            self.condition.notify_all()
        self._deliver(news)

    def _messages(self, stream: _Stream) -> Iterator[sessions_pb2.KeepAliveRequest]:
        while (message := self._await_message(stream)) is not None:
            yield message

    def _await_message(self, stream: _Stream) -> sessions_pb2.KeepAliveRequest | None:
        """The next message to send; None when the stream is over, or must be because an answer is late."""
        with self.condition:
            while not (stream.is_over or self._is_stopping):
                now_ns = time.monotonic_ns()
                if self._keeper.is_late(now_ns):
                    break
                message = self._keeper.compose(now_ns)
                if message is not None:
                    return message
                wake_ns = self._keeper.wake_ns()
                self.condition.wait(None if wake_ns is None else max(0, wake_ns - now_ns) / _NANOSECONDS)
        if stream.call is not None and not stream.is_over:
            stream.call.cancel()
        return None

    def _log_break(self, error: grpc.RpcError) -> None:
        if not self._is_stopping:
            _log.info("the renewal stream broke, it will be made again: %s", translate(error, self._target))
