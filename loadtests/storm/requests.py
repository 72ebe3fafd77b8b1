"""The bytes of a storm's calls: protobuf written by hand, headers, and the places that the engine fills in.

It shares nothing with the broker's codec or with generated code, so that the broker is judged by other eyes. Fields:
proto/broker/v1/sessions.proto. A template is a message behind its gRPC prefix, with places found by marks that nothing else
contains.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Head: TypeAlias = Iterable[tuple[bytes, bytes]]
Template: TypeAlias = tuple[bytes, int, int, int]
"""A request behind its gRPC prefix, and where its request id, session id and user's digits are; 0: nowhere."""

SERVICE = "/broker.v1.Sessions/"

METHODS = {"open": "Open", "reopen": "Open", "renew": "Renew", "acquire": "Acquire", "close": "Close"}

REQUEST_ID = bytes(range(0xE0, 0xF0))
SESSION_ID = bytes(range(0xC0, 0xE0))
USER = b"0123456789"
"""Marks; a user's name is as long."""
HOST = b"storm-host-1"
APP = b"storm/01"


def varint(number: int) -> bytes:
    """Seven bits a byte, the low ones first."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def span(number: int, data: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def products_of(names: Sequence[str]) -> bytes:
    """`products = 3` of OpenRequest and AcquireRequest, all of them required."""
    return b"".join(span(3, span(1, name.encode())) for name in names)


def open_request(products: Sequence[str]) -> bytes:
    """OpenRequest: request_id 1, holder 2 (user 1, host 2, app 3), products 3."""
    holder = span(1, USER) + span(2, HOST) + span(3, APP)
    return span(1, REQUEST_ID) + span(2, holder) + products_of(products)


def renew_request() -> bytes:
    """RenewRequest: session_id 1."""
    return span(1, SESSION_ID)


def acquire_request(products: Sequence[str]) -> bytes:
    """AcquireRequest: session_id 1, request_id 2, products 3."""
    return span(1, SESSION_ID) + span(2, REQUEST_ID) + products_of(products)


def close_request() -> bytes:
    """CloseRequest: session_id 1, request_id 2."""
    return span(1, SESSION_ID) + span(2, REQUEST_ID)


def template(message: bytes) -> Template:
    """A message as the engine wants it."""
    body = struct.pack(">BI", 0, len(message)) + message
    return body, place_of(REQUEST_ID, body), place_of(SESSION_ID, body), place_of(USER, body)


def place_of(mark: bytes, body: bytes) -> int:
    """Where a mark stands; 0: nowhere."""
    return max(body.find(mark), 0)


def templates(cycle: str, products: Sequence[str], body: bytes) -> dict[str, Template]:
    """A template for each step."""
    opened = products if cycle == "bundle" else products[:1]
    return {
        "noop": (struct.pack(">BI", 0, len(body)) + body, 0, 0, 0),
        "open": template(open_request(opened)),
        "renew": template(renew_request()),
        "acquire": template(acquire_request(products[1:] or products)),
        "close": template(close_request()),
    }


def head(path: str, authority: str, scheme: str) -> Head:
    """A gRPC request's headers."""
    return (
        (b":method", b"POST"),
        (b":scheme", scheme.encode()),
        (b":path", path.encode()),
        (b":authority", authority.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )


def heads(noop_path: str, authority: str, scheme: str) -> Mapping[str, Head]:
    """The headers of each step."""
    paths = {"noop": noop_path} | {step: SERVICE + method for step, method in METHODS.items()}
    return {step: head(path, authority, scheme) for step, path in paths.items()}
