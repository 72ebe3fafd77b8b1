"""What the tests of the contract use: a door to one running broker, and the readings they need of it.

Everything goes through the public API over generated stubs: seats are read by Admin.ListProducts, ends are awaited on KeepAlive
streams. Every call has a deadline, so nothing can hang.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.contract.generated import Api
from tests.support.broker_process import RunningBroker

CALL_S = 10.0
STREAM_S = 40.0
NOWHERE_ID = bytes(32)
"""A session id that no broker has issued."""


@dataclass(frozen=True, slots=True)
class Security:
    """PEM bytes that a client needs; all None: plaintext."""

    ca: bytes | None = None
    certificate: bytes | None = None
    private_key: bytes | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext."""
        if self.ca is None:
            return None
        return grpc.ssl_channel_credentials(self.ca, self.private_key, self.certificate)


@dataclass(frozen=True, slots=True)
class Numbers:
    """One product's seats."""

    capacity: int
    in_use: int
    deficit: int


@dataclass(slots=True)
class Door:
    """One implementation of Sessions under test, at an address."""

    api: Api
    broker: RunningBroker
    security: Security
    identity: str = ""
    """How the broker authenticates us; empty: not at all."""
    _channels: list[grpc.Channel] = field(default_factory=list)
    _stub: Any = None
    _admin_stub: Any = None

    @property
    def address(self) -> str:
        """Of the client port."""
        return self.broker.clients

    # --- connections ------------------------------------------------------------------------------------

    def channel(self, **options: int) -> grpc.Channel:
        """A connection of its own; closed with the door. Options are grpc's, `__` for dots."""
        pairs = [("grpc.use_local_subchannel_pool", 1)]
        pairs += [(f"grpc.{name.replace('__', '.')}", value) for name, value in options.items()]
        credentials = self.security.credentials()
        if credentials is None:
            channel = grpc.insecure_channel(self.address, pairs)
        else:
            channel = grpc.secure_channel(self.address, credentials, pairs)
        self._channels.append(channel)
        return channel

    def aio_channel(self) -> grpc.aio.Channel:
        """The same for asyncio; the test closes it."""
        credentials = self.security.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address)
        return grpc.aio.secure_channel(self.address, credentials)

    @property
    def stub(self) -> Any:
        """A sync stub of Sessions."""
        if self._stub is None:
            self._stub = self.api.sessions_grpc.SessionsStub(self.channel())
        return self._stub

    # --- requests -----------------------------------------------------------------------------------------

    def open_request(
        self,
        products: Sequence[str] = ("platform",),
        optional: Sequence[str] = (),
        user: str = "anna",
        host: str = "desk-1",
        **fields: Any,
    ) -> Any:
        """An Open with a fresh request id, unless `fields` say otherwise."""
        types = self.api.types
        wanted = [types.ProductRequest(product=product) for product in products]
        wanted += [types.ProductRequest(product=product, optional=True) for product in optional]
        filled = {
            "request_id": fresh_id(),
            "holder": types.Holder(user=user, host=host, app="contract/1"),
            "products": wanted,
        } | fields
        return self.api.sessions.OpenRequest(**filled)

    def open(self, *args: Any, **fields: Any) -> Any:
        """Opens; the whole answer."""
        return self.stub.Open(self.open_request(*args, **fields), timeout=CALL_S)

    def grant(self, *args: Any, **fields: Any) -> Any:
        """Opens; the grant, which must be one."""
        answer = self.open(*args, **fields)
        assert answer.WhichOneof("result") == "grant", answer
        return answer.grant

    def denial(self, *args: Any, **fields: Any) -> Any:
        """Opens; the denial, which must be one."""
        answer = self.open(*args, **fields)
        assert answer.WhichOneof("result") == "denial", answer
        return answer.denial

    def fill(self, product: str, count: int) -> list[Any]:
        """So many sessions of different users, each with a seat of the product."""
        return [self.grant([product], user=f"user-{index}") for index in range(count)]

    def renew(self, session_id: bytes, change_version: int = 0) -> Any:
        """Renews; the answer."""
        request = self.api.sessions.RenewRequest(session_id=session_id, change_version=change_version)
        return self.stub.Renew(request, timeout=CALL_S)

    def close(self, session_id: bytes, request_id: bytes = b"") -> Any:
        """Closes; the answer."""
        request = self.api.sessions.CloseRequest(session_id=session_id, request_id=request_id or fresh_id())
        return self.stub.Close(request, timeout=CALL_S)

    def acquire_request(
        self, session_id: bytes, products: Sequence[str], optional: Sequence[str] = (), **fields: Any
    ) -> Any:
        """An Acquire with a fresh request id, unless `fields` say otherwise."""
        wanted = self.open_request(products, optional).products
        filled = {"session_id": session_id, "request_id": fresh_id(), "products": wanted} | fields
        return self.api.sessions.AcquireRequest(**filled)

    def acquire(self, *args: Any, **fields: Any) -> Any:
        """Acquires; the whole answer."""
        return self.stub.Acquire(self.acquire_request(*args, **fields), timeout=CALL_S)

    def release(self, session_id: bytes, product: str, request_id: bytes = b"") -> Any:
        """Releases; the whole answer."""
        request = self.api.sessions.ReleaseRequest(
            session_id=session_id, request_id=request_id or fresh_id(), product=product
        )
        return self.stub.Release(request, timeout=CALL_S)

    # --- readings -----------------------------------------------------------------------------------------

    def _admin(self) -> Any:
        if self._admin_stub is None:
            channel = grpc.insecure_channel(self.broker.admin)
            self._channels.append(channel)
            self._admin_stub = self.api.admin_grpc.AdminStub(channel)
        return self._admin_stub

    def numbers(self, product: str) -> Numbers:
        """The product's seats now."""
        request = self.api.admin.ListProductsRequest()
        answer = self._admin().ListProducts(request, metadata=self.broker.admin_metadata, timeout=CALL_S)
        found = {one.product: one for one in answer.products}[product]
        return Numbers(found.capacity, found.in_use, found.deficit)

    def in_use(self, *products: str) -> tuple[int, ...]:
        """Seats charged now, of each product."""
        return tuple(self.numbers(product).in_use for product in products)

    def session_count(self) -> int:
        """Open sessions now."""
        request = self.api.admin.GetBrokerRequest()
        answer = self._admin().GetBroker(request, metadata=self.broker.admin_metadata, timeout=CALL_S)
        return int(answer.session_count)

    def revoke(self, public_id: str) -> None:
        """Ends a session as an admin."""
        request = self.api.admin.RevokeSessionRequest(public_id=public_id, reason="contract test")
        self._admin().RevokeSession(request, metadata=self.broker.admin_metadata, timeout=CALL_S)

    def clear(self) -> None:
        """Ends every session and closes every connection: the next test finds an empty broker."""
        for session in self.broker.sessions():
            self.revoke(session.public_id)
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        self._stub = self._admin_stub = None


