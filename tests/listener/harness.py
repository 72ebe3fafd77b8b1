"""A ledger, a socket and a listener in threads of its own: what tests of the data plane serve and speak to.

The clock is the real one. Every product that is asked for has one pool of so many seats whose source is proven for good. With
`place` the ledger's events go to a real log there, whose committer either runs in a thread or is stepped by the test.
Nothing is left behind: at the end the listener is stopped and its threads are joined.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from broker._journal import Journal, LogDisk
from broker._ledger import Ledger
from broker._listener import Listener, ServerContext
from broker.model.listener import ListenerCounters
from broker.model.terms import PoolTerms
from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2

S = 10**9
MS = 10**6
FOREVER = 2**62
BROKER_ID = b"\x07" * 8
GENERATION = 3
RENEW_GRACE_NS = 10 * S
WAIT_S = 20
"""How long anything is waited for that must come."""
LISTENER_SETTINGS = {
    "connections_max", "streams_max", "handshake_ns", "headers_ns", "body_ns", "idle_ns", "write_ns", "drain_ping_ns", "is_ticking",
}  # fmt: skip
SEATS: Mapping[str, int] = {"platform": 5, "crm": 3}


def build_ledger(seats: Mapping[str, int] = SEATS, terms: PoolTerms | None = None, **settings: Any) -> Ledger:
    """A ledger on the real clock with these seats."""
    now_ns = time.monotonic_ns()
    defaults: dict[str, Any] = {
        "broker_id": BROKER_ID,
        "secret": b"s" * 16,
        "generation": GENERATION,
        "start_ns": now_ns,
        "ttl_ns": 60 * S,
        "renew_grace_ns": RENEW_GRACE_NS,
        "is_lossy": True,
    }
    ledger = Ledger(**(defaults | settings))
    for source, (product, count) in enumerate(seats.items()):
        pool = ledger.declare_pool(product, terms or PoolTerms(), False)
        ledger.prove_source(now_ns, source, pool, count, FOREVER, FOREVER)
    return ledger


@dataclass(slots=True)
class Served:
    """A listener at work. `address` is HOST:PORT; a test may drain or stop it itself."""

    ledger: Ledger
    listener: Listener
    listening: socket.socket
    threads: list[threading.Thread] = field(default_factory=list)
    journal: Journal | None = None
    _channels: list[grpc.Channel] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A socket of our own, for bytes of any kind."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        """A channel on a connection of its own; closed with the listener."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        if credentials is None:
            channel = grpc.insecure_channel(self.address, options)
        else:
            channel = grpc.secure_channel(f"localhost:{self.port}", credentials, options)
        self._channels.append(channel)
        return channel

    def sessions(self, credentials: grpc.ChannelCredentials | None = None) -> sessions_pb2_grpc.SessionsStub:
        """A stub on a connection of its own."""
        return sessions_pb2_grpc.SessionsStub(self.channel(credentials))

    def counters(self) -> ListenerCounters:
        return self.listener.counters()

    def wait_until(self, is_so: Callable[[ListenerCounters], bool]) -> ListenerCounters:
        """Waits for what the counters will show; gives them. AssertionError with them if it does not come."""
        end_s = time.monotonic() + WAIT_S
        while not is_so(counters := self.listener.counters()):
            assert time.monotonic() < end_s, counters
            time.sleep(0.005)
        return counters

    def commit_all(self) -> None:
        """One group after the other, in the caller's thread, until nothing is left or the journal has failed."""
        assert self.journal is not None
        while self.journal.step():
            pass

    def join(self) -> None:
        """Waits for the loops to end."""
        for thread in self.threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), self.listener.last_states()

    def close_channels(self) -> None:
        while self._channels:
            self._channels.pop().close()


@contextlib.contextmanager
def serving(
    *,
    seats: Mapping[str, int] = SEATS,
    terms: PoolTerms | None = None,
    thread_count: int = 1,
    tls: ServerContext | None = None,
    is_holding: bool | None = None,
    place: Path | LogDisk | None = None,
    is_committing: bool = True,
    group_size_max: int = 262144,
    **settings: Any,
) -> Iterator[Served]:
    """Serves on a free port of loopback until the block is left. `settings` are those of Listener and of Ledger. `is_committing`: the
    committer of the log at `place` runs; else the test steps it."""
    listener_settings = {name: settings.pop(name) for name in LISTENER_SETTINGS & settings.keys()}
    ledger = build_ledger(seats, terms, **({"is_lossy": place is None} | settings))
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(journaling(ledger, place, is_committing, group_size_max)) if place is not None else None
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        listener = Listener(
            ledger,
            listening.fileno(),
            thread_count=thread_count,
            tls=tls,
            renew_grace_ns=settings.get("renew_grace_ns", RENEW_GRACE_NS),
            is_holding=is_holding,
            journal=journal.port() if journal is not None else None,
            **listener_settings,
        )
        listener.set_serving(True)
        served = Served(ledger, listener, listening, journal=journal)
        for number in range(thread_count):
            thread = threading.Thread(target=listener.run, args=(number,), name=f"loop-{number}")
            served.threads.append(thread)
            thread.start()
        try:
            yield served
        finally:
            served.close_channels()
            listener.stop()
            served.join()


@contextlib.contextmanager
def journaling(
    ledger: Ledger, place: Path | LogDisk, is_committing: bool, group_size_max: int = 262144
) -> Iterator[Journal]:
    """A new log of the ledger's events; with its committer, which is joined at the end."""
    journal = Journal(place, broker_id=BROKER_ID, generation=GENERATION, group_size_max=group_size_max)
    for _ in journal.recover():
        raise AssertionError("a new log is empty")
    journal.begin(ledger)
    thread = threading.Thread(target=journal.run, name="committer")
    if is_committing:
        thread.start()
    try:
        yield journal
    finally:
        journal.stop()
        if is_committing:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        journal.close()


def open_request(
    *products: str, user: str = "ada", request_id: bytes | None = None, **fields: Any
) -> sessions_pb2.OpenRequest:
    """An Open of these products (platform, if none is named) by a holder of this name."""
    return sessions_pb2.OpenRequest(
        request_id=request_id or next_request_id(),
        holder=types_pb2.Holder(user=user, host="host", app="app"),
        products=[types_pb2.ProductRequest(product=product) for product in products or ("platform",)],
        **fields,
    )


_request_count = 0
_request_lock = threading.Lock()


def next_request_id() -> bytes:
    """Another one in this process at each call."""
    global _request_count
    with _request_lock:
        _request_count += 1
        return _request_count.to_bytes(16, "big")
