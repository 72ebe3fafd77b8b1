"""A disk that takes no more, on the real process: full while it runs, full when it starts; what was acknowledged stays.

The disk is full by the limit of a file's size (RLIMIT_FSIZE), which is to the broker what a full disk is: writes behind it fail (EFBIG), shorter ones are cut
short, and no new file of the log can be allocated. It needs no mount and can be laid on a process that runs.
"""

import json
import os
import resource
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.exit_codes import ExitCode
from broker.v1 import sessions_pb2, sessions_pb2_grpc
from tests.app.test_restarts import CALL_S, House, journal_of, login, opened, renewed, sessions_of
from tests.support.broker_process import RunningBroker
from tests.support.data_planes import DATA_PLANES
from tests.support.waiting import until

SEGMENT_SIZE = 1 << 16
SMALL = {"segment_size": SEGMENT_SIZE, "snapshot_after_size": SEGMENT_SIZE}


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Processes that begin inside can write no file beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill_disk(broker: RunningBroker, size: int) -> None:
    resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def open_until_it_ends(broker: RunningBroker) -> list[bytes]:
    """Logins, one after the other, until the broker is gone; the sessions that were acknowledged."""
    granted: list[bytes] = []
    with sessions_of(broker) as stub:
        for number in range(100_000):
            try:
                answer = stub.Open(login(f"user-{number}", os.urandom(16)), timeout=CALL_S)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return granted
                raise
            granted.append(answer.grant.session_id)
            if not is_closed(stub, granted[-1]):
                return granted
    raise AssertionError("the disk was never full")


def is_closed(stub: sessions_pb2_grpc.SessionsStub, session_id: bytes) -> bool:
    """False: the broker has gone meanwhile, and nobody knows."""
    try:
        stub.Close(sessions_pb2.CloseRequest(session_id=session_id, request_id=os.urandom(16)), timeout=CALL_S)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    return True


@pytest.mark.parametrize("data_plane", DATA_PLANES)
def test_write_that_fails_ends_the_broker_at_once_and_nothing_acknowledged_is_lost(tmp_path: Path, data_plane: str) -> None:
    house = House(tmp_path, journal=SMALL, clients={"data_plane": data_plane})
    with house.broker() as first:
        kept = [opened(first, f"kept-{number}").session_id for number in range(3)]
        fill_disk(first, SEGMENT_SIZE // 2)
        closed = open_until_it_ends(first)
        assert first.process.wait(CALL_S) == ExitCode.JOURNAL_FAILED
        (said,) = [json.loads(line) for line in first.log_text().splitlines() if '"critical"' in line]
        assert said["message"].startswith("the disk refused the log")
        assert said["cause"] == os.strerror(27)
        assert closed
    with house.broker() as second:
        assert all(renewed(second, session_id) for session_id in kept)
        # The last Close may have been under way: its session may live, all others are over.
        assert not any(renewed(second, session_id) for session_id in closed[:-1])
        assert journal_of(second).last_run_clean is False


def test_answer_that_the_disk_has_not_is_never_given(tmp_path: Path) -> None:
    house, request_ids = House(tmp_path, journal=SMALL), [os.urandom(16) for _ in range(64)]
    house.keys = [{"name": "alpha", "seats": {"platform": 100}}]
    acknowledged: dict[bytes, bytes] = {}
    lock = threading.Lock()

    def log_in(stub: sessions_pb2_grpc.SessionsStub, request_id: bytes) -> None:
        try:
            answer = stub.Open(login(f"user-{request_id.hex()}", request_id), timeout=CALL_S)
        except grpc.RpcError:
            return
        with lock:
            acknowledged[request_id] = answer.grant.session_id

    with house.broker() as first, sessions_of(first) as stub:
        fill_disk(first, 4096 + 6000)
        threads = [threading.Thread(target=log_in, args=(stub, request_id)) for request_id in request_ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert first.process.wait(CALL_S) == ExitCode.JOURNAL_FAILED
    assert len(acknowledged) < len(request_ids)
    assert all(acknowledged.values())
    with house.broker() as second, sessions_of(second) as stub:
        for request_id, session_id in acknowledged.items():
            again = stub.Open(login(f"user-{request_id.hex()}", request_id), timeout=CALL_S)
            assert again.grant.session_id == session_id


# --- renew-only ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_plane", DATA_PLANES)
def test_start_on_a_full_disk_serves_those_who_are_in_and_nobody_else(tmp_path: Path, data_plane: str) -> None:
    house = House(tmp_path, clients={"data_plane": data_plane})
    with house.broker() as first:
        session_id, other_id = opened(first, "anna").session_id, opened(first, "bert").session_id
        first.kill()
    with small_files(1 << 19), house.broker() as second, sessions_of(second) as stub:
        assert renewed(second, session_id)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Open(login("carl", os.urandom(16)), timeout=CALL_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert b"RENEW_ONLY" in dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
        stub.Close(sessions_pb2.CloseRequest(session_id=other_id, request_id=os.urandom(16)), timeout=CALL_S)
        assert second.products()["platform"].in_use == 1
        assert journal_of(second).status == "renew_only"
        with urllib.request.urlopen(f"{second.url}/healthz", timeout=CALL_S) as answer:
            assert json.load(answer)["status"] == "renew_only"
        with urllib.request.urlopen(f"{second.url}/metrics", timeout=CALL_S) as answer:
            assert b"\nusher_journal_writable 0.0\n" in answer.read()
        assert "RENEW-ONLY" in second.log_text()
        assert second.stop() == ExitCode.DONE
    with house.broker() as third:
        assert renewed(third, session_id)
        opened(third, "carl")
        assert third.products()["platform"].in_use == 3  # what was closed meanwhile is not on the disk: one ttl


def test_health_stays_serving_in_renew_only_so_that_clients_find_their_sessions(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.broker() as first:
        first.stop()
    with small_files(1 << 19), house.broker() as second, grpc.insecure_channel(second.clients) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_disk_that_fills_up_is_said_before_it_is_fatal(tmp_path: Path) -> None:
    house = House(tmp_path, journal=SMALL | {"ballast_size": 1 << 20})
    with house.broker() as broker:
        ballast = house.log / "ballast"
        assert ballast.stat().st_size == 1 << 20
        fill_disk(broker, SEGMENT_SIZE - 1)  # the present file has room, the next one cannot be made
        with sessions_of(broker) as stub:
            while b"\nusher_journal_spare_missing 1.0\n" not in _metrics(broker):
                grant = stub.Open(login("anna", os.urandom(16)), timeout=CALL_S).grant
                stub.Close(sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=os.urandom(16)), timeout=CALL_S)
        until(lambda: not ballast.exists(), "the ballast given back")
        assert "the ballast was given back" in broker.log_text()
        broker.process.send_signal(signal.SIGKILL)


def _metrics(broker: RunningBroker) -> bytes:
    with urllib.request.urlopen(f"{broker.url}/metrics", timeout=CALL_S) as answer:
        return bytes(answer.read())
