"""The Admin service: the admin verbs as gRPC methods, behind the token of the data directory.

Every method asks for metadata "authorization: Bearer TOKEN" before it looks at the request. Tokens are compared in constant
time and appear in no log and no message.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from broker.service.methods import Context, WorkerThread, abort, parse, unary
from broker.service.sessions import stopping_error
from broker.v1 import admin_pb2
from broker.verbs.admin import SLOW_METHODS, AdminVerbs
from broker.verbs.commits import OPEN_GATE, Gate
from broker.verbs.errors import VerbError, as_verb_error
from broker.verbs.events import EventBlock, EventWatch
from broker.verbs.stats import OK, RequestStats, outcome_of_status

SERVICE = "broker.v1.Admin"
MUTATING_METHODS = frozenset(("RevokeSession", "SetKeyEnabled", "Reload", "Drain", "SetEmulatedKeyPlugged"))
"""What they did is on the disk before they are answered."""
RequestType = TypeVar("RequestType", bound=Message)


class TokenGuard:
    """Lets in who knows the token."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("an empty token would let everybody in")
        self._expected = f"Bearer {token}".encode()

    def check(self, context: Context) -> None:
        """UNAUTHENTICATED unless the call carries the token, once."""
        given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        if len(given) != 1:
            raise _unauthenticated("Admin needs the broker's token, once, as metadata `authorization: Bearer TOKEN`")
        word = given[0].encode() if isinstance(given[0], str) else given[0]
        if not hmac.compare_digest(word, self._expected):
            raise _unauthenticated("The token is not this broker's")


def admin_handler(
    verbs: AdminVerbs, stats: RequestStats, guard: TokenGuard, stopping: asyncio.Event, gate: Gate = OPEN_GATE
) -> grpc.GenericRpcHandler:
    """The whole service. `stopping` ends its streams. What a call has changed waits at the gate; lists show what is, on the disk or
    not, so that an admin sees a broker whose disk stands still."""
    worker = WorkerThread()
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}

    def serve(name: str, request_type: type[RequestType], verb: Callable[[RequestType], Message]) -> None:
        served = worker.apart(verb) if name in SLOW_METHODS else _at_once(verb)
        held = gate if name in MUTATING_METHODS else OPEN_GATE
        methods[name] = unary(f"Admin/{name}", request_type, served, stats, guard.check, held)

    serve("GetBroker", admin_pb2.GetBrokerRequest, verbs.get_broker)
    serve("ListProducts", admin_pb2.ListProductsRequest, verbs.list_products)
    serve("ListKeys", admin_pb2.ListKeysRequest, verbs.list_keys)
    serve("ListLicences", admin_pb2.ListLicencesRequest, verbs.list_licences)
    serve("ListSessions", admin_pb2.ListSessionsRequest, verbs.list_sessions)
    serve("ListWaiters", admin_pb2.ListWaitersRequest, verbs.list_waiters)
    serve("RevokeSession", admin_pb2.RevokeSessionRequest, verbs.revoke_session)
    serve("SetKeyEnabled", admin_pb2.SetKeyEnabledRequest, verbs.set_key_enabled)
    serve("Reload", admin_pb2.ReloadRequest, verbs.reload)
    serve("Drain", admin_pb2.DrainRequest, verbs.drain)
    serve("GetUsageReport", admin_pb2.GetUsageReportRequest, verbs.get_usage_report)
    serve("ExplainDenial", admin_pb2.ExplainDenialRequest, verbs.explain_denial)
    serve("ListEmulatedKeys", admin_pb2.ListEmulatedKeysRequest, verbs.list_emulated_keys)
    serve("SetEmulatedKeyPlugged", admin_pb2.SetEmulatedKeyPluggedRequest, verbs.set_emulated_key_plugged)
    events = _Events(verbs, stats, guard, stopping)
    methods["WatchEvents"] = grpc.unary_stream_rpc_method_handler(events.watch)
    return grpc.method_handlers_generic_handler(SERVICE, methods)


class _Events:
    """The streaming method."""

    def __init__(
        self, verbs: AdminVerbs, stats: RequestStats, guard: TokenGuard, stopping: asyncio.Event
    ) -> None:
        self._verbs = verbs
        self._stats = stats
        self._guard = guard
        self._stopping = stopping

    async def watch(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        """One WatchEvents stream. Its initial metadata says that it has begun: later events will come. It is counted when
        it begins."""
        method = "Admin/WatchEvents"
        try:
            self._guard.check(context)
            watch = self._verbs.watch_events(parse(admin_pb2.WatchEventsRequest, data))
        except Exception as raised:
            error = as_verb_error(raised, method)
            self._stats.observe(method, outcome_of_status(error.status), 0.0)
            await abort(context, error)
        self._stats.observe(method, OK, 0.0)
        try:
            await context.send_initial_metadata(())
            while (block := await self._next(watch)) is not None:
                yield self._verbs.event_response(block).SerializeToString()
        finally:
            watch.close()
        await abort(context, stopping_error())

    async def _next(self, watch: EventWatch) -> EventBlock | None:
        """The next events; None when the server stops."""
        coming = asyncio.ensure_future(watch.next())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((coming, stopping), return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else None
        finally:
            coming.cancel()
            stopping.cancel()


def _at_once(verb: Callable[[RequestType], Message]) -> Callable[[RequestType, Context], Awaitable[Message] | Message]:
    return lambda request, _context: verb(request)


def _unauthenticated(what: str) -> VerbError:
    return VerbError(
        "UNAUTHENTICATED", "IDENTITY_REQUIRED", f'{what}; the token is in the file "admin.token" of its data directory.'
    )
