"""What a restart keeps and what it does not, told as short stories, on the compiled ledger and on the model (RULES.md, "Restart")."""

from __future__ import annotations

from typing import Any

import pytest

from broker.model.answers import Answer
from broker.model.events import EventsFull, decode_events
from broker.model.words import DenialReason, EndReason, EventKind, LeaseState, Status
from tests.ledger.scene import SECOND_NS, Scene, Stage, compiled_ledger
from tests.ledger.sides import dump_of
from tests.ledger.state_audit import audit_state
from tests.model.ledger_model import LedgerModel

RING_SIZE = 1 << 22
WALL_NS = 1_800_000_000 * SECOND_NS


class Lives:
    """A scene whose broker is ended and comes back. Nothing is drained, so that the events of each run are at hand."""

    def __init__(self, stage: Stage, **settings: int) -> None:
        self._settings = settings
        self.scene = stage(**settings)
        self._generation = 3
        self.log = b""

    def restart(self, later_s: float = 10, lost_from: int | None = None, **settings: int) -> Any:
        """kill -9, and a new broker so much later; what `Ledger.resume` told, if it is the compiled one. Of that, what the first run wrote from
        `lost_from` on may be lost."""
        scene = self.scene
        scene.now_s += later_s
        self._generation += 1
        if isinstance(scene.core, LedgerModel):
            scene.core.restart(scene.now_ns, WALL_NS, self._generation)
            return None
        self.log += scene.core.read_events(0, RING_SIZE)[0][:lost_from]
        arguments = {"start_ns": scene.now_ns, "stall_ns": 0} | self._settings | settings
        scene.core = type(scene.core)(broker_id=b"scenario", secret=b"sixteen bytes!!!", generation=self._generation, **arguments)
        scene.core.replay(self.log)
        return scene.core.resume(scene.now_ns, WALL_NS)


@pytest.fixture
def lives(stage: Stage) -> Lives:
    return Lives(stage)


@pytest.fixture
def compiled() -> Lives:
    return Lives(lambda **settings: Scene(compiled_ledger, **settings))


