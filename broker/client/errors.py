"""The exceptions of the client library: one tree, split by who must act, each carrying its facts as attributes.

    UsherError
    ├─ Denied            the broker decided: no seat, and why. A normal answer.
    ├─ SessionLost       the session is over; open a new one.
    ├─ CallerError       the call is wrong and stays wrong
    │  ├─ InvalidRequest    a field breaks its bounds
    │  ├─ NotAuthorised     no identity, or not one that may do this
    │  ├─ NotFound          nothing has this name (Admin; a session that is gone is SessionLost)
    │  ├─ Unsupported       this broker does not serve the call
    │  └─ ClientClosed      used after close
    └─ BrokerTrouble     nothing is wrong with the call; another time it may succeed
       ├─ Unreachable       no answer within the bound
       ├─ Overloaded        a bound of the broker is reached (of the broker, not of a licence)
       └─ BrokerFault       the broker answered what it never should

Errors of grpc are translated here, once; an app needs neither grpc's types nor its codes. The reasons come from
google.rpc.ErrorInfo (domain "usher"), as promised in proto/broker/v1/sessions.proto. Sync and asyncio share this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from broker.client.values import Denial

if TYPE_CHECKING:
    from collections.abc import Callable

ERROR_DOMAIN = "usher"
_DETAILS_HEADER = "grpc-status-details-bin"
_INFO_TYPE = "/google.rpc.ErrorInfo"


class UsherError(Exception):
    """Whatever went wrong with a broker; the text is for a person."""


class Denied(UsherError):
    """The broker gave no seat. `denial` is the whole answer; its facts are attributes here too."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.message or f"{denial.product}: {denial.reason}")
        self.denial = denial
        self.reason = denial.reason
        self.product = denial.product
        self.capacity = denial.capacity
        self.in_use = denial.in_use
        self.deficit = denial.deficit
        self.retry_after_s = denial.retry_after_s
        self.message = denial.message


class SessionLost(UsherError):
    """The session is over: expired, revoked, superseded, or unknown to a broker that lost its memory."""

    def __init__(self, public_id: str, end_reason: str, message: str = "") -> None:
        reason = end_reason or "the broker does not know it"
        super().__init__(message or f"session {public_id or '?'} is over ({reason}); open a new one")
        self.public_id = public_id
        self.end_reason = end_reason
        """The protocol's word (`expired`, `revoked` ...); empty when the broker does not know the session."""


class CallerError(UsherError):
    """The call is wrong and will stay wrong."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """The ErrorInfo reason, such as `INVALID_FIELD`; empty if none was given."""


class InvalidRequest(CallerError):
    """A field breaks its bounds; nothing was changed."""

    def __init__(self, message: str, reason: str = "", field: str = "") -> None:
        super().__init__(message, reason)
        self.field = field
        """The field's name in the protocol; empty if it was not said."""


class NotAuthorised(CallerError):
    """The broker wants an identity, or another one."""


class NotFound(CallerError):
    """Nothing has this name."""


class Unsupported(CallerError):
    """This broker does not serve the call."""


class ClientClosed(CallerError):
    """The client or session was closed before or during the call."""

    def __init__(self, message: str = "the client is closed") -> None:
        super().__init__(message, "CLIENT_CLOSED")


class BrokerTrouble(UsherError):
    """Nothing is wrong with the call; another time it may succeed."""


class Unreachable(BrokerTrouble):
    """No usable answer within the bound, retries included. The request may or may not have been carried out."""

    def __init__(self, target: str, message: str, reason: str = "", attempt_count: int = 1) -> None:
        tries = f" ({attempt_count} attempts)" if attempt_count > 1 else ""
        super().__init__(f"no answer from the broker at {target}{tries}: {message}")
        self.target = target
        self.reason = reason
        """The ErrorInfo reason, such as `DRAINING`; empty when nobody answered."""
        self.attempt_count = attempt_count


class Overloaded(BrokerTrouble):
    """A bound of the broker is reached; nothing was changed."""

    def __init__(self, message: str, bound: str = "") -> None:
        super().__init__(message)
        self.bound = bound
        """Which one; empty if it was not said."""


class BrokerFault(BrokerTrouble):
    """The broker answered what it never should: its bug, or something else listens there."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        """The gRPC status code's name."""


class GrpcFailure(Protocol):
    """What sync and asyncio errors of grpc have in common."""

    def code(self) -> grpc.StatusCode | None: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Any: ...  # pairs; sync and asyncio differ in the type


def error_info(error: GrpcFailure) -> ErrorInfo | None:
    """The google.rpc.ErrorInfo of domain "usher" that came with an error, if one did."""
    blob = dict(error.trailing_metadata() or ()).get(_DETAILS_HEADER)
    if not isinstance(blob, bytes):
        return None
    try:
        details = Status.FromString(blob).details
        infos = [ErrorInfo.FromString(one.value) for one in details if one.type_url.endswith(_INFO_TYPE)]
    except DecodeError:
        return None
    return next((info for info in infos if info.domain == ERROR_DOMAIN), None)


def translate(error: GrpcFailure, target: str, *, public_id: str = "", attempt_count: int = 1) -> UsherError:
    """The exception of this tree for an error of grpc; `public_id` names the session that the call was about."""
    info = error_info(error)
    reason = info.reason if info else ""
    facts: Mapping[str, str] = info.metadata if info else {}
    message = error.details() or ""
    status = error.code() or grpc.StatusCode.UNKNOWN
    if reason == "SESSION_NOT_FOUND":
        return SessionLost(public_id, "", message)
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return Unreachable(target, message, reason, attempt_count)
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest(message, reason, facts.get("field", ""))
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(message, facts.get("bound", ""))
    if status is grpc.StatusCode.CANCELLED:
        return ClientClosed("the call was cancelled; was the client closed?")
    make = _BY_STATUS.get(status)
    return make(message, reason) if make else BrokerFault(message, status.name)


_BY_STATUS: Mapping[grpc.StatusCode, Callable[[str, str], UsherError]] = {
    grpc.StatusCode.UNAUTHENTICATED: NotAuthorised,
    grpc.StatusCode.PERMISSION_DENIED: NotAuthorised,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}
