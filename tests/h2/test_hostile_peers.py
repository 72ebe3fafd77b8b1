"""Peers that mean harm: garbage, floods, bombs. Each ends its own connection, by a bound with a name, in bounded memory."""

from __future__ import annotations

import random
import struct

import pytest
from hyperframe.frame import DataFrame, PingFrame, SettingsFrame

from broker.limits import LIMITS
from tests.h2.peer import PREFACE, SECOND, Peer, frame, framed, headers

ENHANCE_YOUR_CALM = 11
PROTOCOL_ERROR = 1
MEMORY_SIZE_MAX = 1 << 20


@pytest.fixture
def peer() -> Peer:
    """A connection that has begun, with little memory."""
    return Peer(memory_size_max=MEMORY_SIZE_MAX, buffered_size_max=1 << 19).begin()


def flood(peer: Peer, piece: bytes, count: int = 20_000) -> tuple[str, int | None]:
    """Sends a piece again and again and never reads; the cause of the end, and the GOAWAY's code."""
    for _ in range(count):
        over = [event for event in peer.send(piece) if event[0] == "over"]
        assert peer.server.memory()[0] <= MEMORY_SIZE_MAX
        if over:
            assert peer.send(b"more" * 1000) == []
            code = peer.goaway_code()
            assert peer.server.can_close
            return over[0][8], code
    raise AssertionError("the flood was let through")


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_end_the_connection(seed: int) -> None:
    peer = Peer()
    (event,) = peer.send(random.Random(seed).randbytes(1000))
    assert (event[0], event[8], peer.goaway_code()) == ("over", "protocol", PROTOCOL_ERROR)
    assert peer.server.can_close


@pytest.mark.parametrize("seed", range(60))
def test_random_frames_after_a_preface_never_do_more_than_end_the_connection(seed: int) -> None:
    chance = random.Random(seed)
    peer = Peer(memory_size_max=MEMORY_SIZE_MAX).begin()
    for _ in range(200):
        payload = chance.randbytes(chance.choice((0, 1, 4, 5, 8, 40, 300)))
        peer.send(frame(chance.randrange(12), chance.choice((0, 1, 4, 5, 8, 0xFF)), chance.choice((0, 1, 3, 5, 2)), payload))
        peer.read()
        peer.server.events_of_output()
    assert peer.server.memory()[0] <= MEMORY_SIZE_MAX


@pytest.mark.parametrize("seed", range(40))
def test_bits_turned_in_a_valid_conversation_do_no_harm(seed: int) -> None:
    chance = random.Random(seed)
    peer = Peer(memory_size_max=MEMORY_SIZE_MAX).begin()
    spoken = bytearray(b"".join(peer.call(stream) for stream in range(1, 41, 2)))
    for _ in range(10):
        spoken[chance.randrange(len(spoken))] ^= 1 << chance.randrange(8)
    for event in peer.send(bytes(spoken)):
        if event[0] == "message":
            peer.server.finish(event[1])
    peer.read()
    assert peer.server.memory()[0] <= MEMORY_SIZE_MAX


def test_a_truncated_frame_waits_and_an_oversized_one_ends_the_connection(peer: Peer) -> None:
    assert peer.send(peer.call(1)[:-1]) == []
    assert not peer.server.is_over
    other = Peer().begin()
    other.send(other.head(1, headers()) + frame(0, 0, 1, b"x" * 20_000))
    assert other.goaway_code() == 6  # FRAME_SIZE_ERROR
    assert [event[0] for event in other.server.events_of_output()] == ["over"]


def test_a_header_list_above_the_bound_refuses_the_call_only(peer: Peer) -> None:
    fields = [*headers(), *((f"x-{number}", "v" * 1000) for number in range(15))]
    assert peer.send(peer.call(1, fields=[*fields, ("x-last", "v" * 1000)])) == []
    assert peer.answer_fields()["grpc-status"] == "8"
    assert [event[0] for event in peer.send(peer.call(3))] == ["message"]


def test_a_header_bomb_of_few_bytes_ends_the_connection(peer: Peer) -> None:
    peer.send(peer.call(1, fields=[*headers(), ("x-bomb", "v" * 3900)]))
    block = peer.encoder.encode([*headers(), *[("x-bomb", "v" * 3900)] * 1000])
    assert len(block) < 8000
    assert flood(peer, frame(1, 5, 3, block), 1) == ("headers", ENHANCE_YOUR_CALM)


def test_a_flood_of_continuations_ends_the_connection(peer: Peer) -> None:
    peer.send(frame(1, 0, 1, peer.encoder.encode(headers())))
    assert flood(peer, frame(9, 0, 1, b""), 20) == ("continuations", ENHANCE_YOUR_CALM)


def test_pings_closer_than_the_interval_end_the_connection_and_patient_ones_do_not(peer: Peer) -> None:
    for _ in range(100):
        peer.now_ns += 10 * SECOND
        assert peer.send(PingFrame(0).serialize()) == []
        peer.read()
    assert flood(peer, PingFrame(0).serialize(), 4) == ("pings", ENHANCE_YOUR_CALM)


def test_a_flood_of_settings_ends_the_connection(peer: Peer) -> None:
    assert flood(peer, SettingsFrame(0, settings={4: 65535}).serialize(), 30) == ("settings", ENHANCE_YOUR_CALM)


def test_rapid_reset_ends_the_connection(peer: Peer) -> None:
    pieces = b"".join(peer.call(stream) + peer.reset(stream) for stream in range(1, 2001, 2))
    assert flood(peer, pieces, 1) == ("resets", ENHANCE_YOUR_CALM)
    assert peer.server.totals()["streams"] <= 520  # type: ignore[operator]


