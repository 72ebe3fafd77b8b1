"""What answers and a session's standing mean for a call: go on, or which exception. Pure; sync and asyncio share it."""

from __future__ import annotations

from collections.abc import Iterable

from broker.client.errors import ClientClosed, Denied, SessionLost
from broker.client.state import SessionState, Standing
from broker.client.values import Lease, denial_of, end_reason
from broker.v1 import sessions_pb2, types_pb2


def granted(answer: sessions_pb2.OpenResponse) -> types_pb2.Grant:
    """The grant of an Open; Denied, or SessionLost when a retry found its session over already."""
    match answer.WhichOneof("result"):
        case "grant":
            return answer.grant
        case "denial":
            raise Denied(denial_of(answer.denial))
        case _:
            raise SessionLost(answer.ended.public_id, end_reason(answer.ended.end_reason))


def check_usable(state: SessionState) -> None:
    """Raises SessionLost or ClientClosed for a session that is over."""
    if state.standing is Standing.LOST:
        raise SessionLost(state.public_id, state.end_reason)
    if state.standing is Standing.CLOSED:
        raise ClientClosed(f"session {state.public_id} is closed")


def describe(state: SessionState, leases: Iterable[Lease]) -> str:
    """A session in one line: its public id, products and standing; never its secret."""
    words = [
        lease.product if lease.state == "active" else f"{lease.product} ({lease.state})" for lease in leases
    ]
    return f"<Session {state.public_id} {state.standing.name.lower()}: {', '.join(words) or 'nothing held'}>"
