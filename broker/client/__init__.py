"""The client library of Usher: open a session, keep its seats, give them back.

    from broker import client

    with client.open("127.0.0.1:7600", user="anna", products=["platform", "crm"], optional=["telephony"]) as session:
        print(session.leases)

`open` and `Client` are for threads, `open_async` and `AsyncClient` for asyncio; a Client carries many sessions on one
channel. Renewals, reconnects and retries happen by themselves; `session.on_notice` and `session.lost` tell what the app must know.
Errors: errors.py. Runs anywhere grpcio runs: imports nothing of the broker but broker.v1, and nothing compiled of ours.
"""

from broker.client.aio import AsyncClient, AsyncSession, open_async
from broker.client.errors import (
    BrokerFault,
    BrokerTrouble,
    CallerError,
    ClientClosed,
    Denied,
    InvalidRequest,
    NotAuthorised,
    NotFound,
    Overloaded,
    SessionLost,
    Unreachable,
    Unsupported,
    UsherError,
)
from broker.client.retry import RetryPolicy
from broker.client.sync import Client, Session
from broker.client.sync import open_session as open  # noqa: A004  (client.open is the name that reads best)
from broker.client.target import Tls
from broker.client.values import Acquired, Denial, Lease, Notice, NoticeKind

__all__ = [
    "Acquired",
    "AsyncClient",
    "AsyncSession",
    "BrokerFault",
    "BrokerTrouble",
    "CallerError",
    "Client",
    "ClientClosed",
    "Denial",
    "Denied",
    "InvalidRequest",
    "Lease",
    "NotAuthorised",
    "NotFound",
    "Notice",
    "NoticeKind",
    "Overloaded",
    "RetryPolicy",
    "Session",
    "SessionLost",
    "Tls",
    "Unreachable",
    "Unsupported",
    "UsherError",
    "open",
    "open_async",
]
