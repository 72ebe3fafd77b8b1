"""The ledger's values as messages of the API: leases, denials, grants, ends. Pure conversion, no decisions.

Numbers of enums are the same on both sides (broker/model/words.py), so they are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.model.answers import Answer, DenialView, LeaseView
from broker.model.views import SessionView
from broker.model.words import EndReason, LeaseState
from broker.v1 import admin_pb2, types_pb2
from broker.verbs.public_id import public_id_of
from broker.verbs.sentences import denial_sentence
from broker.verbs.settings import SessionSettings, renew_after_ns


def duration(duration_ns: int) -> Duration:
    """A google.protobuf.Duration."""
    return Duration(seconds=duration_ns // 10**9, nanos=duration_ns % 10**9)


def timestamp(unix_ns: int) -> Timestamp:
    """A google.protobuf.Timestamp."""
    return Timestamp(seconds=unix_ns // 10**9, nanos=unix_ns % 10**9)


def lease_message(lease: LeaseView) -> types_pb2.Lease:
    """One lease as its holder sees it. Proofs are not issued yet: `proof` stays empty."""
    message = types_pb2.Lease(
        product=lease.product,
        state=types_pb2.LeaseState.ValueType(lease.state),
        end_reason=types_pb2.EndReason.ValueType(lease.end_reason),
        seats=lease.seats,
        shared=lease.is_shared,
        emulated=lease.is_emulated,
        fence=lease.fence,
    )
    if lease.state is LeaseState.KEY_GRACE:
        message.key_grace.CopyFrom(duration(lease.key_grace_ns))
    return message


def lease_messages(leases: Iterable[LeaseView]) -> list[types_pb2.Lease]:
    """All of them, in their order."""
    return [lease_message(lease) for lease in leases]


def denial_message(denial: DenialView) -> types_pb2.Denial:
    """A denial with its sentence."""
    message = types_pb2.Denial(
        reason=types_pb2.DenialReason.ValueType(denial.reason),
        product=denial.product,
        capacity=denial.capacity,
        in_use=denial.in_use,
        reserved=denial.reserved,
        withheld=denial.withheld,
        deficit=denial.deficit,
        waiters=denial.waiters,
        message=denial_sentence(denial),
    )
    if denial.retry_after_ns:
        message.retry_after.CopyFrom(duration(denial.retry_after_ns))
    return message


def grant_message(answer: Answer, settings: SessionSettings) -> types_pb2.Grant:
    """A GRANTED answer."""
    return types_pb2.Grant(
        session_id=answer.session_id,
        public_id=public_id_of(answer.fence),
        ttl=duration(answer.ttl_ns),
        renew_after=duration(renew_after_ns(answer.ttl_ns, answer.fence)),
        renew_grace=duration(settings.renew_grace_ns),
        leases=lease_messages(answer.leases),
        unavailable=[denial_message(denial) for denial in answer.unavailable],
        change_version=answer.change_version,
        replayed=answer.is_replayed,
    )


def session_ended_message(fence: int, reason: EndReason) -> types_pb2.SessionEnded:
    """A session that is over; NONE when the reason is no longer known."""
    return types_pb2.SessionEnded(
        public_id=public_id_of(fence), end_reason=types_pb2.EndReason.ValueType(reason)
    )


def session_message(session: SessionView) -> admin_pb2.Session:
    """One open session as an admin sees it, without its secret."""
    return admin_pb2.Session(
        public_id=public_id_of(session.fence),
        holder=types_pb2.Holder(
            user=text(session.user), host=text(session.host), app=text(session.app), label=text(session.label)
        ),
        leases=lease_messages(lease for lease in session.leases if lease.state is not LeaseState.ENDED),
        age=duration(session.age_ns),
        ends_in=duration(max(0, session.ends_in_ns)),
        instance_id=text(session.instance_id),
        identity=text(session.identity),
    )


def text(data: bytes) -> str:
    """Bytes that the ledger kept, as text; they were UTF-8 when they came in."""
    return data.decode("utf-8", "replace")
