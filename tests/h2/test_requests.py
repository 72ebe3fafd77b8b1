"""What a call must look like, frame by frame: refusals, cancellation, back-pressure, names that outlive their call."""

from __future__ import annotations

import struct

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame, RstStreamFrame

from broker._h2 import ServerConnection
from tests.h2.peer import SECOND, Peer, framed, headers


@pytest.fixture
def peer() -> Peer:
    """A connection that has begun."""
    return Peer().begin()


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (headers(content_type="application/json"), {":status": "415"}),
        (headers(content_type=None), {":status": "415"}),
        (headers(content_type="application/grpcx"), {":status": "415"}),
        (headers(method="GET"), {":status": "405"}),
        (headers("/s/Nothing"), {":status": "200", "grpc-status": "12"}),
        (headers(grpc_timeout="1x"), {":status": "200", "grpc-status": "13"}),
        (headers(grpc_timeout="123456789S"), {":status": "200", "grpc-status": "13"}),
    ],
)
def test_a_request_with_wrong_headers_is_refused_and_not_told(
    peer: Peer, fields: list[tuple[str, str]], answer: dict[str, str]
) -> None:
    assert peer.send(peer.call(1, fields=fields)) == []
    assert answer.items() <= peer.answer_fields().items()
    assert peer.server.stream_count() == 0
    assert [event[0] for event in peer.send(peer.call(3))] == ["message"]


@pytest.mark.parametrize("content", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
def test_a_request_with_any_grpc_content_type_is_told(peer: Peer, content: str) -> None:
    assert [event[0] for event in peer.send(peer.call(1, fields=headers(content_type=content, te=None)))] == ["message"]


@pytest.mark.parametrize(
    ("text", "deadline_ns"),
    [("5n", 5), ("7u", 7_000), ("20m", 20_000_000), ("3S", 3 * SECOND), ("2M", 120 * SECOND), ("1H", 3600 * SECOND)],
)
def test_grpc_timeout_becomes_a_deadline(text: str, deadline_ns: int) -> None:
    peer = Peer(body_ns=10_000 * SECOND).begin()
    (event,) = peer.send(peer.call(1, fields=headers(grpc_timeout=text)))
    assert event[5] == peer.now_ns + deadline_ns
    assert peer.server.next_due_ns() == peer.now_ns + deadline_ns


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", "13"),
        (framed(b"seat")[:-1], "13"),
        (framed(b"a") + framed(b"b"), "13"),
        (framed(b"seat", 1), "13"),
        (framed(b"seat", 7), "13"),
        (struct.pack(">BI", 0, 1 << 31), "8"),
    ],
)
def test_a_request_with_a_wrong_body_is_refused(peer: Peer, body: bytes, status: str) -> None:
    assert peer.send(peer.call(1, body)) == []
    assert peer.answer_fields()["grpc-status"] == status


def test_a_compressed_message_is_refused_with_what_would_be_taken(peer: Peer) -> None:
    assert peer.send(peer.call(1, framed(b"seat", 1), headers(grpc_encoding="gzip"))) == []
    answer = peer.answer_fields()
    assert (answer["grpc-status"], answer["grpc-accept-encoding"]) == ("12", "identity")


def test_an_early_answer_is_followed_by_a_reset_without_error(peer: Peer) -> None:
    ((kind, name, *_),) = peer.send(peer.head(1, headers("/s/Talk")))
    assert (kind, peer.server.finish(name)) == ("started", "said")
    resets = [one for one in peer.read() if isinstance(one, RstStreamFrame)]
    assert [one.error_code for one in resets] == [0]
    assert peer.server.stream_count() == 0


def test_a_name_that_outlives_its_call_reaches_nobody_even_when_the_slot_is_taken_again(peer: Peer) -> None:
    ((_, old, *_),) = peer.send(peer.call(1))
    assert [event[:2] for event in peer.send(peer.reset(1))] == [("cancelled", old)]
    ((_, new, *_),) = peer.send(peer.call(3))
    assert new & 0xFFFFFFFF == old & 0xFFFFFFFF
    assert (peer.server.message(old, b""), peer.server.finish(old), peer.server.reset(old)) == ("nobody",) * 3
    assert peer.server.finish(new) == "said"


def test_a_reset_of_ours_is_sent_and_told_to_nobody(peer: Peer) -> None:
    ((_, name, *_),) = peer.send(peer.call(1))
    assert peer.server.reset(name) == "said"
    assert [one.error_code for one in peer.read() if isinstance(one, RstStreamFrame)] == [8]
    assert (peer.server.events_of_output(), peer.server.stream_count()) == ([], 0)


