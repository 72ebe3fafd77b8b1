"""The Admin service for programs: sync, one channel, the token with each call, errors of this library's tree.

    with AdminClient("127.0.0.1:7601", token) as admin:
        for product in admin.products(): ...

Answers are the messages of broker.v1.admin_pb2. Reads are tried once: a person or a timer asks again. From any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import grpc

from broker.client.errors import NotFound, SessionLost, translate
from broker.client.target import Tls, channel_credentials, channel_options
from broker.v1 import admin_pb2, admin_pb2_grpc

PAGE_SIZE = 256
CALL_S = 10.0

_Answer = TypeVar("_Answer")


class AdminClient:
    """A channel to the admin port. `call_s` bounds each call but `watch`. Raises UsherError's tree."""

    def __init__(self, target: str, token: str, *, tls: Tls | None = None, call_s: float = CALL_S) -> None:
        self.target = target
        self._call_s = call_s
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if tls is None:
            self._channel = grpc.insecure_channel(target, channel_options(tls))
        else:
            self._channel = grpc.secure_channel(target, channel_credentials(tls), channel_options(tls))
        self._stub = admin_pb2_grpc.AdminStub(self._channel)

    def get_broker(self) -> admin_pb2.GetBrokerResponse:
        """The broker itself."""
        return self._call(self._stub.GetBroker, admin_pb2.GetBrokerRequest())

    def products(self) -> list[admin_pb2.Product]:
        """Products with their pools and numbers."""
        return list(self._call(self._stub.ListProducts, admin_pb2.ListProductsRequest()).products)

    def security_keys(self) -> list[admin_pb2.SecurityKey]:
        """Security keys, present or known from a licence."""
        return list(self._call(self._stub.ListKeys, admin_pb2.ListKeysRequest()).keys)

    def set_key_enabled(self, thumbprint: str, is_enabled: bool) -> None:
        """Stops or resumes counting a security key. NotFound if none is known by that thumbprint."""
        request = admin_pb2.SetKeyEnabledRequest(thumbprint=thumbprint, enabled=is_enabled)
        self._call(self._stub.SetKeyEnabled, request)

    def licences(self) -> list[admin_pb2.Licence]:
        """Licences, counting or not."""
        return list(self._call(self._stub.ListLicences, admin_pb2.ListLicencesRequest()).licences)

    def sessions(self, *, user: str = "", product: str = "") -> Iterator[admin_pb2.Session]:
        """Open sessions, fetched page by page."""
        request = admin_pb2.ListSessionsRequest(page_size=PAGE_SIZE, user=user, product=product)
        while True:
            page = self._call(self._stub.ListSessions, request)
            yield from page.sessions
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def revoke(self, public_id: str, reason: str = "") -> None:
        """Ends a session at once. NotFound if there is none."""
        request = admin_pb2.RevokeSessionRequest(public_id=public_id, reason=reason)
        try:
            self._call(self._stub.RevokeSession, request)
        except SessionLost as lost:
            # The caller's own session would be lost; another's is just not there.
            raise NotFound(str(lost), "SESSION_NOT_FOUND") from lost

    def watch(self, after_sequence: int = 0) -> Iterator[admin_pb2.WatchEventsResponse]:
        """Events as they happen, until the broker stops (Unreachable) or the client is closed."""
        request = admin_pb2.WatchEventsRequest(after_sequence=after_sequence)
        try:
            yield from self._stub.WatchEvents(request, metadata=self._metadata)
        except grpc.RpcError as error:
            raise translate(error, self.target) from error

    def reload(self) -> list[str]:
        """Makes the broker read its licences again; what changed, in words."""
        return list(self._call(self._stub.Reload, admin_pb2.ReloadRequest()).changes)

    def drain(self, is_draining: bool) -> int:
        """Starts or stops refusing new sessions; how many are open."""
        return self._call(self._stub.Drain, admin_pb2.DrainRequest(draining=is_draining)).session_count

    def emulated_keys(self) -> list[admin_pb2.EmulatedKey]:
        """The emulated fleet. Unsupported if there is none."""
        return list(self._call(self._stub.ListEmulatedKeys, admin_pb2.ListEmulatedKeysRequest()).keys)

    def set_plugged(self, name: str, is_plugged: bool) -> admin_pb2.EmulatedKey:
        """Plugs an emulated key in or pulls it. NotFound if there is none of that name."""
        request = admin_pb2.SetEmulatedKeyPluggedRequest(name=name, plugged=is_plugged)
        return self._call(self._stub.SetEmulatedKeyPlugged, request).key

    def close(self) -> None:
        """Closes the channel; a `watch` under way ends."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: Callable[..., _Answer], request: Any) -> _Answer:
        try:
            return method(request, timeout=self._call_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise translate(error, self.target) from error
