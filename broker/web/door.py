"""The JSON door: the session verbs over plain HTTP, for languages without gRPC.

    POST /v1/sessions:open      OpenRequest     -> OpenResponse
    POST /v1/sessions:renew     RenewRequest    -> RenewResponse
    POST /v1/sessions:acquire   AcquireRequest  -> AcquireResponse
    POST /v1/sessions:release   ReleaseRequest  -> ReleaseResponse
    POST /v1/sessions:close     CloseRequest    -> CloseResponse

Bodies are the messages of proto/broker/v1 in protobuf's JSON mapping: names in lowerCamelCase (those of the .proto are taken
too), bytes in base64, durations "60s", enums by name, and 64-bit integers (fence, changeVersion) as strings. Answers hold all
fields, those with zeros too. A denial is an answer: 200. Unknown fields are refused, so that a misspelt one is not
silently ignored.

Takes only `application/json`: a browser asks before it sends that to another site, and this port never agrees. Who calls is
not authenticated here: the holder is the client's word. Answers wait at the gate, as those of gRPC do. Runs on the event loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.v1 import sessions_pb2
from broker.verbs.bounds import MESSAGE_SIZE_MAX
from broker.verbs.commits import OPEN_GATE, Gate
from broker.verbs.errors import VerbError, as_verb_error, invalid_field
from broker.verbs.sessions import SessionVerbs
from broker.verbs.stats import RequestStats, outcome_of_answer, outcome_of_status
from broker.web.errors import JSON_TYPE, HttpRefusal, error_response
from broker.web.hosts import HostCheck

RequestType = TypeVar("RequestType", bound=Message)


class JsonDoor:
    """The door's routes. `hosts`: names under which it answers, beside the loopback ones; `gate`: what answers wait at."""

    def __init__(
        self, *, verbs: SessionVerbs, stats: RequestStats, hosts: Collection[str] = (), gate: Gate = OPEN_GATE
    ) -> None:
        self._stats = stats
        self._gate = gate
        self.host_check = HostCheck(hosts)
        self.routes = [
            self._route("Open", sessions_pb2.OpenRequest, lambda request: verbs.open(request, "")),
            self._route("Renew", sessions_pb2.RenewRequest, verbs.renew),
            self._route("Acquire", sessions_pb2.AcquireRequest, verbs.acquire),
            self._route("Release", sessions_pb2.ReleaseRequest, verbs.release),
            self._route("Close", sessions_pb2.CloseRequest, verbs.close),
        ]

    def _route(self, name: str, request_type: type[RequestType], verb: Callable[[RequestType], Message]) -> Route:
        return Route(f"/v1/sessions:{name.lower()}", self._endpoint(name, request_type, verb), methods=["POST"])

    def _endpoint(
        self, name: str, request_type: type[RequestType], verb: Callable[[RequestType], Message]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            _require_json(request)
            body = await _body(request)
            started = time.perf_counter()
            try:
                answer = verb(parse_json(request_type, body))
                await self._gate.pass_answer(answer)
                response, outcome = json_response(answer), outcome_of_answer(answer)
            except Exception as raised:
                error = as_verb_error(raised, f"Door/{name}")
                await self._gate.pass_error(error)
                response, outcome = error_response(error), outcome_of_status(error.status)
            self._stats.observe(f"Door/{name}", outcome, time.perf_counter() - started)
            return response

        return serve


def parse_json(request_type: type[RequestType], body: bytes) -> RequestType:
    """The message in a JSON body; INVALID_ARGUMENT with what is wrong and where, as far as it is known."""
    message = request_type()
    try:
        text = body.decode("utf-8-sig")  # a byte order mark is no JSON, but 1C and PowerShell write one
        if not text.lstrip().startswith("{"):  # protobuf takes an empty list for an empty message
            raise json_format.ParseError("it is not a JSON object")
        json_format.Parse(text, message)
        message.SerializeToString()  # text that is no Unicode (half a surrogate pair) shows only here
    except UnicodeError as error:
        raise invalid_field("message", "The body is not UTF-8 text.") from error
    except RecursionError as error:
        raise invalid_field("message", "The body is nested too deeply.") from error
    except (json_format.ParseError, ValueError) as error:
        raise invalid_field("message", f"The body is not a valid {request_type.DESCRIPTOR.name}: {_one_line(error)}") from error
    return message


def json_response(message: Message) -> Response:
    """The message in JSON, with all its fields."""
    text = json_format.MessageToJson(message, indent=None, always_print_fields_with_no_presence=True, ensure_ascii=False)
    return Response(text.encode(), media_type=JSON_TYPE)


def _one_line(error: Exception) -> str:
    """What the parser says, without repeating a long body back."""
    return " ".join(str(error).split())[:200]


def _require_json(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != JSON_TYPE or charset not in ("", "charset=utf-8"):
        message = "Send the request as `Content-Type: application/json`, in UTF-8."
        raise HttpRefusal(415, VerbError("INVALID_ARGUMENT", "JSON_REQUIRED", message))
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        message = "Send the request without a Content-Encoding."
        raise HttpRefusal(415, VerbError("INVALID_ARGUMENT", "JSON_REQUIRED", message))


async def _body(request: Request) -> bytes:
    """The body, read no further than it may be long."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MESSAGE_SIZE_MAX:
        raise _too_large()
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MESSAGE_SIZE_MAX:
            raise _too_large()
    return bytes(body)


def _too_large() -> HttpRefusal:
    message = f"A request has at most {MESSAGE_SIZE_MAX} bytes."
    # The rest of the body is not read, so the connection cannot be used again.
    return HttpRefusal(413, VerbError("INVALID_ARGUMENT", "BODY_TOO_LARGE", message), {"connection": "close"})
