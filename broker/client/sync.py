"""The sync client: sessions on one channel, renewed by a background thread.

    with client.open("broker.local:7600", user="anna", products=["platform", "crm"]) as session:
        ...

Every method may be called from any thread. Calls block for at most `RetryPolicy.total_s`. Leaving the with-block closes; a crash
does not, then the session ends by its ttl. Start clients after fork, not before: grpc's threads do not survive it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self, TypeVar, Unpack

import grpc

from broker.client import requests
from broker.client.answers import check_usable, describe, granted
from broker.client.courier import Courier, NoticeCallback
from broker.client.errors import ClientClosed, Denied, Overloaded, SessionLost, UsherError, translate
from broker.client.keeper import News
from broker.client.renewer import Renewer
from broker.client.retry import Attempts, RetryPolicy
from broker.client.state import SessionState, Standing
from broker.client.target import THIS_MACHINE, Tls, channel_credentials, channel_options, full_target
from broker.client.values import Acquired, Denial, Lease, Notice, denial_of, denials_of, leases_of
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2

_log = logging.getLogger("broker.client")

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class _Method(Protocol[Request, Response]):
    """A unary call of grpc."""

    def __call__(self, request: Request, timeout: float | None = None) -> Response: ...


class Client:
    """A channel to one broker, and the sessions on it.

    `target` is `host`, `host:port` or any target of grpc; the default is port 7600 of this machine. Nothing is connected before the first call.
    Closing it closes its sessions.
    """

    def __init__(
        self, target: str = THIS_MACHINE, *, tls: Tls | None = None, retry: RetryPolicy | None = None
    ) -> None:
        self.target = full_target(target)
        self._retry = retry or RetryPolicy()
        self._draw: Callable[[], float] = random.random
        options = channel_options(tls)
        if tls is None:
            self._channel = grpc.insecure_channel(self.target, options)
        else:
            self._channel = grpc.secure_channel(self.target, channel_credentials(tls), options)
        self._stub = sessions_pb2_grpc.SessionsStub(self._channel)
        self._courier = Courier()
        self._renewer = Renewer(self._stub, self.target, self._retry, self._draw, self._deliver)
        self._sessions: dict[bytes, Session] = {}
        self._closing = threading.Event()

    def open(self, *, on_notice: NoticeCallback | None = None, **login: Unpack[requests.Login]) -> Session:
        """Opens a session with all of `products` and what there is of `optional`.

        Takes `user`, `products` and the other entries of `Login`, all by name. Raises Denied, InvalidRequest, NotAuthorised,
        Overloaded, Unreachable, ClientClosed.
        """
        request = requests.open_request(login)
        sent_ns = time.monotonic_ns()
        answer = self._call(self._stub.Open, request, longer_s=login.get("wait_limit_s") or 0.0)
        return self._admit(granted(answer), sent_ns, on_notice)

    def close(self) -> None:
        """Closes all sessions and the channel. Sessions that the broker cannot be told about end by their ttl."""
        for session in list(self._sessions.values()):
            if not session._close_quietly():
                break
        self._closing.set()
        self._renewer.stop()
        self._courier.close()
        self._channel.close()

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.target}: {self.session_count} sessions>"

    def _admit(self, grant: types_pb2.Grant, sent_ns: int, on_notice: NoticeCallback | None) -> Session:
        state = SessionState(grant, sent_ns)
        session = Session(self, state)
        if on_notice is not None:
            session.on_notice(on_notice)
        self._sessions[state.session_id] = session
        try:
            self._renewer.add(state)
        except Overloaded:
            session._close_quietly()
            raise
        return session

    def _drop(self, state: SessionState) -> None:
        self._renewer.remove(state)
        self._sessions.pop(state.session_id, None)

    def _call(
        self,
        method: _Method[Request, Response],
        request: Request,
        *,
        public_id: str = "",
        longer_s: float = 0.0,
    ) -> Response:
        """One call with its retries: the same message each time, so the same request_id."""
        policy = self._retry
        if longer_s:
            policy = replace(policy, attempt_s=policy.attempt_s + longer_s, total_s=policy.total_s + longer_s)
        attempts = Attempts(policy, time.monotonic_ns(), self._draw)
        while True:
            if self._closing.is_set():
                raise ClientClosed
            try:
                return method(request, timeout=attempts.attempt_s(time.monotonic_ns()))
            except grpc.RpcError as error:
                pause_s = attempts.pause_s(error.code(), time.monotonic_ns())
                if pause_s is None:
                    raise translate(
                        error, self.target, public_id=public_id, attempt_count=attempts.failure_count
                    ) from error
            except ValueError as error:  # grpc's word for a channel that was closed
                raise ClientClosed from error
            self._closing.wait(pause_s)

    def _deliver(self, news: News) -> None:
        """Called by the renewer's thread, and by calls that find a session gone."""
        for state, notice in news:
            session = self._sessions.get(state.session_id)
            if session is None:
                continue
            if state.is_over:
                self._sessions.pop(state.session_id, None)
            session._receive(notice)


