"""Requests of the API as arguments of the ledger: what is checked here, and the salt.

The ledger checks what it keeps (texts, products, ttl). Here is checked what it does not see: sizes of ids, durations,
nonces, machine identifiers. Each fault is INVALID_ARGUMENT, INVALID_FIELD with the field named as in the .proto; checks go in
the order of the fields' meaning, ids first.

The salt makes a retry with another nonce, other identifiers or another wait limit a different request, although the
ledger knows nothing of these (semantics rule 11). Empty when all of them are unset; else, little-endian:

    u8 size, client_nonce | u8 count, then for each identifier u8 size, bytes | i64 wait_limit in nanoseconds

Any data plane over the same ledger must make the same salt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.duration_pb2 import Duration

from broker.model.words import Bound, InvalidField
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs import bounds
from broker.verbs.errors import VerbError, invalid_field

_FIELDS: dict[InvalidField, tuple[str, str]] = {
    InvalidField.USER: ("holder.user", "The holder's user must be 1 to 128 bytes."),
    InvalidField.HOST: ("holder.host", "The holder's host must be 1 to 128 bytes."),
    InvalidField.APP: ("holder.app", "The holder's app must be at most 64 bytes."),
    InvalidField.LABEL: ("holder.label", "The holder's label must be at most 64 bytes."),
    InvalidField.INSTANCE_ID: ("instance_id", "The instance id must be at most 64 bytes."),
    InvalidField.PRODUCTS: (
        "products",
        "Ask for 1 to 16 products of 1 to 32 bytes each, none twice and at least one of them required.",
    ),
    InvalidField.TTL: ("ttl", "The ttl must not be negative."),
    InvalidField.PRIORITY: ("priority", "The priority must be 0 to 7."),
}


def refused_field(detail: int) -> VerbError:
    """The error for an INVALID answer of the ledger, whose detail is an InvalidField."""
    refused = InvalidField(detail)
    if refused is InvalidField.IDENTITY:
        return VerbError(
            "UNAUTHENTICATED", "IDENTITY_REQUIRED", "The name in the client's certificate must be 1 to 128 bytes."
        )
    return invalid_field(*_FIELDS[refused])


def check_request_id(request_id: bytes) -> None:
    """16 bytes, or INVALID_FIELD."""
    if len(request_id) != bounds.REQUEST_ID_SIZE:
        raise invalid_field("request_id", f"The request_id must be 16 random bytes; these are {len(request_id)}.")


def check_session_id(session_id: bytes, field: str = "session_id") -> None:
    """32 bytes, or INVALID_FIELD. Whether it is genuine is the ledger's to say."""
    if len(session_id) != bounds.SESSION_ID_SIZE:
        raise invalid_field(field, f"A session_id has 32 bytes; this one has {len(session_id)}.")


def check_change_version(change_version: int, field: str = "change_version") -> None:
    """Not negative, or INVALID_FIELD."""
    if change_version < 0:
        raise invalid_field(field, "The change_version must be one that the broker gave, or 0.")


def check_product(product: str) -> None:
    """1 to 32 bytes, or INVALID_FIELD."""
    if not 1 <= len(product.encode()) <= bounds.PRODUCT_SIZE_MAX:
        raise invalid_field("product", "A product's id has 1 to 32 bytes.")


def check_open(request: sessions_pb2.OpenRequest) -> None:
    """What the ledger will not see of an Open."""
    check_request_id(request.request_id)
    duration_ns(request.ttl, "ttl")
    duration_ns(request.wait_limit, "wait_limit")
    _check_nonce(request.client_nonce)
    identifiers = request.machine_identifiers
    if len(identifiers) > bounds.MACHINE_IDENTIFIER_COUNT_MAX:
        raise invalid_field("machine_identifiers", f"At most 8 machine identifiers; these are {len(identifiers)}.")
    if any(len(identifier.encode()) > bounds.MACHINE_IDENTIFIER_SIZE_MAX for identifier in identifiers):
        raise invalid_field("machine_identifiers", "A machine identifier has at most 64 bytes.")


def check_unasked(request: sessions_pb2.OpenRequest) -> None:
    """What the ledger checks of an Open, in its order, for a request that is answered without asking it."""
    holder = request.holder
    texts = (
        (InvalidField.USER, holder.user, 1, bounds.USER_SIZE_MAX),
        (InvalidField.HOST, holder.host, 1, bounds.HOST_SIZE_MAX),
        (InvalidField.APP, holder.app, 0, bounds.APP_SIZE_MAX),
        (InvalidField.LABEL, holder.label, 0, bounds.LABEL_SIZE_MAX),
        (InvalidField.INSTANCE_ID, request.instance_id, 0, bounds.INSTANCE_ID_SIZE_MAX),
    )
    for field, text, size_min, size_max in texts:
        if not size_min <= len(text.encode()) <= size_max:
            raise refused_field(field)
    pairs = product_pairs(request.products)
    is_bounded = len(pairs) <= bounds.PRODUCT_COUNT_MAX
    names = {product for product, _ in pairs}
    is_each_once = len(names) == len(pairs)
    is_each_sized = all(1 <= len(product.encode()) <= bounds.PRODUCT_SIZE_MAX for product in names)
    if not is_bounded or not is_each_once or not is_each_sized or all(is_optional for _, is_optional in pairs):
        raise refused_field(InvalidField.PRODUCTS)


def check_acquire(request: sessions_pb2.AcquireRequest) -> None:
    """What the ledger will not see of an Acquire."""
    check_session_id(request.session_id)
    check_request_id(request.request_id)
    _check_nonce(request.client_nonce)


def product_pairs(products: Sequence[types_pb2.ProductRequest]) -> list[tuple[str, bool]]:
    """(id, is_optional) for the ledger. One more than may be is enough for it to refuse: the rest cost nothing."""
    return [(wanted.product, wanted.optional) for wanted in products[: bounds.PRODUCT_COUNT_MAX + 1]]


def duration_ns(value: Duration, field: str) -> int:
    """A duration in nanoseconds, at most DURATION_NS_MAX; 0 when unset. Negative or malformed: INVALID_FIELD."""
    if value.seconds < 0 or not 0 <= value.nanos < 10**9:
        raise invalid_field(field, f"The {field} must not be negative.")
    return min(value.seconds * 10**9 + value.nanos, bounds.DURATION_NS_MAX)


def open_salt(request: sessions_pb2.OpenRequest) -> bytes:
    """The salt of an Open."""
    wait_limit_ns = duration_ns(request.wait_limit, "wait_limit")
    return _salt(request.client_nonce, [each.encode() for each in request.machine_identifiers], wait_limit_ns)


def acquire_salt(request: sessions_pb2.AcquireRequest) -> bytes:
    """The salt of an Acquire."""
    return _salt(request.client_nonce, (), 0)


def bound_name(bound: Bound) -> str:
    """How a bound is called in ErrorInfo: "remembered_requests"."""
    return bound.name.lower()


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) > bounds.CLIENT_NONCE_SIZE_MAX:
        raise invalid_field("client_nonce", f"The client_nonce has at most 32 bytes; this one has {len(nonce)}.")


def _salt(nonce: bytes, identifiers: Iterable[bytes], wait_limit_ns: int) -> bytes:
    identifiers = list(identifiers)
    if not nonce and not identifiers and not wait_limit_ns:
        return b""
    listed = b"".join(bytes([len(each)]) + each for each in identifiers)
    return b"".join(
        (bytes([len(nonce)]), nonce, bytes([len(identifiers)]), listed, wait_limit_ns.to_bytes(8, "little"))
    )
