"""The client port on grpcio: Sessions, health, reflection. The reference that any other data plane is held against."""

from __future__ import annotations

import asyncio

from grpc import aio

from broker.service import sessions
from broker.service.server import (
    CONNECTIONS_MAX,
    STREAMS_PER_CONNECTION_MAX,
    GrpcServer,
    bind,
    server_options,
)
from broker.service.tls import ServerTls
from broker.verbs.bounds import MESSAGE_SIZE_MAX
from broker.verbs.commits import OPEN_GATE, Gate
from broker.verbs.sessions import SessionVerbs
from broker.verbs.stats import RequestStats


def build_client_server(
    *,
    verbs: SessionVerbs,
    stats: RequestStats,
    tls: ServerTls | None,
    address: str,
    connections_max: int = CONNECTIONS_MAX,
    streams_max: int = STREAMS_PER_CONNECTION_MAX,
    gate: Gate = OPEN_GATE,
) -> tuple[GrpcServer, int]:
    """The server, bound but not started, and its port. OSError if the address cannot be listened on.

    With mutual TLS each caller's identity is that of its certificate; otherwise there is none. Answers wait at the gate.
    """
    stopping = asyncio.Event()
    is_mutual = tls is not None and tls.is_mutual
    handler = sessions.sessions_handler(verbs, stats, is_mutual=is_mutual, stopping=stopping, gate=gate)
    options = server_options(
        MESSAGE_SIZE_MAX, MESSAGE_SIZE_MAX, connections_max=connections_max, streams_max=streams_max
    )
    server = aio.server(handlers=(handler,), options=options)
    port = bind(server, address, tls)
    return GrpcServer(server, (sessions.SERVICE,), stopping), port
