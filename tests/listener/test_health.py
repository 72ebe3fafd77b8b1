"""Health over the data plane, asked by grpc_health's own stubs: Check, Watch, their bounds and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker._ledger import LIMITS
from tests.listener.harness import Served, serving

CALL_S = 10.0
WATCH_S = 30.0
WORDS = health_pb2.HealthCheckResponse
SERVICES = ("", "broker.v1.Sessions", "grpc.health.v1.Health")


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A listener that says SERVING."""
    with serving(seats={"platform": 1}, thread_count=request.param) as one:
        one.listener.set_serving(True)
        yield one


def stub_of(served: Served) -> Any:
    return health_pb2_grpc.HealthStub(served.channel())


def asked(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", SERVICES)
def test_check_says_what_the_listener_is(served: Served, service: str) -> None:
    stub = stub_of(served)
    assert stub.Check(asked(service), timeout=CALL_S).status == WORDS.SERVING
    served.listener.set_serving(False)
    assert stub.Check(asked(service), timeout=CALL_S).status == WORDS.NOT_SERVING


def test_check_of_an_unknown_service_is_not_found(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub_of(served).Check(asked("broker.v1.Session"), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_bytes_that_are_no_health_request_are_refused(served: Served) -> None:
    for path in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"):
        channel: Any = served.channel()
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.unary_stream(path)(b"\x0a\x02\xff\xff", timeout=CALL_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("service", SERVICES)
def test_watch_says_it_at_once_and_at_each_change(served: Served, service: str) -> None:
    watches = [stub_of(served).Watch(asked(service), timeout=WATCH_S) for _ in range(3)]
    assert [next(watch).status for watch in watches] == [WORDS.SERVING] * 3
    for is_serving, word in ((False, WORDS.NOT_SERVING), (True, WORDS.SERVING)):
        served.listener.set_serving(is_serving)
        assert [next(watch).status for watch in watches] == [word] * 3


def test_a_watch_of_an_unknown_service_stays_and_hears_no_changes(served: Served) -> None:
    stub = stub_of(served)
    unknown = stub.Watch(asked("nobody"), timeout=WATCH_S)
    assert next(unknown).status == WORDS.SERVICE_UNKNOWN
    known = stub.Watch(asked(""), timeout=WATCH_S)
    assert next(known).status == WORDS.SERVING
    served.listener.set_serving(False)
    assert next(known).status == WORDS.NOT_SERVING
    served.listener.drain(10**9)
    with pytest.raises(grpc.RpcError) as caught:
        next(unknown)  # the very next thing is the end
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_drain_is_told_to_watchers_before_it_ends_them(served: Served) -> None:
    watch = stub_of(served).Watch(asked(""), timeout=WATCH_S)
    assert next(watch).status == WORDS.SERVING
    served.listener.drain(10**9)
    assert next(watch).status == WORDS.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_watchers_are_bounded_and_make_room_when_they_leave() -> None:
    count = LIMITS["HEALTH_WATCHERS_MAX"]
    with serving(seats={"platform": 1}, streams_max=256) as served:
        served.listener.set_serving(True)
        stubs = [stub_of(served) for _ in range(count // 256)]
        watches = [stub.Watch(asked(""), timeout=WATCH_S) for stub in stubs for _ in range(256)]
        assert {next(watch).status for watch in watches} == {WORDS.SERVING}
        with pytest.raises(grpc.RpcError) as caught:
            next(stub_of(served).Watch(asked(""), timeout=CALL_S))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()
        stubs[0].Check(asked(""), timeout=CALL_S)  # on the same connection: the cancel was read before it
        assert next(stub_of(served).Watch(asked(""), timeout=CALL_S)).status == WORDS.SERVING