class Session:
    """An open session: made by `client.open` or `Client.open`, kept alive in the background until closed or lost."""

    def __init__(self, client: Client, state: SessionState) -> None:
        self._client = client
        self._state = state
        self._lock = client._renewer.condition
        self._callbacks: list[NoticeCallback] = []
        self._owns_client = False
        self.lost = threading.Event()
        """Set when the broker has said that the session is over, other than by `close`."""

    @property
    def public_id(self) -> str:
        """The short id under which admins see the session. No secret."""
        return self._state.public_id

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What is held now, in the order of granting; a lease in key grace is among them."""
        with self._lock:
            return self._state.leases

    @property
    def unavailable(self) -> tuple[Denial, ...]:
        """Optional products that were not available when the session was opened."""
        return self._state.unavailable

    @property
    def is_confirmed(self) -> bool:
        """The broker's last word still holds: the seats are ours. False also once closed or lost."""
        with self._lock:
            is_recent = time.monotonic_ns() < self._state.confirmed_until_ns
            return is_recent and self._state.standing is Standing.HELD

    @property
    def end_reason(self) -> str:
        """Why the session was lost (`expired`, `revoked` ...); empty while it is not, or when the broker forgot it."""
        return self._state.end_reason

    def holds(self, product: str) -> bool:
        """Whether the session has a lease of the product now."""
        return any(lease.product == product for lease in self.leases)

    def on_notice(self, callback: NoticeCallback) -> NoticeCallback:
        """Calls back with every later Notice, in a thread of the client, in order. Usable as a decorator."""
        with self._lock:
            self._callbacks.append(callback)
        return callback

    def renew(self) -> tuple[Lease, ...]:
        """Asks the broker now, beside the background; the leases held. Raises SessionLost, Unreachable ..."""
        sent_ns = time.monotonic_ns()
        with self._lock:
            request = sessions_pb2.RenewRequest(
                session_id=self._state.session_id, change_version=self._state.change_version
            )
        answer = self._session_call(self._client._stub.Renew, request)
        with self._lock:
            notices = self._state.on_renewed(answer, sent_ns)
        self._client._deliver([(self._state, notice) for notice in notices])
        return self.leases

    def acquire(self, *products: str, optional: Iterable[str] = ()) -> Acquired:
        """Adds all of the products, and what there is of the optional ones. Raises Denied, SessionLost, Unreachable ..."""
        request = requests.acquire_request(self._state.session_id, products, optional)
        answer = self._session_call(self._client._stub.Acquire, request)
        if answer.WhichOneof("result") == "denial":
            raise Denied(denial_of(answer.denial))
        with self._lock:
            self._state.on_acquired(answer.acquired)
        self._client._renewer.hasten(self._state)
        return Acquired(leases_of(answer.acquired.leases), denials_of(answer.acquired.unavailable))

    def release(self, product: str) -> bool:
        """Gives one product back; whether it was held. Raises Denied when another product needs it, SessionLost ..."""
        request = requests.release_request(self._state.session_id, product)
        answer = self._session_call(self._client._stub.Release, request)
        if answer.WhichOneof("result") == "denial":
            raise Denied(denial_of(answer.denial))
        with self._lock:
            self._state.on_released(product)
        return answer.released.was_held

    def close(self) -> None:
        """Gives everything back. Closing again, or what is lost already, does nothing.

        Raises Unreachable when the broker cannot be told; the session is then over for this client, and ends by its ttl.
        """
        try:
            self._close()
        finally:
            if self._owns_client:
                self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_quietly()
        if self._owns_client:
            self._client.close()

    def __repr__(self) -> str:
        return describe(self._state, self.leases)

    def _session_call(self, method: _Method[Request, Response], request: Request) -> Response:
        with self._lock:
            check_usable(self._state)
        try:
            return self._client._call(method, request, public_id=self.public_id)
        except SessionLost:
            with self._lock:
                notices = self._state.on_ended(0)
            self._client._renewer.remove(self._state)
            self._client._deliver([(self._state, notice) for notice in notices])
            raise

    def _close(self) -> None:
        with self._lock:
            was_over = self._state.is_over
            self._state.on_closed()
        self._client._drop(self._state)
        if was_over:
            return
        try:
            self._client._call(self._client._stub.Close, requests.close_request(self._state.session_id))
        except SessionLost:
            _log.debug("session %s was over before it was closed", self.public_id)

    def _close_quietly(self) -> bool:
        """For the end of a with-block, whose own error must not be hidden; whether the broker could be told."""
        try:
            self._close()
        except UsherError as error:
            _log.warning("session %s was not closed, it ends by its ttl: %s", self.public_id, error)
            return False
        return True

    def _receive(self, notice: Notice) -> None:
        if self._state.is_over:
            self.lost.set()
        with self._lock:
            callbacks = list(self._callbacks)
        self._client._courier.send(callbacks, notice)


def open_session(
    target: str = THIS_MACHINE,
    *,
    tls: Tls | None = None,
    retry: RetryPolicy | None = None,
    on_notice: NoticeCallback | None = None,
    **login: Unpack[requests.Login],
) -> Session:
    """Opens one session on a channel of its own; closing the session closes the channel. See `Client.open`."""
    client = Client(target, tls=tls, retry=retry)
    try:
        session = client.open(on_notice=on_notice, **login)
    except BaseException:
        client.close()
        raise
    session._owns_client = True
    return session
