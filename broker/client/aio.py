"""The asyncio client: the same sessions as sync.py, renewed by a task of the caller's loop.

    async with client.open_async("broker.local:7600", user="anna", products=["platform", "crm"]) as session:
        ...

An AsyncClient belongs to the loop in which it was made. Decisions (what to renew, when to try again, what a message means)
are shared with the sync client; this file only awaits. Callbacks may be plain functions or coroutine functions; they run in order
in a task of their own, so that a slow one delays no renewal. A loop that is blocked renews nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack

from grpc import aio

from broker.client import requests
from broker.client.aio_courier import AsyncCourier
from broker.client.aio_renewer import AsyncRenewer, is_cancelled
from broker.client.answers import check_usable, describe, granted
from broker.client.courier import NoticeCallback
from broker.client.errors import ClientClosed, Denied, Overloaded, SessionLost, UsherError, translate
from broker.client.keeper import News
from broker.client.retry import Attempts, RetryPolicy
from broker.client.state import SessionState, Standing
from broker.client.target import THIS_MACHINE, Tls, channel_credentials, channel_options, full_target
from broker.client.values import Acquired, Denial, Lease, Notice, denial_of, denials_of, leases_of
from broker.v1 import sessions_pb2, sessions_pb2_grpc

_log = logging.getLogger("broker.client")

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class _Method(Protocol[Request, Response]):
    """A unary call of grpc.aio."""

    def __call__(self, request: Request, *, timeout: float | None = None) -> Awaitable[Response]: ...


class AsyncClient:
    """A channel to one broker, and the sessions on it. See `sync.Client`; make it inside a running loop."""

    def __init__(
        self, target: str = THIS_MACHINE, *, tls: Tls | None = None, retry: RetryPolicy | None = None
    ) -> None:
        self.target = full_target(target)
        self._retry = retry or RetryPolicy()
        self._draw: Callable[[], float] = random.random
        options = channel_options(tls)
        if tls is None:
            self._channel = aio.insecure_channel(self.target, options)
        else:
            self._channel = aio.secure_channel(self.target, channel_credentials(tls), options)
        self._stub = sessions_pb2_grpc.SessionsStub(self._channel)
        self._renewer = AsyncRenewer(self._stub, self.target, self._retry, self._draw, self._deliver)
        self._courier = AsyncCourier()
        self._sessions: dict[bytes, AsyncSession] = {}
        self._is_closed = False

    def open(self, *, on_notice: NoticeCallback | None = None, **login: Unpack[requests.Login]) -> Opening:
        """Opens a session: await it, or use it in `async with`. Arguments and errors as of `sync.Client.open`."""
        return Opening(self._open(requests.open_request(login), login.get("wait_limit_s") or 0.0, on_notice))

    async def close(self) -> None:
        """Closes all sessions and the channel. Sessions that the broker cannot be told about end by their ttl."""
        for session in list(self._sessions.values()):
            if not await session._close_quietly():
                break
        self._is_closed = True
        await self._renewer.stop()
        await self._channel.close()
        self._courier.close()

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.target}: {self.session_count} sessions>"

    async def _open(
        self, request: sessions_pb2.OpenRequest, wait_limit_s: float, on_notice: NoticeCallback | None
    ) -> AsyncSession:
        sent_ns = time.monotonic_ns()
        answer = await self._call(self._stub.Open, request, longer_s=wait_limit_s)
        state = SessionState(granted(answer), sent_ns)
        session = AsyncSession(self, state)
        if on_notice is not None:
            session.on_notice(on_notice)
        self._sessions[state.session_id] = session
        try:
            self._renewer.add(state)
        except Overloaded:
            await session._close_quietly()
            raise
        return session

    def _drop(self, state: SessionState) -> None:
        self._renewer.remove(state)
        self._sessions.pop(state.session_id, None)

    async def _call(
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
            if self._is_closed:
                raise ClientClosed
            try:
                return await method(request, timeout=attempts.attempt_s(time.monotonic_ns()))
            except aio.AioRpcError as error:
                pause_s = attempts.pause_s(error.code(), time.monotonic_ns())
                if pause_s is None:
                    raise translate(
                        error, self.target, public_id=public_id, attempt_count=attempts.failure_count
                    ) from error
            except aio.UsageError as error:  # grpc's word for a channel that was closed
                raise ClientClosed from error
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                raise ClientClosed from None  # its word for a channel that is closed amid a call
            await asyncio.sleep(pause_s)

    def _deliver(self, news: News) -> None:
        for state, notice in news:
            session = self._sessions.get(state.session_id)
            if session is None:
                continue
            if state.is_over:
                self._sessions.pop(state.session_id, None)
            session._receive(notice)


class AsyncSession:
    """An open session, kept alive by a task until closed or lost. See `sync.Session`."""

    def __init__(self, client: AsyncClient, state: SessionState) -> None:
        self._client = client
        self._state = state
        self._callbacks: list[NoticeCallback] = []
        self._owns_client = False
        self.lost = asyncio.Event()
        """Set when the broker has said that the session is over, other than by `close`."""

    @property
    def public_id(self) -> str:
        """The short id under which admins see the session. No secret."""
        return self._state.public_id

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What is held now, in the order of granting; a lease in key grace is among them."""
        return self._state.leases

    @property
    def unavailable(self) -> tuple[Denial, ...]:
        """Optional products that were not available when the session was opened."""
        return self._state.unavailable

    @property
    def is_confirmed(self) -> bool:
        """The broker's last word still holds: the seats are ours. False also once closed or lost."""
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
        """Calls back with every later Notice, in order. Usable as a decorator."""
        self._callbacks.append(callback)
        return callback

    async def renew(self) -> tuple[Lease, ...]:
        """Asks the broker now, beside the background; the leases held. Raises SessionLost, Unreachable ..."""
        sent_ns = time.monotonic_ns()
        request = sessions_pb2.RenewRequest(
            session_id=self._state.session_id, change_version=self._state.change_version
        )
        answer = await self._session_call(self._client._stub.Renew, request)
        notices = self._state.on_renewed(answer, sent_ns)
        self._client._deliver([(self._state, notice) for notice in notices])
        return self.leases

    async def acquire(self, *products: str, optional: Iterable[str] = ()) -> Acquired:
        """Adds all of the products, and what there is of the optional ones. Raises Denied, SessionLost, Unreachable ..."""
        request = requests.acquire_request(self._state.session_id, products, optional)
        answer = await self._session_call(self._client._stub.Acquire, request)
        if answer.WhichOneof("result") == "denial":
            raise Denied(denial_of(answer.denial))
        self._state.on_acquired(answer.acquired)
        self._client._renewer.hasten(self._state)
        return Acquired(leases_of(answer.acquired.leases), denials_of(answer.acquired.unavailable))

    async def release(self, product: str) -> bool:
        """Gives one product back; whether it was held. Raises Denied when another product needs it, SessionLost ..."""
        request = requests.release_request(self._state.session_id, product)
        answer = await self._session_call(self._client._stub.Release, request)
        if answer.WhichOneof("result") == "denial":
            raise Denied(denial_of(answer.denial))
        self._state.on_released(product)
        return answer.released.was_held

    async def close(self) -> None:
        """Gives everything back. Closing again, or what is lost already, does nothing. Raises Unreachable."""
        try:
            await self._close()
        finally:
            if self._owns_client:
                await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close_quietly()
        if self._owns_client:
            await self._client.close()

    def __repr__(self) -> str:
        return describe(self._state, self.leases)

    async def _session_call(self, method: _Method[Request, Response], request: Request) -> Response:
        check_usable(self._state)
        try:
            return await self._client._call(method, request, public_id=self.public_id)
        except SessionLost:
            notices = self._state.on_ended(0)
            self._client._renewer.remove(self._state)
            self._client._deliver([(self._state, notice) for notice in notices])
            raise

    async def _close(self) -> None:
        was_over = self._state.is_over
        self._state.on_closed()
        self._client._drop(self._state)
        if was_over:
            return
        try:
            await self._client._call(self._client._stub.Close, requests.close_request(self._state.session_id))
        except SessionLost:
            _log.debug("session %s was over before it was closed", self.public_id)

    async def _close_quietly(self) -> bool:
        """For the end of a with-block, whose own error must not be hidden; whether the broker could be told."""
        try:
            await self._close()
        except UsherError as error:
            _log.warning("session %s was not closed, it ends by its ttl: %s", self.public_id, error)
            return False
        return True

    def _receive(self, notice: Notice) -> None:
        if self._state.is_over:
            self.lost.set()
        self._client._courier.send(self._callbacks, notice)


class Opening:
    """A session that is being opened: `session = await opening`, or `async with opening as session`."""

    def __init__(self, opening: Coroutine[Any, Any, AsyncSession]) -> None:
        self._opening = opening
        self._session: AsyncSession | None = None

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._opening.__await__()

    async def __aenter__(self) -> AsyncSession:
        self._session = await self._opening
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.__aexit__(kind, error, traceback)


def open_async(
    target: str = THIS_MACHINE,
    *,
    tls: Tls | None = None,
    retry: RetryPolicy | None = None,
    on_notice: NoticeCallback | None = None,
    **login: Unpack[requests.Login],
) -> Opening:
    """Opens one session on a channel of its own; closing the session closes the channel. Await it, or `async with` it."""
    return Opening(_open_alone(target, tls, retry, on_notice, login))


async def _open_alone(
    target: str,
    tls: Tls | None,
    retry: RetryPolicy | None,
    on_notice: NoticeCallback | None,
    login: requests.Login,
) -> AsyncSession:
    client = AsyncClient(target, tls=tls, retry=retry)
    try:
        session = await client.open(on_notice=on_notice, **login)
    except BaseException:
        await client.close()
        raise
    session._owns_client = True
    return session
