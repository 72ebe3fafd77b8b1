"""The ledger's events on their way to people: drained, timed, kept for a while, handed on.

The pump drains the ledger's ring every 50 ms and when somebody needs the newest state, gives each event the wall time of that
moment, and keeps the last 10,000. Two kinds of readers:

* listeners are called with each block as it is drained (KeepAlive's notices);
* watchers are cursors into what is kept (WatchEvents): a slow one holds nothing up and grows nothing, it just finds that
  it missed some.

Event loop's thread only. Sequences grow by one with each event of a run of the broker.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.model.events import Event, decode_events
from broker.verbs.bounds import EVENTS_KEPT_MAX, EVENTS_PER_MESSAGE_MAX

_INTERVAL_S = 0.05
_BLOCK_SIZE_MAX = 64 * 1024
_BLOCKS_PER_CALL_MAX = 2
"""One call of pump stays at some 10 ms even behind a storm; the loop comes again at once while there is more."""

Listener = Callable[[Sequence[Event]], None]


class EventSource(Protocol):
    """The part of the ledger that the pump uses."""

    def drain_events(self, size_max: int = ...) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """An event and when it was drained: at most one interval after it happened."""

    event: Event
    unix_ns: int


@dataclass(frozen=True, slots=True)
class EventBlock:
    """Events in their order, and how many before them are no longer kept."""

    events: Sequence[TimedEvent]
    missed_count: int


class EventPump:
    """The one reader of the ledger's event ring."""

    def __init__(
        self,
        *,
        ledger: EventSource,
        wall_ns: Callable[[], int] = time.time_ns,
        kept_count_max: int = EVENTS_KEPT_MAX,
    ) -> None:
        self._ledger = ledger
        self._wall_ns = wall_ns
        self._kept_count_max = kept_count_max
        self._kept: list[TimedEvent] = []
        self._last_sequence = 0
        self._listeners: list[Listener] = []
        self._wakers: set[asyncio.Event] = set()

    def __repr__(self) -> str:
        return f"<EventPump at {self._last_sequence}, {len(self._kept)} kept, {len(self._wakers)} watching>"

    @property
    def last_sequence(self) -> int:
        """The newest event's; 0 before the first."""
        return self._last_sequence

    def listen(self, listener: Listener) -> None:
        """Calls it with each drained block from now on. It must be quick and must not raise."""
        self._listeners.append(listener)

    async def run(self, interval_s: float = _INTERVAL_S) -> None:
        """Pumps until cancelled."""
        while True:
            has_more = self.pump()
            await asyncio.sleep(0 if has_more else interval_s)

    def pump(self) -> bool:
        """Drains what there is, a bounded amount; whether there may be more."""
        for _ in range(_BLOCKS_PER_CALL_MAX):
            data = self._ledger.drain_events(_BLOCK_SIZE_MAX)
            if not data:
                return False
            self._take(list(decode_events(data)))
        return True

    def watch(self, after_sequence: int) -> EventWatch:
        """A cursor behind the event with this sequence; 0 begins with the next event to come. A sequence that this run
        has not reached is of an earlier run: all that is kept comes."""
        self.pump()
        if after_sequence == 0:
            after_sequence = self._last_sequence
        elif after_sequence > self._last_sequence:
            after_sequence = 0
        return EventWatch(self, after_sequence)

    def kept_after(self, sequence: int, count_max: int) -> list[TimedEvent]:
        """The oldest kept events behind a sequence."""
        start = bisect_right(self._kept, sequence, key=_sequence_of)
        oldest = max(start, len(self._kept) - self._kept_count_max)
        return self._kept[oldest : oldest + count_max]

    def add_waker(self, waker: asyncio.Event) -> None:
        """Sets it whenever events came."""
        self._wakers.add(waker)

    def remove_waker(self, waker: asyncio.Event) -> None:
        """Sets it no more."""
        self._wakers.discard(waker)

    def _take(self, events: Sequence[Event]) -> None:
        unix_ns = self._wall_ns()
        self._kept.extend(TimedEvent(event, unix_ns) for event in events)
        if len(self._kept) >= 2 * self._kept_count_max:  # cut in halves, so that an event costs O(1) and not a move of all
            del self._kept[: -self._kept_count_max]
        self._last_sequence = events[-1].sequence
        for listener in self._listeners:
            listener(events)
        for waker in self._wakers:
            waker.set()


class EventWatch:
    """One reader's place among the events. Close it when done."""

    def __init__(self, pump: EventPump, after_sequence: int) -> None:
        self._pump = pump
        self._sequence = after_sequence
        self._waker = asyncio.Event()
        pump.add_waker(self._waker)

    def ready(self, count_max: int = EVENTS_PER_MESSAGE_MAX) -> EventBlock | None:
        """The next events if there are any."""
        events = self._pump.kept_after(self._sequence, count_max)
        if not events:
            return None
        missed_count = events[0].event.sequence - self._sequence - 1
        self._sequence = events[-1].event.sequence
        return EventBlock(events, missed_count)

    async def next(self, count_max: int = EVENTS_PER_MESSAGE_MAX) -> EventBlock:
        """The next events; waits for at least one."""
        while True:
            self._waker.clear()
            block = self.ready(count_max)
            if block is not None:
                return block
            await self._waker.wait()

    def close(self) -> None:
        """Lets go of the pump."""
        self._pump.remove_waker(self._waker)


def _sequence_of(timed: TimedEvent) -> int:
    return timed.event.sequence
