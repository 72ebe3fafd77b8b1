"""A real site's mixture: bundles, optional products, products for a while, retries, crashed apps that come back.

Each of these breaks the run if the broker breaks its promise: a bundle is whole, a retry is the same session,
a superseded session is over.
"""

from __future__ import annotations

from os import urandom
from typing import Any

import grpc
from locust import between, task

from broker.v1 import sessions_pb2, types_pb2
from loadtests.broker_user import (
    CALL_S,
    BrokerUser,
    Outcome,
    PromiseBroken,
    outcome_of_acquire,
    outcome_of_open,
    outcome_ok,
)


class Somebody(BrokerUser):
    """One of many kinds of user; each task is a whole visit."""

    wait_time = between(0.05, 0.3)

    @task(4)
    def single_product(self) -> None:
        """platform alone."""
        self.visit(("platform",))

    @task(6)
    def bundle(self) -> None:
        """platform + crm: both or none."""
        self.visit(("platform", "crm"))

    @task(3)
    def bundle_with_optional(self) -> None:
        """telephony if there is a seat."""
        self.visit(("platform", "crm"), ("telephony",))

    @task(3)
    def product_for_a_while(self) -> None:
        """telephony for one call, inside a session."""
        if self.open(self.open_request(("platform",))) is None:
            return
        wanted = [types_pb2.ProductRequest(product="telephony")]
        acquire = sessions_pb2.AcquireRequest(session_id=self.session_id, request_id=urandom(16), products=wanted)
        answer = self.call("Acquire telephony", self.stub.Acquire, acquire, outcome_of_acquire)
        if answer is not None and answer.WhichOneof("result") == "acquired":
            release = sessions_pb2.ReleaseRequest(
                session_id=self.session_id, request_id=urandom(16), product="telephony"
            )
            self.call("Release telephony", self.stub.Release, release, outcome_ok)
        self.close()

    @task(2)
    def retry(self) -> None:
        """The answer was lost, so the app asks again: the same session, and no second seat."""
        request = self.open_request(("platform",))
        first = self.open(request)
        if first is None:
            return

        def is_the_same(answer: sessions_pb2.OpenResponse) -> Outcome:
            if answer.grant.session_id != first.session_id or not answer.grant.replayed:
                raise PromiseBroken("a retry opened another session")
            return outcome_of_open(request)(answer)

        self.call("Open platform", self.stub.Open, request, is_the_same)
        self.close()

    @task(2)
    def crash_and_come_back(self) -> None:
        """The same instance again: the old session is over, its seat is the new one's."""
        if self.open(self.open_request(("platform",), instance_id=self.name)) is None:
            return
        crashed = sessions_pb2.RenewRequest(session_id=self.session_id)
        if self.open(self.open_request(("platform",), instance_id=self.name)) is None:
            return
        self.call("Renew after supersession", self.renew_that_must_fail, crashed, outcome_ok)
        self.close()

    def renew_that_must_fail(self, request: sessions_pb2.RenewRequest, **options: Any) -> sessions_pb2.RenewResponse:
        """NOT_FOUND is the right answer here, anything else is an error."""
        try:
            self.stub.Renew(request, timeout=options.get("timeout", CALL_S))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return sessions_pb2.RenewResponse()
            raise
        raise PromiseBroken("a superseded session was renewed")

    def visit(self, products: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        """Logs in for these, works a moment, logs out."""
        if self.open(self.open_request(products, optional)) is not None:
            self.renew()
            self.close()
