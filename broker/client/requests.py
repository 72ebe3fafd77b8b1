"""How an app's words become messages of broker.v1: logins, products, request ids. Pure, but for names and random ids.

What is checked here is only what Python can get wrong before there is a message (a string where a list belongs, text
with lone surrogates); bounds are the broker's to check, so that they are written down once.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import PurePath
from typing import TypedDict, TypeVar

from broker.client.errors import InvalidRequest
from broker.client.values import duration
from broker.v1 import sessions_pb2, types_pb2

M = TypeVar("M")

REQUEST_ID_SIZE = 16
_APP_SIZE_MAX = 64  # bytes, Holder.app; only a default that we derive is cut, never what the app gave


def new_request_id() -> bytes:
    """A fresh id: one for each intent, kept for each of its retries."""
    return os.urandom(REQUEST_ID_SIZE)


def default_host() -> str:
    """This machine's name."""
    return socket.gethostname() or "localhost"


def default_app() -> str:
    """This program's name."""
    name = PurePath(sys.argv[0] if sys.argv else "").name or "python"
    return name.encode(errors="replace")[:_APP_SIZE_MAX].decode(errors="ignore")


def product_requests(products: Iterable[str], optional: Iterable[str]) -> list[types_pb2.ProductRequest]:
    """Required products first, then optional ones, in the order given."""
    for name, value in (("products", products), ("optional", optional)):
        if isinstance(value, str):
            raise InvalidRequest(
                f"{name} must be a list of product ids, not one string: [{value!r}]", field=name
            )
    wanted = [(product, False) for product in products] + [(product, True) for product in optional]
    return [
        _filled(types_pb2.ProductRequest, product=one, optional=is_optional) for one, is_optional in wanted
    ]


class _Needed(TypedDict):
    """What every login says."""

    user: str
    """The person: a login name."""
    products: Iterable[str]
    """Product ids that the session needs: all of them or nothing."""


class Login(_Needed, total=False):
    """The arguments of `open`, sync and asyncio. Durations in seconds; sizes as in proto/broker/v1."""

    optional: Iterable[str]
    """Product ids that are welcome where available."""
    host: str | None
    """The person's computer. None: this machine's name."""
    app: str | None
    """The program. None: this program's name."""
    label: str
    """Free text for the admin."""
    instance_id: str
    """Names the place that the app runs in, stable over its restarts; opening again with it takes over the seats."""
    ttl_s: float | None
    """A shorter ttl than the broker's own."""
    wait_limit_s: float | None
    """How long to wait for seats; None: not at all."""
    client_nonce: bytes
    """What a proof of the grant will be bound to."""
    machine_identifiers: Iterable[str]
    """For licences bound to one computer."""


def open_request(login: Login) -> sessions_pb2.OpenRequest:
    """A login with a fresh request id. TypeError for arguments that are missing or unknown, as a plain call would."""
    _check_names(login)
    host, app = login.get("host"), login.get("app")
    ttl_s, wait_limit_s = login.get("ttl_s"), login.get("wait_limit_s")
    holder = _filled(
        types_pb2.Holder,
        user=login["user"],
        host=default_host() if host is None else host,
        app=default_app() if app is None else app,
        label=login.get("label", ""),
    )
    return _filled(
        sessions_pb2.OpenRequest,
        request_id=new_request_id(),
        holder=holder,
        products=product_requests(login["products"], login.get("optional", ())),
        instance_id=login.get("instance_id", ""),
        ttl=None if ttl_s is None else duration(ttl_s),
        wait_limit=None if wait_limit_s is None else duration(wait_limit_s),
        client_nonce=login.get("client_nonce", b""),
        machine_identifiers=list(login.get("machine_identifiers", ())),
    )


def acquire_request(
    session_id: bytes, products: Iterable[str], optional: Iterable[str]
) -> sessions_pb2.AcquireRequest:
    """More products for a session, with a fresh request id."""
    return sessions_pb2.AcquireRequest(
        session_id=session_id, request_id=new_request_id(), products=product_requests(products, optional)
    )


def release_request(session_id: bytes, product: str) -> sessions_pb2.ReleaseRequest:
    """One product back, with a fresh request id."""
    return _filled(
        sessions_pb2.ReleaseRequest, session_id=session_id, request_id=new_request_id(), product=product
    )


def close_request(session_id: bytes) -> sessions_pb2.CloseRequest:
    """A logout, with a fresh request id."""
    return sessions_pb2.CloseRequest(session_id=session_id, request_id=new_request_id())


def _check_names(login: Login) -> None:
    missing = sorted(Login.__required_keys__ - login.keys())
    unknown = sorted(login.keys() - Login.__required_keys__ - Login.__optional_keys__)
    if missing or unknown:
        what = "missing" if missing else "unknown"
        raise TypeError(f"open() {what} argument: {', '.join(missing or unknown)}")


def _filled(make: type[M], **fields: object) -> M:
    """The message; what protobuf cannot hold (wrong types, text that is no UTF-8) is the caller's mistake."""
    try:
        return make(**fields)
    except (TypeError, ValueError, UnicodeError) as error:
        raise InvalidRequest(f"{make.__name__}: {error}", "INVALID_FIELD") from error
