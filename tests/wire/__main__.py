"""What one decode and one encode cost, in nanoseconds: `python -m tests.wire`. For people; nothing asserts on it."""

from __future__ import annotations

from broker import _wire
from broker.model.answers import Answer, DenialView, LeaseView
from broker.model.words import DenialReason, EndReason, LeaseState, Status
from broker.v1 import sessions_pb2, types_pb2

TIMES = 2_000_000
ROUNDS = 5

SESSION_ID = bytes(range(32))
FENCE = 3 << 40 | 1042


def lease(product: str) -> LeaseView:
    return LeaseView(product, LeaseState.ACTIVE, EndReason.NONE, 1, False, False, FENCE, 0, 0)


REQUESTS = {
    "RenewRequest": sessions_pb2.RenewRequest(session_id=SESSION_ID, change_version=1, active=True),
    "OpenRequest": sessions_pb2.OpenRequest(
        request_id=bytes(16),
        holder=types_pb2.Holder(user="ann.miller", host="desk-1.local", app="crm/8.30"),
        products=[types_pb2.ProductRequest(product=name) for name in ("platform", "crm")],
    ),
    "CloseRequest": sessions_pb2.CloseRequest(session_id=SESSION_ID, request_id=bytes(16)),
}
ANSWERS = {
    "renewed": ("RenewRequest", Answer(status=Status.RENEWED, fence=FENCE, ttl_ns=60 * 10**9, change_version=1)),
    "granted": (
        "OpenRequest",
        Answer(
            status=Status.GRANTED, session_id=SESSION_ID, fence=FENCE, ttl_ns=60 * 10**9, change_version=1,
            leases=(lease("platform"), lease("crm")),
        ),
    ),
    "denied": (
        "OpenRequest",
        Answer(status=Status.DENIED, denial=DenialView(DenialReason.NO_FREE_SEATS, "platform", 20, 20, 0, 0, 0, 0, 5 * 10**9)),
    ),
    "closed": ("CloseRequest", Answer(status=Status.CLOSED, end_reason=EndReason.CLOSED)),
    "not found": ("RenewRequest", Answer(status=Status.NOT_FOUND)),
}  # fmt: skip


def main() -> None:
    """The best of a few rounds each."""
    for name, request in REQUESTS.items():
        data = request.SerializeToString()
        cost_ns = min(_wire.decode_cost_ns(name, data, TIMES) for _ in range(ROUNDS))
        print(f"decode {name:<14} {len(data):4} bytes  {cost_ns:7.1f} ns")
    for name, (message, answer) in ANSWERS.items():
        cost_ns = min(_wire.encode_cost_ns(message, answer, TIMES) for _ in range(ROUNDS))
        print(f"encode {name:<14}            {cost_ns:7.1f} ns")


if __name__ == "__main__":
    main()
