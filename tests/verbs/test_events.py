"""The event pump: nothing lost, nothing unbounded, the right number missed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broker.model.events import Event
from broker.model.words import EventKind
from broker.v1 import admin_pb2, sessions_pb2
from broker.verbs.events import EventPump
from tests.verbs.world import WALL_NS, World, fresh_id


def test_events_come_in_order_with_the_wall_time_of_their_draining() -> None:
    world = World(seats={"platform": 1})
    watch = world.admin.watch_events(admin_pb2.WatchEventsRequest())
    world.grant("platform")
    world.pump.pump()
    block = watch.ready()
    assert block is not None
    assert [timed.event.kind for timed in block.events] == [EventKind.SESSION_OPENED, EventKind.LEASE_STARTED]
    assert {timed.unix_ns for timed in block.events} == {WALL_NS}
    assert block.missed_count == 0
    assert watch.ready() is None


def test_a_watch_from_now_on_does_not_tell_what_was() -> None:
    world = World(seats={"platform": 5})
    world.grant("platform")
    watch = world.pump.watch(0)
    assert watch.ready() is None


def test_a_watch_from_a_seen_sequence_goes_on_behind_it() -> None:
    world = World(seats={"platform": 5})
    world.grant("platform")
    world.pump.pump()
    middle = world.pump.last_sequence
    world.grant("platform")
    block = world.pump.watch(middle).ready()
    assert block is not None
    assert block.events[0].event.sequence == middle + 1
    assert block.missed_count == 0


def test_a_sequence_of_an_earlier_run_brings_all_that_is_kept() -> None:
    world = World(seats={"platform": 5})
    world.grant("platform")
    block = world.pump.watch(10_000_000).ready()
    assert block is not None
    assert block.missed_count == 0
    assert block.events[0].event.kind is EventKind.CAPACITY_CHANGED, "the first that people are told of"


def test_what_only_the_journal_needs_is_not_shown() -> None:
    world = World(seats={"platform": 5})
    grant = world.grant("platform")
    watch = world.pump.watch(0)
    world.verbs.release(sessions_pb2.ReleaseRequest(session_id=grant.session_id, request_id=fresh_id(), product="platform"))
    world.pump.pump()
    block = watch.ready()
    assert block is not None
    kinds = [timed.event.kind for timed in block.events]
    assert kinds == [EventKind.LEASE_ENDED, EventKind.CHARGE_FREED]
    kept = world.pump.kept_after(0, 1000)
    assert EventKind.REQUEST_DONE in {timed.event.kind for timed in kept}
    assert watch.ready() is None


def test_what_is_no_longer_kept_is_counted_as_missed() -> None:
    world = World(seats={"platform": 500})
    pump = EventPump(ledger=world.ledger, wall_ns=lambda: WALL_NS, kept_count_max=10)
    watch = pump.watch(0)
    world.grant("platform")
    pump.pump()
    assert watch.ready() is not None
    last = pump.last_sequence
    for _ in range(50):
        world.grant("platform")
    pump.pump()
    block = watch.ready()
    assert block is not None
    assert [timed.event.sequence for timed in block.events] == list(range(last + 91, last + 101))
    assert block.missed_count == 90


def test_a_block_is_no_longer_than_asked_for() -> None:
    world = World(seats={"platform": 50})
    watch = world.pump.watch(0)
    for _ in range(10):
        world.grant("platform")
    world.pump.pump()
    sizes = []
    while (block := watch.ready(count_max=7)) is not None:
        sizes.append(len(block.events))
    assert sizes == [7, 7, 6]


async def test_a_waiting_watch_wakes_when_events_come() -> None:
    world = World(seats={"platform": 1})
    running = asyncio.create_task(world.pump.run(interval_s=0.001))
    watch = world.pump.watch(0)
    coming = asyncio.create_task(watch.next())
    await asyncio.sleep(0)
    world.grant("platform")
    block = await asyncio.wait_for(coming, 10)
    assert block.events[0].event.user == b"ann"
    running.cancel()


def test_a_closed_watch_leaves_nothing_behind_in_the_pump() -> None:
    world = World()
    watch = world.pump.watch(0)
    watch.close()
    assert "0 watching" in repr(world.pump)


def test_what_is_kept_is_bounded_in_bytes_too() -> None:
    world = World(seats={"platform": 500})
    pump = EventPump(ledger=world.ledger, wall_ns=lambda: WALL_NS, kept_size_max=1_000)
    watch = pump.watch(0)
    before = pump.last_sequence
    for _ in range(50):
        world.grant("platform")
        pump.pump()
    assert 0 < pump.kept_size <= 1_000
    block = watch.ready()
    assert block is not None
    assert before + block.missed_count + len(block.events) == pump.last_sequence
    assert block.events[-1].event.sequence == pump.last_sequence


def test_one_block_is_kept_however_large_it_is() -> None:
    world = World(seats={"platform": 500})
    pump = EventPump(ledger=world.ledger, kept_size_max=1_000)
    for _ in range(50):
        world.grant("platform")
    pump.pump()
    assert len(pump.kept_after(0, 1_000)) == pump.last_sequence


def test_a_lossy_ring_that_overran_the_pump_shows_as_missed_events_where_they_are_missing() -> None:
    sizes = dict.fromkeys(("sessions_max", "leases_max", "charges_max", "requests_max"), 4_000)
    world = World(seats={"platform": 4_000}, event_ring_size=128 * 1024, is_lossy=True, **sizes)
    watch = world.pump.watch(0)
    world.grant("platform")
    world.pump.pump()
    for _ in range(2_000):
        world.grant("platform")
    while world.pump.pump():
        pass
    first, after = watch.ready(10_000), watch.ready(10_000)
    assert first is not None
    assert after is not None
    assert (first.missed_count, len(first.events)) == (0, 2)
    assert after.missed_count == world.ledger.counters().event_dropped_total > 0
    told = [timed.event.sequence for timed in after.events]
    assert told == list(range(first.events[-1].event.sequence + after.missed_count + 1, world.pump.last_sequence + 1))


class Ear:
    """A listener that can close itself."""

    def __init__(self) -> None:
        self.is_listening = True
        self.heard: list[int] = []
        self.missed_count = 0

    def hear(self, events: Sequence[Event]) -> None:
        self.heard += [event.sequence for event in events]

    def miss(self) -> None:
        self.missed_count += 1


def test_a_listener_hears_what_is_drained_while_it_listens() -> None:
    world, ear = World(seats={"platform": 5}), Ear()
    world.pump.listen(ear)
    world.grant("platform")
    world.pump.pump()
    first = world.pump.last_sequence
    ear.is_listening = False
    world.grant("platform")
    world.pump.pump()
    second = world.pump.last_sequence
    ear.is_listening = True
    world.grant("platform")
    world.pump.pump()
    assert ear.heard == [*range(1, first + 1), *range(second + 1, world.pump.last_sequence + 1)]
    assert ear.missed_count == 0


def test_a_listener_is_told_that_events_were_overwritten() -> None:
    world, ear = World(seats={"platform": 3_000}, event_ring_size=128 * 1024, is_lossy=True), Ear()
    world.pump.listen(ear)
    for _ in range(2_000):
        world.grant("platform")
    while world.pump.pump():
        pass
    assert ear.missed_count == 1
    assert ear.heard[0] == world.ledger.counters().event_dropped_total + 1


def test_one_call_of_the_pump_is_bounded_and_says_that_there_is_more() -> None:
    count = 7000
    sizes = dict.fromkeys(("sessions_max", "leases_max", "charges_max", "requests_max"), count)
    world = World(seats={"platform": count}, event_ring_size=8 * 1024 * 1024, **sizes)
    for _ in range(count):
        world.grant("platform")
    assert world.pump.pump()
    assert 0 < world.pump.last_sequence < world.ledger.counters().event_total
    while world.pump.pump():
        pass
    assert world.pump.last_sequence == world.ledger.counters().event_total
