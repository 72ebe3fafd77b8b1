"""The ledger as plain Python: the specification that the compiled ledger is held against, command by command.

Dictionaries, lists and linear scans; nothing is kept that could be computed. It has the methods of `broker._ledger.Ledger`
(without batches, text arena and memory sizes) and gives equal `Answer`s and equal events; its views (readings.py) are
dictionaries of the same names. It reads no clock and no random source. A session id is here the bare fence: who holds the
model against the ledger translates. The parts: clock, event_log, capacity (supply), charges (demand), memory (retries).

Every command: first time passes (and with it sources), then the request is checked, then looked up, then room for its
worst case is asked for, then it is decided, then done. For tests only, one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from broker.model.answers import Answer, DenialView
from broker.model.events import HEADER_SIZE, Event
from broker.model.terms import PoolTerms
from broker.model.words import Bound, EndReason, EventKind, InvalidField, Status
from tests.model.bounds import Items, are_products_wrong, wrong_field
from tests.model.capacity import Capacity
from tests.model.charges import SECOND_NS, Charges, Decision
from tests.model.clock import Clock
from tests.model.denial_counts import DenialCounts
from tests.model.due import instants_of_ledger, instants_of_sources
from tests.model.event_log import REQUEST_SIZE, EventLog, NoEventRoom, opened_size, text_size
from tests.model.memory import Memory
from tests.model.records import Holder, Remembered, Session

MILLISECOND_NS = 1_000_000
TTL_NS_MIN = SECOND_NS
LEASE_COUNT_OF_SESSION_MAX = 32
ADVANCE_ITEM_COUNT_MAX = 256
NEVER_NS = 2**63 - 1

Due = Iterator[tuple[int, Callable[[], None]]]
"""What `advance` has to do: (bytes of events at worst, the deed)."""

_TOTALS = {
    Status.GRANTED: "opened_total",
    Status.DENIED: "denied_total",
    Status.RENEWED: "renewed_total",
    Status.ACQUIRED: "acquired_total",
    Status.RELEASED: "released_total",
    Status.NOT_FOUND: "not_found_total",
    Status.REQUEST_ID_REUSED: "reused_total",
    Status.INVALID: "invalid_total",
    Status.OVERLOADED: "overloaded_total",
    Status.EVENTS_FULL: "events_full_total",
    Status.DRAINING: "drained_total",
    Status.NOT_WRITABLE: "not_writable_total",
}


def session_id_of(fence: int) -> bytes:
    """The model's session ids are the fence and nothing secret."""
    return fence.to_bytes(32, "big")


def fence_of(session_id: bytes) -> int:
    """What no session has, for an id that is not genuine."""
    return int.from_bytes(session_id, "big")


