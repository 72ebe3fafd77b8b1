"""The end of a broker while clients are at it: nothing that was answered is lost, and nobody is told anything but to come back."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from broker.exit_codes import ExitCode
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.support.broker_process import (
    CALL_S,
    RunningBroker,
    process_environment,
    running_broker,
    serve_command,
)
from tests.support.data_planes import DATA_PLANES, NEEDS_NATIVE
from tests.support.toml_text import toml_text
from tests.support.waiting import until

CONNECTION_COUNT = 4
CALLERS_PER_CONNECTION = 3
WARM_UP_CYCLES = 20
CODES = {
    "native": {grpc.StatusCode.UNAVAILABLE},
    "grpcio": {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED},  # C-core's word for a call that comes as it stops
}
FLEET = [{"name": "alpha", "seats": {"platform": 100}}]


@dataclass(slots=True)
class Caller:
    """One client app in a tight loop of open, renew, close; what it was answered until the broker had gone."""

    stub: sessions_pb2_grpc.SessionsStub
    number: int
    is_warm: threading.Event = field(default_factory=threading.Event)
    answered: Counter[str] = field(default_factory=Counter)
    codes: Counter[grpc.StatusCode] = field(default_factory=Counter)

    def run(self) -> None:
        """Until a call fails."""
        try:
            while True:
                self._cycle()
                if self.answered["Close"] >= WARM_UP_CYCLES:
                    self.is_warm.set()
        except grpc.RpcError as error:
            self.codes[error.code()] += 1
        finally:
            self.is_warm.set()

    def _cycle(self) -> None:
        holder = types_pb2.Holder(user=f"user-{self.number}", host="pc")
        products = [types_pb2.ProductRequest(product="platform")]
        request = sessions_pb2.OpenRequest(request_id=os.urandom(16), holder=holder, products=products)
        grant = self.stub.Open(request, timeout=CALL_S).grant
        self.answered["Open"] += 1
        for _ in range(3):
            self.stub.Renew(sessions_pb2.RenewRequest(session_id=grant.session_id), timeout=CALL_S)
            self.answered["Renew"] += 1
        self.stub.Close(sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=os.urandom(16)), timeout=CALL_S)
        self.answered["Close"] += 1


def last_counts(broker: RunningBroker) -> dict[str, int]:
    """What the broker said in its log before it ended."""
    lines = [json.loads(line) for line in broker.log_text().splitlines() if line.startswith("{")]
    (found,) = [line for line in lines if line["message"] == "last counts"]
    return found


def channels(address: str) -> Iterator[grpc.Channel]:
    for _ in range(CONNECTION_COUNT):
        yield grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.parametrize("plane", DATA_PLANES)
def test_stop_under_load_loses_no_answer(tmp_path: Path, plane: str) -> None:
    settings = {"clients": {"data_plane": plane}}
    with running_broker(tmp_path, settings=settings, emulated_keys=FLEET) as broker:
        opened = list(channels(broker.clients))
        stubs = [sessions_pb2_grpc.SessionsStub(channel) for channel in opened]
        callers = [Caller(stubs[number % CONNECTION_COUNT], number) for number in range(CONNECTION_COUNT * CALLERS_PER_CONNECTION)]
        threads = [threading.Thread(target=caller.run) for caller in callers]
        for thread in threads:
            thread.start()
        assert all(caller.is_warm.wait(60) for caller in callers)
        status = broker.stop()
        for thread in threads:
            thread.join()
        for channel in opened:
            channel.close()

    assert status == ExitCode.DONE
    assert sum((caller.codes for caller in callers), Counter()).keys() <= CODES[plane]
    answered = sum((caller.answered for caller in callers), Counter())
    counts = last_counts(broker)
    unanswered = len(callers)  # each lost its last call, of one kind or another
    assert answered["Open"] <= counts["opened"] <= answered["Open"] + unanswered
    assert answered["Renew"] <= counts["renewed"] <= answered["Renew"] + unanswered
    assert answered["Close"] <= counts["ended"] <= answered["Close"] + unanswered
    assert "failed" not in broker.log_text()
    assert "did not drain in time" not in broker.log_text()


@pytest.mark.parametrize("plane", DATA_PLANES)
def test_streams_end_with_unavailable_and_their_sessions_are_not_ended_by_it(tmp_path: Path, plane: str) -> None:
    settings = {"clients": {"data_plane": plane}}
    with running_broker(tmp_path, settings=settings, emulated_keys=FLEET) as broker:
        with grpc.insecure_channel(broker.clients) as channel:
            stub = sessions_pb2_grpc.SessionsStub(channel)
            holder = types_pb2.Holder(user="anna", host="pc")
            products = [types_pb2.ProductRequest(product="platform")]
            grant = stub.Open(sessions_pb2.OpenRequest(request_id=os.urandom(16), holder=holder, products=products), timeout=CALL_S).grant
            may_end = threading.Event()

            def requests() -> Iterator[sessions_pb2.KeepAliveRequest]:
                renewal = sessions_pb2.RenewRequest(session_id=grant.session_id)
                yield sessions_pb2.KeepAliveRequest(renewals=[renewal])
                may_end.wait(CALL_S)

            call = stub.KeepAlive(requests(), timeout=2 * CALL_S)
            assert next(call).results[0].WhichOneof("result") == "renewed"
            broker.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            may_end.set()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "No session has ended by this" in (caught.value.details() or "")
        assert broker.process.wait(60) == ExitCode.DONE
        counts = last_counts(broker)
        assert (counts["sessions"], counts["ended"]) == (1, 0)


FAILING = """
from broker.app import native_clients

class Failing(native_clients.NativeClients):
    def __init__(self, listener, *rest):
        super().__init__(Broken(listener), *rest)

class Broken:
    def __init__(self, listener):
        self._listener = listener
    def __getattr__(self, name):
        return getattr(self._listener, name)
    def run(self, number):
        if number == 1:
            raise RuntimeError("planted")
        self._listener.run(number)

native_clients.NativeClients = Failing
from broker.cli.main import main
raise SystemExit(main())
"""


@NEEDS_NATIVE
def test_loop_that_fails_ends_the_broker_in_order_with_a_status_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "usher.toml"
    free = {one: {"address": "127.0.0.1:0"} for one in ("clients", "admin", "http")}
    free["clients"] |= {"data_plane": "native", "threads": 2}
    config.write_text(toml_text({"broker": {"data_dir": str(tmp_path / "data")}, **free}))
    arguments = serve_command(config)[3:]
    done = subprocess.run(
        [sys.executable, "-c", FAILING, *arguments], capture_output=True, text=True, env=process_environment(), timeout=60
    )
    assert done.returncode == ExitCode.PART_FAILED, done.stderr
    assert "the data plane's thread 1 failed: RuntimeError('planted'); the broker stops, please report this with its log" in done.stderr
    assert not (tmp_path / "data" / "running.json").exists()


@NEEDS_NATIVE
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_fatal_signal_leaves_the_state_of_every_loop_and_every_python_thread(tmp_path: Path, number: signal.Signals) -> None:
    settings = {"clients": {"data_plane": "native", "threads": 2}}
    with running_broker(tmp_path, settings=settings, emulated_keys=FLEET) as broker:
        assert broker.signal(number) == -number
        until(lambda: "usher: loop 1: " in broker.log_text(), "the state of the second loop")
        said = broker.log_text()
    assert "usher: loop 0: " in said
    assert "Fatal Python error" in said
    assert "run_broker" in said
