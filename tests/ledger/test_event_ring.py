"""The event ring: one reader for whom it waits, others with cursors of their own, and the lossy ring that waits for nobody.

What does not ask for positions is played on the model too.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from broker.model.events import FLAG_LAST, Event, decode_events
from broker.model.words import Status
from tests.ledger.chooser import Chooser
from tests.ledger.episodes import make_episode
from tests.ledger.lockstep import Lockstep
from tests.ledger.operations import Settings
from tests.ledger.scene import Scene, Stage, compiled_ledger

RING_SIZE = 1 << 17
SIZE_MAX_LEAST = 1_000
READ_EVERY = 97


def lossy(**settings: int) -> Scene:
    """A compiled ledger with a small lossy ring and seats for everybody."""
    scene = Scene(compiled_ledger, event_ring_size=RING_SIZE, is_lossy=True, **settings)
    scene.fill(100_000)
    return scene


def sequences(data: bytes) -> list[int]:
    return [event.sequence for event in decode_events(data)]


def kept(scene: Scene, position: int = 0) -> tuple[list[Event], int, int]:
    """All events from a position on, where they end, and the bytes that were lost."""
    data, position, lost_size = scene.core.read_events(position, RING_SIZE)
    return list(decode_events(data)), position, lost_size


def log_in(scene: Scene, count: int) -> None:
    for number in range(count):
        assert scene.open(f"user{number}").status is Status.GRANTED


def test_a_full_lossy_ring_refuses_nobody_and_keeps_the_newest_events(stage: Stage) -> None:
    scene = stage(event_ring_size=RING_SIZE, is_lossy=True)
    scene.fill(100_000)
    log_in(scene, 2_000)
    total, dropped = scene.core.counters().event_total, scene.core.counters().event_dropped_total
    assert total > 4_000
    events = scene.events()
    assert [event.sequence for event in events] == list(range(dropped + 1, total + 1))
    assert dropped > 0


def test_what_was_drained_in_time_is_not_counted_as_dropped(stage: Stage) -> None:
    scene = stage(event_ring_size=RING_SIZE, is_lossy=True)
    scene.fill(100_000)
    for number in range(2_000):
        scene.open(f"user{number}")
        scene.events()
    assert scene.core.counters().event_dropped_total == 0


def test_drained_events_can_be_read_until_they_are_overwritten() -> None:
    scene = Scene(compiled_ledger, event_ring_size=RING_SIZE)
    scene.fill(100_000)
    log_in(scene, 10)
    drained = scene.core.drain_events()
    data, position, lost_size = scene.core.read_events(0)
    assert (data, position, lost_size) == (drained, len(drained), 0)
    assert scene.core.read_events(position) == (b"", position, 0)


def test_a_reader_behind_a_ring_that_waits_loses_only_what_was_drained() -> None:
    scene = Scene(compiled_ledger, event_ring_size=RING_SIZE)
    scene.fill(100_000)
    log_in(scene, 10)
    _, position, _ = kept(scene)
    for _ in range(100):
        log_in(scene, 10)
        scene.core.drain_events()
    data, end, lost_size = scene.core.read_events(position, RING_SIZE)
    assert lost_size == end - position - len(data) > 0
    assert sequences(data)[-1] == scene.core.counters().event_total


def test_each_reader_of_a_lossy_ring_hears_what_it_lost_and_goes_on_with_the_oldest() -> None:
    scene = lossy()
    log_in(scene, 5)
    quick, slow = kept(scene)[1], kept(scene)[1]
    heard = list[Event]()
    for _ in range(100):
        log_in(scene, 20)
        events, quick, lost_size = kept(scene, quick)
        assert lost_size == 0
        heard += events
    assert [event.sequence for event in heard] == list(range(heard[0].sequence, scene.core.counters().event_total + 1))
    events, end, lost_size = kept(scene, slow)
    assert end == quick
    assert 0 < lost_size < end - slow
    assert events == heard[-len(events) :]


def test_a_small_buffer_gets_whole_events_in_their_order() -> None:
    scene = lossy()
    log_in(scene, 100)
    whole, end, _ = kept(scene)
    position, pieces = 0, list[Event]()
    while position < end:
        data, position, lost_size = scene.core.read_events(position, SIZE_MAX_LEAST)
        assert 0 < len(data) <= SIZE_MAX_LEAST
        assert lost_size == 0
        pieces += decode_events(data)
    assert pieces == whole


@pytest.mark.parametrize("size_max", [1_000, 1_500, 65_536 + 1_000, 65_536 + 1_400, 200_000])
def test_a_reading_that_holds_a_command_ends_at_the_end_of_one(size_max: int) -> None:
    scene = Scene(compiled_ledger, event_ring_size=1 << 20)
    scene.fill(100_000)
    log_in(scene, 3_000)
    position, end = 0, kept_all(scene)
    while position < end:
        data, position, _ = scene.core.read_events(position, size_max)
        flags = [event.flags for event in decode_events(data)]
        assert flags[-1] & FLAG_LAST or not any(flag & FLAG_LAST for flag in flags)


def kept_all(scene: Scene) -> int:
    """Where the events end."""
    return int(scene.core.read_events(0, 1 << 20)[1])


def test_a_position_that_no_event_has_reached_gives_nothing() -> None:
    scene = lossy()
    log_in(scene, 1)
    end = kept(scene)[1]
    assert scene.core.read_events(end + 4_096) == (b"", end, 0)


def test_a_position_inside_an_event_gives_no_endless_reading() -> None:
    scene = lossy()
    log_in(scene, 50)
    data, _, _ = scene.core.read_events(8, SIZE_MAX_LEAST)
    assert len(data) <= SIZE_MAX_LEAST


@pytest.mark.parametrize("seed", range(4))
def test_a_lossy_ledger_and_its_model_agree_on_random_operations(seed: int) -> None:
    rng = Random(f"lossy/{seed}")
    episode = make_episode(rng, "full_ring")
    settings = Settings(episode.settings.arguments | {"is_lossy": True}, episode.settings.pools)
    pair = Lockstep(settings)
    chooser = Chooser(rng, replace(episode, settings=settings), pair.model)
    for number in range(1_500):
        operation = chooser.next()
        result = pair.step(operation)
        if operation.name not in ("drain", "read") and hasattr(result, "status"):
            chooser.saw(operation, result)  # type: ignore[arg-type]
        if number % READ_EVERY == 0:
            pair.read(operation.now_ns)
    pair.finish(operation.now_ns)
    assert pair.model.totals["events_full_total"] == 0
