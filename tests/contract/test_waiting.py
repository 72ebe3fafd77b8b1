"""Waiting for seats, while brokers keep no waitlist: a typed denial, never an error, and nothing is taken.

Issue E fills this in; then these tests are replaced by the rules of semantics 23-24.
"""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration

from tests.contract.harness import CALL_S, Door, refused


def test_an_open_with_a_wait_limit_is_denied_as_unsupported(door: Door) -> None:
    denial = door.denial(["platform", "crm"], wait_limit=Duration(seconds=5))
    assert denial.reason == door.api.types.DENIAL_REASON_WAITING_UNSUPPORTED
    assert denial.product == "platform"
    assert denial.message
    assert door.in_use("platform", "crm") == (0, 0)


def test_a_wait_limit_of_zero_is_no_wish_to_wait(door: Door) -> None:
    door.grant(["platform"], wait_limit=Duration())
    assert door.in_use("platform") == (1,)


def test_open_waiting_ends_with_one_denial(door: Door) -> None:
    request = door.api.sessions.OpenWaitingRequest(open=door.open_request(wait_limit=Duration(seconds=5)))
    call = door.stub.OpenWaiting(request, timeout=CALL_S)
    (update,) = list(call)
    assert update.WhichOneof("update") == "denial"
    assert update.denial.reason == door.api.types.DENIAL_REASON_WAITING_UNSUPPORTED
    assert call.code() is grpc.StatusCode.OK
    assert door.in_use("platform") == (0,)


def test_open_waiting_checks_the_request_all_the_same(door: Door) -> None:
    request = door.api.sessions.OpenWaitingRequest(open=door.open_request(request_id=b"short"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        list(door.stub.OpenWaiting(request, timeout=CALL_S))
