"""The HTTP port as one ASGI application: /healthz, /metrics and the JSON door.

Every path but /healthz checks the Host (probes ask by address, and learn nothing but alive or not). All errors, those of
HTTP too, have the form of broker/web/errors.py. No CORS header is ever sent, no cookie read, no method but those listed taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.verbs.errors import VerbError
from broker.web.door import JsonDoor
from broker.web.errors import HttpRefusal, error_response
from broker.web.hosts import HostCheck

_HEALTH_PATH = "/healthz"

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the broker serves; `status` is one word ("serving", "starting", "draining", "stopping"), `detail` a sentence."""

    is_serving: bool
    status: str
    detail: str = ""


def build_http(*, door: JsonDoor, health: Callable[[], Health], metrics: Endpoint) -> Starlette:
    """The application. `health` is asked at each probe and must be quick; `metrics` answers GET /metrics."""

    async def healthz(_request: Request) -> Response:
        now = health()
        body = {"status": now.status} | ({"detail": now.detail} if now.detail else {})
        return JSONResponse(body, 200 if now.is_serving else 503, headers={"cache-control": "no-store"})

    routes = [
        Route(_HEALTH_PATH, healthz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        *door.routes,
    ]
    application = Starlette(
        routes=routes,
        middleware=[Middleware(_HostMiddleware, host_check=door.host_check)],
        exception_handlers={HTTPException: _http_exception, HttpRefusal: _refusal, ClientDisconnect: _left},
    )
    application.router.redirect_slashes = False  # a path that is not there is a clear 404, not another place to look
    return application


class _HostMiddleware:
    """Refuses requests under foreign names before anything else looks at them."""

    def __init__(self, app: ASGIApp, host_check: HostCheck) -> None:
        self._app = app
        self._host_check = host_check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != _HEALTH_PATH:
            try:
                self._host_check.check(Request(scope).headers.get("host"))
            except HttpRefusal as refusal:
                await _refusal_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _refusal(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HttpRefusal)
    return _refusal_response(refusal)


async def _left(_request: Request, _error: Exception) -> Response:
    """The client has left amid its body: nobody reads this, and it is no line in our log, which clients could fill."""
    return Response(status_code=400)


def _refusal_response(refusal: HttpRefusal) -> Response:
    return error_response(refusal.error, refusal.http_code, refusal.headers)


async def _http_exception(request: Request, raised: Exception) -> Response:
    """What Starlette refuses by itself: an unknown path, a method that the path does not take."""
    assert isinstance(raised, HTTPException)
    if raised.status_code == 405:
        allowed = (raised.headers or {}).get("Allow", "")
        message = f"{request.url.path} does not take {request.method}; it takes {allowed}."
        return error_response(VerbError("UNIMPLEMENTED", "METHOD_NOT_ALLOWED", message), 405, raised.headers)
    if raised.status_code == 404:
        message = "There is nothing at this path; the broker serves /healthz, /metrics and POST /v1/sessions:open, renew, acquire, release, close."
        return error_response(VerbError("NOT_FOUND", "UNKNOWN_PATH", message), 404)
    return error_response(VerbError("INVALID_ARGUMENT", "BAD_REQUEST", raised.detail), raised.status_code)