def test_resets_that_the_server_is_made_to_do_count_as_well() -> None:
    peer = Peer(streams_max=1024).begin()
    wrong = b"".join(peer.head(stream, headers()) + frame(8, 0, stream, b"\x7f\xff\xff\xff") for stream in range(1, 2001, 2))
    assert flood(peer, wrong, 1) == ("resets", ENHANCE_YOUR_CALM)


def test_cancelled_calls_among_answered_ones_are_no_attack() -> None:
    peer = Peer().begin()
    for stream in range(1, 8001, 4):
        ((_, name, *_),) = peer.send(peer.call(stream))
        peer.server.message(name, b"")
        peer.server.finish(name)
        peer.read()
        assert [event[0] for event in peer.send(peer.call(stream + 2) + peer.reset(stream + 2))] == ["message", "cancelled"]
        if stream % 64 == 1:
            peer.send(peer.window(0, 1000))


@pytest.mark.parametrize(
    "piece",
    [
        frame(8, 0, 0, struct.pack(">I", 1)),
        frame(0, 0, 1, b""),
    ],
    ids=["WINDOW_UPDATE", "empty DATA"],
)
def test_floods_of_frames_that_move_nothing_end_the_connection(peer: Peer, piece: bytes) -> None:
    peer.send(peer.head(1, headers("/s/Send")))
    assert flood(peer, piece * 10) == ("noise", ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("piece", [frame(2, 0, 1, struct.pack(">IB", 0, 15)), frame(0x42, 0, 0, b"unknown")])
def test_frames_that_are_ignored_leave_nothing_behind(peer: Peer, piece: bytes) -> None:
    peer.send(peer.head(1, headers("/s/Send")))
    before = peer.server.memory()
    assert peer.send(piece * 20_000) == []
    assert (peer.server.memory(), peer.read()) == (before, [])


def test_calls_above_the_bound_from_one_who_never_reads_end_the_connection() -> None:
    peer = Peer(streams_max=4, memory_size_max=MEMORY_SIZE_MAX)
    peer.send(PREFACE + SettingsFrame(0).serialize())  # the bound is not acknowledged: each call above it is refused
    calls = b"".join(peer.head(stream, headers()) for stream in range(1, 20_001, 2))
    assert flood(peer, calls, 1) in [(cause, ENHANCE_YOUR_CALM) for cause in ("noise", "queue")]
    assert peer.server.stream_count() <= 4


def test_one_who_asks_and_never_reads_holds_bounded_memory(peer: Peer) -> None:
    for stream in range(1, 401, 2):
        for event in peer.send(peer.call(stream)):
            peer.server.message(event[1], b"x" * 10_000)
            peer.server.finish(event[1])
    assert peer.server.memory()[0] <= MEMORY_SIZE_MAX


def test_a_connection_out_of_memory_ends_and_gives_all_of_it_back() -> None:
    peer = Peer(memory_size_max=60_000).begin()
    calls = b"".join(peer.head(stream, headers("/s/Send")) for stream in range(1, 2001, 2))
    peer.send(calls)
    assert peer.server.memory()[0] <= 60_000


def test_in_a_crowd_no_connection_holds_more_than_its_fair_share() -> None:
    peer = Peer(crowd_size_max=48 * 1024).begin()
    for number in range(40):
        peer.send(peer.head(2 * number + 1, headers()) + DataFrame(2 * number + 1, data=framed(bytes(4000))[:100]).serialize())
        peer.read()
    assert LIMITS["H2_MEMORY_FAIR_SIZE"] // 2 < peer.server.memory()[0] <= LIMITS["H2_MEMORY_FAIR_SIZE"]
    assert peer.server.totals()["refusals"] + peer.server.totals()["causes"]["memory"] > 0


def test_a_preface_alone_costs_less_than_forty_kibibytes() -> None:
    peer = Peer().begin()
    for stream in range(1, 2001, 2):
        ((_, name, *_),) = peer.send(peer.call(stream))
        peer.server.message(name, b"seat")
        peer.server.finish(name)
        peer.read()
    assert peer.server.memory()[0] <= 40 * 1024


def test_a_burst_of_as_many_calls_as_may_be_leaves_an_idle_connection_small() -> None:
    peer = Peer().begin()
    count = LIMITS["H2_STREAMS_DEFAULT"]
    for event in peer.send(b"".join(peer.call(stream) for stream in range(1, 2 * count, 2))):
        peer.server.finish(event[1])
    assert peer.server.stream_count() == count
    peer.read()
    assert (peer.server.stream_count(), peer.server.totals()["answers"]) == (0, count)
    assert peer.server.memory()[0] <= 36 * 1024  # nghttp2's map of streams stays as large as it was
    assert [event[0] for event in peer.send(peer.call(2 * count + 1))] == ["message"]


def test_memory_is_the_same_after_ten_thousand_calls_as_after_ten(peer: Peer) -> None:
    sizes = []
    for stream in range(1, 20_001, 2):
        fields = headers(("/s/Unary", "/s/Nothing")[stream % 10 == 1], authorization="Bearer seat")
        for event in peer.send(peer.call(stream, framed(b"seat" * (stream % 7)), fields)):
            peer.server.message(event[1], event[3])
            peer.server.finish(event[1], stream % 3, "why not")
        peer.read()
        peer.send(peer.window(0, 100))
        sizes.append(peer.server.memory())
    assert peer.server.stream_count() == 0
    assert sizes[-1] in sizes[10:200]


def test_data_for_a_stream_that_never_was_ends_the_connection(peer: Peer) -> None:
    peer.send(DataFrame(7, data=b"x").serialize())
    assert peer.goaway_code() == PROTOCOL_ERROR


def test_a_preface_of_another_protocol_ends_the_connection() -> None:
    peer = Peer()
    (event,) = peer.send(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n" + PREFACE)
    assert event[8] == "protocol"