class KeepAlive:
    """One KeepAlive stream of the sync stub."""

    def __init__(self, door: Door, stub: Any = None) -> None:
        self._sessions = door.api.sessions
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.notices: list[Any] = []
        """Those that came before or with awaited results, and have not been taken by `notice`."""
        self.call = (stub or door.stub).KeepAlive(iter(self._outgoing.get, None), timeout=STREAM_S)

    def __enter__(self) -> KeepAlive:
        return self

    def __exit__(self, *_: object) -> None:
        self._outgoing.put(None)
        self.call.cancel()

    def send(self, *session_ids: bytes, change_version: int = 0, forget: Sequence[bytes] = ()) -> None:
        """One message up."""
        renewals = [
            self._sessions.RenewRequest(session_id=session_id, change_version=change_version)
            for session_id in session_ids
        ]
        self._outgoing.put(self._sessions.KeepAliveRequest(renewals=renewals, forget=forget))

    def renew(self, *session_ids: bytes, change_version: int = 0, forget: Sequence[bytes] = ()) -> list[Any]:
        """Sends one message and awaits a result for each of its renewals."""
        self.send(*session_ids, change_version=change_version, forget=forget)
        return self.results(len(session_ids))

    def results(self, count: int) -> list[Any]:
        """The next results, in the order in which they come."""
        found: list[Any] = []
        while len(found) < count:
            answer = next(self.call)
            found.extend(answer.results)
            self.notices.extend(answer.notices)
        return found

    def notice(self) -> Any:
        """The next notice."""
        while not self.notices:
            answer = next(self.call)
            assert not answer.results, "results that nobody asked for"
            self.notices.extend(answer.notices)
        return self.notices.pop(0)

    def finish(self) -> list[Any]:
        """Ends our half; what still comes down until the broker ends its own."""
        self._outgoing.put(None)
        return list(self.call)


def fresh_id() -> bytes:
    """A request id."""
    return os.urandom(16)


@contextmanager
def refused(code: grpc.StatusCode, reason: str, **facts: str) -> Iterator[None]:
    """The block must fail with this status, this ErrorInfo reason and at least these metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code() is code, (error.code(), error.details())
    info = error_info(error)
    assert info is not None, f"no ErrorInfo with {error.details()!r}"
    assert (info.domain, info.reason) == ("usher", reason)
    assert facts.items() <= dict(info.metadata).items(), dict(info.metadata)
    assert error.details(), "no message for people"


def error_info(error: Any) -> Any:
    """The google.rpc.ErrorInfo of an error of grpc, or None."""
    blob = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if blob is None:
        return None
    status = status_pb2.Status.FromString(blob)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None
