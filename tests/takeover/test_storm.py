"""A take-over while clients are at it: every request is answered, at the second try at the latest; no grant is lost and no seat is given twice.

USHER_TAKEOVER_ROUNDS is how many brokers follow each other; the longest pause is printed.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.exit_codes import ExitCode
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.support.broker_process import running_broker
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
        answer = self._call(self.stub.Open, sessions_pb2.OpenRequest(request_id=request_id, holder=holder, products=products))
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


def test_no_request_fails_twice_and_no_grant_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    over = threading.Event()
    with running_broker(tmp_path, emulated_keys=FLEET) as broker:
        opened = list(channels(broker.clients))
        callers = [Caller(sessions_pb2_grpc.SessionsStub(opened[number % CONNECTION_COUNT]), number, over) for number in range(CALLER_COUNT)]
        threads = [threading.Thread(target=caller.run) for caller in callers]
        for thread in threads:
            thread.start()
        now = broker.process
        successors = []
        try:
            for _ in range(ROUNDS):
                await_cycles(callers)
                successors.append(successor(broker))
                process = successors[-1].__enter__()
                endpoints(process)
                assert now.wait(END_S) == ExitCode.DONE
                now = process
            await_cycles(callers)
        finally:
            over.set()
            for thread in threads:
                thread.join()
            for channel in opened:
                channel.close()
            now.send_signal(signal.SIGTERM)
            now.wait(END_S)
            for one in successors:
                one.__exit__(None, None, None)
    assert [fault for caller in callers for fault in caller.faults] == []
    counts = sum((caller.counts for caller in callers), Counter())
    with capsys.disabled():
        longest_s = max(caller.longest_pause_s for caller in callers)
        print(f" [{ROUNDS} take-overs: longest pause {longest_s:.2f} s, {counts['retried']} of {counts['answered']} calls retried, 0 failed] ", end="")


def await_cycles(callers: list[Caller]) -> None:
    """Waits until each has done some more work, or has failed."""
    wanted = {caller.number: caller.cycles + WARM_UP_CYCLES for caller in callers}
    end_s = time.monotonic() + END_S
    while any(caller.cycles < wanted[caller.number] and not caller.faults for caller in callers):
        assert time.monotonic() < end_s, [caller.faults for caller in callers if caller.faults]
        time.sleep(0.02)
