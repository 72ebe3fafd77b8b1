"""The client's small decisions: retries and pauses, targets, requests, and which exception stands for an error."""

from __future__ import annotations

import socket

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from broker.client import errors
from broker.client.requests import default_app, open_request, product_requests
from broker.client.retry import Attempts, RetryPolicy
from broker.client.target import Tls, channel_credentials, full_target
from broker.client.values import Denial, duration, nanoseconds, seconds

S = 1_000_000_000
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


# --- retries ------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_their_bound_and_are_drawn_from_zero() -> None:
    policy = RetryPolicy(pause_s_min=0.1, pause_s_max=1.0, total_s=100)
    longest = Attempts(policy, 0, lambda: 1.0)
    assert [longest.pause_s(UNAVAILABLE, 0) for _ in range(6)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    )
    shortest = Attempts(policy, 0, lambda: 0.0)
    assert [shortest.pause_s(UNAVAILABLE, 0) for _ in range(3)] == [0, 0, 0]


def test_a_call_gives_up_when_the_next_pause_would_pass_its_bound() -> None:
    attempts = Attempts(RetryPolicy(total_s=10, pause_s_min=1, pause_s_max=1), 0, lambda: 1.0)
    assert attempts.pause_s(UNAVAILABLE, 8 * S) == 1
    assert attempts.pause_s(UNAVAILABLE, 9 * S) is None
    assert attempts.failure_count == 2


def test_an_attempt_never_outlives_the_call() -> None:
    attempts = Attempts(RetryPolicy(attempt_s=5, total_s=8), 0, lambda: 0.5)
    assert attempts.attempt_s(0) == 5
    assert attempts.attempt_s(6 * S) == 2
    assert attempts.attempt_s(9 * S) > 0


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code not in (UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)]
)
def test_nothing_but_a_missing_answer_is_tried_again(code: grpc.StatusCode) -> None:
    assert Attempts(RetryPolicy(), 0, lambda: 0.5).pause_s(code, 0) is None


def test_pauses_stay_finite_however_often_it_failed() -> None:
    assert RetryPolicy().pause_s_bound(1_000_000) == RetryPolicy().pause_s_max


# --- targets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("usher.example", "usher.example:7600"),
        ("usher.example:7700", "usher.example:7700"),
        ("127.0.0.1", "127.0.0.1:7600"),
        ("::1", "[::1]:7600"),
        ("[::1]", "[::1]:7600"),
        ("[::1]:7700", "[::1]:7700"),
        ("unix:/run/usher.sock", "unix:/run/usher.sock"),
        ("dns:///usher.example:7600", "dns:///usher.example:7600"),
        ("ipv4:10.0.0.1:7600,10.0.0.2:7600", "ipv4:10.0.0.1:7600,10.0.0.2:7600"),
    ],
)
def test_a_target_without_a_port_gets_the_usual_one(given: str, full: str) -> None:
    assert full_target(given) == full


def test_half_a_client_identity_is_refused() -> None:
    with pytest.raises(ValueError, match="go together"):
        channel_credentials(Tls(certificate=b"pem"))


# --- requests -----------------------------------------------------------------------------------------------


def test_an_open_names_this_machine_and_this_program_by_default() -> None:
    request = open_request({"user": "anna", "products": ["platform"]})
    assert request.holder.host == socket.gethostname()
    assert request.holder.app == default_app() != ""
    assert len(request.request_id) == 16
    assert not request.HasField("ttl")


def test_an_empty_host_stays_empty_for_the_broker_to_refuse() -> None:
    assert open_request({"user": "anna", "products": ["platform"], "host": ""}).holder.host == ""


def test_every_open_is_a_new_intent() -> None:
    ids = {open_request({"user": "anna", "products": ["platform"]}).request_id for _ in range(100)}
    assert len(ids) == 100


def test_products_given_as_one_string_are_a_mistake() -> None:
    with pytest.raises(errors.InvalidRequest, match="list of product ids"):
        product_requests("platform", [])


@pytest.mark.parametrize(
    "login",
    [
        {"user": "anna"},
        {"products": ["platform"]},
        {"user": "anna", "products": ["platform"], "product": ["crm"]},
        {"user": "anna", "products": ["platform"], "timeout": 5},
    ],
)
def test_missing_and_unknown_arguments_are_type_errors(login: dict) -> None:
    with pytest.raises(TypeError, match="argument"):
        open_request(login)


@pytest.mark.parametrize(
    "changes",
    [{"user": 7}, {"user": "half \ud800"}, {"products": [3]}, {"client_nonce": "text"}, {"label": b"\xff"}],
)
def test_what_a_message_cannot_hold_is_an_invalid_request(changes: dict) -> None:
    with pytest.raises(errors.InvalidRequest):
        open_request({"user": "anna", "products": ["platform"], **changes})


