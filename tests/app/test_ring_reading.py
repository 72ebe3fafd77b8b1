"""The pump's cursor over a ring that waits for a journal: everything once, in order, and nothing before it is on the disk."""

from broker._ledger import Ledger
from broker.app.ring_reading import RingReading
from broker.model.events import decode_events
from broker.model.terms import PoolTerms
from broker.verbs.events import EventPump

SECOND_NS = 10**9


class Scene:
    """A ledger with seats for all; `position` is that of all its events."""

    def __init__(self, ring_size: int = 1 << 20, is_lossy: bool = False) -> None:
        self.ledger = Ledger(
            broker_id=bytes(8), secret=bytes(16), generation=1, start_ns=SECOND_NS, event_ring_size=ring_size, is_lossy=is_lossy
        )
        pool = self.ledger.declare_pool("crm", PoolTerms(), True)
        self.ledger.prove_source(SECOND_NS, 0, pool, 60_000, 10**18, 10**18)
        self._count = 0

    def open(self, count: int) -> None:
        for _ in range(count):
            self._count += 1
            request_id = self._count.to_bytes(16)
            answer = self.ledger.open(
                SECOND_NS, request_id=request_id, user=f"{self._count}".encode(), host=b"pc", products=[("crm", False)]
            )
            assert answer.session_id

    @property
    def position(self) -> int:
        return self.ledger.tick(SECOND_NS)[1]


def sequences(data: bytes) -> list[int]:
    return [event.sequence for event in decode_events(data)]


def test_cursor_gives_what_drain_block_would() -> None:
    scene = Scene()
    scene.open(40)
    data, first, last = RingReading(scene.ledger, None).drain_block()
    drained = scene.ledger.drain_block()
    assert (data, first, last) == drained
    assert sequences(data) == list(range(first, last + 1))


def test_every_event_comes_once_in_blocks_without_a_gap() -> None:
    scene, seen = Scene(), list[int]()
    reading = RingReading(scene.ledger, None)
    for count in (5, 300, 1):
        scene.open(count)
        while True:
            data, first, last = reading.drain_block(4_096)
            if not data:
                assert (first, last) == (seen[-1] + 1, seen[-1])
                break
            seen += range(first, last + 1)
            assert sequences(data) == list(range(first, last + 1))
    assert seen == list(range(1, len(seen) + 1))


def test_nothing_that_is_not_on_the_disk_is_given() -> None:
    scene, committed = Scene(), [0]
    reading = RingReading(scene.ledger, lambda: committed[0])
    scene.open(3)
    assert reading.drain_block()[0] == b""
    committed[0] = scene.position
    scene.open(4)
    before = reading.drain_block()[2]
    assert reading.drain_block()[0] == b""
    committed[0] = scene.position
    data, first, last = reading.drain_block()
    assert first == before + 1
    assert sequences(data) == list(range(first, last + 1))


def test_overtaken_pump_finds_a_gap_and_goes_on() -> None:
    scene = Scene(ring_size=1 << 17, is_lossy=True)
    pump = EventPump(ledger=RingReading(scene.ledger, None))
    pump.pump()
    watch = pump.watch(0)
    scene.open(5_000)
    while pump.pump():
        pass
    block = watch.ready()
    assert block is not None
    assert block.missed_count > 0
    assert pump.last_sequence == list(decode_events(scene.ledger.drain_events(1 << 17)))[-1].sequence
