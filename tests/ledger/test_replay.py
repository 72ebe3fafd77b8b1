"""The trail of commands: what the model makes of it is what the ledger made of it, whoever called in whatever order."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

import pytest

from broker._ledger import LIMITS, Batch
from broker.model.commands import CommandKind, decode_commands
from broker.model.words import Sharing, Status
from tests.ledger.chooser import Chooser
from tests.ledger.episodes import make_episode, within_one_run
from tests.ledger.lockstep import Lockstep, differences
from tests.ledger.replay import NotWhole, Replay, shown
from tests.ledger.scene import SECOND_NS, START_S, Scene, compiled_ledger
from tests.ledger.sides import LedgerSide, Readings
from tests.ledger.test_threads import together
from tests.model.ledger_model import LedgerModel
from tests.model.readings import counters_of, pools_of, products_of, sessions_of

OPERATION_COUNT = 1_500
READ_EVERY = 97
ROUND_COUNT = 60


def readings_of(model: LedgerModel, now_ns: int) -> Readings:
    model.pass_time(now_ns)
    return {
        "products": products_of(model),
        "pools": pools_of(model),
        "counters": [counters_of(model)],
        "sessions": sessions_of(model),
    }


def differences_from(ledger: Any, now_ns: int) -> list[str]:
    """Of the ledger from the model that did its commands again: in answers, then in all that can be read."""
    page, cursor = ledger.sessions(now_ns)
    sessions = list(page)
    while cursor:
        page, cursor = ledger.sessions(now_ns, cursor)
        sessions += page
    replay = Replay(decode_commands(ledger.recent_commands()))
    told = replay.run()
    views = {
        "products": ledger.products(),
        "pools": ledger.pools(),
        "counters": [ledger.counters()],
        "sessions": sorted(sessions, key=lambda view: view.fence),
    }
    return told + list(differences(readings_of(replay.model, now_ns), views))


@pytest.mark.parametrize("kind", ["everyday", "keys", "full_ring", "starved_ring", "storm", "wide", "tight_requests"])
def test_an_episode_is_done_again_with_the_same_answers_and_the_same_end(kind: str) -> None:
    rng = Random(f"trail/{kind}")
    episode = within_one_run(make_episode(rng, kind))
    sides = list[LedgerSide]()

    def keep(settings: Any) -> LedgerSide:
        sides.append(LedgerSide(settings))
        return sides[-1]

    pair = Lockstep(episode.settings, keep)
    chooser = Chooser(rng, episode, pair.model)
    for number in range(OPERATION_COUNT):
        operation = chooser.next()
        result = pair.step(operation)
        if hasattr(result, "status"):
            chooser.saw(operation, result)  # type: ignore[arg-type]
        if number % READ_EVERY == 0:
            pair.read(operation.now_ns)
    assert differences_from(sides[0].ledger, operation.now_ns) == []


def test_threads_that_race_for_seats_leave_the_order_in_which_they_had_them() -> None:
    scene = Scene(compiled_ledger)
    scene.prove(5, scene.pool(sharing=Sharing.USER))
    clock = count(START_S * SECOND_NS, 1_000_000)

    def live(number: int) -> None:
        rng = Random(number)
        for _ in range(ROUND_COUNT):
            scene.now_s = next(clock) / SECOND_NS
            session = scene.open(f"user{rng.randrange(9)}", instance_id=b"%d" % rng.randrange(3))
            if session.status is Status.GRANTED and rng.random() < 0.7:
                scene.close(session)
            scene.core.advance(scene.now_ns)
            scene.core.drain_events(1_000)

    together(live)
    assert scene.core.counters().denied_total > 0
    assert differences_from(scene.core, scene.now_ns) == []


def test_every_kind_of_command_leaves_its_record() -> None:
    scene = Scene(compiled_ledger)
    scene.fill(2)
    scene.starting(True)
    scene.starting(False)
    session = scene.open("ann", priority=2, ttl_ns=5 * SECOND_NS, salt=b"wait")
    scene.acquire(session, "platform")
    scene.renew(session, 7)
    scene.release(session, "platform")
    scene.revoke(session)
    scene.close(session)
    scene.core.set_admitting(scene.now_ns, False)
    scene.core.set_writable(scene.now_ns, False)
    scene.core.set_learning(scene.now_ns, scene.now_ns + SECOND_NS)
    scene.core.note(scene.now_ns, b"name", b"value")
    scene.lose(0)
    scene.events()
    scene.wait(200)
    dump = decode_commands(scene.core.recent_commands())
    assert {command.kind for command in dump.commands} == set(CommandKind)
    (opened,) = (command for command in dump.commands if command.kind is CommandKind.OPEN)
    assert (opened.status, opened.fence, opened.priority, opened.ttl_ns) == (Status.GRANTED, session.fence, 2, 5 * SECOND_NS)
    assert (opened.texts[0], opened.products, len(opened.salt)) == (b"ann", (("platform", False),), 16)
    (renewed,) = (command for command in dump.commands if command.kind is CommandKind.RENEW)
    assert (renewed.number, renewed.fence, renewed.time_ns) == (7, session.fence, START_S * SECOND_NS)
    assert "status=<Status.GRANTED: 1>" in shown(opened)


def test_no_session_id_stands_in_a_dump() -> None:
    scene = Scene(compiled_ledger)
    scene.fill(1)
    session = scene.open("ann")
    scene.renew(session)
    scene.close(session)
    dump = scene.core.recent_commands()
    assert b"ann" in dump
    assert session.session_id not in dump
    assert session.session_id[16:] not in dump


def test_of_an_overwritten_trail_the_newest_ten_thousand_and_more_are_shown_and_none_done_again() -> None:
    scene = Scene(compiled_ledger)
    scene.fill(1)
    session = scene.open("ann")
    batch = Batch(256)
    for _ in range(256):
        batch.add_renew(scene.core, session.session_id)
    for _ in range(LIMITS["COMMAND_RING_SIZE"] // 16 // 256 + 1):
        scene.now_s += 0.000_001
        scene.core.execute(scene.now_ns, batch)
    dump = decode_commands(scene.core.recent_commands())
    assert not dump.is_whole
    assert len(dump.commands) > 100_000
    assert dump.commands[-1].time_ns == scene.now_ns
    with pytest.raises(NotWhole, match="can only be shown"):
        Replay(dump)


def test_ten_thousand_logins_with_long_names_are_kept() -> None:
    scene = Scene(compiled_ledger, event_ring_size=1 << 26)
    scene.pool("platform")
    scene.prove(20_000)
    batch = Batch(250)
    for number in range(10_000):
        text = b"%05d" % number
        batch.add_open(
            scene.core, request_id=text.rjust(16, b"r"), user=text.rjust(60, b"u"), host=text.rjust(60, b"h"), app=b"crm/8.3",
            products=[("platform", False), ("x" * 32, True)],
        )  # fmt: skip
        if len(batch) == 250:
            scene.core.execute(scene.now_ns, batch)
            batch.clear()
    dump = decode_commands(scene.core.recent_commands())
    assert dump.is_whole
    assert sum(command.kind is CommandKind.OPEN for command in dump.commands) == 10_000


def test_a_replay_that_comes_out_otherwise_is_told() -> None:
    scene = Scene(compiled_ledger)
    scene.fill(1)
    scene.open("ann")
    scene.open("bob")
    dump = scene.core.recent_commands()
    changed = dump.replace(b"bob", b"ann").replace((2).to_bytes(16, "big"), (1).to_bytes(16, "big"))
    (difference,) = Replay(decode_commands(changed)).run()
    assert "comes out as GRANTED" in difference


@pytest.mark.parametrize("cut", [0, 7, 60])
def test_what_is_no_dump_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="no dump"):
        decode_commands(Scene(compiled_ledger).core.recent_commands()[:cut])


def test_half_a_record_is_refused() -> None:
    scene = Scene(compiled_ledger)
    scene.pool()
    with pytest.raises(ValueError, match="a record of"):
        decode_commands(scene.core.recent_commands()[:-8])