def test_everybody_has_a_full_ttl_after_a_restart(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(5)
    session = scene.open("ann")
    scene.now_s += 59
    lives.restart(later_s=500)
    scene.wait(69)
    assert scene.renew(session).status is Status.RENEWED
    scene.wait(71)
    assert scene.renew(session).status is Status.NOT_FOUND


def test_a_repeated_open_gives_the_same_session_and_its_id_still_names_it(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(5)
    asked = {"request_id": bytes(16)}
    first = scene.open("ann", **asked)
    lives.restart()
    again = scene.open("ann", **asked)
    assert (again.status, again.is_replayed) == (Status.GRANTED, True)
    assert (again.session_id, again.fence) == (first.session_id, first.fence)
    assert scene.open("ann", "crm", **asked).status is Status.REQUEST_ID_REUSED


def test_a_new_session_after_a_restart_has_a_larger_fence_and_a_place_of_its_own(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(5)
    first = scene.open("ann")
    lives.restart()
    scene.prove(5)
    second = scene.open("bob")
    assert second.fence > first.fence
    assert second.session_id != first.session_id
    assert scene.renew(first).status is Status.RENEWED
    assert scene.renew(second).status is Status.RENEWED


def test_the_same_instance_takes_its_charge_over_after_a_restart_without_any_key(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(1)
    first = scene.open("ann", instance_id=b"till 7")
    lives.restart()
    second = scene.open("ann", instance_id=b"till 7")
    assert second.status is Status.GRANTED
    assert second.leases[0].fence == first.leases[0].fence
    assert scene.renew(first).end_reason is EndReason.SUPERSEDED
    assert scene.seats_in_use() == 1


def test_recovered_charges_are_a_deficit_until_keys_prove_and_nobody_is_ended_while_they_are_tried(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(2)
    session = scene.open("ann")
    lives.restart()
    scene.starting(True)
    scene.advance()
    assert (scene.look().capacity, scene.look().deficit, scene.look().key_grace_count) == (0, 1, 0)
    denied = scene.open("bob")
    assert denied.denial is not None
    assert denied.denial.reason is DenialReason.KEYS_STARTING
    scene.prove(2)
    scene.starting(False)
    scene.advance()
    assert scene.look().deficit == 0
    assert scene.open("bob", "platform").status is Status.GRANTED
    assert scene.renew(session).status is Status.RENEWED


def test_without_keys_recovered_charges_end_when_their_pool_has_done_starting(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(2)
    session = scene.open("ann")
    lives.restart()
    scene.starting(True)
    scene.advance()
    scene.starting(False)
    scene.advance()
    told = scene.renew(session).leases[0]
    assert (told.state, told.end_reason) == (LeaseState.ENDED, EndReason.KEY_LOST)


def test_an_end_that_was_not_acknowledged_is_told_again_and_one_that_was_is_not(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(2)
    told, untold = scene.open("ann"), scene.open("bob")
    scene.lose(grace_s=0)
    version = scene.renew(told).change_version
    scene.renew(told, version)
    scene.renew(untold)
    lives.restart()
    assert scene.renew(told, version).leases == ()
    assert [lease.state for lease in scene.renew(untold).leases] == [LeaseState.ENDED]
    assert scene.renew(untold, version).leases == ()


def test_release_and_close_are_answered_again_and_a_denial_is_decided_anew(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(1)
    ann = scene.open("ann")
    denied = scene.open("eve", request_id=b"e" * 16)
    release = scene.release(ann, "platform", request_id=b"r" * 16)
    closing = scene.open("bob")
    scene.close(closing, request_id=b"c" * 16)
    lives.restart()
    assert denied.status is Status.DENIED
    again = scene.release(ann, "platform", request_id=b"r" * 16)
    assert (again.is_replayed, again.detail) == (True, release.detail)
    assert scene.close(closing, request_id=b"c" * 16).is_replayed
    assert scene.close(closing, request_id=b"d" * 16).end_reason is EndReason.CLOSED
    scene.prove(1)
    anew = scene.open("eve", request_id=b"e" * 16)
    assert (anew.status, anew.is_replayed) == (Status.GRANTED, False)


def test_a_linger_goes_on_in_ledger_time_and_its_group_retakes_it(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(2, sharing=1, linger_ns=30 * SECOND_NS)
    scene.close(scene.open("ann"))
    scene.close(scene.open("bob"))
    scene.wait(20)
    scene.prove(2)
    scene.open("eve")
    lives.restart(later_s=1_000)
    scene.starting(True)
    assert (scene.look().in_use, scene.look().lingering_count) == (2, 2)
    assert scene.open("ann").leases[0].is_shared
    scene.wait(31)
    assert (scene.look().in_use, scene.look().lingering_count) == (1, 0)


def test_a_run_tells_how_the_last_one_ended_and_sequences_and_ledger_time_go_on(compiled: Lives) -> None:
    scene = compiled.scene
    scene.fill(5)
    scene.open("ann")
    recovered = compiled.restart()
    assert (recovered.sessions, recovered.charges, recovered.leases, recovered.requests) == (1, 1, 1, 1)
    assert not recovered.was_clean
    scene.core.note(scene.now_ns, b"a", b"1")
    scene.core.note(scene.now_ns, b"b", b"2")
    scene.core.note(scene.now_ns, b"a", b"")
    scene.core.mark_wall(scene.now_ns, WALL_NS + 5)
    scene.core.end_run(scene.now_ns)
    recovered = compiled.restart()
    assert recovered.was_clean
    assert (recovered.notes, scene.core.notes()) == (1, {b"b": b"2"})
    assert recovered.last_wall_ns == WALL_NS + 5
    events = list(decode_events(compiled.log + scene.core.read_events(0)[0]))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.time_ns for event in events] == sorted(event.time_ns for event in events)
    started = [event for event in events if event.kind is EventKind.RUN_STARTED]
    assert [(event.seats, event.detail) for event in started] == [(4, WALL_NS), (5, WALL_NS)]
    assert not compiled.restart().was_clean


def test_products_and_pools_keep_their_numbers(compiled: Lives) -> None:
    scene = compiled.scene
    numbers = [scene.pool(), scene.pool("crm", weight=2), scene.pool("crm", weight=3, is_emulated=True)]
    compiled.restart()
    assert [scene.pool("crm", weight=3, is_emulated=True), scene.pool("crm", weight=2), scene.pool()] == numbers[::-1]
    assert scene.core.declare_product("fax") == 2
    assert scene.core.pools()[2].is_emulated


def test_a_note_lets_time_pass_as_every_event_does(lives: Lives) -> None:
    """Found by the lockstep: a request whose time had come by the last event was kept when that was a note."""
    scene = lives.scene
    scene.fill(5)
    scene.close(scene.open("ann"))
    scene.now_s += 121  # the request window
    scene.core.note(scene.now_ns, b"name", b"value")
    lives.restart()
    assert scene.core.counters().request_count == 0


def test_counters_begin_anew(lives: Lives) -> None:
    scene = lives.scene
    scene.fill(5)
    for user in ("ann", "bob", "eve"):
        scene.open(user)
    lives.restart()
    counters = scene.core.counters()
    assert (counters.opened_total, counters.session_count, counters.request_count) == (0, 3, 3)
    assert (scene.look().charge_total, scene.look().in_use_peak) == (0, 3)


def test_who_lost_an_acquire_hears_nothing_by_renewing_and_all_by_repeating_the_open(compiled: Lives) -> None:
    scene, asked = compiled.scene, {"request_id": b"o" * 16}
    scene.fill(5)
    scene.prove(5, scene.pool("crm"), source=1)
    first = scene.open("ann", **asked)
    committed = scene.core.position
    assert scene.acquire(first, "crm").leases[0].product == "crm"
    compiled.restart(lost_from=committed)
    assert (renewed := scene.renew(first, first.change_version)).status is Status.RENEWED
    assert renewed.leases == ()
    again = scene.open("ann", **asked)
    assert (again.is_replayed, [lease.product for lease in again.leases]) == (True, ["platform"])


def test_who_lost_the_end_of_a_lease_acknowledges_another_one_and_hears_it_by_repeating_the_open(compiled: Lives) -> None:
    scene, asked = compiled.scene, {"request_id": b"o" * 16}
    scene.fill(1)
    scene.prove(1, scene.pool("crm"), source=1)
    first = scene.open("ann", "platform", "crm", **asked)
    committed = scene.core.position
    scene.lose(grace_s=0)
    heard = scene.renew(first, first.change_version)
    assert [lease.product for lease in heard.leases] == ["platform"]
    compiled.restart(lost_from=committed)
    scene.prove(1)
    scene.advance()
    assert scene.renew(first, heard.change_version).leases == ()
    again = scene.open("ann", "platform", "crm", **asked)
    assert (again.is_replayed, [lease.product for lease in again.leases]) == (True, ["platform"])


def test_while_learning_only_what_takes_a_new_charge_is_denied(stage: Stage) -> None:
    scene = stage()
    scene.fill(1, sharing=1)
    ann = scene.open("ann")
    scene.core.set_learning(scene.now_ns, scene.now_ns + 60 * SECOND_NS)
    assert scene.open("ann", label=b"second").status is Status.GRANTED
    full = scene.open("bob").denial
    scene.prove(2)
    learning = scene.open("eve").denial
    assert full is not None
    assert learning is not None
    assert (full.reason, learning.reason) == (DenialReason.NO_FREE_SEATS, DenialReason.LEARNING)
    assert learning.retry_after_ns == 60 * SECOND_NS
    scene.wait(60)
    assert scene.open("dan").status is Status.GRANTED
    assert ann.status is Status.GRANTED


def test_while_the_journal_cannot_be_written_nothing_new_is_given_and_all_else_goes_on(stage: Stage) -> None:
    scene = stage()
    scene.fill(5)
    first, second = scene.open("ann", request_id=b"a" * 16), scene.open("bob")
    scene.core.set_writable(scene.now_ns, False)
    statuses = [scene.open("eve").status, scene.acquire(first, "platform").status, scene.open("ann", request_id=b"a" * 16).status]
    assert statuses == [Status.NOT_WRITABLE, Status.NOT_WRITABLE, Status.GRANTED]
    assert [scene.renew(first).status, scene.release(first, "platform").status, scene.close(second).status] == [
        Status.RENEWED,
        Status.RELEASED,
        Status.CLOSED,
    ]
    scene.core.set_writable(scene.now_ns, True)
    assert scene.open("eve").status is Status.GRANTED


# --- what is refused -------------------------------------------------------------------------------------------------------
def other(generation: int = 9) -> Any:
    return compiled_ledger_of(generation)


def compiled_ledger_of(generation: int, **settings: int) -> Any:
    return type(compiled_ledger(start_ns=0))(
        broker_id=b"scenario", secret=b"sixteen bytes!!!", generation=generation, start_ns=0, **settings
    )


def lived(count: int = 3) -> tuple[bytes, Any]:
    """A log, and the ledger that wrote it."""
    scene = Scene(compiled_ledger)
    scene.fill(count)
    for number in range(count):
        scene.open(f"user{number}")
    return scene.core.read_events(0, RING_SIZE)[0], scene.core


def test_a_generation_that_is_not_behind_all_others_is_refused() -> None:
    log, _ = lived()
    ledger = other(generation=3)
    ledger.replay(log)
    with pytest.raises(ValueError, match="generation 3 is not behind generation 3"):
        ledger.resume(1, 1)


def test_a_snapshot_without_its_end_is_refused() -> None:
    ledger = other()
    ledger.replay(dump_of(lived()[1])[:-64])
    with pytest.raises(ValueError, match="not complete"):
        ledger.resume(1, 1)


@pytest.mark.parametrize(
    ("at", "value", "cause"),
    [(8, 7, "is not the next one"), (4, 60, "of a kind"), (16, 1 << 62, "from before"), (0, 60, "a size")],
)
def test_an_event_that_cannot_be_is_named_with_the_cause(at: int, value: int, cause: str) -> None:
    log = bytearray(lived()[0])
    first_size = int.from_bytes(log[:4], "little")
    width = {0: 4, 4: 2, 8: 8, 16: 8}[at]
    log[first_size + at : first_size + at + width] = value.to_bytes(width, "little")
    with pytest.raises(ValueError, match=rf"event \d+ \(.*, at byte {first_size}\) .*{cause}"):
        other().replay(bytes(log))


def test_a_bound_that_is_too_small_for_what_there_was_is_named() -> None:
    with pytest.raises(ValueError, match="more sessions than sessions_max allows: raise it"):
        compiled_ledger_of(9, sessions_max=2).replay(lived()[0])
    with pytest.raises(ValueError, match="requests_max"):
        compiled_ledger_of(9, requests_max=2).replay(lived()[0])


def test_a_ledger_that_has_lived_replays_nothing() -> None:
    log, ledger = lived()
    with pytest.raises(ValueError, match="does not belong here"):
        ledger.replay(log)


def test_a_ledger_that_is_being_replayed_declares_nothing() -> None:
    ledger = other()
    ledger.replay(lived()[0])
    with pytest.raises(ValueError, match="resumed first"):
        ledger.declare_product("new")
    assert ledger.declare_product("platform") == 0


def test_notes_have_bounds_and_find_no_room_in_a_full_ring() -> None:
    scene = Scene(compiled_ledger, event_ring_size=1 << 17)
    with pytest.raises(ValueError, match="name is 0"):
        scene.core.note(scene.now_ns, b"", b"v")
    with pytest.raises(ValueError, match="1025"):
        scene.core.note(scene.now_ns, b"n", b"v" * 1_025)
    for _ in range((1 << 17) // 1_072):
        scene.core.note(scene.now_ns, b"n", b"v" * 1_000)
    with pytest.raises(EventsFull):
        scene.core.note(scene.now_ns, b"n", b"w" * 1_000)
    assert scene.core.notes() == {b"n": b"v" * 1_000}


def test_many_sessions_on_one_charge_are_dumped_in_parts_and_come_back_in_their_order() -> None:
    scene = Scene(compiled_ledger)
    scene.fill(1, sharing=2)
    sessions: list[Answer] = [scene.open(f"user{number}") for number in range(300)]
    scene.core.mark_wall(scene.now_ns, 1)
    dump = dump_of(scene.core, 16_384)
    assert audit_state(dump).lease_count == 300
    ledger = other()
    ledger.replay(dump)
    assert dump_of(ledger) == dump
    ledger.resume(scene.now_ns, 1)
    ledger.advance(scene.now_ns)  # no key: the newest lease of the charge goes first, and so on
    events = decode_events(ledger.read_events(0, RING_SIZE)[0])
    ended = [event.fence for event in events if event.kind is EventKind.LEASE_ENDED]
    assert ended == [session.fence for session in sessions[::-1]][: len(ended)]
    assert len(ended) == 256
