"""Each bound of the listener on its own: who breaks it is ended and counted under its name, and the others do not notice."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hyperframe.frame import SettingsFrame

from broker._listener import ServerContext
from broker.v1 import sessions_pb2
from tests.h2.peer import PREFACE, frame, framed
from tests.hostile.attacker import KEEP_ALIVE, Attacker, window_frame
from tests.listener.harness import MS, WAIT_S, Served, open_request, serving
from tests.support.certificates import TestAuthority

SOON_NS = 100 * MS
WINDOW_SIZE_MAX = 2**31 - 1
MANY_RENEWALS = framed(
    sessions_pb2.KeepAliveRequest(renewals=[sessions_pb2.RenewRequest(session_id=bytes(32))] * 200).SerializeToString()
)
"""A message of a KeepAlive stream whose answer is larger than it."""


def is_ended(connected: socket.socket) -> bool:
    """Whether the server ends the connection; waits for it."""
    with contextlib.suppress(ConnectionError):
        while connected.recv(65536):
            pass
    return True


@contextlib.contextmanager
def others_served(served: Served) -> Iterator[None]:
    """An honest client before and after, on one connection."""
    stub = served.sessions()
    session_id = stub.Open(open_request(), timeout=WAIT_S).grant.session_id
    yield
    assert stub.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=WAIT_S).ttl.seconds == 60


def test_one_connection_too_many_is_closed_and_there_is_room_again_when_one_goes() -> None:
    with serving(connections_max=3, thread_count=2) as served, others_served(served), contextlib.ExitStack() as stack:
        first, _ = (stack.enter_context(served.connect()) for _ in range(2))
        served.wait_until(lambda counters: counters.connections == 3)
        with served.connect() as refused:
            assert is_ended(refused)
        counters = served.counters()
        assert (counters.refused["connections"], counters.connections_accepted, counters.connections) == (1, 3, 3)
        first.close()
        served.wait_until(lambda counters: counters.connections == 2)
        peer = Attacker(stack.enter_context(served.connect())).begin()
        peer.send(peer.call())
        assert peer.hear(until_stream_ends=1).fields(1)["grpc-status"] == "3"


LATE: dict[str, tuple[str, Callable[[Attacker], bytes]]] = {
    "preface_late": ("handshake_ns", lambda peer: PREFACE[:10]),
    "headers_late": ("headers_ns", lambda peer: peer.begin() and peer.head(1, fields=[("a", "b" * 50)])[:40]),
    "idle": ("idle_ns", lambda peer: peer.begin() and peer.call()),
}


@pytest.mark.parametrize("name", LATE)
def test_who_lets_the_broker_wait_too_long_is_ended(name: str) -> None:
    setting, bytes_of = LATE[name]
    with serving(**{setting: SOON_NS}) as served, served.connect() as connected:
        peer = Attacker(connected)
        peer.send(bytes_of(peer))
        assert peer.hear().is_ended
        assert served.wait_until(lambda counters: counters.connections == 0).refused[name] == 1


def test_a_body_that_does_not_come_ends_its_call_only() -> None:
    with serving(body_ns=SOON_NS) as served, served.connect() as connected:
        peer = Attacker(connected).begin()
        peer.send(peer.head(peer.next_stream()))
        assert peer.hear(until_stream_ends=1).fields(1)["grpc-status"] == "4"
        peer.send(peer.call())
        assert peer.hear(until_stream_ends=3).fields(3)["grpc-status"] == "3"
        assert served.counters().refused["late"] == 1


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01"], ids=["nothing", "a-head", "a-part"])
def test_a_handshake_that_does_not_end_is_cut(said: bytes, tmp_path: Path) -> None:
    files = TestAuthority(tmp_path).server()
    with serving(tls=ServerContext(files.certificate, files.private_key), handshake_ns=SOON_NS) as served, served.connect() as connected:
        connected.sendall(said)
        assert is_ended(connected)
        assert served.wait_until(lambda counters: counters.connections == 0).refused["handshake"] == 1


def test_each_of_many_late_peers_is_counted_once(tmp_path: Path) -> None:
    files = TestAuthority(tmp_path).server()
    tls = ServerContext(files.certificate, files.private_key)
    with serving(tls=tls, handshake_ns=SOON_NS, thread_count=2) as served, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(served.connect())
        counters = served.wait_until(lambda counters: counters.connections_closed == 200)
        assert counters.refused["handshake"] == 200


def test_one_who_never_reads_is_not_read_from_and_then_cut() -> None:
    with serving(write_ns=SOON_NS) as served, others_served(served):
        with served.connect() as connected:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer = Attacker(connected).begin()
            stream = peer.next_stream()
            peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW_SIZE_MAX}).serialize())
            peer.send(window_frame(0, WINDOW_SIZE_MAX - 65535) + peer.head(stream, KEEP_ALIVE))
            while served.counters().refused["write"] == 0 and peer.send(data_frame(stream, MANY_RENEWALS)):
                pass
        counters = served.wait_until(lambda counters: counters.connections == 1)
        assert (counters.refused["write"], counters.keep_alive_streams) == (1, 0)


def test_one_who_reads_slowly_gets_everything_while_others_are_served() -> None:
    size = 3000
    with serving() as served, others_served(served), served.connect() as connected:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer = Attacker(connected).begin()
        for first in range(0, size, 250):
            peer.send(b"".join(peer.call() for _ in range(250)))
            last = 2 * (first + 250) - 1
            heard = peer.hear(until_stream_ends=last)
            assert heard.fields(last)["grpc-status"] == "3"
        assert served.counters().streams_refused == 0


def data_frame(stream: int, body: bytes) -> bytes:
    """A DATA frame that ends nothing."""
    return frame(0, 0, stream, body)
