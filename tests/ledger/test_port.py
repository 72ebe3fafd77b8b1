"""The port: the ledger as other compiled modules reach it, through its C functions and the Python methods that call the same ones."""

from __future__ import annotations

import ctypes
import gc
import sys

from broker.model.events import decode_events
from broker.model.words import EndReason, EventKind, LeaseState, Status
from tests.ledger.scene import SECOND_NS, Scene, compiled_ledger


def scene_with(seats: int, **settings: int) -> Scene:
    scene = Scene(compiled_ledger, **settings)
    scene.fill(seats)
    return scene


NUMBERS = ("capacity", "in_use", "reserved", "withheld", "deficit", "waiters")


class Port(ctypes.Structure):
    """LedgerPort (ext/ledger/port.pxd)."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("state_size", ctypes.c_uint32),
        ("state", ctypes.c_void_p),
        ("mutex", ctypes.c_void_p),
        ("execute", ctypes.c_void_p),
        ("advance", ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_uint64))),
        ("read_events", ctypes.c_void_p),
        ("peek_session", ctypes.c_void_p),
        ("release_events", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)),
        ("product_standing", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_void_p)),
    )


class Denial(ctypes.Structure):
    """The beginning of DenialRecord (ext/ledger/records.pxd), as large as the whole."""

    _fields_ = (("retry_after", ctypes.c_int64), *((name, ctypes.c_int32) for name in NUMBERS), ("rest", ctypes.c_uint32))


def port_of(capsule: object) -> Port:
    """What a taker sees."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return Port.from_address(pointer_of(capsule, b"broker._ledger.port"))


def place_of(scene: Scene, session_id: bytes) -> int:
    return int(scene.core.session_place(session_id))


def test_who_keeps_the_port_keeps_the_ledger() -> None:
    scene = scene_with(1)
    scene.open("ann")
    later_ns = scene.now_ns + 70 * SECOND_NS
    capsule = scene.core.port()
    opened = scene.core.tick(scene.now_ns)[1]
    del scene
    gc.collect()
    port, position = port_of(capsule), ctypes.c_uint64(0)
    assert port.version == 4
    assert port.state_size > 1000
    assert port.advance(ctypes.addressof(port), later_ns, ctypes.byref(position)) > later_ns
    assert position.value > opened


def test_a_port_that_nobody_keeps_lets_the_ledger_go() -> None:
    core = scene_with(1).core
    before = sys.getrefcount(core)
    capsule = core.port()
    assert sys.getrefcount(core) == before + 1
    del capsule
    assert sys.getrefcount(core) == before


def test_the_port_tells_how_a_product_stands_over_all_its_pools() -> None:
    scene = scene_with(3)
    scene.prove(5, scene.pool(weight=2), source=1)
    for number in range(4):
        scene.open(f"user{number}")
    scene.lose(0)
    port = port_of(capsule := scene.core.port())
    for name, expected in ((b"platform", (5, 5, 0, 0, 3, 0)), (b"nothing", (0,) * 6)):
        denial = Denial()
        port.product_standing(ctypes.addressof(port), name, len(name), ctypes.addressof(denial))
        assert tuple(getattr(denial, each) for each in NUMBERS) == expected
    del capsule


def test_a_tick_says_when_to_come_again() -> None:
    scene = scene_with(5)
    scene.open("ann")
    due_ns, position = scene.core.tick(scene.now_ns)
    assert scene.now_ns < due_ns <= scene.now_ns + 70 * SECOND_NS
    scene.now_s += 70
    _, after = scene.core.tick(scene.now_ns)
    assert after > position
    assert [event.kind for event in decode_events(scene.core.read_events(position)[0])][-1] is EventKind.SESSION_ENDED


def test_a_tick_that_has_spent_its_budget_wants_to_come_again_at_once() -> None:
    scene = scene_with(300)
    for number in range(300):
        scene.open(f"user{number}")
    scene.now_s += 70
    assert scene.core.tick(scene.now_ns)[0] == scene.now_ns
    assert scene.core.tick(scene.now_ns)[0] > scene.now_ns


def test_a_tick_before_a_full_ring_comes_again_after_a_moment() -> None:
    scene = scene_with(10_000, event_ring_size=1 << 17)
    number = 0
    while scene.open(f"user{number}").status is Status.GRANTED:
        number += 1
    scene.now_s += 70
    due_ns, position = scene.core.tick(scene.now_ns)
    assert due_ns == scene.now_ns + 5_000_000
    assert scene.core.tick(scene.now_ns) == (due_ns, position)


def test_peeking_shows_the_leases_that_a_listing_shows() -> None:
    scene = scene_with(5)
    session = scene.open("ann")
    leases, reason = scene.core.peek_session(scene.now_ns, session.fence, place_of(scene, session.session_id))
    assert leases == scene.core.sessions(scene.now_ns)[0][0].leases
    assert [lease.state for lease in leases] == [LeaseState.ACTIVE]
    assert reason is EndReason.NONE


def test_peeking_at_a_session_that_is_over_says_why_while_its_record_is_kept() -> None:
    scene = scene_with(5)
    closed, revoked = scene.open("ann"), scene.open("bob")
    scene.close(closed)
    scene.revoke(revoked)
    seen = [scene.core.peek_session(scene.now_ns, one.fence, place_of(scene, one.session_id)) for one in (closed, revoked)]
    assert seen == [(None, EndReason.CLOSED), (None, EndReason.REVOKED)]
    scene.wait(121)
    assert scene.core.peek_session(scene.now_ns, closed.fence, place_of(scene, closed.session_id)) == (None, EndReason.NONE)


def test_peeking_past_the_deadline_ends_nothing() -> None:
    scene = scene_with(5)
    session = scene.open("ann")
    scene.now_s += 70
    assert scene.core.peek_session(scene.now_ns, session.fence, place_of(scene, session.session_id)) == (None, EndReason.NONE)
    assert scene.seats_in_use() == 1
    scene.advance()
    assert scene.core.peek_session(scene.now_ns, session.fence, place_of(scene, session.session_id)) == (None, EndReason.EXPIRED)


def test_a_place_beyond_all_sessions_is_nobody() -> None:
    scene = scene_with(5)
    assert scene.core.peek_session(scene.now_ns, 1, 2**32 - 1) == (None, EndReason.NONE)
