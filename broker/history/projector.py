"""The work of bringing a history up to a position of the log: read, fold, write, in bounded steps. For the writer's thread and for a rebuild.

Each step is one transaction, and what it needs to go on is in it: whenever the process ends, the next one goes on exactly there. Raises what reading the log
(LogDamaged, OSError) and writing the database (apsw.Error) raise; then the projector is to be thrown away. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from broker._journal import read_log, segment_positions
from broker.history.fold import Fold, FoldState
from broker.history.raw import first_wall_offset_ns
from broker.history.snapshot import state_behind
from broker.history.store import HistoryStore
from broker.model.journal import LogDamaged

EVENTS_PER_STEP = 2000
LOOK_AHEAD_SIZE = 64 * 1024 * 1024
"""How far behind a gap a mark of the wall clock is looked for; there is one each minute."""


class Projector:
    """A history and the log that it follows. `committed` is up to where the log may be read; None: to its end, when nobody writes it."""

    def __init__(
        self, store: HistoryStore, log_directory: Path, broker_id: bytes, committed: Callable[[], int] | None
    ) -> None:
        self._store = store
        self._log_directory = log_directory
        self._broker_id = broker_id
        self._committed = committed
        self._fold: Fold = store.fold()
        self.gap_count = 0
        self.gap_size = 0

    @property
    def state(self) -> FoldState:
        """Where it stands: all before `position` is in the database, once `steps` has been taken to its end or between two of them."""
        return self._fold.state

    def steps(self, events_max: int = EVENTS_PER_STEP) -> Iterator[int]:
        """Goes to what is committed now; after each transaction gives the number of its events."""
        until = None if self._committed is None else self._committed()
        if until is not None and until <= self.state.position:
            return
        self._step_over_gap()
        for position, data in self._read(self.state.position, until):
            for start, part in whole_parts(data, events_max):
                self._fold.take(position + start, part)
                if self._fold.event_count >= events_max:
                    yield self._write(until)
        if self._fold.event_count:
            yield self._write(until)

    def begin_where_the_log_does(self, copy_older: Callable[[int], None]) -> None:
        """Before the first step, for a history that is empty: goes to where the log can be understood from. `copy_older` hears that position,
        in the transaction in which it is written. Nothing at all if that is the first event."""
        first = self.log_start()
        if first > self.state.position:
            self._begin_at(first, copy_older)

    def reload(self) -> None:
        """What the database says counts: after a transaction that failed."""
        self._fold = self._store.fold()

    def log_start(self) -> int:
        """The log's first position."""
        firsts = segment_positions(self._log_directory)
        return firsts[0] if firsts else 0

    def log_end(self) -> int:
        """The position behind the log's last event, or behind what is committed."""
        if self._committed is not None:
            return self._committed()
        firsts = segment_positions(self._log_directory)
        position = self.state.position
        for start, data in self._read(firsts[-1], None) if firsts else ():
            position = start + len(data)
        return position

    def is_of_this_log(self) -> bool:
        """Whether the log holds the last event that was projected, if it still reaches back to it, and has not become shorter."""
        state, until = self.state, None if self._committed is None else self._committed()
        if until is not None and until < state.position:
            return False
        firsts = segment_positions(self._log_directory)
        if state.last_position < 0 or not firsts or state.last_position < firsts[0]:
            return bool(firsts) or state.position == 0
        try:
            for _, data in self._read(state.last_position, until):
                return data[:64].hex() == state.last_header
        except LogDamaged:
            pass
        return False

    def _read(self, position: int, until: int | None) -> Iterator[tuple[int, bytes]]:
        return read_log(self._log_directory, broker_id=self._broker_id, position=position, until=until)

    def _write(self, until: int | None) -> int:
        count = self._fold.event_count
        facts: dict[str, Any] = {"committed": self.state.position if until is None else until}
        self._store.write(self._fold.changes(), self.state, facts)
        return count

    def _step_over_gap(self) -> None:
        """If the log no longer reaches back to where the history is: goes on from where it begins, and says so in the history."""
        first, position = self.log_start(), self.state.position
        if first > position:
            self._begin_at(first, lambda _: None)
            if position:
                self.gap_count += 1
                self.gap_size += self.state.position - position

    def _begin_at(self, first: int, copy_older: Callable[[int], None]) -> None:
        """At the oldest snapshot within the log; without one at its beginning, where nothing is known of what is charged."""
        until = None if self._committed is None else self._committed()
        ledger = state_behind(self._log_directory, self._broker_id, first, until)
        start = first if ledger is None else ledger.position
        if self.state.position:
            self._fold.record_gap(start)
        self._fold.begin_at(start, self._wall_offset_ns(start), ledger)
        with self._store.connection:
            copy_older(start)
            self._store.write(self._fold.changes(), self.state)
            if ledger is not None:
                self._store.take_over(ledger, self.state)

    def _wall_offset_ns(self, position: int) -> int:
        """What ledger time is behind the wall clock at a position, by the next mark behind it; as it was, if there is none near."""
        for start, data in self._read(position, None if self._committed is None else self._committed()):
            offset_ns = first_wall_offset_ns(data)
            if offset_ns is not None:
                return offset_ns
            if start - position > LOOK_AHEAD_SIZE:
                break
        return self.state.offset_ns


def whole_parts(data: bytes, count_max: int) -> Iterator[tuple[int, bytes]]:
    """A block of events in parts of at most so many, each with where it begins: a block may hold sixteen thousand."""
    start, position, count = 0, 0, 0
    while position < len(data):
        position += int.from_bytes(data[position : position + 4], "little")
        count += 1
        if count == count_max:
            yield start, data[start:position]
            start, count = position, 0
    if start < position:
        yield start, data[start:position]
