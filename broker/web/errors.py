"""Errors of the HTTP port as answers: google.rpc.Status in JSON, with the HTTP code that fits.

    {"code": 5, "message": "...", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
                                               "reason": "SESSION_NOT_FOUND", "domain": "usher", "metadata": {}}]}

What HTTP itself refuses (path, method, type, size, Host) has reasons of its own: UNKNOWN_PATH, METHOD_NOT_ALLOWED,
JSON_REQUIRED, BODY_TOO_LARGE, HOST_NOT_ALLOWED.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import json_format
from google.rpc import error_details_pb2
from starlette.responses import Response

from broker.verbs.errors import VerbError, to_rpc_status

JSON_TYPE = "application/json"

_HTTP_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
# json_format looks the detail's type up in the default pool, where importing its module has put it.
assert error_details_pb2.ErrorInfo.DESCRIPTOR.full_name == "google.rpc.ErrorInfo"


class HttpRefusal(Exception):
    """A request that HTTP itself refuses, before any verb: the HTTP code beside the error of the API."""

    def __init__(self, http_code: int, error: VerbError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.http_code = http_code
        self.error = error
        self.headers = headers or {}


def error_response(
    error: VerbError, http_code: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer for an error; its HTTP code follows from the status unless given."""
    text = json_format.MessageToJson(to_rpc_status(error), indent=None)
    code = http_code or _HTTP_CODES.get(error.status, 500)
    return Response(text, code, headers=headers, media_type=JSON_TYPE)
