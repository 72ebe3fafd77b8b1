"""The values that the client library gives to an app: leases, denials, notices.

Frozen, made from the messages of broker.v1 once, at the seam; an app never sees protobuf. Durations are seconds (float),
always "from when the broker answered". States and reasons are the protocol's words in lower case, `no_free_seats`
or `key_lost`, as plain strings: a word that a newer broker adds stays readable (`unknown_17`), nothing breaks on it.
The words and their meanings: proto/broker/v1/types.proto. Safe to use from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.duration_pb2 import Duration

from broker.v1 import types_pb2

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Lease:
    """A session's use of one product."""

    product: str
    state: str
    """`active`; `key_grace`: held, but the key behind it is gone; `ended`."""
    end_reason: str
    """Why it ended; empty while it is held."""
    seats: int
    """Seats that its charge takes. With sharing, other sessions may stand on the same charge."""
    is_shared: bool
    """The seat was taken before by the same user or host; this lease took none."""
    is_emulated: bool
    """From an EMULATED key: a test, not a right of use."""
    key_grace_s: float | None
    """In `key_grace`: how long it may still live on without its key."""
    fence: int
    """Orders its charge among all charges of the broker."""
    proof: bytes
    """Empty until brokers issue proofs."""


@dataclass(frozen=True, slots=True)
class Denial:
    """What was missing, with the numbers at the instant of the decision."""

    reason: str
    product: str
    """The first required product that could not be granted."""
    capacity: int
    in_use: int
    reserved: int
    withheld: int
    deficit: int
    waiters: int
    retry_after_s: float | None
    """When asking again may help; None when nothing known will change it."""
    message: str
    """One or two sentences for a person."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """What an Acquire gave."""

    leases: tuple[Lease, ...]
    """Of the products asked for, new or held before."""
    unavailable: tuple[Denial, ...]
    """Optional products that were not available."""


class NoticeKind(StrEnum):
    """What a notice is about."""

    KEY_GRACE = "key_grace"
    """The key behind a lease is gone; unless it returns, the lease ends after `lease.key_grace_s`."""
    HEALED = "healed"
    """A lease that was in key grace stands on a key again."""
    LEASE_ENDED = "lease_ended"
    """A lease is over, the session lives; `lease.end_reason` says why."""
    PLEASE_RELEASE = "please_release"
    """The broker asks for the session to be given back within `within_s`."""
    UNCONFIRMED = "unconfirmed"
    """No answer for ttl + renew grace: the seats may be others' by now. The client goes on asking."""
    CONFIRMED = "confirmed"
    """After `unconfirmed`: the broker answers again, and the session lives."""
    SESSION_LOST = "session_lost"
    """The broker says that the session is over; `end_reason` says why. The last notice."""


@dataclass(frozen=True, slots=True)
class Notice:
    """News about one session."""

    kind: NoticeKind
    public_id: str
    """The session's short public id."""
    message: str
    """A sentence for a person."""
    lease: Lease | None = None
    end_reason: str = ""
    within_s: float | None = None


def seconds(duration: Duration) -> float:
    """A protobuf duration in seconds."""
    return duration.seconds + duration.nanos / _NANOSECONDS


def nanoseconds(duration: Duration) -> int:
    """A protobuf duration in nanoseconds, exactly."""
    return duration.seconds * _NANOSECONDS + duration.nanos


def duration(span_s: float) -> Duration:
    """Seconds as a protobuf duration, rounded to the nanosecond."""
    whole, rest = divmod(round(span_s * _NANOSECONDS), _NANOSECONDS)
    return Duration(seconds=whole, nanos=rest)


def lease_state(number: int) -> str:
    """`active`, `key_grace`, `ended`."""
    return _word("LeaseState", "LEASE_STATE_", number)


def end_reason(number: int) -> str:
    """The word of an end reason; empty for END_REASON_UNSPECIFIED."""
    return _word("EndReason", "END_REASON_", number) if number else ""


def denial_reason(number: int) -> str:
    """The word of a denial reason."""
    return _word("DenialReason", "DENIAL_REASON_", number)


def lease_of(message: types_pb2.Lease) -> Lease:
    """A lease from its message."""
    return Lease(
        product=message.product,
        state=lease_state(message.state),
        end_reason=end_reason(message.end_reason),
        seats=message.seats,
        is_shared=message.shared,
        is_emulated=message.emulated,
        key_grace_s=seconds(message.key_grace) if message.HasField("key_grace") else None,
        fence=message.fence,
        proof=message.proof,
    )


def leases_of(messages: Sequence[types_pb2.Lease]) -> tuple[Lease, ...]:
    """Leases from their messages, in order."""
    return tuple(lease_of(message) for message in messages)


def denial_of(message: types_pb2.Denial) -> Denial:
    """A denial from its message."""
    return Denial(
        reason=denial_reason(message.reason),
        product=message.product,
        capacity=message.capacity,
        in_use=message.in_use,
        reserved=message.reserved,
        withheld=message.withheld,
        deficit=message.deficit,
        waiters=message.waiters,
        retry_after_s=seconds(message.retry_after) if message.HasField("retry_after") else None,
        message=message.message,
    )


def denials_of(messages: Sequence[types_pb2.Denial]) -> tuple[Denial, ...]:
    """Denials from their messages, in order."""
    return tuple(denial_of(message) for message in messages)


def _word(enumeration: str, prefix: str, number: int) -> str:
    known = types_pb2.DESCRIPTOR.enum_types_by_name[enumeration].values_by_number.get(number)
    return known.name.removeprefix(prefix).lower() if known else f"unknown_{number}"
