"""Health on the client port, by the protocol that balancers and orchestrators speak (grpc.health.v1)."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.contract.harness import CALL_S, Door

SERVICE = "broker.v1.Sessions"
WORDS = health_pb2.HealthCheckResponse


@pytest.fixture
def health(door: Door) -> Any:
    """A stub of Health on the client port."""
    return health_pb2_grpc.HealthStub(door.channel())


@pytest.mark.parametrize("service", ["", SERVICE])
def test_a_broker_that_serves_says_so(health: Any, service: str) -> None:
    answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
    assert answer.status == WORDS.SERVING


@pytest.mark.parametrize("service", ["broker.v1.Admin", "broker.v1.Sessions ", "x" * 10_000])
def test_a_service_that_is_not_served_here_is_not_found(health: Any, service: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("service", "status"), [("", WORDS.SERVING), (SERVICE, WORDS.SERVING), ("no.such", WORDS.SERVICE_UNKNOWN)])
def test_a_watcher_is_told_at_once_how_it_stands(health: Any, service: str, status: Any) -> None:
    call = health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
    assert next(call).status == status
    call.cancel()


def test_garbage_for_health_harms_nobody(door: Door, health: Any) -> None:
    call = door.channel().unary_unary("/grpc.health.v1.Health/Check")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\x0a\x7fshort", timeout=CALL_S)
    assert caught.value.code() is not grpc.StatusCode.OK
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S).status == WORDS.SERVING
