"""The fold from the log to the history: takes the events in their order and says what they change. No I/O, no clock.

The same events give the same history, wherever the stretches are cut: so a history that was followed live and one that was made anew from the
log are equal, row for row. What must be known to go on (`FoldState`, and each pool's row) is written with each stretch.

* **Wall time.** Events carry ledger time; RUN_STARTED and WALL_CLOCK tie it to the wall clock, and an event's instant is counted from the last of
  those before it. Instants do not go back by less than STEP_BACK_NS: they wait. A larger step back is believed, and minutes then come a second time.
* **Usage.** Seats are charged by a lease that brings seats, and free again when their charge is. Between two events more than UNCOUNTED_NS apart the
  broker did not run, nor does it count from one run to the next.
* **One by one, and counted.** `counts`, `usage` and `minutes` hold everything. `events`, `sessions` and `leases` hold the first EVENTS_SINGLE_MAX
  events of each second (over a thousand logins and logouts), so that a storm does not fill the disk; what of a minute was only counted, `minutes` says.

Bookkeeping of the ledger (remembered requests, notes, declarations) is not history and not counted. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from broker.history import raw
from broker.history.changes import Changes, Row
from broker.history.snapshot import LedgerState

EVENTS_SINGLE_MAX = 10_000
STEP_BACK_NS = 300 * 10**9
UNCOUNTED_NS = 600 * 10**9
MINUTE_NS = 60 * 10**9
SECOND_NS = 10**9
SESSIONS_POOL = -1
"""The pool of `usage` and `pools` that counts open sessions."""


@dataclass(slots=True)
class FoldState:
    """Where the fold stands between two stretches. `position` is a log position; what follows it is still to come."""

    position: int = 0
    offset_ns: int = 0
    """Wall time minus ledger time, by the last mark."""
    now_ns: int = 0
    """Wall time of the last event."""
    second: int = 0
    single_left: int = EVENTS_SINGLE_MAX
    """How many events of this second may still be kept one by one."""
    generation: int = 0
    """Of the last run that started; 0 before the first."""
    is_running: bool = False
    last_position: int = -1
    """Where the last event began, and its header in hexadecimal: by this another log is told from this one."""
    last_header: str = ""

    def as_facts(self) -> dict[str, object]:
        """For the database."""
        return asdict(self)


@dataclass(slots=True)
class PoolUse:
    """A pool, and how many of its seats are charged since when."""

    pool: int
    product: int = -1
    terms: str = ""
    is_emulated: bool = False
    seats_used: int = 0
    capacity: int = 0
    deficit: int = 0
    since_ns: int = 0
    row: list[int] | None = None
    """Of `Changes.usage` for the minute that the fold is in, once the pool has changed in it."""

    @staticmethod
    def of_row(row: Row) -> PoolUse:
        """What `as_row` gave."""
        pool, product, terms, is_emulated, seats_used, capacity, deficit, since_ns = row
        return PoolUse(pool, product, terms, bool(is_emulated), seats_used, capacity, deficit, since_ns)

    def as_row(self) -> Row:
        """In the order of the table's columns."""
        return (
            self.pool, self.product, self.terms, int(self.is_emulated), self.seats_used, self.capacity, self.deficit, self.since_ns,
        )  # fmt: skip


Handler = Callable[[int, bytes, int, tuple[int, ...]], None]


