"""What must hold while somebody attacks: the others are served, the ledger hears nothing, memory and work stay bounded.

A Siege is one listener with an honest client on a connection of its own, both shared by many tests. `attacked` begins and ends one
attack: around it, all counters are compared. Work is counted in rounds of the loop and commands of its ledger, not in time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from broker.model.listener import ListenerCounters
from broker.model.views import Counters
from broker.v1 import sessions_pb2, sessions_pb2_grpc
from tests.hostile.attacker import Attacker
from tests.hostile.memory import in_use_size
from tests.listener.harness import Served, open_request

CALL_S = 10.0
MEMORY_LEFT_MAX = 768 * 1024
"""What an attack may leave in malloc when it is over: tables that grew, Python's own."""
SLOT_SIZE_MAX = 1024
"""What each connection of an attack may leave: its slot is kept for the next."""
ROUNDS_AT_REST_MAX = 300
"""In half a second of nothing: timers and the ledger's ticks. A loop that spins has thousands."""
REST_S = 0.5


@dataclass(slots=True)
class Attack:
    """One attack under way."""

    siege: Siege
    before: ListenerCounters
    ledger_before: Counters
    memory_before: int
    attackers: list[Attacker] = field(default_factory=list)
    honest_count: int = 0

    def join(self, *, is_plain: bool = False, receive_size: int = 0) -> Attacker:
        """Another connection of the attacker's. `is_plain`: a bare socket also where TLS is spoken."""
        attacker = Attacker(self.siege.connect_bare() if is_plain else self.siege.connect(receive_size))
        self.attackers.append(attacker)
        return attacker

    def honest_call(self) -> None:
        """The honest client renews, on the same loop, and is answered."""
        self.siege.renew()
        self.honest_count += 1

    def grown(self, name: str) -> int:
        """How many more were refused for that cause than before."""
        return self.siege.served.counters().refused[name] - self.before.refused[name]

    def await_refused(self, name: str, count: int = 1) -> None:
        """Waits until so many more have been refused for that cause, with honest calls meanwhile."""
        self.honest_call()
        self.siege.served.wait_until(lambda now: now.refused[name] - self.before.refused[name] >= count)
        assert self.grown(name) == count

    def memory_grown(self) -> int:
        """Bytes above what they were before."""
        return in_use_size() - self.memory_before


@dataclass(slots=True)
class Siege:
    """A listener, its address by TLS or not, and an honest client with a session."""

    served: Served
    secure: Callable[[socket.socket], socket.socket]
    renew: Callable[[], object]
    """The honest client's call."""

    def connect(self, receive_size: int = 0) -> socket.socket:
        """A connection that speaks as this listener does."""
        return self.secure(self.connect_bare(receive_size))

    def connect_bare(self, receive_size: int = 0) -> socket.socket:
        """TCP and no more. `receive_size`: of the kernel's buffer, for one who will not read."""
        bare = socket.socket()
        if receive_size:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_size)
        bare.settimeout(CALL_S)
        bare.connect(("127.0.0.1", self.served.port))
        return bare

    @contextlib.contextmanager
    def attacked(self, refused: str | None = None, *, count: int = 1, changes_ledger: bool = False) -> Iterator[Attack]:
        """An attack: `count` refusals for the cause `refused` and none for any other; then everything is as before."""
        self.renew()
        attack = Attack(self, self.served.counters(), self.served.ledger.counters(), in_use_size())
        try:
            yield attack
            attack.honest_call()
            if refused is not None:
                attack.await_refused(refused, count)
        finally:
            for attacker in attack.attackers:
                attacker.close()
            connection_count = len(attack.attackers)
            attack.attackers.clear()
        self._check(attack, {refused: count} if refused else {}, changes_ledger)
        left = attack.memory_grown()
        assert left <= MEMORY_LEFT_MAX + SLOT_SIZE_MAX * connection_count, f"{left} bytes after {connection_count} connections"

    def _check(self, attack: Attack, refused: dict[str, int], changes_ledger: bool) -> None:
        self.served.wait_until(lambda now: now.connections == attack.before.connections)
        attack.honest_call()
        now = self.served.counters()
        changes = ((name, now.refused[name] - attack.before.refused[name]) for name in now.refused)
        grown = {name: number for name, number in changes if number}
        assert grown == refused, grown
        if not changes_ledger:
            assert without_renewals(self.served.ledger.counters(), attack.honest_count) == without_renewals(attack.ledger_before, 0)
        self.assert_at_rest()

    def assert_at_rest(self) -> None:
        """Nothing is left that keeps the loop busy."""
        before = self.served.counters().rounds
        time.sleep(REST_S)          # for what does not happen there is no event
        assert self.served.counters().rounds - before <= ROUNDS_AT_REST_MAX


def without_renewals(counters: Counters, renewed_count: int) -> Counters:
    """As if so many renewals had not been. What is forgotten in time is left out, and a machine that stood still for a second."""
    return dataclasses.replace(
        counters, renewed_total=counters.renewed_total - renewed_count, stall_total=0, stalled_ns=0, request_count=0,
        denial_count=0, text_size=0, event_size=0,
    )  # fmt: skip


def besiege(served: Served, secure: Callable[[socket.socket], socket.socket], stub: sessions_pb2_grpc.SessionsStub) -> Siege:
    """With a session of the honest client's. `secure`: what makes of a TCP connection one that the listener speaks on."""
    answer = stub.Open(open_request("platform", user="honest"), timeout=CALL_S)
    assert answer.grant.session_id, answer
    request = sessions_pb2.RenewRequest(session_id=answer.grant.session_id)
    return Siege(served, secure, lambda: stub.Renew(request, timeout=CALL_S))


def no_tls(bare: socket.socket) -> socket.socket:
    """As it is."""
    return bare


def tls(context: ssl.SSLContext) -> Callable[[socket.socket], socket.socket]:
    """A handshake, with HTTP/2 agreed upon."""

    def shake_hands(bare: socket.socket) -> socket.socket:
        wrapped = context.wrap_socket(bare, server_hostname="localhost")
        assert wrapped.selected_alpn_protocol() == "h2"
        return wrapped

    return shake_hands