def test_who_does_not_read_gets_no_more_room_until_he_does() -> None:
    peer = Peer(output_size_max=100_000).begin()
    ((_, name, *_),) = peer.send(peer.head(1, headers("/s/Watch")) + DataFrame(1, data=framed(b""), flags=["END_STREAM"]).serialize())
    said: list[str] = []
    while not said or said[-1] == "said":
        said.append(peer.server.message(name, b"x" * 10_000))
        peer.read()
    assert (said[-1], peer.server.is_writable(name)) == ("no_room", False)
    assert 10 < len(said) < 20  # what the bound holds, and a window of 65,535 that took the rest
    peer.send(peer.window(0, 1 << 20) + peer.window(1, 1 << 20))
    peer.read()
    assert [event[:2] for event in peer.server.events_of_output()] == [("writable", name)]
    assert peer.server.message(name, b"x" * 10_000) == "said"


def test_messages_half_sent_on_many_streams_share_one_bound() -> None:
    peer = Peer(buffered_size_max=100_000, message_size_max=40_000).begin()
    for stream in (1, 3, 5):
        head = peer.head(stream, headers("/s/Send"))
        assert peer.send(head)[0][0] == "started"
        events = peer.send(DataFrame(stream, data=struct.pack(">BI", 0, 40_000) + b"part").serialize())
        assert [event[0] for event in events] == ([] if stream < 5 else ["cancelled"])
    assert peer.answer_fields()["grpc-status"] == "8"


def test_a_drain_serves_what_was_sent_before_the_last_word_and_then_ends(peer: Peer) -> None:
    ((_, first, *_),) = peer.send(peer.call(1))
    peer.server.drain(peer.now_ns)
    frames = peer.read()
    assert [one.last_stream_id for one in frames if isinstance(one, GoAwayFrame)] == [(1 << 31) - 1]
    ((_, second, *_),) = peer.send(peer.call(3))
    ping = next(one for one in frames if isinstance(one, PingFrame))
    ping.flags.add("ACK")
    peer.send(ping.serialize())
    assert [one.last_stream_id for one in peer.read() if isinstance(one, GoAwayFrame)] == [3]
    assert not peer.server.can_close
    assert [peer.server.finish(name) for name in (first, second)] == ["said", "said"]
    peer.read()
    assert peer.server.can_close


def test_a_call_right_behind_the_answer_to_a_drain_is_below_the_last_word(peer: Peer) -> None:
    """gRPC's C core writes acknowledgements in front of calls that it began before it heard of the drain."""
    peer.server.drain(peer.now_ns)
    ping = next(one for one in peer.read() if isinstance(one, PingFrame))
    ping.flags.add("ACK")
    ((kind, name, *_),) = peer.send(ping.serialize() + peer.call(1))
    assert (kind, peer.server.finish(name)) == ("message", "said")
    assert [one.last_stream_id for one in peer.read() if isinstance(one, GoAwayFrame)] == [1]


def test_a_drain_ends_by_time_when_the_ping_is_not_answered(peer: Peer) -> None:
    peer.server.drain(peer.now_ns)
    peer.read()
    peer.now_ns = peer.server.next_due_ns() or 0
    assert peer.server.on_time(peer.now_ns) == []
    assert peer.goaway_code() == 0
    assert peer.server.can_close


def test_each_kind_of_lateness_is_ended_by_its_own_bound() -> None:
    silent = Peer(preface_ns=5)
    assert silent.server.on_time(SECOND + 4) == []
    assert [event[8] for event in silent.server.on_time(SECOND + 5)] == ["preface_late"]
    idle = Peer(idle_ns=50).begin()
    assert [event[8] for event in idle.server.on_time(SECOND + 50)] == ["idle"]
    slow = Peer(headers_ns=20).begin()
    slow.send(slow.head(1, headers())[:-1])
    assert [event[8] for event in slow.server.on_time(SECOND + 20)] == ["headers_late"]


@pytest.mark.parametrize("path", ["/s/Unary", "/s/Send"])
def test_a_slow_body_ends_its_call_and_not_the_connection(path: str) -> None:
    peer = Peer(body_ns=30).begin()
    peer.send(peer.head(1, headers(path)) + DataFrame(1, data=framed(b"seat")[:6]).serialize())
    assert peer.server.next_due_ns() == SECOND + 30
    assert [event[8] for event in peer.server.on_time(SECOND + 30)] == (["late"] if path == "/s/Send" else [])
    assert peer.answer_fields()["grpc-status"] == "4"
    assert [event[0] for event in peer.send(peer.call(3))] == ["message"]


def test_settings_and_methods_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match="colour"):
        ServerConnection({}, colour=1)
    with pytest.raises(ValueError, match="at most"):
        ServerConnection({"/" + "x" * 200: "unary"})
