"""Slow and silent peers: headers, bodies, handshakes and readers that take for ever are cut after their time, and hold little meanwhile."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
import time
from collections.abc import Iterator

import pytest

from broker.limits import LIMITS
from broker.v1 import sessions_pb2, types_pb2
from tests.h2.peer import PREFACE, frame, framed, headers
from tests.hostile.attacker import ENHANCE_YOUR_CALM, KEEP_ALIVE, OPEN, Attacker, window_frame
from tests.hostile.conftest import PATIENCE
from tests.hostile.siege import Siege
from tests.listener.harness import open_request

NOBODY = sessions_pb2.RenewRequest(session_id=bytes(32)).SerializeToString()
DEADLINE_EXCEEDED = "4"
CONNECTION_MEMORY_MAX = 40 * 1024
MEMORY_MAX = LIMITS["H2_MEMORY_SIZE_DEFAULT"] + (1 << 20)


def test_headers_that_do_not_end_are_cut(siege: Siege) -> None:
    with siege.attacked("headers_late") as attack:
        attacker = attack.join().begin()
        attacker.send(frame(1, 0, 1, attacker.encoder.encode(headers())[:20]))
        assert attacker.hear().goaway_codes[-1:] == [ENHANCE_YOUR_CALM]


def test_a_body_that_does_not_come_costs_its_call_and_not_the_connection(siege: Siege) -> None:
    with siege.attacked("late") as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.head(attacker.next_stream()) + frame(0, 0, 1, framed(NOBODY)[:10]))
        assert attacker.hear(until_stream_ends=1).fields(1)["grpc-status"] == DEADLINE_EXCEEDED
        attacker.send(attacker.call(b"\x0a"))
        assert attacker.hear(until_stream_ends=3).fields(3)["grpc-status"] == "3"


def test_a_body_of_one_byte_at_a_time_does_not_stretch_its_time(siege: Siege) -> None:
    with siege.attacked("late") as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.head(1))
        for byte in framed(bytes(30))[:20]:
            attacker.send(frame(0, 0, 1, bytes([byte])))
        assert attacker.hear(until_stream_ends=1).fields(1)["grpc-status"] == DEADLINE_EXCEEDED


def test_half_sent_messages_on_all_streams_are_bounded(siege: Siege) -> None:
    count = 64
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        for stream in range(1, 2 * count, 2):
            attacker.send(attacker.head(stream, KEEP_ALIVE) + frame(0, 0, stream, b"\0" + struct.pack(">I", 65_536) + bytes(8000)))
        attack.honest_call()
        assert attack.memory_grown() <= MEMORY_MAX


def test_a_connection_that_says_nothing_is_closed(siege: Siege) -> None:
    with siege.attacked("preface_late") as attack:
        attacker = attack.join()
        assert attacker.hear().is_ended


def test_half_a_preface_is_no_preface(siege: Siege) -> None:
    with siege.attacked("preface_late") as attack:
        attacker = attack.join()
        attacker.send(PREFACE[:10])
        assert attacker.hear().is_ended


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)], ids=["nothing", "half a hello"])
def test_half_open_tls_is_closed(mutual_siege: Siege, hello: bytes) -> None:
    with mutual_siege.attacked("handshake", count=50) as attack:
        attackers = [attack.join(is_plain=True) for _ in range(50)]
        for attacker in attackers:
            attacker.send(hello)
        assert attack.memory_grown() / 50 <= 2 * CONNECTION_MEMORY_MAX
        assert all(attacker.hear().is_ended for attacker in attackers)


def test_thousands_of_silent_connections_are_cheap_and_all_are_closed(plain_siege: Siege) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
    count = 2000
    try:
        with plain_siege.attacked("preface_late", count=count) as attack:
            for _ in range(count):
                attack.join()
            plain_siege.served.wait_until(lambda now: now.connections_accepted - attack.before.connections_accepted == count)
            attack.honest_call()
            assert attack.memory_grown() / count <= CONNECTION_MEMORY_MAX
            assert all(attacker.hear().is_ended for attacker in attack.attackers)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_above_the_bound_are_not_taken_and_those_inside_it_served(plain_siege: Siege) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
    before = plain_siege.served.counters()
    attackers = []
    try:
        for _ in range(PATIENCE["connections_max"] - before.connections + 25):
            attackers.append(Attacker(plain_siege.connect()))
        now = plain_siege.served.wait_until(lambda now: now.refused["connections"] - before.refused["connections"] >= 1)
        plain_siege.renew()
        assert now.connections <= PATIENCE["connections_max"]
    finally:
        for attacker in attackers:
            attacker.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    plain_siege.served.wait_until(lambda now: now.connections == before.connections)
    plain_siege.renew()
    plain_siege.assert_at_rest()


# --- who asks and never reads ---------------------------------------------------------------------------------


def large_answer() -> sessions_pb2.OpenRequest:
    """An Open that is answered with kilobytes, each time it is sent again: for seats that there are not."""
    request = open_request("platform", user="greedy", request_id=os.urandom(16))
    request.products.extend(types_pb2.ProductRequest(product=f"none-{number:027}", optional=True) for number in range(15))
    return request


@contextlib.contextmanager
def greedy_session(siege: Siege, asked: sessions_pb2.OpenRequest) -> Iterator[None]:
    """The attacker's session, which is closed again."""
    opener = Attacker(siege.connect()).begin()
    opener.send(opener.call(asked.SerializeToString(), OPEN))
    assert len(opener.hear(until_stream_ends=1).body(1)) > 1000
    opener.close()
    try:
        yield
    finally:
        ledger = siege.served.ledger
        (fence,) = (one.fence for one in ledger.sessions(time.monotonic_ns())[0] if one.user == b"greedy")
        assert ledger.revoke(time.monotonic_ns(), fence)


def ask_until_cut(attacker: Attacker, message: bytes) -> None:
    """Calls without ever reading, until the server takes no more. So few at once that none is above the bound of calls."""
    attacker.begin(initial_window_size=2**31 - 1)
    attacker.send(window_frame(0, 2**31 - 1 - 65_535))
    while attacker.send(b"".join(attacker.call(message, OPEN) for _ in range(20))):
        pass


def test_one_who_asks_and_never_reads_is_cut_and_holds_bounded_memory(siege: Siege) -> None:
    asked = large_answer()
    with siege.attacked("write", changes_ledger=True) as attack, greedy_session(siege, asked):
        attacker = attack.join(receive_size=4096)
        ask_until_cut(attacker, asked.SerializeToString())
        assert attack.memory_grown() <= MEMORY_MAX
        assert siege.served.ledger.counters().session_count == 2


def test_answers_for_which_a_window_never_opens_are_bounded(siege: Siege) -> None:
    asked = large_answer()
    with siege.attacked(changes_ledger=True) as attack, greedy_session(siege, asked):
        attacker = attack.join().begin(initial_window_size=0)
        attacker.send(b"".join(attacker.call(asked.SerializeToString(), OPEN) for _ in range(200)))
        attack.honest_call()
        siege.served.wait_until(lambda now: now.messages_received - attack.before.messages_received >= 200)
        assert attack.memory_grown() <= MEMORY_MAX
