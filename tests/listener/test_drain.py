"""The end of a listener: asked to go, peers go with all their answers; who stays is cut; new ones are refused."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from hyperframe.frame import GoAwayFrame, PingFrame

from broker.model.commands import CommandKind, decode_commands
from broker.v1 import sessions_pb2, sessions_pb2_grpc
from tests.hostile.attacker import KEEP_ALIVE, Attacker
from tests.listener.harness import GENERATION, MS, WAIT_S, S, Served, open_request, serving

ROOT = Path(__file__).resolve().parents[2]
LAST_STREAM_OF_NOTICE = 2**31 - 1
LOOP_LINE = re.compile(r"usher: loop 0: (waiting|sending|service), round [1-9]\d*, peer 0, .*, connections 1")


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(thread_count=request.param, seats={"platform": 100_000}) as one:
        yield one


def test_idle_peers_go_at_once_and_the_loops_end(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        channels = [served.channel() for _ in range(6)]
        for channel in channels:
            sessions_pb2_grpc.SessionsStub(channel).Open(open_request(), timeout=WAIT_S)
        silent = stack.enter_context(served.connect())
        peer = Attacker(silent).begin()
        served.wait_until(lambda counters: counters.connections == 7)
        served.listener.drain(30 * S)
        goaways = [one for one in peer.hear(until_goaway=True).frames if isinstance(one, GoAwayFrame)]
        assert goaways[0].last_stream_id == LAST_STREAM_OF_NOTICE
        peer.send(PingFrame(0, opaque_data=b"ushergo!", flags=["ACK"]).serialize())
        heard = peer.hear()
        assert heard.is_ended
        assert heard.goaway_codes == [0]
        silent.close()
        served.join()
    counters = served.counters()
    assert (counters.connections, counters.connections_closed) == (0, 7)
    assert counters.goaways_sent == 7


def is_refused(served: Served) -> bool:
    """Whether the kernel takes no connection any more."""
    try:
        served.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_new_connections_are_refused_from_the_drain_on(served: Served) -> None:
    peer = Attacker(served.connect()).begin()
    served.wait_until(lambda counters: counters.connections == 1)
    served.listener.drain(30 * S)
    peer.hear(until_goaway=True)
    served.wait_until(lambda _: is_refused(served))
    served.listener.stop()
    served.join()
    peer.close()


def test_one_who_does_not_go_is_cut_after_the_grace(served: Served) -> None:
    with served.connect() as connected:
        peer = Attacker(connected).begin()
        peer.send(peer.head(1))  # a call whose message never comes
        served.wait_until(lambda counters: counters.streams == 1)
        served.listener.drain(200 * MS)
        assert peer.hear().is_ended
        served.join()
    assert served.counters().connections == 0


def test_a_sooner_end_counts(served: Served) -> None:
    with served.connect() as connected:
        peer = Attacker(connected).begin()
        peer.send(peer.head(1))
        served.wait_until(lambda counters: counters.streams == 1)
        served.listener.drain(3600 * S)
        served.listener.drain(100 * MS)
        served.listener.drain(3600 * S)
        served.join()


def test_stop_ends_all_at_once_also_in_a_drain(served: Served) -> None:
    with served.connect() as connected:
        peer = Attacker(connected).begin()
        peer.send(peer.head(1, KEEP_ALIVE))
        served.wait_until(lambda counters: counters.keep_alive_streams == 1)
        served.listener.drain(3600 * S)
        served.listener.stop()
        assert peer.hear().is_ended
        served.join()
    counters = served.counters()
    assert (counters.connections, counters.keep_alive_streams, counters.watched_sessions) == (0, 0, 0)


async def test_no_answered_request_is_lost_by_a_drain_under_load(served: Served) -> None:
    """Every Open that was carried out was answered; every other failed so that it can be sent again."""
    granted = 0
    failed: set[grpc.StatusCode] = set()
    is_warm = asyncio.Event()

    async def keep_opening(channel: aio.Channel) -> None:
        nonlocal granted
        stub: sessions_pb2_grpc.SessionsAsyncStub = sessions_pb2_grpc.SessionsStub(channel)
        while True:
            try:
                answer = await stub.Open(open_request(), timeout=WAIT_S)
            except aio.AioRpcError as error:
                failed.add(error.code())
                return
            granted += answer.HasField("grant")
            if granted >= 500:
                is_warm.set()

    async with contextlib.AsyncExitStack() as stack:
        channels = []
        for number in range(8):
            options = [("grpc.use_local_subchannel_pool", 1), ("usher.number", number)]
            channels.append(await stack.enter_async_context(aio.insecure_channel(served.address, options=options)))
        tasks = [asyncio.create_task(keep_opening(channel)) for channel in channels for _ in range(16)]
        await asyncio.wait_for(is_warm.wait(), WAIT_S)
        served.listener.drain(20 * S)
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)
    await asyncio.to_thread(served.join)
    assert failed == {grpc.StatusCode.UNAVAILABLE}
    assert granted == served.ledger.counters().opened_total


def test_streams_end_with_unavailable_and_calls_under_way_are_answered(served: Served) -> None:
    stub = served.sessions()
    session_id = stub.Open(open_request(), timeout=WAIT_S).grant.session_id
    is_over = threading.Event()

    def renewals() -> Iterator[sessions_pb2.KeepAliveRequest]:
        yield sessions_pb2.KeepAliveRequest(renewals=[sessions_pb2.RenewRequest(session_id=session_id)])
        is_over.wait(WAIT_S)

    stream = stub.KeepAlive(renewals())
    next(stream)
    served.listener.drain(20 * S)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    is_over.set()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    served.join()


FATAL = """
import os, signal, sys, time
from broker._listener import install_fatal_dump
from tests.listener.harness import WAIT_S, open_request, serving
with serving(thread_count=2) as served:
    install_fatal_dump(served.listener)
    served.sessions().Open(open_request(), timeout=WAIT_S)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    time.sleep(WAIT_S)
