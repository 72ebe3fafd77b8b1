"""Floods: each ends its own connection by the bound that it broke, with ENHANCE_YOUR_CALM, before it costs much."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hyperframe.frame import PingFrame, SettingsFrame

from broker.limits import LIMITS
from tests.h2.peer import frame, headers
from tests.hostile.attacker import ENHANCE_YOUR_CALM, KEEP_ALIVE, Attacker, window_frame
from tests.hostile.siege import Siege

MEMORY_MAX = LIMITS["H2_MEMORY_SIZE_DEFAULT"] + (2 << 20)
ROUNDS_MAX = 400
"""What one flood may cost in rounds of the loop: it is read in large pieces, and not for long."""


def pings(_: Attacker) -> bytes:
    return PingFrame(0).serialize() * 2000


def settings(_: Attacker) -> bytes:
    return SettingsFrame(0, settings={4: 65535}).serialize() * 2000


def windows(_: Attacker) -> bytes:
    return window_frame(0, 1) * 20_000


def empty_data(attacker: Attacker) -> bytes:
    return attacker.head(1, KEEP_ALIVE) + frame(0, 0, 1, b"") * 20_000


def continuations(attacker: Attacker) -> bytes:
    return frame(1, 0, 1, attacker.encoder.encode(headers())) + frame(9, 0, 1, b"") * 5000


def large_continuations(attacker: Attacker) -> bytes:
    return frame(1, 0, 1, attacker.encoder.encode(headers())) + frame(9, 0, 1, b"\0\x01a\x01b" * 3000) * 50


def resets(attacker: Attacker) -> bytes:
    return b"".join(attacker.head(stream) + attacker.reset(stream) for stream in range(1, 4001, 2))


def made_reset(attacker: Attacker, stream: int) -> bytes:
    """The server is made to reset: a window update that overflows."""
    return attacker.head(stream) + window_frame(stream, 0x7FFFFFFF)


def header_bomb(attacker: Attacker) -> bytes:
    """A few bytes of HPACK for megabytes of headers."""
    first = attacker.head(1, fields=[("x-bomb", "v" * 3900)], is_end=True)
    block = attacker.encoder.encode([*headers(), *[("x-bomb", "v" * 3900)] * 4000])
    assert len(block) < 16_384
    return first + frame(1, 5, 3, block)


def unknown_frames(_: Attacker) -> bytes:
    """Types that nobody has defined."""
    return frame(0x42, 0, 0, b"unknown") * 20_000


FLOODS = [
    (pings, "pings"),
    (settings, "settings"),
    (windows, "noise"),
    (empty_data, "noise"),
    (continuations, "continuations"),
    (resets, "resets"),
    (header_bomb, "headers"),
]


@pytest.mark.parametrize(("make", "cause"), FLOODS, ids=[make.__name__ for make, _ in FLOODS])
def test_a_flood_ends_with_its_connection_and_a_word_that_asks_for_calm(
    siege: Siege, make: Callable[[Attacker], bytes], cause: str
) -> None:
    with siege.attacked(cause) as attack:
        attacker = attack.join().begin()
        attack.honest_call()
        rounds = siege.served.counters().rounds
        attacker.send(make(attacker))
        heard = attacker.hear()
        assert heard.is_ended
        assert heard.goaway_codes[-1:] == [ENHANCE_YOUR_CALM]
        assert attack.memory_grown() <= MEMORY_MAX
        assert siege.served.counters().rounds - rounds <= ROUNDS_MAX


def test_resets_that_the_server_is_made_to_do_count_as_well(siege: Siege) -> None:
    with siege.attacked("resets") as attack:
        attacker = attack.join().begin()
        for first in range(1, 1601, 200):       # never more calls at once than may be
            attacker.send(b"".join(made_reset(attacker, stream) for stream in range(first, first + 200, 2)))
            attack.honest_call()
        assert attacker.hear().goaway_codes[-1:] == [ENHANCE_YOUR_CALM]


def test_rapid_reset_carries_out_no_more_calls_than_its_bound(siege: Siege) -> None:
    with siege.attacked("resets") as attack:
        attacker = attack.join().begin()
        attacker.send(resets(attacker))
        attacker.hear()
        assert siege.served.counters().streams - attack.before.streams <= LIMITS["H2_RESETS_BURST"] + 70 + 3


def test_header_blocks_that_are_too_large_end_their_connection(siege: Siege) -> None:
    before = siege.served.counters()
    attacker = Attacker(siege.connect()).begin()
    attacker.send(large_continuations(attacker))
    assert attacker.hear().goaway_codes[-1:] == [ENHANCE_YOUR_CALM]
    attacker.close()
    siege.served.wait_until(lambda now: sum(now.refused.values()) - sum(before.refused.values()) == 1)
    siege.renew()


def test_headers_above_the_bound_cost_the_call_only(siege: Siege) -> None:
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        attacker.send(attacker.head(1, fields=[(f"x-{number}", "v" * 1000) for number in range(15)], is_end=False) + frame(0, 1, 1, b""))
        attacker.send(attacker.head(3, fields=[(f"x-{number}", "v" * 2000) for number in range(9)], is_end=True))
        assert attacker.hear(until_stream_ends=3).fields(3)["grpc-status"] == "8"


@pytest.mark.parametrize("code", [2, 0x42])
def test_frames_that_are_ignored_cost_nothing_or_the_connection(siege: Siege, code: int) -> None:
    payload = struct.pack(">IB", 0, 15) if code == 2 else b"unknown"
    with siege.attacked() as attack:
        attacker = attack.join().begin()
        for _ in range(10):
            attacker.send(frame(code, 0, 1 if code == 2 else 0, payload) * 300)
            attack.honest_call()
        assert attack.memory_grown() <= 1 << 20


def test_many_calls_at_once_above_the_bound_are_refused_one_by_one(siege: Siege) -> None:
    count = LIMITS["H2_STREAMS_DEFAULT"]
    with siege.attacked() as attack:
        attacker = attack.join().begin(is_acknowledging=False)     # who has not read the bound is told call by call
        attacker.send(b"".join(attacker.head(stream, KEEP_ALIVE) for stream in range(1, 2 * count + 41, 2)))
        siege.served.wait_until(lambda now: now.streams_refused - attack.before.streams_refused == 20)
        assert attack.memory_grown() <= MEMORY_MAX
        attack.honest_call()


def test_calls_above_a_bound_that_was_acknowledged_end_the_connection(siege: Siege) -> None:
    with siege.attacked("protocol") as attack:
        attacker = attack.join().begin()
        attacker.send(b"".join(attacker.head(stream, KEEP_ALIVE) for stream in range(1, 2 * LIMITS["H2_STREAMS_DEFAULT"] + 41, 2)))
        assert attacker.hear().goaway_codes[-1:] == [1]


def test_floods_from_many_connections_at_once_leave_the_others_served(plain_siege: Siege) -> None:
    with plain_siege.attacked("pings", count=40) as attack:
        attackers = [attack.join().begin() for _ in range(40)]
        for attacker in attackers:
            attacker.send(pings(attacker))
            attack.honest_call()
        assert all(attacker.hear().is_ended for attacker in attackers)
