"""The client app that locust multiplies: Sessions over gRPC, each call one row of locust's statistics.

Rows are told apart by their type, so that a full pool never looks like a fault, nor a fault like a full pool:

    granted | denied | ok    what the broker decided; a denial's row is named with its reason
    error                    a status that is not OK, or an answer that breaks a promise of proto/: locust's failures

`init_gevent` makes grpc's blocking calls yield to other users; without it one call would stop the whole worker. Import
this module only inside locust, which has patched the standard library by then. One channel for all users of a process:
eight were not faster, and an app server has one too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from os import urandom
from typing import Any

import grpc
import grpc.experimental.gevent as grpc_gevent
from google.protobuf.message import Message
from locust import User
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2

grpc_gevent.init_gevent()

CALL_S = 10.0


class PromiseBroken(Exception):
    """An answer that the API's comments rule out."""


@cache
def stub_of(target: str) -> sessions_pb2_grpc.SessionsStub:
    """The one stub of this process."""
    return sessions_pb2_grpc.SessionsStub(grpc.insecure_channel(target))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call is entered: the row's type, and words that its name goes on with."""

    kind: str
    detail: str = ""


class BrokerUser(User):
    """One person at one computer. `host` of locust is the broker's client address."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.stub = stub_of(str(self.host))
        self.name = f"user-{urandom(6).hex()}"
        self.session_id = b""
        self.change_version = 0

    def stop(self, force: bool = False) -> bool:
        """Lets a pause run out instead of killing the user in it.

        The kill may come just after the pause has ended, in the middle of the next call, which the broker then has
        served and no row tells of: our sums would differ from the broker's. Pauses are short.
        """
        if not force and self._state in (LOCUST_STATE_RUNNING, LOCUST_STATE_WAITING):
            self._state = LOCUST_STATE_STOPPING
            return False
        return bool(super().stop(force))

    def open_request(
        self, products: tuple[str, ...], optional: tuple[str, ...] = (), instance_id: str = ""
    ) -> sessions_pb2.OpenRequest:
        """A login with a fresh request_id; keep it to retry."""
        wanted = [types_pb2.ProductRequest(product=product) for product in products]
        wanted += [types_pb2.ProductRequest(product=product, optional=True) for product in optional]
        holder = types_pb2.Holder(user=self.name, host=f"pc-{self.name}", app="locust")
        return sessions_pb2.OpenRequest(request_id=urandom(16), holder=holder, products=wanted, instance_id=instance_id)

    def open(self, request: sessions_pb2.OpenRequest) -> types_pb2.Grant | None:
        """Sends a login; the grant, or None for a denial or an error."""
        bundle = " + ".join(f"({one.product})" if one.optional else one.product for one in request.products)
        answer = self.call(f"Open {bundle}", self.stub.Open, request, outcome_of_open(request))
        if answer is None or answer.WhichOneof("result") != "grant":
            return None
        self.session_id, self.change_version = answer.grant.session_id, answer.grant.change_version
        granted: types_pb2.Grant = answer.grant
        return granted

    def renew(self) -> sessions_pb2.RenewResponse | None:
        """Renews the open session."""
        request = sessions_pb2.RenewRequest(session_id=self.session_id, change_version=self.change_version)
        answer: sessions_pb2.RenewResponse | None = self.call("Renew", self.stub.Renew, request, outcome_ok)
        if answer is not None:
            self.change_version = answer.change_version
        return answer

    def close(self) -> None:
        """Ends the open session, if there is one."""
        if self.session_id:
            request = sessions_pb2.CloseRequest(session_id=self.session_id, request_id=urandom(16))
            self.session_id = b""
            self.call("Close", self.stub.Close, request, outcome_ok)

    def call(self, name: str, method: Callable[..., Any], request: Message, outcome_of: Callable[[Any], Outcome]) -> Any:
        """One call and its row; None if it failed."""
        begin_s = time.perf_counter()
        answer, failure, outcome = None, None, Outcome("error")
        try:
            answer = method(request, timeout=CALL_S)
            outcome = outcome_of(answer)
        except (grpc.RpcError, PromiseBroken) as error:
            failure = error
        self.environment.events.request.fire(
            request_type=outcome.kind,
            name=f"{name}{outcome.detail}",
            response_time=(time.perf_counter() - begin_s) * 1000,
            response_length=answer.ByteSize() if answer is not None else 0,
            exception=failure,
            context={},
        )
        return None if failure else answer


def outcome_ok(_: Message) -> Outcome:
    """Any answer is good."""
    return Outcome("ok")


def outcome_of_open(request: sessions_pb2.OpenRequest) -> Callable[[sessions_pb2.OpenResponse], Outcome]:
    """Granted or denied, and why; a replay is a row of its own, since it opens nothing. A grant must be whole."""
    required = {one.product for one in request.products if not one.optional}

    def outcome(answer: sessions_pb2.OpenResponse) -> Outcome:
        match answer.WhichOneof("result"):
            case "grant":
                granted = {lease.product for lease in answer.grant.leases}
                if not required <= granted:
                    raise PromiseBroken(f"granted {sorted(granted)} of {sorted(required)}")
                return Outcome("granted", ": replayed" if answer.grant.replayed else "")
            case "denial":
                return denied(answer.denial)
            case other:
                raise PromiseBroken(f"Open answered {other} to a fresh request_id")

    return outcome


def outcome_of_acquire(answer: sessions_pb2.AcquireResponse) -> Outcome:
    """Acquired or denied, and why."""
    return denied(answer.denial) if answer.WhichOneof("result") == "denial" else Outcome("granted")


def denied(denial: types_pb2.Denial) -> Outcome:
    """A denial's row. Its numbers must bear it out."""
    reason = types_pb2.DenialReason.Name(denial.reason).removeprefix("DENIAL_REASON_").lower()
    if reason == "no_free_seats" and denial.in_use + denial.reserved + denial.withheld < denial.capacity:
        raise PromiseBroken(f"no_free_seats with {denial.in_use} of {denial.capacity} in use")
    if reason == "deficit" and denial.deficit == 0:
        raise PromiseBroken("denied for a deficit of 0")
    return Outcome("denied", f": {reason}")