class LedgerModel:
    """The truth about seats, slowly. The arguments are those of the ledger, without identity and secret."""

    def __init__(
        self,
        *,
        start_ns: int,
        generation: int = 1,
        ttl_ns: int = 60 * SECOND_NS,
        renew_grace_ns: int = 10 * SECOND_NS,
        request_window_ns: int = 120 * SECOND_NS,
        denial_window_ns: int = 10 * SECOND_NS,
        stall_ns: int = SECOND_NS,
        sessions_max: int = 1 << 20,
        leases_max: int = 1 << 22,
        charges_max: int = 1 << 22,
        requests_max: int = 1 << 22,
        denials_max: int = 1 << 20,
        event_ring_size: int = 1 << 24,
        is_lossy: bool = False,
    ) -> None:
        self._ttl_ns = ttl_ns
        self._renew_grace_ns = renew_grace_ns
        self._sessions_max = sessions_max
        self._leases_max = leases_max
        self._charges_max = charges_max
        self.clock = Clock(start_ns, stall_ns)
        self.log = EventLog(self.clock, event_ring_size, is_lossy)
        self.capacity = Capacity(self.clock, self.log)
        self.denial_counts = DenialCounts(self.clock, self.log, self.capacity)
        self.charges = Charges(self.clock, self.log, self.capacity, generation)
        self.memory = Memory(
            self.clock,
            window_ns=request_window_ns,
            denial_window_ns=denial_window_ns,
            requests_max=requests_max,
            denials_max=denials_max,
        )
        self.live: dict[int, Session] = {}
        """Sessions that have not ended, by fence; perhaps past their deadline."""
        self.totals = dict.fromkeys([*_TOTALS.values(), "replayed_total"], 0)
        self.ended_totals = [0] * 13
        self._is_admitting = True
        self._is_writable = True
        self.notes: dict[bytes, bytes] = {}
        self.wall_max_ns = 0

    # --- the control plane -----------------------------------------------------------------------------------
    def declare_product(self, product: str) -> int:
        return self.capacity.declare_product(product)

    def declare_pool(self, product: str, terms: PoolTerms, is_emulated: bool) -> int:
        return self.capacity.declare_pool(product, terms, is_emulated)

    def set_starting(self, now_ns: int, pool: int, is_starting: bool) -> None:
        self.pass_time(now_ns)
        self.capacity.pools[pool].is_starting = is_starting

    def set_admitting(self, now_ns: int, is_admitting: bool) -> None:
        """Whether new sessions are let in; repeated Opens are answered in any case."""
        self.pass_time(now_ns)
        self._is_admitting = is_admitting

    def set_writable(self, now_ns: int, is_writable: bool) -> None:
        """Whether the journal can be written; while not, nothing new is given."""
        self.pass_time(now_ns)
        self._is_writable = is_writable

    def set_learning(self, now_ns: int, until_ns: int) -> None:
        """Until then, in ledger time, nothing new is charged."""
        self.pass_time(now_ns)
        self.charges.learning_until_ns = until_ns - self.clock.skipped_ns

    def note(self, now_ns: int, name: bytes, value: bytes) -> None:
        self.pass_time(now_ns)
        size = text_size(len(name) + len(value))
        self.log.need_control(size)
        self.log.add(EventKind.NOTE, seats=len(name), deficit=len(value), size=size)
        self.notes.pop(name, None)
        self.notes |= {name: value} if value else {}

    def mark_wall(self, now_ns: int, wall_ns: int) -> None:
        self.pass_time(now_ns)
        self.log.need_control(HEADER_SIZE)
        self.log.add(EventKind.WALL_CLOCK)
        self.wall_max_ns = max(self.wall_max_ns, wall_ns)

    def end_run(self, now_ns: int) -> None:
        self.pass_time(now_ns)
        self.log.need_control(HEADER_SIZE)
        self.log.add(EventKind.RUN_ENDED)

    def prove_source(self, now_ns: int, source: int, pool: int, seats: int, proven_until_ns: int, grace_until_ns: int) -> None:
        self.pass_time(now_ns)
        self.capacity.prove(source, self.capacity.pools[pool], seats, proven_until_ns, grace_until_ns)

    def lose_source(self, now_ns: int, source: int, grace_until_ns: int, cause: EndReason) -> None:
        self.pass_time(now_ns)
        self.capacity.lose(source, grace_until_ns, cause)

    def pass_time(self, now_ns: int) -> None:
        """What every call does first that carries a time."""
        self.clock.update(now_ns)
        self.capacity.pass_sources()

    # --- client commands -------------------------------------------------------------------------------------
    def open(
        self,
        now_ns: int,
        *,
        request_id: bytes,
        user: bytes,
        host: bytes,
        products: Items,
        app: bytes = b"",
        label: bytes = b"",
        identity: bytes = b"",
        instance_id: bytes = b"",
        ttl_ns: int = 0,
        priority: int = 0,
        salt: bytes = b"",
    ) -> Answer:
        holder = Holder(user, host, app, label, instance_id, identity)
        fingerprint = ("open", holder, tuple(products), ttl_ns, priority, salt)
        asked = Remembered(holder.request_scope(), request_id, fingerprint, Status.GRANTED)
        return self._answer(now_ns, lambda: self._open(asked, holder, products, ttl_ns, priority))

    def renew(self, now_ns: int, session_id: bytes, change_version: int = 0) -> Answer:
        fence = fence_of(session_id)
        return self._answer(now_ns, lambda: self._renew(fence, change_version))

    def acquire(self, now_ns: int, session_id: bytes, request_id: bytes, products: Items, salt: bytes = b"") -> Answer:
        fence = fence_of(session_id)
        asked = Remembered(fence, request_id, ("acquire", tuple(products), salt), Status.ACQUIRED)
        return self._answer(now_ns, lambda: self._acquire(asked, fence, products))

    def release(self, now_ns: int, session_id: bytes, request_id: bytes, product: str) -> Answer:
        fence = fence_of(session_id)
        asked = Remembered(fence, request_id, ("release", product), Status.RELEASED)
        return self._answer(now_ns, lambda: self._release(asked, fence, product))

    def close(self, now_ns: int, session_id: bytes, request_id: bytes) -> Answer:
        fence = fence_of(session_id)
        asked = Remembered(fence, request_id, ("close",), Status.CLOSED)
        return self._answer(now_ns, lambda: self._close(asked, fence))

    def revoke(self, now_ns: int, fence: int, reason: EndReason = EndReason.REVOKED) -> bool:
        return self._answer(now_ns, lambda: self._revoke(fence, reason)).status is Status.ENDED

    def _answer(self, now_ns: int, command: Callable[[], Answer]) -> Answer:
        """One command: time, the deed, and the totals."""
        self.pass_time(now_ns)
        try:
            answer = command()
        except NoEventRoom:
            answer = Answer(Status.EVENTS_FULL)
        if answer.is_replayed:
            self.totals["replayed_total"] += 1
        elif answer.status in _TOTALS:
            self.totals[_TOTALS[answer.status]] += 1
        return answer

    # --- Open ------------------------------------------------------------------------------------------------
    def _open(self, asked: Remembered, holder: Holder, products: Items, ttl_ns: int, priority: int) -> Answer:
        wrong = wrong_field(holder, products, ttl_ns, priority)
        if wrong is not InvalidField.NONE:
            return Answer(Status.INVALID, detail=wrong)
        known = self.memory.find(asked.name)
        if known is not None:
            return self._replay(known, asked)
        if not self._is_admitting:
            return Answer(Status.DRAINING)
        if not self._is_writable:
            return Answer(Status.NOT_WRITABLE)
        bound = self._full_bound(is_open=True, item_count=len(products))
        if bound is not Bound.NONE:
            return Answer(Status.OVERLOADED, detail=bound)
        old = self._live_instance(holder)
        old_size = 0 if old is None else 3 * len(old.active_leases()) + 1
        self.log.need(opened_size(holder) + HEADER_SIZE * (2 * len(products) + old_size + 2))
        session = Session(0, holder, priority, self.clock.ledger_ns, self._ttl(ttl_ns), 0)
        decisions = [self.charges.decide(name, session, old) for name, _ in products]
        denial = _first_denial(decisions, products)
        if denial is not None:
            return self._deny(asked, denial)
        return self._grant(asked, session, old, decisions)

    def _grant(self, asked: Remembered, session: Session, old: Session | None, decisions: list[Decision]) -> Answer:
        session.fence = self.charges.next_fence()
        self._start_ttl(session)
        self.live[session.fence] = session
        asked.session = session
        self.memory.remember(asked)
        self.log.add(EventKind.SESSION_OPENED, fence=session.fence, holder=session.holder)
        leases = [self.charges.give(session, each) for each in decisions if not isinstance(each, DenialView)]
        if old is not None:
            self._end_now(old, EndReason.SUPERSEDED)
        return Answer(
            Status.GRANTED,
            session_id=session_id_of(session.fence),
            fence=session.fence,
            ttl_ns=session.ttl_ns,
            change_version=session.change_version,
            leases=tuple(leases),
            unavailable=tuple(each for each in decisions if isinstance(each, DenialView)),
        )

    def _ttl(self, asked_ns: int) -> int:
        """Not longer than the ledger's, at least a second, in whole milliseconds."""
        ttl_ns = min(asked_ns, self._ttl_ns) if asked_ns else self._ttl_ns
        return max(ttl_ns, TTL_NS_MIN) // MILLISECOND_NS * MILLISECOND_NS

    def _start_ttl(self, session: Session) -> None:
        session.deadline_ns = self.clock.ledger_ns + session.ttl_ns + self._renew_grace_ns

    def _live_instance(self, holder: Holder) -> Session | None:
        """The session that an Open of the same instance supersedes."""
        if not holder.instance_id:
            return None
        for session in self.live.values():
            if session.holder == holder:
                return self._live_session(session.fence)
        return None

    def _full_bound(self, *, is_open: bool, item_count: int) -> Bound:
        """The first bound that the worst case would break."""
        lease_count = sum(len(session.leases) for session in self.live.values())
        if not self.memory.has_room():
            return Bound.REMEMBERED_REQUESTS
        if is_open and len(self.live) >= self._sessions_max:
            return Bound.SESSIONS
        if lease_count + item_count > self._leases_max:
            return Bound.LEASES
        if self.charges.count() + item_count > self._charges_max:
            return Bound.CHARGES
        return Bound.NONE

    # --- denials ---------------------------------------------------------------------------------------------
    def _deny(self, asked: Remembered, denial: DenialView) -> Answer:
        asked.status = Status.DENIED
        asked.denial = denial
        self.memory.remember(asked)
        product = self.capacity.find_product(denial.product)
        if product is not None:
            product.denial_totals[denial.reason] += 1
        self.denial_counts.tell(self.capacity.unknown_denials if product is None else product.denials, denial.reason)
        return Answer(Status.DENIED, denial=denial)

    # --- Renew, Acquire, Release, Close ------------------------------------------------------------------------
    def _renew(self, fence: int, change_version: int) -> Answer:
        session = self._live_session(fence)
        if session is None:
            return self._not_found(fence)
        self._start_ttl(session)
        heard_version = min(change_version, session.change_version)
        self._acknowledge(session, heard_version)
        changed = [
            self.charges.view(lease)
            for lease in session.leases
            if (lease.charge in lease.pool.key_grace if lease.is_active else lease.changed_version > heard_version)
        ]
        return Answer(
            Status.RENEWED,
            fence=fence,
            ttl_ns=session.ttl_ns,
            change_version=session.change_version,
            leases=tuple(changed),
        )

    def _acknowledge(self, session: Session, heard_version: int) -> None:
        """Ends of which the holder has heard are forgotten, if there is room to say so."""
        kept = [lease for lease in session.leases if lease.is_active or lease.changed_version > heard_version]
        if len(kept) < len(session.leases) and self.log.has_room(HEADER_SIZE):
            session.leases = kept
            self.log.add(EventKind.LEASES_ACKNOWLEDGED, fence=session.fence)

    def _acquire(self, asked: Remembered, fence: int, products: Items) -> Answer:
        session = self._live_session(fence)
        if session is None:
            return self._not_found(fence)
        if are_products_wrong(products):
            return Answer(Status.INVALID, detail=InvalidField.PRODUCTS)
        known = self.memory.find(asked.name)
        if known is not None:
            return self._replay(known, asked)
        if not self._is_writable:
            return Answer(Status.NOT_WRITABLE)
        bound = self._full_bound(is_open=False, item_count=len(products))
        if bound is Bound.NONE and len(session.leases) + len(products) > LEASE_COUNT_OF_SESSION_MAX:
            bound = Bound.LEASES_OF_SESSION
        if bound is not Bound.NONE:
            return Answer(Status.OVERLOADED, detail=bound)
        self.log.need(HEADER_SIZE * (2 * len(products) + 2) + REQUEST_SIZE)
        decisions = [self.charges.decide(name, session, None) for name, _ in products]
        denial = _first_denial(decisions, products)
        if denial is not None:
            return self._deny(asked, denial)
        return self._add(asked, session, products, decisions)

    def _add(self, asked: Remembered, session: Session, products: Items, decisions: list[Decision]) -> Answer:
        leases = []
        for (name, _), decision in zip(products, decisions, strict=True):
            if isinstance(decision, DenialView):
                continue
            session.leases = [
                each for each in session.leases if each.is_active or each.pool.product.name != name
            ]
            leases.append(self.charges.give(session, decision))
        asked.session = session
        asked.product_names = tuple(name for name, _ in products)
        self.memory.remember(asked)
        self.log.add(EventKind.REQUEST_DONE, fence=session.fence, size=REQUEST_SIZE)
        return Answer(
            Status.ACQUIRED,
            fence=session.fence,
            change_version=session.change_version,
            leases=tuple(leases),
            unavailable=tuple(each for each in decisions if isinstance(each, DenialView)),
        )

    def _release(self, asked: Remembered, fence: int, name: str) -> Answer:
        session = self._live_session(fence)
        if session is None:
            return self._not_found(fence)
        known = self.memory.find(asked.name)
        if known is not None:
            return self._replay(known, asked)
        if not self.memory.has_room():
            return Answer(Status.OVERLOADED, detail=Bound.REMEMBERED_REQUESTS)
        self.log.need(HEADER_SIZE * 3 + REQUEST_SIZE)
        product = self.capacity.find_product(name)
        lease = None if product is None else session.lease_of(product)
        if lease is not None:
            self.charges.end(lease, EndReason.CLOSED)
            session.leases.remove(lease)
        asked.session = session
        asked.detail = 0 if lease is None else 1
        self.memory.remember(asked)
        self.log.add(EventKind.REQUEST_DONE, fence=fence, seats=asked.detail, size=REQUEST_SIZE)
        version = session.change_version
        return Answer(Status.RELEASED, fence=fence, change_version=version, detail=asked.detail)

    def _close(self, asked: Remembered, fence: int) -> Answer:
        session = self._live_session(fence)
        known = self.memory.find(asked.name)
        if session is None:
            if known is not None and known.fingerprint == asked.fingerprint:
                return self._replay(known, asked)
            return self._not_found(fence)
        if known is not None:
            return Answer(Status.REQUEST_ID_REUSED)
        self._end_session(session, EndReason.CLOSED)
        asked.session = session
        if self.memory.has_request_room():
            self.memory.remember(asked)
        return Answer(Status.CLOSED, fence=fence, end_reason=EndReason.CLOSED)

    def _revoke(self, fence: int, reason: EndReason) -> Answer:
        session = self._live_session(fence)
        if session is None:
            return Answer(Status.NONE)
        self._end_session(session, reason)
        return Answer(Status.ENDED)

    # --- retries -----------------------------------------------------------------------------------------------
    def _replay(self, known: Remembered, asked: Remembered) -> Answer:
        """The first answer again, with the numbers of now; nothing is taken or given."""
        if known.fingerprint != asked.fingerprint:
            return Answer(Status.REQUEST_ID_REUSED)
        if known.denial is not None:
            return Answer(Status.DENIED, denial=known.denial, is_replayed=True)
        session = known.session
        assert session is not None
        match known.status:
            case Status.GRANTED if self._live_session(session.fence) is None:
                return Answer(Status.ENDED, fence=session.fence, end_reason=session.end_reason, is_replayed=True)
            case Status.CLOSED:
                return Answer(Status.CLOSED, fence=session.fence, end_reason=EndReason.CLOSED, is_replayed=True)
        return self._replay_living(known, session)

    def _replay_living(self, known: Remembered, session: Session) -> Answer:
        held: list[str] = []
        if known.status is Status.GRANTED:
            held = [lease.pool.product.name for lease in session.active_leases()]
        elif known.status is Status.ACQUIRED:
            held = list(known.product_names)
        found = [session.lease_of(self.capacity.find_product(name)) for name in held]
        leases = tuple(self.charges.view(lease) for lease in found if lease is not None)
        is_open = known.status is Status.GRANTED
        left_ns = session.deadline_ns - self._renew_grace_ns - self.clock.ledger_ns
        return Answer(
            known.status,
            session_id=session_id_of(session.fence) if is_open else b"",
            fence=session.fence,
            ttl_ns=max(0, left_ns) if is_open else 0,
            change_version=session.change_version,
            is_replayed=True,
            leases=leases,
            detail=known.detail,
        )

    # --- ends --------------------------------------------------------------------------------------------------
    def _live_session(self, fence: int) -> Session | None:
        """Looking at a session past its deadline ends it."""
        session = self.live.get(fence)
        if session is not None and session.deadline_ns <= self.clock.ledger_ns:
            self._end_session(session, EndReason.EXPIRED)
            return None
        return session

    def _not_found(self, fence: int) -> Answer:
        return Answer(Status.NOT_FOUND, end_reason=self._known_end(fence))

    def _known_end(self, fence: int) -> EndReason:
        """How a session ended, while the Open that opened it or the Close that ended it is remembered."""
        for entry in self.memory.by_name.values():
            if entry.session is not None and entry.session.fence == fence and entry.status in (Status.GRANTED, Status.CLOSED):
                return entry.session.end_reason
        return EndReason.NONE

    def end_reason(self, now_ns: int, fence: int) -> EndReason:
        self.pass_time(now_ns)
        return self._known_end(fence)

    def _end_session(self, session: Session, reason: EndReason) -> None:
        self.log.need(_end_size(session))
        self._end_now(session, reason)

    def _end_now(self, session: Session, reason: EndReason) -> None:
        """All its leases in session order, then itself."""
        for lease in session.active_leases():
            self.charges.end(lease, reason)
        session.leases.clear()
        session.end_reason = reason
        del self.live[session.fence]
        self.ended_totals[reason] += 1
        self.memory.session_ended(session)
        self.log.add(EventKind.SESSION_ENDED, fence=session.fence, reason=reason)

    # --- time --------------------------------------------------------------------------------------------------
    def advance(self, now_ns: int, item_count_max: int = ADVANCE_ITEM_COUNT_MAX) -> bool:
        """Does what is due, in order, until so many items are done or the worst case of one finds no event room."""
        self.pass_time(now_ns)
        done_count = 0
        for worst_size, act in self._due():
            if not self.log.has_room(worst_size):
                break
            act()
            done_count += 1
            if done_count == item_count_max:
                break
        return done_count == item_count_max

    def _due(self) -> Due:
        yield from self._due_memories()
        yield from self._due_sessions()
        yield from self._due_lingering()
        yield from self._due_denial_counts()
        yield from self._due_losses()

    def _due_memories(self) -> Due:
        for line in (self.memory.requests_to_forget, self.memory.denials_to_forget):
            for entry in list(line):
                assert entry.forget_at_ns is not None
                if entry.forget_at_ns > self.clock.ledger_ns:
                    break
                yield 0, lambda entry=entry: self.memory.forget(entry)  # type: ignore[misc]

    def _due_sessions(self) -> Due:
        due = [each for each in self.live.values() if each.deadline_ns <= self.clock.ledger_ns]
        for session in sorted(due, key=lambda each: (each.deadline_ns, each.fence)):
            yield _end_size(session), lambda session=session: self._end_now(session, EndReason.EXPIRED)  # type: ignore[misc]

    def _due_lingering(self) -> Due:
        ends = [(charge.free_at_ns or 0, charge.fence, charge) for charge in self.charges.lingering()]
        for free_at_ns, _, charge in sorted(ends, key=lambda each: each[:2]):
            if free_at_ns <= self.clock.ledger_ns:
                yield 3 * HEADER_SIZE, lambda charge=charge: self.charges.free(charge, EndReason.NONE)  # type: ignore[misc]

    def _due_denial_counts(self) -> Due:
        for count in self.denial_counts.due():
            yield HEADER_SIZE, lambda count=count: self.denial_counts.tell_pending(count)  # type: ignore[misc]

    def _due_losses(self) -> Due:
        for pool in self.capacity.pools:
            while self.charges.is_over(pool):
                yield 3 * HEADER_SIZE, lambda pool=pool: self.charges.force_one(pool)  # type: ignore[misc]
            while self.charges.is_unsettled(pool):
                yield 3 * HEADER_SIZE, lambda pool=pool: self.charges.settle_one(pool)  # type: ignore[misc]

    def next_due_ns(self, now_ns: int) -> int:
        """When `advance` next has something to do, in raw time; now if at once."""
        self.pass_time(now_ns)
        if self.is_due():
            return self.clock.raw_ns
        sources, pending = self.capacity.sources.values(), self.denial_counts.pending()
        ends = [session.deadline_ns for session in self.live.values()]
        ends += [charge.free_at_ns or 0 for charge in self.charges.lingering()]
        instants = [*instants_of_sources(sources), *instants_of_ledger(self.clock, ends, self.memory, pending)]
        return min(instants, default=NEVER_NS)

    def is_due(self) -> bool:
        return next(self._due(), None) is not None

    # --- runs --------------------------------------------------------------------------------------------------
    def restart(self, now_ns: int, wall_ns: int, generation: int) -> None:
        """The process is gone, and another one has replayed all events: what no event told is as at a start."""
        ledger_ns = self.log.last_ns
        self.clock.restart(now_ns, ledger_ns)
        self.memory.restart(ledger_ns)
        self.capacity.restart()
        self.charges.restart(generation)
        for session in self.live.values():
            self._start_ttl(session)
        self.totals = dict.fromkeys(self.totals, 0)
        self.ended_totals = [0] * 13
        self._is_admitting = self._is_writable = True
        self.wall_max_ns = max(self.wall_max_ns, wall_ns)
        self.log.restart()
        self.log.add(EventKind.RUN_STARTED, seats=generation)

    # --- events ------------------------------------------------------------------------------------------------
    def drain(self, size_max: int = 1 << 40) -> list[Event]:
        """Whole events, oldest first, not more than size_max bytes of them."""
        return self.log.drain(size_max)


def _first_denial(decisions: list[Decision], products: Items) -> DenialView | None:
    for decision, (_, is_optional) in zip(decisions, products, strict=True):
        if isinstance(decision, DenialView) and not is_optional:
            return decision
    return None


def _end_size(session: Session) -> int:
    return HEADER_SIZE * (3 * len(session.active_leases()) + 1)
