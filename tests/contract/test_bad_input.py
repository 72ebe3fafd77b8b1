"""Requests that break a rule of the API: each its own status and ErrorInfo, nothing changed, and the broker as well as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.contract.harness import CALL_S, Door, fresh_id, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FIELD = "INVALID_FIELD"


@pytest.fixture
def unchanged(door: Door) -> Iterator[Door]:
    """One session is open; afterwards it is the only one, holds the only seat, and the broker still serves."""
    witness = door.grant(["platform"], user="witness")
    yield door
    door.renew(witness.session_id)
    assert door.session_count() == 1
    assert door.in_use("platform", "crm", "telephony") == (1, 0, 0)


def holder(door: Door, **changes: str) -> Any:
    return door.api.types.Holder(**({"user": "anna", "host": "desk-1", "app": "a", "label": "l"} | changes))


def products(door: Door, *names: str, is_optional: bool = False) -> list[Any]:
    return [door.api.types.ProductRequest(product=name, optional=is_optional) for name in names]


# --- Open ---------------------------------------------------------------------------------------------------

BROKEN_HOLDERS = {
    "user-missing": ({"user": ""}, "holder.user"),
    "user-oversized": ({"user": "u" * 129}, "holder.user"),
    "user-oversized-in-bytes": ({"user": "ж" * 65}, "holder.user"),
    "host-missing": ({"host": ""}, "holder.host"),
    "host-oversized": ({"host": "h" * 129}, "holder.host"),
    "app-oversized": ({"app": "a" * 65}, "holder.app"),
    "label-oversized": ({"label": "l" * 65}, "holder.label"),
}


@pytest.mark.parametrize(("changes", "field"), BROKEN_HOLDERS.values(), ids=BROKEN_HOLDERS)
def test_a_broken_holder_is_refused_by_field(unchanged: Door, changes: dict[str, str], field: str) -> None:
    with refused(INVALID, FIELD, field=field):
        unchanged.open(holder=holder(unchanged, **changes))


def test_a_missing_holder_is_refused(unchanged: Door) -> None:
    request = unchanged.open_request()
    request.ClearField("holder")
    with refused(INVALID, FIELD, field="holder.user"):
        unchanged.stub.Open(request, timeout=CALL_S)


BROKEN_FIELDS: dict[str, tuple[Callable[[Door], dict[str, Any]], str]] = {
    "instance-oversized": (lambda door: {"instance_id": "i" * 65}, "instance_id"),
    "nonce-oversized": (lambda door: {"client_nonce": bytes(33)}, "client_nonce"),
    "nine-machine-identifiers": (lambda door: {"machine_identifiers": ["m"] * 9}, "machine_identifiers"),
    "machine-identifier-oversized": (lambda door: {"machine_identifiers": ["m" * 65]}, "machine_identifiers"),
    "ttl-negative": (lambda door: {"ttl": Duration(seconds=-1)}, "ttl"),
    "ttl-negative-nanos": (lambda door: {"ttl": Duration(nanos=-1)}, "ttl"),
    "ttl-malformed": (lambda door: {"ttl": Duration(seconds=1, nanos=2_000_000_000)}, "ttl"),
    "wait-limit-negative": (lambda door: {"wait_limit": Duration(seconds=-1)}, "wait_limit"),
    "request-id-missing": (lambda door: {"request_id": b""}, "request_id"),
    "request-id-short": (lambda door: {"request_id": bytes(15)}, "request_id"),
    "request-id-long": (lambda door: {"request_id": bytes(17)}, "request_id"),
    "no-products": (lambda door: {"products": []}, "products"),
    "seventeen-products": (
        lambda door: {"products": products(door, "platform", *(f"p{index}" for index in range(16)))},
        "products",
    ),
    "a-thousand-products": (
        lambda door: {"products": products(door, *(f"p{index}" for index in range(1000)))},
        "products",
    ),
    "the-same-product-twice": (
        lambda door: {"products": products(door, "crm", "platform", "crm")},
        "products",
    ),
    "required-and-optional-at-once": (
        lambda door: {"products": products(door, "crm") + products(door, "crm", is_optional=True)},
        "products",
    ),
    "only-optional-products": (
        lambda door: {"products": products(door, "crm", is_optional=True)},
        "products",
    ),
    "product-id-empty": (lambda door: {"products": products(door, "")}, "products"),
    "product-id-oversized": (lambda door: {"products": products(door, "p" * 33)}, "products"),
    "product-id-oversized-in-bytes": (lambda door: {"products": products(door, "ж" * 17)}, "products"),
}


@pytest.mark.parametrize(("make", "field"), BROKEN_FIELDS.values(), ids=BROKEN_FIELDS)
def test_a_broken_field_of_open_is_refused(
    unchanged: Door, make: Callable[[Door], dict[str, Any]], field: str
) -> None:
    fields = {"products": products(unchanged, "crm")} | make(unchanged)
    request = unchanged.api.sessions.OpenRequest(
        **({"request_id": fresh_id(), "holder": holder(unchanged)} | fields)
    )
    with refused(INVALID, FIELD, field=field):
        unchanged.stub.Open(request, timeout=CALL_S)


@pytest.mark.parametrize(("make", "field"), BROKEN_FIELDS.values(), ids=BROKEN_FIELDS)
def test_a_broken_field_is_refused_to_those_who_would_wait_too(
    unchanged: Door, make: Callable[[Door], dict[str, Any]], field: str
) -> None:
    wish = {"products": products(unchanged, "crm"), "wait_limit": Duration(seconds=5)} | make(unchanged)
    request = unchanged.api.sessions.OpenRequest(
        **({"request_id": fresh_id(), "holder": holder(unchanged)} | wish)
    )
    with refused(INVALID, FIELD, field=field):
        unchanged.stub.Open(request, timeout=CALL_S)
    with refused(INVALID, FIELD, field=field):
        list(
            unchanged.stub.OpenWaiting(
                unchanged.api.sessions.OpenWaitingRequest(open=request), timeout=CALL_S
            )
        )


@pytest.mark.parametrize(("changes", "field"), BROKEN_HOLDERS.values(), ids=BROKEN_HOLDERS)
def test_a_broken_holder_is_refused_who_would_wait_too(
    unchanged: Door, changes: dict[str, str], field: str
) -> None:
    request = unchanged.open_request(holder=holder(unchanged, **changes), wait_limit=Duration(seconds=5))
    with refused(INVALID, FIELD, field=field):
        unchanged.stub.Open(request, timeout=CALL_S)
    with refused(INVALID, FIELD, field=field):
        list(
            unchanged.stub.OpenWaiting(
                unchanged.api.sessions.OpenWaitingRequest(open=request), timeout=CALL_S
            )
        )


def test_a_refused_open_is_not_remembered(door: Door) -> None:
    request_id = fresh_id()
    with refused(INVALID, FIELD):
        door.open(user="", request_id=request_id)
    assert not door.grant(request_id=request_id).replayed


def test_strings_at_their_bounds_are_taken(door: Door) -> None:
    full = holder(door, user="u" * 128, host="ж" * 64, app="a" * 64, label="l" * 64)
    door.grant(holder=full, instance_id="i" * 64)
    (session,) = door.broker.sessions()
    assert (session.holder.user, session.holder.host) == (full.user, full.host)
    assert session.instance_id == "i" * 64


def test_any_text_is_only_text(door: Door) -> None:
    nasty = "anna\n\t\x00'\"; drop ☃ \u202e<b>"
    door.grant(user=nasty)
    (session,) = door.broker.sessions()
    assert session.holder.user == nasty


# --- the other verbs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 31, 33, 10_000])
def test_a_session_id_of_a_wrong_size_is_refused_by_every_verb(unchanged: Door, size: int) -> None:
    wrong = bytes(size)
    for call in (
        lambda: unchanged.renew(wrong),
        lambda: unchanged.close(wrong),
        lambda: unchanged.acquire(wrong, ["crm"]),
        lambda: unchanged.release(wrong, "crm"),
    ):
        with refused(INVALID, FIELD, field="session_id"):
            call()


@pytest.mark.parametrize("size", [1, 15, 17])
def test_a_request_id_of_a_wrong_size_is_refused_by_every_verb(door: Door, size: int) -> None:
    session_id = door.grant().session_id
    wrong = bytes(size)
    for call in (
        lambda: door.close(session_id, wrong),
        lambda: door.release(session_id, "platform", wrong),
        lambda: door.acquire(session_id, ["crm"], request_id=wrong),
    ):
        with refused(INVALID, FIELD, field="request_id"):
            call()
    assert door.in_use("platform", "crm") == (1, 0)


BROKEN_ACQUIRES: dict[str, tuple[list[str], list[str]]] = {
    "none": ([], []),
    "twice": (["crm", "crm"], []),
    "only-optional": ([], ["crm"]),
    "seventeen": ([f"p{index}" for index in range(17)], []),
    "empty-id": ([""], []),
    "oversized-id": (["p" * 33], []),
}


@pytest.mark.parametrize(("required", "optional"), BROKEN_ACQUIRES.values(), ids=BROKEN_ACQUIRES)
def test_broken_products_of_acquire_are_refused(door: Door, required: list[str], optional: list[str]) -> None:
    session_id = door.grant().session_id
    with refused(INVALID, FIELD, field="products"):
        door.acquire(session_id, required, optional)
    assert door.in_use("platform", "crm") == (1, 0)


def test_an_oversized_nonce_of_acquire_is_refused(door: Door) -> None:
    session_id = door.grant().session_id
    with refused(INVALID, FIELD, field="client_nonce"):
        door.acquire(session_id, ["crm"], client_nonce=bytes(33))


@pytest.mark.parametrize("product", ["", "p" * 33])
def test_a_broken_product_of_release_is_refused(door: Door, product: str) -> None:
    session_id = door.grant().session_id
    with refused(INVALID, FIELD, field="product"):
        door.release(session_id, product)
    assert door.in_use("platform") == (1,)


def test_a_negative_change_version_is_refused(door: Door) -> None:
    session_id = door.grant().session_id
    with refused(INVALID, FIELD, field="change_version"):
        door.renew(session_id, -1)
