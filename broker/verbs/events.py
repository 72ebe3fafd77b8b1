"""The ledger's events on their way to people: drained, timed, kept for a while, handed on.

The pump drains the ledger's ring every 50 ms and when somebody needs the newest state, gives each block of events the wall time of
that moment, and keeps the last 10,000 events as the bytes that they are: a storm of logins costs a copy, and only what somebody
reads is decoded. Two kinds of readers:

* listeners are called with each block as it is drained, while they say that they listen (KeepAlive's notices);
* watchers are cursors into what is kept (WatchEvents): a slow one holds nothing up and grows nothing, it just finds that
  it missed some. What only the journal needs is not shown to them.

Sequences grow by one with each event of a run of the broker. A lossy ring (durability none) may have overwritten events before
the pump came: watchers find that they missed them, listeners are told to look for themselves. Event loop's thread only.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from broker.model.events import Event, decode_events, event_start
from broker.model.words import JOURNAL_KINDS
from broker.verbs.bounds import EVENTS_KEPT_MAX, EVENTS_KEPT_SIZE_MAX, EVENTS_PER_MESSAGE_MAX

_INTERVAL_S = 0.05
_BLOCK_SIZE_MAX = 64 * 1024
_BLOCKS_PER_CALL_MAX = 16
"""A mebibyte: copied in some hundred microseconds. The loop comes again at once while there is more."""
_DECODED_BLOCKS_PER_CALL_MAX = 2
"""While somebody listens: one call stays at some 10 ms even behind a storm."""


class EventSource(Protocol):
    """The part of the ledger that the pump uses."""

    def drain_block(self, size_max: int = ...) -> tuple[bytes, int, int]: ...


class Listener(Protocol):
    """Who is told of each event as it is drained. Must be quick and must not raise."""

    @property
    def is_listening(self) -> bool:
        """Whether it wants to be told now. What passes while it does not is not told later."""

    def hear(self, events: Sequence[Event]) -> None:
        """The next events, in their order."""

    def miss(self) -> None:
        """Events before the next ones were overwritten: what they said must be found elsewhere."""


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


@dataclass(frozen=True, slots=True)
class _RawBlock:
    """What one drain gave: whole events without a gap, as bytes."""

    data: bytes
    first_sequence: int
    last_sequence: int
    unix_ns: int

    def after(self, sequence: int, count_max: int) -> list[TimedEvent]:
        """The first events behind a sequence."""
        start = event_start(self.data, max(0, sequence + 1 - self.first_sequence))
        return [TimedEvent(event, self.unix_ns) for event in islice(decode_events(self.data, start), count_max)]


class EventPump:
    """The one reader for whom the ledger's event ring waits."""

    def __init__(
        self,
        *,
        ledger: EventSource,
        wall_ns: Callable[[], int] = time.time_ns,
        kept_count_max: int = EVENTS_KEPT_MAX,
        kept_size_max: int = EVENTS_KEPT_SIZE_MAX,
    ) -> None:
        self._ledger = ledger
        self._wall_ns = wall_ns
        self._kept_count_max = kept_count_max
        self._kept_size_max = kept_size_max
        self._blocks: list[_RawBlock] = []
        self._kept_size = 0
        self._last_sequence = 0
        self._listeners: list[Listener] = []
        self._wakers: set[asyncio.Event] = set()

    def __repr__(self) -> str:
        return f"<EventPump at {self._last_sequence}, {self._kept_size} bytes kept, {len(self._wakers)} watching>"

    @property
    def last_sequence(self) -> int:
        """The newest event's; 0 before the first."""
        return self._last_sequence

    @property
    def kept_size(self) -> int:
        """Bytes of the events that are kept."""
        return self._kept_size

    def listen(self, listener: Listener) -> None:
        """Tells it of each drained block from now on."""
        self._listeners.append(listener)

    async def run(self, interval_s: float = _INTERVAL_S) -> None:
        """Pumps until cancelled."""
        while True:
            has_more = self.pump()
            await asyncio.sleep(0 if has_more else interval_s)

    def pump(self) -> bool:
        """Drains what there is, a bounded amount; whether there may be more."""
        is_heard = any(listener.is_listening for listener in self._listeners)
        for _ in range(_DECODED_BLOCKS_PER_CALL_MAX if is_heard else _BLOCKS_PER_CALL_MAX):
            data, first_sequence, last_sequence = self._ledger.drain_block(_BLOCK_SIZE_MAX)
            if not data:
                return False
            self._take(_RawBlock(data, first_sequence, last_sequence, self._wall_ns()))
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
        """The oldest kept events behind a sequence, up to the next gap."""
        sequence = max(sequence, self._last_sequence - self._kept_count_max)
        found: list[TimedEvent] = []
        index = bisect_right(self._blocks, sequence, key=_last_of)
        while index < len(self._blocks) and len(found) < count_max:
            block = self._blocks[index]
            if found and block.first_sequence != sequence + 1:
                break
            found += block.after(sequence, count_max - len(found))
            sequence = found[-1].event.sequence
            index += 1
        return found

    def add_waker(self, waker: asyncio.Event) -> None:
        """Sets it whenever events came."""
        self._wakers.add(waker)

    def remove_waker(self, waker: asyncio.Event) -> None:
        """Sets it no more."""
        self._wakers.discard(waker)

    def _take(self, block: _RawBlock) -> None:
        has_gap = block.first_sequence != self._last_sequence + 1
        self._blocks.append(block)
        self._kept_size += len(block.data)
        self._last_sequence = block.last_sequence
        self._cut()
        self._tell(block, has_gap)
        for waker in self._wakers:
            waker.set()

    def _cut(self) -> None:
        """Forgets the blocks of which no event is kept any more."""
        count = bisect_left(self._blocks, self._last_sequence - self._kept_count_max + 1, key=_last_of)
        size = self._kept_size - sum(len(block.data) for block in self._blocks[:count])
        while size > self._kept_size_max and count < len(self._blocks) - 1:
            size -= len(self._blocks[count].data)
            count += 1
        del self._blocks[:count]
        self._kept_size = size

    def _tell(self, block: _RawBlock, has_gap: bool) -> None:
        listening = [listener for listener in self._listeners if listener.is_listening]
        events = list(decode_events(block.data)) if listening else []
        for listener in listening:
            if has_gap:
                listener.miss()
            listener.hear(events)


class EventWatch:
    """One reader's place among the events. Close it when done."""

    def __init__(self, pump: EventPump, after_sequence: int) -> None:
        self._pump = pump
        self._sequence = after_sequence
        self._waker = asyncio.Event()
        pump.add_waker(self._waker)

    def ready(self, count_max: int = EVENTS_PER_MESSAGE_MAX) -> EventBlock | None:
        """The next events if there are any that people are told of."""
        missed_count = 0
        while events := self._pump.kept_after(self._sequence, count_max):
            missed_count += events[0].event.sequence - self._sequence - 1
            self._sequence = events[-1].event.sequence
            told = [timed for timed in events if timed.event.kind not in JOURNAL_KINDS]
            if told or missed_count:
                return EventBlock(told, missed_count)
        return None

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


def _last_of(block: _RawBlock) -> int:
    return block.last_sequence
