"""Loops and connections: calls by clients of both kinds, connections shared by loops, and nothing left when they have gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from grpc import aio

from broker._listener import Listener
from broker.limits import LIMITS
from broker.model.listener import ListenerCounters
from broker.v1 import sessions_pb2, sessions_pb2_grpc
from tests.h2.peer import PREFACE
from tests.hostile.attacker import Attacker
from tests.hostile.memory import in_use_size
from tests.listener.harness import RENEW_GRACE_NS, WAIT_S, S, Served, build_ledger, open_request, serving

BEGINNING = PREFACE + bytes.fromhex("000000040000000000")
"""What a client says first: the preface and empty SETTINGS."""
IDLE_SIZE_MAX = 40 * 1024


@pytest.fixture(params=[1, 2], ids=["one-loop", "two-loops"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(thread_count=request.param, seats={"platform": 2000}) as one:
        yield one


def renew(session_id: bytes) -> sessions_pb2.RenewRequest:
    return sessions_pb2.RenewRequest(session_id=session_id)


def open_and_close(served: Served, count: int) -> None:
    """Connections, some at a time, each of which is served and then closed by us."""
    for _ in range(count // 50):
        connected = [served.connect() for _ in range(50)]
        for one in connected:
            one.sendall(BEGINNING)
        for one in connected:
            assert one.recv(9)[3] == 4  # SETTINGS
            one.close()
    served.wait_until(lambda counters: counters.connections == 0)


def test_a_thousand_calls_of_a_synchronous_client_are_all_answered(served: Served) -> None:
    stub = served.sessions()
    session_id = stub.Open(open_request(), timeout=WAIT_S).grant.session_id
    futures = [stub.Renew.future(renew(session_id), timeout=WAIT_S) for _ in range(1000)]
    assert {future.result().ttl.seconds for future in futures} == {60}
    counters = served.counters()
    assert sum(counters.calls["Sessions/Renew", "ok"].bucket_counts) == 1000
    assert served.ledger.counters().renewed_total == 1000
    assert counters.streams == counters.messages_received == counters.messages_sent == 1001
    assert counters.batched_commands == 1001
    assert counters.batches <= 1001


async def test_asyncio_clients_on_many_connections_are_all_answered(served: Served) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stubs: list[sessions_pb2_grpc.SessionsAsyncStub] = []
        for number in range(32):
            options = [("grpc.use_local_subchannel_pool", 1), ("usher.number", number)]
            channel = await stack.enter_async_context(aio.insecure_channel(served.address, options=options))
            stubs.append(sessions_pb2_grpc.SessionsStub(channel))
        grants = await asyncio.gather(*(stub.Open(open_request(), timeout=WAIT_S) for stub in stubs))
        ids = [grant.grant.session_id for grant in grants]
        calls = (stub.Renew(renew(one), timeout=WAIT_S) for stub in stubs for one in ids)
        assert {answer.ttl.seconds for answer in await asyncio.gather(*calls)} == {60}
    assert len(set(ids)) == 32
    assert served.counters().connections_accepted == 32


def test_loops_share_the_connections_evenly() -> None:
    with serving(thread_count=3) as served, contextlib.ExitStack() as stack:
        for count in range(1, 31):
            stack.enter_context(served.connect()).sendall(BEGINNING)
            served.wait_until(lambda counters, count=count: counters.connections == count)
        lines = served.listener.last_states().splitlines()
        assert [line.rpartition(" ")[2] for line in lines] == ["10", "10", "10"]


def test_connections_that_come_and_go_leave_no_memory_and_no_descriptor() -> None:
    with serving(thread_count=2) as served:
        open_and_close(served, 2000)
        memory, descriptors = in_use_size(), len(os.listdir("/proc/self/fd"))
        open_and_close(served, 20_000)
        assert served.counters().connections_closed == 22_000
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert in_use_size() - memory < 256 * 1024


@pytest.mark.parametrize("burst", [0, LIMITS["H2_STREAMS_DEFAULT"]], ids=["no-call", "a-burst-of-calls"])
def test_an_idle_connection_costs_less_than_forty_kibibytes(burst: int) -> None:
    with serving() as served, contextlib.ExitStack() as stack:
        before = in_use_size()
        for _ in range(50):
            peer = Attacker(stack.enter_context(served.connect())).begin()
            peer.send(b"".join(peer.call() for _ in range(burst)))
        served.wait_until(lambda counters: counters.connections == 50 and answered(counters) == 50 * burst)
        assert (in_use_size() - before) / 50 < IDLE_SIZE_MAX


def answered(counters: ListenerCounters) -> int:
    """Calls of all methods that came to something."""
    return sum(sum(call.bucket_counts) for call in counters.calls.values())


def test_answers_that_come_in_one_round_take_the_ledger_once(served: Served) -> None:
    with served.connect() as connected:
        peer = Attacker(connected).begin()
        peer.send(b"".join(peer.call(renew(bytes(32)).SerializeToString()) for _ in range(100)))
        heard = peer.hear(until_stream_ends=199)
        assert heard.fields(199)["grpc-status"] == "5"
    counters = served.counters()
    assert counters.batched_commands == 100
    assert counters.batches < 20


def test_bytes_that_are_no_http2_end_their_connection_and_no_other(served: Served) -> None:
    stub = served.sessions()
    session_id = stub.Open(open_request(), timeout=WAIT_S).grant.session_id
    with served.connect() as connected:
        connected.sendall(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n" + os.urandom(5000))
        while connected.recv(65536):
            pass
    assert served.wait_until(lambda counters: counters.connections == 1).refused["protocol"] == 1
    assert stub.Renew(renew(session_id), timeout=WAIT_S).ttl.seconds == 60


def test_one_that_shuts_its_side_after_its_calls_is_answered(served: Served) -> None:
    with served.connect() as connected:
        peer = Attacker(connected).begin()
        peer.send(b"".join(peer.call(renew(bytes(32)).SerializeToString()) for _ in range(10)))
        connected.shutdown(socket.SHUT_WR)
        heard = peer.hear()
        assert heard.is_ended
        assert [heard.fields(stream)["grpc-status"] for stream in range(1, 20, 2)] == ["5"] * 10
    served.wait_until(lambda counters: counters.connections == 0)


def test_one_that_resets_its_connection_with_calls_under_way_is_forgotten(served: Served) -> None:
    with served.connect() as connected:
        peer = Attacker(connected).begin()
        peer.send(peer.head(1, "/broker.v1.Sessions/KeepAlive"))
        served.wait_until(lambda counters: counters.keep_alive_streams == 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
    counters = served.wait_until(lambda counters: counters.connections == 0)
    assert counters.keep_alive_streams == 0


def test_a_listener_that_never_ran_leaves_nothing() -> None:
    ledger = build_ledger()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(3):
            Listener(ledger, listening.fileno(), renew_grace_ns=RENEW_GRACE_NS, thread_count=2)
        memory, descriptors = in_use_size(), len(os.listdir("/proc/self/fd"))
        for _ in range(30):
            listener = Listener(ledger, listening.fileno(), renew_grace_ns=RENEW_GRACE_NS, thread_count=2)
            listener.drain(S)
            del listener
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert in_use_size() - memory < 128 * 1024


@pytest.mark.parametrize(
    "wrong",
    [{"thread_count": 0}, {"thread_count": 17}, {"connections_max": 0}, {"streams_max": 65536}, {"idle_ns": 0}, {"renew_grace_ns": -1}],
    ids=str,
)
def test_settings_beyond_their_bounds_are_refused(wrong: dict[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(ValueError, match=next(iter(wrong))):
        Listener(build_ledger(), listening.fileno(), **({"renew_grace_ns": 0} | wrong))


def test_what_is_no_socket_is_refused() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        Listener(build_ledger(), 999_999, renew_grace_ns=0)


def test_without_descriptors_the_loop_rests_and_goes_on_when_there_are_some() -> None:
    with serving() as served:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        clients = [socket.socket() for _ in range(3)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, before[1]))
        try:
            fill = held_descriptors()
            for client in clients:
                client.connect(("127.0.0.1", served.port))
            rounds = served.counters().rounds
            failures = served.wait_until(lambda counters: counters.refused["accept"] >= 3)
            assert failures.rounds - rounds < 100
            assert failures.connections == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for one in fill:
                os.close(one)
        served.wait_until(lambda counters: counters.connections == 3)
        for client in clients:
            client.close()


def held_descriptors() -> list[int]:
    """All that are left, taken."""
    held: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.dup(0))
    return held


def test_a_loop_runs_once() -> None:
    with serving() as served:
        served.listener.stop()
        served.join()
        with pytest.raises(RuntimeError, match="run before"):
            served.listener.run(0)


def test_the_ledger_advances_without_any_call() -> None:
    with serving(ttl_ns=S, renew_grace_ns=0) as served:
        served.sessions().Open(open_request(), timeout=WAIT_S)
        served.close_channels()
        served.wait_until(lambda _: served.ledger.counters().session_count == 0)