class Fold:
    """Goes on from a state and its pools."""

    def __init__(self, state: FoldState | None = None, pools: list[PoolUse] | None = None) -> None:
        self.state = state or FoldState()
        self.pools = {pool.pool: pool for pool in pools or []}
        self.pools.setdefault(SESSIONS_POOL, PoolUse(SESSIONS_POOL))
        self._changes = Changes()
        self._changed: set[int] = set()
        self._ledger_ns: int | None = None
        self._minute = self.state.now_ns // MINUTE_NS
        self._tally: dict[tuple[int, int, int], int] = {}
        self._minute_row = [0, 0, 0]
        self._is_single = True
        self._handlers: dict[int, Handler] = {
            raw.SESSION_OPENED: self._opened,
            raw.SESSION_ENDED: self._ended,
            raw.LEASE_STARTED: self._lease_started,
            raw.LEASE_ENDED: self._lease_ended,
            raw.CHARGE_FREED: self._charge_freed,
            raw.CAPACITY_CHANGED: self._capacity_changed,
            raw.PRODUCT_DECLARED: self._product_declared,
            raw.POOL_DECLARED: self._pool_declared,
            raw.WALL_CLOCK: self._wall_clock,
            raw.RUN_ENDED: self._run_ended,
        }

    # --- the stretch -----------------------------------------------------------------------------------------------------

    @property
    def event_count(self) -> int:
        """Events taken since the last changes were given."""
        return self._changes.event_count

    def take(self, position: int, data: bytes) -> None:
        """Whole events that begin at a log position, which must be the state's."""
        assert position == self.state.position, "events are taken in their order, without a hole"
        unpack, start, end = raw.HEADER.unpack_from, 0, len(data)
        handlers, bookkeeping, count, last = self._handlers, raw.BOOKKEEPING, 0, -1
        while start < end:
            header = unpack(data, start)
            kind = header[1]
            if header[5] != self._ledger_ns:
                self._pass(header[5])
            if kind == raw.RUN_STARTED:
                self._run_started(position + start, data, start, header)
            if kind not in bookkeeping:
                self._tell(position + start, header)
            handler = handlers.get(kind)
            if handler is not None:
                handler(position + start, data, start, header)
            last = start
            start += header[0]
            count += 1
        if count:
            self.state.last_position, self.state.last_header = position + last, data[last : last + raw.HEADER.size].hex()
        self._changes.event_count += count
        self.state.position = position + end

    def changes(self) -> Changes:
        """What changed since the last call; belongs to the state as it is now."""
        self._flush_minute()
        for pool in self.pools.values():
            pool.row = None
        changes = self._changes
        changes.pools = [self.pools[number].as_row() for number in sorted(self._changed)]
        self._changes, self._changed = Changes(), set()
        return changes

    def record_gap(self, until_position: int) -> None:
        """Events from here to there are gone for good."""
        self._changes.gaps.append((self.state.position, until_position, self.state.now_ns))

    def begin_at(self, position: int, offset_ns: int, ledger: LedgerState | None) -> None:
        """Goes on from a position that does not follow the last one, with the ledger as it was there. If that is not known, what is charged
        counts from 0, and never below it, until the charges of that time are over."""
        state = self.state
        state.position, state.offset_ns = position, offset_ns
        state.last_position, state.last_header, state.is_running = -1, "", True
        self._ledger_ns = None
        for pool in self.pools.values():
            pool.seats_used = 0
            self._changed.add(pool.pool)
        if ledger is not None:
            self._take_over(ledger)

    def _take_over(self, ledger: LedgerState) -> None:
        state, changes = self.state, self._changes
        self._pass(ledger.time_ns)
        changes.products.extend(ledger.products)
        for number, product, terms, is_emulated in ledger.pools:
            pool = self.pools.setdefault(number, PoolUse(number))
            pool.product, pool.terms, pool.is_emulated = product, terms, is_emulated
            pool.seats_used = ledger.seats_used.get(number, 0)
            self._changed.add(number)
        self.pools[SESSIONS_POOL].seats_used = len(ledger.sessions)
        for pool in self.pools.values():
            pool.since_ns, pool.row = state.now_ns, None
        if ledger.generation != state.generation:
            changes.runs.append((ledger.generation, state.position, state.now_ns, None, None))
        state.generation, state.is_running = ledger.generation, ledger.is_running

    def _tell(self, position: int, header: tuple[int, ...]) -> None:
        """Counts an event, and keeps it if it is one of the first of its second."""
        _, kind, reason, _, _, _, fence, charge, pool, product, seats, deficit, _ = header
        row = self._minute_row
        if not row[1]:
            row[0] = position
        row[1] += 1
        what = (kind, product, reason)
        self._tally[what] = self._tally.get(what, 0) + (seats if kind == raw.DENIED else 1)
        state = self.state
        if state.single_left > 0:
            state.single_left -= 1
            self._is_single = True
            row[2] += 1
            if kind != raw.CAPACITY_CHANGED:
                deficit = 0  # of what names a session it is where that session's record is
            self._changes.events.append((position, state.now_ns, kind, reason, fence, charge, pool, product, seats, deficit))
        else:
            self._is_single = False

    # --- time ---------------------------------------------------------------------------------------------------------------

    def _pass(self, ledger_ns: int) -> None:
        self._ledger_ns = ledger_ns
        self._go_to(ledger_ns + self.state.offset_ns)

    def _go_to(self, wall_ns: int) -> None:
        state = self.state
        if wall_ns < state.now_ns - STEP_BACK_NS or wall_ns > state.now_ns:
            state.now_ns = wall_ns
        minute = state.now_ns // MINUTE_NS
        if minute != self._minute:
            self._flush_minute()
            self._minute = minute
            for pool in self.pools.values():
                self._carry(pool)
                pool.row = None
        second = state.now_ns // SECOND_NS
        if second != state.second:
            state.second, state.single_left = second, EVENTS_SINGLE_MAX

    def _flush_minute(self) -> None:
        changes, minute = self._changes, self._minute
        for (kind, product, reason), count in self._tally.items():
            where = (minute, kind, product, reason)
            changes.counts[where] = changes.counts.get(where, 0) + count
        if self._minute_row[1]:
            row = changes.minutes.setdefault(minute, [self._minute_row[0], 0, 0])
            row[1] += self._minute_row[1]
            row[2] += self._minute_row[2]
        self._tally, self._minute_row = {}, [0, 0, 0]

    # --- usage ---------------------------------------------------------------------------------------------------------------

    def _carry(self, pool: PoolUse) -> None:
        """Adds up what the pool's seats were used for since they were last looked at."""
        now_ns, since_ns = self.state.now_ns, pool.since_ns
        if since_ns == now_ns:
            return
        self._changed.add(pool.pool)
        pool.since_ns = now_ns
        if not (pool.seats_used and self.state.is_running and 0 < now_ns - since_ns <= UNCOUNTED_NS):
            return
        while since_ns < now_ns:
            minute = since_ns // MINUTE_NS
            end_ns = min(now_ns, (minute + 1) * MINUTE_NS)
            self._use(minute, pool, end_ns - since_ns)
            since_ns = end_ns

    def _use(self, minute: int, pool: PoolUse, span_ns: int) -> list[int]:
        row = self._changes.usage.get((minute, pool.pool))
        if row is None:
            row = self._changes.usage[minute, pool.pool] = [0, 0]
        if pool.seats_used > row[0]:
            row[0] = pool.seats_used
        row[1] += pool.seats_used * span_ns
        return row

    def _charge(self, number: int, product: int, seats: int) -> None:
        """Seats taken (or given back, below 0). While the minute lasts the pool has its row at hand."""
        now_ns = self.state.now_ns
        pool = self.pools.get(number)
        if pool is None:
            pool = self.pools[number] = PoolUse(number, product, since_ns=now_ns)
        row, used = pool.row, pool.seats_used
        if row is None:
            self._carry(pool)
            self._changed.add(number)
            row = pool.row = self._use(self._minute, pool, 0)
        elif pool.since_ns < now_ns:
            row[1] += used * (now_ns - pool.since_ns)
            pool.since_ns = now_ns
        used += seats
        pool.seats_used = used if used > 0 else 0
        if used > row[0]:
            row[0] = used

    def _begin_counting(self) -> None:
        """A broker starts: before this nobody ran, and what was charged was not in use."""
        for pool in self.pools.values():
            pool.since_ns, pool.row = self.state.now_ns, None
            pool.capacity = pool.deficit = 0  # until keys have proven themselves again
            self._changed.add(pool.pool)

    # --- events -----------------------------------------------------------------------------------------------------------

    def _opened(self, position: int, data: bytes, start: int, header: tuple[int, ...]) -> None:
        self._charge(SESSIONS_POOL, -1, 1)
        if self._is_single:
            texts = [text.decode(errors="replace") for text in raw.opened_texts(data, start)]
            self._changes.sessions[header[6]] = [header[6], *texts, self.state.now_ns, None, 0, position]

    def _ended(self, _position: int, _data: bytes, _start: int, header: tuple[int, ...]) -> None:
        self._charge(SESSIONS_POOL, -1, -1)
        row = self._changes.sessions.get(header[6])
        if row is None:
            self._changes.session_ends.append((header[6], self.state.now_ns, header[2]))
        else:
            row[8], row[9] = self.state.now_ns, header[2]

    def _lease_started(self, position: int, _data: bytes, _start: int, header: tuple[int, ...]) -> None:
        _, _, _, _, _, _, fence, charge, number, product, seats, _, _ = header
        if seats:
            self._charge(number, product, seats)
        if self._is_single:
            leases = self._changes.leases
            if (fence, product) in leases:
                self._changes.leases_before.append(leases[fence, product])
            leases[fence, product] = [fence, product, position, number, charge, seats, self.state.now_ns, None, 0]

    def _lease_ended(self, _position: int, _data: bytes, _start: int, header: tuple[int, ...]) -> None:
        fence, product = header[6], header[9]
        row = self._changes.leases.get((fence, product))
        if row is None:
            self._changes.lease_ends.setdefault((fence, product), (self.state.now_ns, header[2]))
        elif row[7] is None:
            row[7], row[8] = self.state.now_ns, header[2]

    def _charge_freed(self, _position: int, _data: bytes, _start: int, header: tuple[int, ...]) -> None:
        self._charge(header[8], header[9], -header[10])

    def _capacity_changed(self, position: int, _data: bytes, _start: int, header: tuple[int, ...]) -> None:
        number, product, capacity, deficit = header[8:12]
        pool = self.pools.get(number)
        if pool is None:
            pool = self.pools[number] = PoolUse(number, product, since_ns=self.state.now_ns)
        pool.capacity, pool.deficit = capacity, deficit
        self._changed.add(number)
        self._changes.capacity.append((position, self.state.now_ns, number, product, capacity, deficit, header[2]))

    def _product_declared(self, _position: int, data: bytes, start: int, header: tuple[int, ...]) -> None:
        self._changes.products.append((header[9], raw.product_name(data, start)))

    def _pool_declared(self, _position: int, data: bytes, start: int, header: tuple[int, ...]) -> None:
        number = header[8]
        pool = self.pools.get(number)
        if pool is None:
            pool = self.pools[number] = PoolUse(number, since_ns=self.state.now_ns)
        pool.product = header[9]
        pool.terms, pool.is_emulated = raw.pool_terms(data, start)
        self._changed.add(number)

    # --- runs ---------------------------------------------------------------------------------------------------------------

    def _wall_clock(self, _position: int, data: bytes, start: int, header: tuple[int, ...]) -> None:
        self._mark(raw.wall_ns(data, start), header[5])

    def _mark(self, wall_ns: int, ledger_ns: int) -> None:
        self.state.offset_ns = wall_ns - ledger_ns
        self._go_to(wall_ns)
        for pool in self.pools.values():
            self._carry(pool)

    def _run_started(self, position: int, data: bytes, start: int, header: tuple[int, ...]) -> None:
        state = self.state
        if state.is_running:
            for pool in self.pools.values():
                self._carry(pool)
            self._changes.run_ends.append((state.generation, state.now_ns, 0))
        state.is_running = False
        wall_ns = raw.wall_ns(data, start)
        state.offset_ns = wall_ns - header[5]
        self._go_to(wall_ns)
        self._begin_counting()
        state.generation, state.is_running = raw.generation(data, start), True
        self._changes.runs.append((state.generation, position, state.now_ns, None, None))

    def _run_ended(self, _position: int, _data: bytes, _start: int, _header: tuple[int, ...]) -> None:
        state = self.state
        for pool in self.pools.values():
            self._carry(pool)
        self._changes.run_ends.append((state.generation, state.now_ns, 1))
        state.is_running = False
