"""Bytes that are no HTTP/2, frames that are wrong, requests that are no gRPC: each has its own answer, and nobody else hears of it."""

from __future__ import annotations

import random

import pytest
from hyperframe.frame import RstStreamFrame

from broker.v1 import sessions_pb2
from tests.h2.peer import PREFACE, frame, framed
from tests.hostile.attacker import FRAME_SIZE_ERROR, OPEN, PROTOCOL_ERROR, RENEW, Attacker
from tests.hostile.siege import Attack, Siege

INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = "3", "8", "12", "13"
MEMORY_MAX = 2 << 20
NOBODY = sessions_pb2.RenewRequest(session_id=bytes(32)).SerializeToString()


def serves_on(attack: Attack, attacker: Attacker) -> None:
    """The attacker's connection still answers; nobody's session is NOT_FOUND."""
    stream = attacker._next_stream
    attacker.send(attacker.call(b"\x0a"))
    assert attacker.hear(until_stream_ends=stream).fields(stream)["grpc-status"] == INVALID_ARGUMENT


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_end_their_connection_and_no_other(siege: Siege, seed: int) -> None:
    with siege.attacked("protocol") as attack:
        attacker = attack.join()
        attacker.send(random.Random(seed).randbytes(5000))
        heard = attacker.hear()
        assert heard.is_ended
        assert heard.goaway_codes == [PROTOCOL_ERROR]


def test_another_protocol_is_told_to_go(siege: Siege) -> None:
    with siege.attacked("protocol") as attack:
        attacker = attack.join()
        attacker.send(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
        assert attacker.hear().goaway_codes == [PROTOCOL_ERROR]


def test_random_bytes_where_tls_is_spoken_are_a_failed_handshake(mutual_siege: Siege) -> None:
    with mutual_siege.attacked() as attack:
        failures = attack.before.tls_failures["protocol"]
        for seed in range(10):
            attacker = attack.join(is_plain=True)
            attacker.send(random.Random(seed).randbytes(500))
            assert attacker.hear().is_ended
        mutual_siege.served.wait_until(lambda now: now.tls_failures["protocol"] - failures == 10)


def test_plain_http2_where_tls_is_spoken_is_a_failed_handshake(mutual_siege: Siege) -> None:
    with mutual_siege.attacked() as attack:
        failures = attack.before.tls_failures["protocol"]
        attacker = attack.join(is_plain=True)
        attacker.send(PREFACE)
        attacker.socket.recv(100)
        mutual_siege.served.wait_until(lambda now: now.tls_failures["protocol"] - failures == 1)


def test_random_frames_after_a_preface_end_at_most_their_connection(siege: Siege) -> None:
    chance = random.Random(7)
    before = siege.served.counters()
    ledger_before = siege.served.ledger.counters().session_count
    for _ in range(30):
        attacker = Attacker(siege.connect()).begin()
        for _ in range(60):
            payload = chance.randbytes(chance.choice((0, 1, 4, 5, 8, 40, 300)))
            attacker.send(frame(chance.randrange(12), chance.choice((0, 1, 4, 5, 8, 0xFF)), chance.choice((0, 1, 3, 5, 2)), payload))
        attacker.close()
        siege.renew()
    siege.served.wait_until(lambda now: now.connections == before.connections)
    assert siege.served.ledger.counters().session_count == ledger_before
    siege.assert_at_rest()


def test_a_truncated_frame_ends_with_its_connection(siege: Siege) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.call(NOBODY)[:-3])
        attack.honest_call()
        attacker.close()


def test_an_oversized_frame_ends_its_connection(siege: Siege) -> None:
    with siege.attacked("protocol") as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.head(1) + frame(0, 0, 1, b"x" * 20_000))
        assert attacker.hear().goaway_codes[-1:] == [FRAME_SIZE_ERROR]


def test_a_message_above_the_bound_is_refused_before_it_is_kept(siege: Siege) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.head(1) + frame(0, 0, 1, b"\0\xff\xff\xff\xff" + bytes(1000)))
        heard = attacker.hear(until_stream_ends=1)
        assert heard.fields(1)["grpc-status"] == RESOURCE_EXHAUSTED
        attacker._next_stream = 3
        serves_on(attack, attacker)


@pytest.mark.parametrize("content", ["text/plain", "application/json", "application/grpc-web", None])
def test_a_wrong_content_type_is_an_http_error_and_costs_only_the_call(siege: Siege, content: str | None) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.call(NOBODY, content_type=content))
        assert attacker.hear(until_stream_ends=1).fields(1) == {":status": "415"}
        serves_on(attack, attacker)


def test_a_get_is_an_http_error_and_an_unknown_method_unimplemented(siege: Siege) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.call(NOBODY, method="GET"))
        assert attacker.hear(until_stream_ends=1).fields(1) == {":status": "405"}
        attacker.send(attacker.call(NOBODY, "/broker.v1.Admin/RevokeSession"))
        assert attacker.hear(until_stream_ends=3).fields(3)["grpc-status"] == UNIMPLEMENTED
        serves_on(attack, attacker)


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_bad_utf8_is_an_invalid_argument_and_the_ledger_hears_nothing(siege: Siege, text: bytes) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.call(b"\x0a\x10" + bytes(16) + b"\x12" + bytes([len(text) + 2]) + b"\x0a" + bytes([len(text)]) + text, OPEN))
        heard = attacker.hear(until_stream_ends=1)
        assert heard.fields(1)["grpc-status"] == INVALID_ARGUMENT
        assert heard.body(1) == b""
        serves_on(attack, attacker)


def test_damaged_messages_of_every_kind_are_refused_or_answered_with_nothing_changed(siege: Siege) -> None:
    chance = random.Random(3)
    good = sessions_pb2.OpenRequest(request_id=bytes(16)).SerializeToString()
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        for _ in range(100):
            stream = attacker._next_stream
            attacker.send(attacker.call(good[: chance.randrange(len(good))] + chance.randbytes(6) + b"\x07" * 24, OPEN))
            assert attacker.hear(until_stream_ends=stream).fields(stream)["grpc-status"] == INVALID_ARGUMENT


def test_compressed_messages_and_two_in_one_request_are_refused(siege: Siege) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.head(1, grpc_encoding="gzip") + frame(0, 1, 1, framed(NOBODY, flag=1)))
        heard = attacker.hear(until_stream_ends=1)
        assert (heard.fields(1)["grpc-status"], heard.fields(1)["grpc-accept-encoding"]) == (UNIMPLEMENTED, "identity")
        attacker.send(attacker.head(3) + frame(0, 1, 3, framed(NOBODY) * 2))
        assert attacker.hear(until_stream_ends=3).fields(3)["grpc-status"] == INTERNAL


def test_a_request_that_is_reset_is_not_answered(siege: Siege) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.head(1, RENEW) + RstStreamFrame(1, error_code=8).serialize())
        attacker._next_stream = 3
        serves_on(attack, attacker)
        assert attack.memory_grown() <= MEMORY_MAX
