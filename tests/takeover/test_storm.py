"""A take-over, and a stop and a start, while clients are at it: every request is answered, at the second try at the latest; no grant is lost.

USHER_TAKEOVER_ROUNDS is how many brokers follow each other; the longest pause is printed.
"""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.exit_codes import ExitCode
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.support.broker_process import RunningBroker, running_broker, start_broker
from tests.support.toml_text import toml_text
from tests.support.waiting import until
from tests.takeover.test_takeover import END_S, endpoints, successor

ROUNDS = int(os.environ.get("USHER_TAKEOVER_ROUNDS", "2"))
CONNECTION_COUNT, CALLERS_PER_CONNECTION = 4, 3
CALLER_COUNT = CONNECTION_COUNT * CALLERS_PER_CONNECTION
SEATS = 2 * CALLER_COUNT
WARM_UP_CYCLES = 10
FLEET = [{"name": "alpha", "seats": {"platform": SEATS}}]
RETRIED = (grpc.StatusCode.UNAVAILABLE,)


@dataclass(slots=True)
class Caller:
    """One client app: holds a session for as long as the storm lasts, and opens, renews and closes others beside it."""

    stub: sessions_pb2_grpc.SessionsStub
    number: int
    over: threading.Event
    may_meet_starting_keys: bool
    """An ordinary start serves before its keys are tried, and tells those who open to come again."""
    cycles: int = 0
    longest_pause_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    kept: bytes = b""
    kept_request: bytes = field(default_factory=lambda: os.urandom(16))

    def run(self) -> None:
        try:
            self.kept = self._open(self.kept_request, "kept")
            while not self.over.is_set():
                self._cycle()
                self.cycles += 1
            self._renew(self.kept)
            if self._open(self.kept_request, "kept") != self.kept:
                self.faults.append("the Open that was granted before the take-over gives another session now")
        except (grpc.RpcError, LookupError) as error:
            self.faults.append(repr(error))

    def _cycle(self) -> None:
        session_id = self._open(os.urandom(16), "passing")
        self._renew(session_id)
        self._renew(self.kept)
        self._call(self.stub.Close, sessions_pb2.CloseRequest(session_id=session_id, request_id=os.urandom(16)))

    def _open(self, request_id: bytes, app: str) -> bytes:
        holder = types_pb2.Holder(user=f"user-{self.number}", host="pc", app=app)
        products = [types_pb2.ProductRequest(product="platform")]
        request = sessions_pb2.OpenRequest(request_id=request_id, holder=holder, products=products)
        answer = self._call(self.stub.Open, request)
        while answer.denial.reason == types_pb2.DENIAL_REASON_KEYS_STARTING and self.may_meet_starting_keys:
            self.counts["keys starting"] += 1
            time.sleep(answer.denial.retry_after.ToTimedelta().total_seconds())
            request.request_id = os.urandom(16)
            answer = self._call(self.stub.Open, request)
        if answer.WhichOneof("result") != "grant":
            raise LookupError(f"denied: {answer}")
        return bytes(answer.grant.session_id)

    def _renew(self, session_id: bytes) -> None:
        self._call(self.stub.Renew, sessions_pb2.RenewRequest(session_id=session_id))

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        """With one retry, of the same request."""
        begin = time.monotonic()
        try:
            return method(request, timeout=END_S)
        except grpc.RpcError as error:
            if error.code() not in RETRIED:
                raise
            self.counts["retried"] += 1
            return method(request, timeout=END_S, wait_for_ready=True)
        finally:
            self.counts["answered"] += 1
            self.longest_pause_s = max(self.longest_pause_s, time.monotonic() - begin)


def channels(address: str) -> Iterator[grpc.Channel]:
    for _ in range(CONNECTION_COUNT):
        yield grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


@contextmanager
def restarted(broker: RunningBroker) -> Iterator[subprocess.Popen[bytes]]:
    """SIGTERM, and a start on the same ports; the process that serves then."""
    data_dir = broker.data_directory
    addresses = {name: {"address": getattr(broker, name)} for name in ("clients", "admin", "http")}
    config = broker.config_path.with_name("again.toml")
    settings = {"broker": {"data_dir": str(data_dir)}, "emulation": {"keys": FLEET}, "journal": {"ballast_size": 0}}
    config.write_text(toml_text(settings | addresses))
    os.kill(int((data_dir / "lock").read_text()), signal.SIGTERM)
    until(lambda: is_free(data_dir / "lock"), "the end of the broker before it")
    again = start_broker(data_dir.parent, config)
    try:
        yield again.process
    finally:
        again.process.kill()
        again.process.wait()


def is_free(path: Path) -> bool:
    """Whether nobody holds a lock."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def taken_over(broker: RunningBroker) -> Iterator[subprocess.Popen[Any]]:
    """A successor that serves."""
    with successor(broker) as process:
        endpoints(process)
        yield process


@pytest.mark.parametrize("way", [taken_over, restarted])
def test_no_request_fails_twice_and_no_grant_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], way: Callable[[RunningBroker], AbstractContextManager[subprocess.Popen[Any]]]
) -> None:
    over = threading.Event()
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        opened = list(channels(broker.clients))
        stubs = [sessions_pb2_grpc.SessionsStub(channel) for channel in opened]
        callers = [Caller(stubs[number % CONNECTION_COUNT], number, over, way is restarted) for number in range(CALLER_COUNT)]
        threads = [threading.Thread(target=caller.run) for caller in callers]
        for thread in threads:
            thread.start()
        now: subprocess.Popen[Any] = broker.process
        with ExitStack() as brokers:
            try:
                for _ in range(ROUNDS):
                    await_cycles(callers)
                    process = brokers.enter_context(way(broker))
                    assert now.wait(END_S) == ExitCode.DONE
                    now = process
                await_cycles(callers)
            finally:
                over.set()
                for thread in threads:
                    thread.join()
                for channel in opened:
                    channel.close()
    assert [fault for caller in callers for fault in caller.faults] == []
    counts = sum((caller.counts for caller in callers), Counter())
    with capsys.disabled():
        longest_s = max(caller.longest_pause_s for caller in callers)
        print(f" [{way.__name__} {ROUNDS} times: longest pause {longest_s:.2f} s, {dict(counts)}, none failed] ", end="")


def await_cycles(callers: list[Caller]) -> None:
    """Waits until each has done some more work, or has failed."""
    wanted = {caller.number: caller.cycles + WARM_UP_CYCLES for caller in callers}
    end_s = time.monotonic() + END_S
    while any(caller.cycles < wanted[caller.number] and not caller.faults for caller in callers):
        assert time.monotonic() < end_s, [caller.faults for caller in callers if caller.faults]
        time.sleep(0.02)