"""


COMMANDS = """
import os, signal, sys, time
from broker._listener import install_fatal_dump
from tests.listener.harness import WAIT_S, open_request, serving
with serving() as served:
    install_fatal_dump(served.listener, sys.argv[1])
    for number in range(int(sys.argv[2])):
        served.ledger.renew(time.monotonic_ns(), bytes(32))
    served.sessions().Open(open_request(user="the last"), timeout=WAIT_S)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(WAIT_S)
"""


@pytest.mark.parametrize("count", [10, 300_000], ids=["all-commands", "the-last-of-many"])
def test_a_fatal_signal_leaves_the_last_commands_in_a_file_that_can_be_read(tmp_path: Path, count: int) -> None:
    left = tmp_path / "commands"
    arguments = [sys.executable, "-c", COMMANDS, str(left), str(count)]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S * 2)
    assert ended.returncode == -signal.SIGSEGV
    assert f"usher: the last commands are in {left}" in ended.stderr
    assert left.stat().st_mode & 0o777 == 0o600
    dump = decode_commands(left.read_bytes())
    assert dump.is_whole == (count == 10)
    opened = [command for command in dump.commands if command.kind is CommandKind.OPEN]
    assert [command.texts[0] for command in opened] == [b"the last"]
    assert dump.settings["generation"] == GENERATION


OVERFLOW = """
import resource, sys, threading
from broker._listener import install_fatal_dump
from tests.listener import harness
from tests.listener.streams import KeepAlive, open_many
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
threading.stack_size(32768)  # less than a loop needs for a full message of a stream
with harness.serving() as served:
    threading.stack_size(0)
    install_fatal_dump(served.listener)
    with KeepAlive(served) as stream:
        ids = open_many(served, 5) * 51
        for _ in range(20):
            stream.send(*ids)
        stream.results(20 * 255)
"""


def test_a_loop_whose_stack_is_used_up_still_says_where_it_was() -> None:
    ended = subprocess.run([sys.executable, "-c", OVERFLOW], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S * 2)
    assert ended.returncode == -signal.SIGSEGV
    assert "usher: loop 0: " in ended.stderr


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_fatal_signal_says_where_the_loops_were_and_kills(name: str) -> None:
    ended = subprocess.run([sys.executable, "-c", FATAL, name], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S * 2)
    assert ended.returncode == -getattr(signal, name)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("usher: loop ")]
    assert [line.partition(", ")[0] for line in lines][1:] == ["usher: loop 1: waiting"]
    assert LOOP_LINE.fullmatch(lines[0]), lines


def test_signals_do_not_come_to_the_loops() -> None:
    """A signal that Python handles goes to its main thread, however busy the loops are."""
    came = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: came.set())
    try:
        with serving(thread_count=2) as served:
            served.sessions().Open(open_request(), timeout=WAIT_S)
            for thread in served.threads:
                assert thread.ident is not None
                signal.pthread_kill(thread.ident, signal.SIGUSR1)
            time.sleep(0)
            assert not came.is_set()
            signal.raise_signal(signal.SIGUSR1)
            assert came.wait(WAIT_S)
    finally:
        signal.signal(signal.SIGUSR1, before)
