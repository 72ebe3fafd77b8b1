"""Messages of the protocol as the tests of the client's decisions need them."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from broker.v1 import sessions_pb2, types_pb2

S = 1_000_000_000
"""Nanoseconds in a second."""


def lease(
    product: str, state: str = "ACTIVE", end_reason: str = "UNSPECIFIED", grace_s: int = 0
) -> types_pb2.Lease:
    """A lease in a state."""
    message = types_pb2.Lease(
        product=product,
        state=types_pb2.LeaseState.Value(f"LEASE_STATE_{state}"),
        end_reason=types_pb2.EndReason.Value(f"END_REASON_{end_reason}"),
        seats=1,
    )
    if state == "KEY_GRACE":
        message.key_grace.CopyFrom(Duration(seconds=grace_s))
    return message


def grant(
    number: int = 1, products: tuple[str, ...] = ("platform", "crm"), *, ttl_s: int = 60
) -> types_pb2.Grant:
    """A grant with ttl 60 s, renewal after 20 s and 10 s of grace, unless said otherwise."""
    return types_pb2.Grant(
        session_id=number.to_bytes(32, "big"),
        public_id=f"1.{number}",
        ttl=Duration(seconds=ttl_s),
        renew_after=Duration(seconds=ttl_s // 3),
        renew_grace=Duration(seconds=10),
        leases=[lease(product) for product in products],
        change_version=1,
    )


def renewed(
    *changed: types_pb2.Lease, version: int = 1, ttl_s: int = 60, renew_after_s: int = 20
) -> sessions_pb2.RenewResponse:
    """An answer to Renew."""
    return sessions_pb2.RenewResponse(
        ttl=Duration(seconds=ttl_s),
        renew_after=Duration(seconds=renew_after_s),
        change_version=version,
        changed=changed,
    )


def leases_changed(*leases: types_pb2.Lease, version: int, number: int = 1) -> sessions_pb2.Notice:
    """A pushed notice about leases."""
    change = sessions_pb2.LeasesChanged(leases=leases, change_version=version)
    return sessions_pb2.Notice(session_id=number.to_bytes(32, "big"), leases_changed=change)


def session_ended(reason: str, number: int = 1) -> sessions_pb2.Notice:
    """A pushed notice that a session is over."""
    ended = types_pb2.SessionEnded(
        public_id=f"1.{number}", end_reason=types_pb2.EndReason.Value(f"END_REASON_{reason}")
    )
    return sessions_pb2.Notice(session_id=number.to_bytes(32, "big"), session_ended=ended)