@pytest.mark.parametrize("span_s", [0, 0.5, 1, 59.999999999, 86_400])
def test_durations_survive_the_wire(span_s: float) -> None:
    assert seconds(duration(span_s)) == span_s
    assert nanoseconds(duration(span_s)) == round(span_s * S)


# --- errors -------------------------------------------------------------------------------------------------


class Failure(grpc.RpcError):
    """An error of grpc with everything that the client reads from one."""

    def __init__(self, code: grpc.StatusCode, reason: str = "", domain: str = "usher", **facts: str) -> None:
        super().__init__(code)
        self._code = code
        self._trailing: tuple = ()
        if reason:
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=facts))
            status = status_pb2.Status(code=code.value[0], message="because", details=[detail])
            self._trailing = (("grpc-status-details-bin", status.SerializeToString()),)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "because"

    def trailing_metadata(self) -> tuple:
        return self._trailing


CODES = grpc.StatusCode
TRANSLATIONS = [
    (
        Failure(CODES.INVALID_ARGUMENT, "INVALID_FIELD", field="holder.user"),
        errors.InvalidRequest,
        {"field": "holder.user"},
    ),
    (
        Failure(CODES.INVALID_ARGUMENT, "REQUEST_ID_REUSED"),
        errors.InvalidRequest,
        {"reason": "REQUEST_ID_REUSED"},
    ),
    (
        Failure(CODES.NOT_FOUND, "SESSION_NOT_FOUND"),
        errors.SessionLost,
        {"public_id": "1.7", "end_reason": ""},
    ),
    (
        Failure(CODES.NOT_FOUND, "EMULATED_KEY_NOT_FOUND"),
        errors.NotFound,
        {"reason": "EMULATED_KEY_NOT_FOUND"},
    ),
    (Failure(CODES.UNAUTHENTICATED, "IDENTITY_REQUIRED"), errors.NotAuthorised, {}),
    (Failure(CODES.PERMISSION_DENIED), errors.NotAuthorised, {}),
    (
        Failure(CODES.RESOURCE_EXHAUSTED, "OVERLOADED", bound="sessions"),
        errors.Overloaded,
        {"bound": "sessions"},
    ),
    (Failure(CODES.UNAVAILABLE, "DRAINING"), errors.Unreachable, {"reason": "DRAINING", "attempt_count": 3}),
    (Failure(CODES.UNAVAILABLE), errors.Unreachable, {"reason": "", "target": "usher:7600"}),
    (Failure(CODES.DEADLINE_EXCEEDED), errors.Unreachable, {}),
    (Failure(CODES.UNIMPLEMENTED, "NOT_SERVED_HERE"), errors.Unsupported, {"reason": "NOT_SERVED_HERE"}),
    (Failure(CODES.CANCELLED), errors.ClientClosed, {}),
    (Failure(CODES.INTERNAL), errors.BrokerFault, {"status": "INTERNAL"}),
    (Failure(CODES.UNKNOWN), errors.BrokerFault, {"status": "UNKNOWN"}),
    (
        Failure(CODES.INVALID_ARGUMENT, "INVALID_FIELD", domain="elsewhere"),
        errors.InvalidRequest,
        {"reason": ""},
    ),
]


@pytest.mark.parametrize(("failure", "kind", "facts"), TRANSLATIONS)
def test_each_error_of_grpc_is_one_exception_with_its_facts(
    failure: Failure, kind: type[errors.UsherError], facts: dict[str, object]
) -> None:
    error = errors.translate(failure, "usher:7600", public_id="1.7", attempt_count=3)
    assert type(error) is kind
    assert {name: getattr(error, name) for name in facts} == facts
    assert "because" in str(error) or kind is errors.ClientClosed


def test_details_that_are_garbage_do_not_hide_the_error() -> None:
    failure = Failure(CODES.INTERNAL)
    failure._trailing = (("grpc-status-details-bin", b"\xff\xff\xff"),)
    assert isinstance(errors.translate(failure, "usher:7600"), errors.BrokerFault)


def test_a_denial_is_an_exception_that_carries_its_numbers() -> None:
    denial = Denial("no_free_seats", "crm", 10, 10, 0, 0, 0, 0, 5.0, "All 10 seats of crm are in use.")
    error = errors.Denied(denial)
    assert (error.reason, error.product, error.capacity, error.in_use) == ("no_free_seats", "crm", 10, 10)
    assert (error.retry_after_s, str(error)) == (5.0, "All 10 seats of crm are in use.")
    assert isinstance(error, errors.UsherError)
    assert not isinstance(error, errors.CallerError | errors.BrokerTrouble)
