"""That it does not matter how bytes are split: a conversation fed in any pieces brings the same events."""

from __future__ import annotations

from itertools import pairwise

from hyperframe.frame import DataFrame, GoAwayFrame, SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from broker._h2 import Event
from tests.h2.peer import PREFACE, Peer, framed, headers

PATHS = ("/s/Unary", "/s/Watch", "/s/Send", "/s/Talk", "/s/Nothing")
CALLS = st.lists(
    st.tuples(
        st.sampled_from(PATHS),
        st.lists(st.binary(max_size=40), max_size=4),
        st.sampled_from(("end", "end apart", "reset", "open")),
    ),
    min_size=1,
    max_size=6,
)


def spoken(calls: list[tuple[str, list[bytes], str]]) -> bytes:
    """The client's side of a conversation, preface to GOAWAY."""
    peer = Peer()
    said = PREFACE + SettingsFrame(0).serialize()
    for index, (path, messages, end) in enumerate(calls):
        stream = 2 * index + 1
        said += peer.head(stream, headers(path, grpc_timeout="5S", authorization="seat"))
        body = b"".join(map(framed, messages))
        middle = len(body) // 2
        said += DataFrame(stream, data=body[:middle]).serialize()
        said += DataFrame(stream, data=body[middle:], flags=["END_STREAM"] if end == "end" else []).serialize()
        said += {"end apart": DataFrame(stream, flags=["END_STREAM"]).serialize(), "reset": peer.reset(stream)}.get(end, b"")
    return said + GoAwayFrame(0, error_code=0).serialize()


def events_of(pieces: list[bytes]) -> list[Event]:
    """All that the pieces bring."""
    peer = Peer()
    return [event for piece in pieces for event in peer.send(piece)]


def pieces_at(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at these places."""
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@settings(max_examples=60, deadline=None)
@given(CALLS)
def test_byte_by_byte_is_as_good_as_at_once(calls: list[tuple[str, list[bytes], str]]) -> None:
    data = spoken(calls)
    assert events_of([data[index : index + 1] for index in range(len(data))]) == events_of([data])


@settings(max_examples=150, deadline=None)
@given(CALLS, st.lists(st.integers(0, 1 << 16), max_size=12))
def test_any_split_brings_the_same_events(calls: list[tuple[str, list[bytes], str]], cuts: list[int]) -> None:
    data = spoken(calls)
    assert events_of(pieces_at(data, cuts)) == events_of([data])


def test_more_messages_than_events_fit_are_all_told_in_order() -> None:
    peer = Peer().begin()
    peer.send(peer.head(1, headers("/s/Send")))
    bodies = [b"%d" % number for number in range(10_000)]
    data = b"".join(map(framed, bodies))
    told = peer.send(b"".join(DataFrame(1, data=data[at : at + 16_000]).serialize() for at in range(0, len(data), 16_000)))
    assert [event[3] for event in told] == bodies
