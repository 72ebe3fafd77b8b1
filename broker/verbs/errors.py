"""Errors as the API states them: a status, a reason for programs, a sentence for people.

One class, raised by verbs and turned into a gRPC status or an HTTP answer by whoever serves them. Denials are no errors:
they are values in the answers. The reasons are those of the head comment of proto/broker/v1/sessions.proto, and in
Admin also KEY_NOT_FOUND, EMULATED_KEY_NOT_FOUND and RELOAD_FAILED.
"""

from __future__ import annotations

import logging

from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "usher"

_log = logging.getLogger(__name__)


class VerbError(Exception):
    """A real error of one call. `status` is the name of a canonical code, such as "NOT_FOUND"."""

    def __init__(self, status: str, reason: str, message: str, metadata: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.metadata = metadata or {}

    @property
    def code(self) -> int:
        """The number of the status in google.rpc.Code, which is that of gRPC."""
        return code_pb2.Code.Value(self.status)


def invalid_field(field: str, message: str) -> VerbError:
    """INVALID_ARGUMENT for one field, named as in the .proto ("holder.user")."""
    return VerbError("INVALID_ARGUMENT", "INVALID_FIELD", message, {"field": field})


def not_served_here(what: str) -> VerbError:
    """UNIMPLEMENTED for what this broker does not do."""
    return VerbError("UNIMPLEMENTED", "NOT_SERVED_HERE", f"{what} is not served by this broker.")


def to_rpc_status(error: VerbError) -> status_pb2.Status:
    """The google.rpc.Status with its ErrorInfo: what grpc-status-details-bin and the JSON door carry."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    return status_pb2.Status(code=error.code, message=error.message, details=[detail])


def as_verb_error(error: Exception, method: str) -> VerbError:
    """The error to tell the caller. Anything but a VerbError is our bug: logged, and told without its details."""
    if isinstance(error, VerbError):
        return error
    _log.error("%s failed", method, exc_info=error)
    return VerbError("INTERNAL", "INTERNAL_FAULT", "The broker failed on this request; its log says more.")
