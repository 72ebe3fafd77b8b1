"""A KeepAlive client of a served listener, for tests: sends what it is told to, and reads only when it is asked.

Everything waits at most WAIT_S, since the call has that deadline. `raw` streams give the bytes of each message as they came.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from broker.model.words import EndReason
from broker.v1 import sessions_pb2, types_pb2
from tests.listener.harness import FOREVER, WAIT_S, S, Served, open_request

METHOD = "/broker.v1.Sessions/KeepAlive"
DETAILS_METADATA = "grpc-status-details-bin"


def ask(*session_ids: bytes, version: int = 0, forget: tuple[bytes, ...] = ()) -> sessions_pb2.KeepAliveRequest:
    """Renewals of these, all with one version."""
    renewals = [sessions_pb2.RenewRequest(session_id=each, change_version=version) for each in session_ids]
    return sessions_pb2.KeepAliveRequest(renewals=renewals, forget=forget)


class KeepAlive:
    """One stream. Without a channel it has a connection of its own."""

    def __init__(self, served: Served, channel: grpc.Channel | None = None) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        method: Any = (channel or served.channel()).stream_stream(METHOD, request_serializer=None, response_deserializer=None)
        self.call: Any = method(iter(self._requests.get, None), timeout=WAIT_S)
        self._results: deque[sessions_pb2.KeepAliveResult] = deque()
        self._notices: deque[sessions_pb2.Notice] = deque()

    def __enter__(self) -> KeepAlive:
        self.call.initial_metadata()  # comes at once: the broker has the stream
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self.call.cancel()

    def send(self, *session_ids: bytes, version: int = 0, forget: tuple[bytes, ...] = ()) -> None:
        self.send_bytes(ask(*session_ids, version=version, forget=forget).SerializeToString())

    def send_bytes(self, data: bytes) -> None:
        self._requests.put(data)

    def half_close(self) -> None:
        self._requests.put(None)

    def message(self) -> bytes:
        """The next message as it came."""
        data: bytes = next(self.call)
        return data

    def _read(self) -> None:
        response = sessions_pb2.KeepAliveResponse.FromString(self.message())
        self._results.extend(response.results)
        self._notices.extend(response.notices)

    def results(self, count: int) -> list[sessions_pb2.KeepAliveResult]:
        """The next results; notices that come between wait."""
        while len(self._results) < count:
            self._read()
        return [self._results.popleft() for _ in range(count)]

    def notices(self, count: int) -> list[sessions_pb2.Notice]:
        """The next notices; results that come between wait."""
        while len(self._notices) < count:
            self._read()
        return [self._notices.popleft() for _ in range(count)]

    def notice(self) -> sessions_pb2.Notice:
        return self.notices(1)[0]

    def renew(self, *session_ids: bytes, version: int = 0, forget: tuple[bytes, ...] = ()) -> list[sessions_pb2.KeepAliveResult]:
        """Sends one message and gives its results."""
        self.send(*session_ids, version=version, forget=forget)
        return self.results(len(session_ids))

    def settle(self) -> None:
        """Returns when all that was sent before has been done."""
        self.renew(bytes(32))

    def rest(self) -> list[bytes]:
        """What still comes until the stream has ended, however it ends."""
        messages = []
        with contextlib.suppress(grpc.RpcError):
            messages.extend(self.call)
        return messages

    @property
    def has_unread(self) -> bool:
        """Whether something that was read has not been asked for."""
        return bool(self._results or self._notices)


def details_of(error: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Code, reason and metadata of what a call ended with."""
    info = error_details_pb2.ErrorInfo()
    value = next(item.value for item in error.trailing_metadata() if item.key == DETAILS_METADATA)
    status = status_pb2.Status.FromString(value)
    assert status.details[0].Unpack(info)
    assert status.message == error.details()
    return error.code(), info.reason, dict(info.metadata)


@contextlib.contextmanager
def ended_with(code: grpc.StatusCode, reason: str, **metadata: str) -> Iterator[None]:
    """Inside, a stream must end like this."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert details_of(caught.value) == (code, reason, metadata)


@contextlib.contextmanager
def narrow_channel(served: Served) -> Iterator[grpc.Channel]:
    """A channel that takes no more than 64 KiB ahead of its reader, as HTTP/2 begins: gRPC's own would grow to megabytes."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(served.address, options) as channel:
        yield channel


def grant(served: Served, *products: str, **fields: Any) -> types_pb2.Grant:
    """A session opened through the listener."""
    response = served.sessions().Open(open_request(*products, **fields), timeout=WAIT_S)
    assert response.HasField("grant"), response
    return response.grant


def open_many(served: Served, count: int, *products: str, user: bytes = b"ada", ttl_ns: int = 0) -> list[bytes]:
    """Ids of sessions opened by Python calls on the ledger."""
    wanted = [(product, False) for product in products or ("platform",)]
    ids = []
    for _ in range(count):
        answer = served.ledger.open(
            time.monotonic_ns(), request_id=secrets.token_bytes(16), user=user, host=b"host", products=wanted, ttl_ns=ttl_ns
        )
        assert answer.session_id, answer
        ids.append(answer.session_id)
    return ids


def revoke(served: Served, session_id: bytes, reason: EndReason = EndReason.REVOKED) -> None:
    """By a Python call on the ledger, as an admin does."""
    assert served.ledger.revoke(time.monotonic_ns(), served.ledger.session_fence(session_id), reason)


def lose(served: Served, source: int = 0, grace_s: float = 300.0, cause: EndReason = EndReason.KEY_LOST) -> None:
    """A key is gone."""
    now_ns = time.monotonic_ns()
    served.ledger.lose_source(now_ns, source, now_ns + int(grace_s * S), cause)
    served.listener.wake()


def prove(served: Served, source: int, product: str, count: int) -> None:
    """A key is there, or there again."""
    pool = next(view.pool for view in served.ledger.pools() if view.product == product)
    served.ledger.prove_source(time.monotonic_ns(), source, pool, count, FOREVER, FOREVER)


def await_watched(served: Served, count: int) -> None:
    """Until the listener watches so many sessions."""
    served.wait_until(lambda counters: counters.watched_sessions == count)


def states(notice: sessions_pb2.Notice) -> list[tuple[str, int]]:
    """Product and state of each lease of a notice."""
    return [(lease.product, lease.state) for lease in notice.leases_changed.leases]
