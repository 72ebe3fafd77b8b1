"""The client port on grpcio: Sessions, health, reflection. The reference that any other data plane is held against."""

from __future__ import annotations

import asyncio

from grpc import aio

from broker.service import sessions
from broker.service.server import GrpcServer, bind, server_options
from broker.service.tls import TlsMaterial
from broker.verbs.bounds import MESSAGE_SIZE_MAX
from broker.verbs.sessions import SessionVerbs
from broker.verbs.stats import RequestStats


def build_client_server(
    *, verbs: SessionVerbs, stats: RequestStats, tls: TlsMaterial | None, address: str
) -> tuple[GrpcServer, int]:
    """The server, bound but not started, and its port. OSError if the address cannot be listened on.

    With mutual TLS each caller's identity is that of its certificate; otherwise there is none.
    """
    stopping = asyncio.Event()
    is_mutual = tls is not None and tls.is_mutual
    handler = sessions.sessions_handler(verbs, stats, is_mutual=is_mutual, stopping=stopping)
    server = aio.server(handlers=(handler,), options=server_options(MESSAGE_SIZE_MAX, MESSAGE_SIZE_MAX))
    port = bind(server, address, tls)
    return GrpcServer(server, (sessions.SERVICE,), stopping), port
