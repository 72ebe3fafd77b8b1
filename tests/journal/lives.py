"""What the store's tests need: a ledger that is nothing but the events that it was told, and small settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker._journal import EventQueue, LogDisk, SimulatedDisk
from broker.journal.compaction import Compactor
from broker.journal.settings import JournalSettings
from broker.journal.store import JournalStore
from tests.journal.material import BROKER_ID, STREAM, commit_all, events_from

SETTINGS: dict[str, Any] = {"segment_size": 16384, "group_size_max": 4096, "snapshot_after_size": 20_000, "log_size_max": 400_000, "salt_seed": 7}
QUEUE_SIZE = 1 << 17


class Scribe:
    """The simplest state there is: all events. A dump of it gives them back, a piece at a time."""

    def __init__(self) -> None:
        self.events = b""

    def replay(self, events: bytes) -> None:
        """In order, without a hole: else ValueError."""
        if STREAM[len(self.events) : len(self.events) + len(events)] != events:
            raise ValueError(f"these {len(events)} bytes do not come behind byte {len(self.events)}")
        self.events += events

    def dump(self, cursor: int, size_max: int) -> tuple[bytes, int]:
        """About a twentieth each time."""
        end = next((at for at in _ends(self.events) if at >= cursor + min(size_max, len(self.events) // 20)), len(self.events))
        return self.events[cursor:end], 0 if end == len(self.events) else end


def _ends(events: bytes) -> list[int]:
    ends, position = [], 0
    while position < len(events):
        position += int.from_bytes(events[position : position + 4], "little")
        ends.append(position)
    return ends


def store_on(place: str | Path | LogDisk, generation: int = 1, **settings: Any) -> JournalStore:
    """Opened."""
    return JournalStore.open(place, broker_id=BROKER_ID, generation=generation, settings=JournalSettings(**(SETTINGS | settings)))


class Life:
    """One run of a broker: what was recovered, then the stream's next events."""

    def __init__(self, place: str | Path | LogDisk, generation: int = 1, make: Callable[[], Scribe] = Scribe, **settings: Any) -> None:
        self.store = store_on(place, generation, **settings)
        try:
            self.ledger = make()
            self.report = self.store.recover(self.ledger)
            self.queue = EventQueue(QUEUE_SIZE)
            self.store.begin(self.queue)
        except BaseException:
            self.store.journal.close()
            raise
        self.base = len(self.ledger.events)
        self.compactor = Compactor(self.store, make)

    def write(self, size_min: int, group_events: int = 9) -> None:
        """Commits so many more bytes, or until it fails."""
        until = self.store.committed + size_min
        while self.store.committed < until and self.store.failure is None:
            assert self.queue.put(events_from(self.base + self.queue.position, group_events))
            commit_all(self.store.journal)

    def end(self) -> None:
        """As a clean stop."""
        assert self.compactor.stop()
        assert self.store.stop()
        self.store.close()


def with_snapshots(count: int = 3, behind: int = 10_000) -> SimulatedDisk:
    """A log that has been compacted so often."""
    disk = SimulatedDisk(4)
    life = Life(disk)
    for _ in range(count):
        life.write(25_000)
        assert life.compactor.compact()
        life.write(behind)
    life.end()
    return disk
