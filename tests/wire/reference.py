"""What the grpcio data plane makes of the same bytes: parsed by google.protobuf, checked by broker/verbs.

`decoded` gives for every request message what `broker._wire.decode` must give; `refusal` what a refusal must carry.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

from google.protobuf.message import DecodeError, Message

from broker import _wire
from broker._ledger import siphash
from broker.model.words import InvalidField
from broker.service.methods import parse
from broker.v1 import sessions_pb2
from broker.verbs import bounds, requests
from broker.verbs.errors import VerbError, to_rpc_status
from broker.verbs.keep_alive import KeepAliveStream

SECRET = bytes(range(16))
NO_SALT = bytes(16)
NO_SESSION = bytes(bounds.SESSION_ID_SIZE)
NO_REQUEST = bytes(bounds.REQUEST_ID_SIZE)

Outcome = tuple[Any, ...]
"""("refused", code, message, details) or what was decoded."""


def refusal(error: VerbError) -> Outcome:
    """A refusal in the form in which the two are compared."""
    return ("refused", error.code, error.message, to_rpc_status(error).SerializeToString(deterministic=True))


def outcome_of(reference: Callable[[], Any]) -> Any:
    """What the reference gives, or its refusal."""
    try:
        return reference()
    except VerbError as error:
        return refusal(error)


def decoded_by_wire(message: str, data: bytes, identity: bytes = b"") -> Any:
    """What the codec gives, or its refusal."""
    try:
        if message == "KeepAliveRequest":
            return _wire.decode_keep_alive(data)
        return _wire.decode(message, data, secret=SECRET, identity=identity)
    except _wire.Refused as refused:
        return ("refused", refused.code, refused.message, refused.details)


def decoded(message: str, data: bytes, identity: bytes = b"") -> Any:
    """The same, by protobuf and the verbs."""
    request_type, make = _DECODERS[message]
    try:
        request = request_type.FromString(data)
    except DecodeError:
        return malformed(message)
    return outcome_of(lambda: make(request, identity))


@cache
def malformed(message: str) -> Outcome:
    """How the service refuses bytes that are no such message. Once a message: it says nothing of the bytes."""
    return cast(Outcome, outcome_of(lambda: parse(_DECODERS[message][0], b"\x00")))


def _salted(salt: bytes) -> bytes:
    return siphash(SECRET, salt) if salt else NO_SALT


def _names(pairs: list[tuple[str, bool]]) -> tuple[tuple[str, bool], ...] | None:
    """The products as the ledger's batch keeps them; None if they break their bounds."""
    is_good = 1 <= len(pairs) <= bounds.PRODUCT_COUNT_MAX and all(
        1 <= len(product.encode()) <= bounds.PRODUCT_SIZE_MAX for product, _ in pairs
    )
    return tuple(pairs) if is_good else None


_TEXT_BOUNDS = (
    (1, bounds.USER_SIZE_MAX),
    (1, bounds.HOST_SIZE_MAX),
    (0, bounds.APP_SIZE_MAX),
    (0, bounds.LABEL_SIZE_MAX),
    (0, bounds.INSTANCE_ID_SIZE_MAX),
    (0, 128),
)


def _texts(parts: list[bytes]) -> tuple[int, tuple[bytes, ...]]:
    """The InvalidField of the first that breaks its bounds, and the texts before it: as Batch.add_open."""
    for index, (part, (size_min, size_max)) in enumerate(zip(parts, _TEXT_BOUNDS, strict=True)):
        if not size_min <= len(part) <= size_max:
            return InvalidField.USER + index, tuple(parts[:index] + [b""] * (6 - index))
    return InvalidField.NONE, tuple(parts)


def _open(request: sessions_pb2.OpenRequest, identity: bytes) -> Outcome:
    requests.check_open(request)
    holder = request.holder
    parts = [holder.user, holder.host, holder.app, holder.label, request.instance_id]
    invalid, texts = _texts([part.encode() for part in parts] + [identity])
    names = _names(requests.product_pairs(request.products))
    if names is None and not invalid:
        invalid = InvalidField.PRODUCTS
    ttl_ns = requests.duration_ns(request.ttl, "ttl")
    wait_limit_ns = requests.duration_ns(request.wait_limit, "wait_limit")
    salt = _salted(requests.open_salt(request))
    return (1, invalid, texts, names or (), NO_SESSION, request.request_id, 0, ttl_ns, salt, wait_limit_ns, request.client_nonce, None)


def _renew(request: sessions_pb2.RenewRequest, _identity: bytes) -> Outcome:
    requests.check_session_id(request.session_id)
    requests.check_change_version(request.change_version)
    return _renewal(request)


def _renewal(request: sessions_pb2.RenewRequest) -> Outcome:
    active = request.active if request.HasField("active") else None
    return (2, 0, (), (), request.session_id, NO_REQUEST, request.change_version, 0, NO_SALT, 0, b"", active)


def _acquire(request: sessions_pb2.AcquireRequest, _identity: bytes) -> Outcome:
    requests.check_acquire(request)
    names = _names(requests.product_pairs(request.products))
    invalid = InvalidField.NONE if names else InvalidField.PRODUCTS
    salt = _salted(requests.acquire_salt(request))
    return (3, invalid, (), names or (), request.session_id, request.request_id, 0, 0, salt, 0, request.client_nonce, None)


def _release(request: sessions_pb2.ReleaseRequest, _identity: bytes) -> Outcome:
    requests.check_session_id(request.session_id)
    requests.check_request_id(request.request_id)
    requests.check_product(request.product)
    return (4, 0, (), ((request.product, False),), request.session_id, request.request_id, 0, 0, NO_SALT, 0, b"", None)


def _close(request: sessions_pb2.CloseRequest, _identity: bytes) -> Outcome:
    requests.check_session_id(request.session_id)
    requests.check_request_id(request.request_id)
    return (5, 0, (), (), request.session_id, request.request_id, 0, 0, NO_SALT, 0, b"", None)


def _keep_alive(request: sessions_pb2.KeepAliveRequest, _identity: bytes) -> Outcome:
    KeepAliveStream._check(_NO_STREAM, request)
    return [_renewal(renewal) for renewal in request.renewals], list(request.forget)


_NO_STREAM: Any = None
"""The check of a KeepAlive message looks at the message only."""

_DECODERS: dict[str, tuple[type[Message], Callable[[Any, bytes], Outcome]]] = {
    "OpenRequest": (sessions_pb2.OpenRequest, _open),
    "OpenWaitingRequest": (sessions_pb2.OpenWaitingRequest, lambda request, identity: _open(request.open, identity)),
    "RenewRequest": (sessions_pb2.RenewRequest, _renew),
    "AcquireRequest": (sessions_pb2.AcquireRequest, _acquire),
    "ReleaseRequest": (sessions_pb2.ReleaseRequest, _release),
    "CloseRequest": (sessions_pb2.CloseRequest, _close),
    "KeepAliveRequest": (sessions_pb2.KeepAliveRequest, _keep_alive),
}
