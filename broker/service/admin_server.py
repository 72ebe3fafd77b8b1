"""The admin port: Admin behind its token, and open to all health, reflection and, if wanted, Sessions."""

from __future__ import annotations

import asyncio

from grpc import aio

from broker.service import admin, sessions
from broker.service.server import GrpcServer, bind, server_options
from broker.service.tls import ServerTls
from broker.verbs.admin import AdminVerbs
from broker.verbs.bounds import MESSAGE_SIZE_MAX
from broker.verbs.commits import OPEN_GATE, Gate
from broker.verbs.sessions import SessionVerbs
from broker.verbs.stats import RequestStats

ANSWER_SIZE_MAX = 4 * 1024 * 1024
"""A full page of sessions with all their leases is under 1 MiB."""


def build_admin_server(
    *,
    verbs: AdminVerbs,
    session_verbs: SessionVerbs | None = None,
    stats: RequestStats,
    token: str,
    tls: ServerTls | None,
    address: str,
    gate: Gate = OPEN_GATE,
) -> tuple[GrpcServer, int]:
    """The server, bound but not started, and its port. OSError if the address cannot be listened on.

    `session_verbs` mounts Sessions here too, for when another data plane serves the client port.
    """
    stopping = asyncio.Event()
    handlers = [admin.admin_handler(verbs, stats, admin.TokenGuard(token), stopping, gate)]
    services = [admin.SERVICE]
    if session_verbs is not None:
        is_mutual = tls is not None and tls.is_mutual
        handlers.append(sessions.sessions_handler(session_verbs, stats, is_mutual=is_mutual, stopping=stopping, gate=gate))
        services.append(sessions.SERVICE)
    server = aio.server(handlers=handlers, options=server_options(MESSAGE_SIZE_MAX, ANSWER_SIZE_MAX))
    port = bind(server, address, tls)
    return GrpcServer(server, services, stopping), port
