"""Two auditors of a ledger who know nothing of its inside, and hold design section 4 against what they are told.

`ClientAuditor` knows what the clients and the owner of the keys know: commands and answers. `LogAuditor` knows what the
journal will know: events. What an auditor cannot know (whether a silent session is gone already, whether a forced end has
been) it does not count, so that it never accuses falsely. Instants are nanoseconds, kept from the operations alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from broker.model.answers import Answer, LeaseView
from broker.model.events import Event
from broker.model.words import EventKind, LeaseState, Status
from tests.ledger.operations import Operation, Settings


class Accusation(AssertionError):
    """The ledger broke a promise that can be seen from outside."""


def _demand(is_kept: bool, accusation: str) -> None:
    if not is_kept:
        raise Accusation(accusation)


@dataclass(slots=True)
class _Source:
    pool: int
    seats: int
    proven_until_ns: int
    grace_until_ns: int


@dataclass(slots=True)
class _Client:
    """One session as its client knows it."""

    fence: int
    instance: Hashable
    surely_until_ns: int = 0
    """In ledger time: before it the session has not expired."""
    leases: dict[str, LeaseView] = field(default_factory=dict)
    """By product."""


class ClientAuditor:
    """Never over-granted, exactly once, all or nothing, alive as long as promised: from commands and answers."""

    def __init__(self, settings: Settings) -> None:
        self._stall_ns = settings.arguments["stall_ns"]
        self._raw_ns = settings.arguments["start_ns"]
        self._stalled_ns = 0
        self._sources: dict[int, _Source] = {}
        self._staying: dict[int, int] = {}
        self._doubtful_up_to: dict[int, int] = {}
        """By pool: charges up to this fence may have been ended by force."""
        self._clients: dict[int, _Client] = {}
        self._fence_of_open: dict[int, int] = {}
        self._first_fences: dict[Hashable, int] = {}
        self._fence_max = 0

    def saw(self, operation: Operation, result: object) -> None:
        before_ns, told = self._raw_ns, operation.arguments
        if operation.carries_time:
            self.pass_time(operation.now_ns)
        if operation.name == "prove_source":
            proof = _Source(told["pool"], told["seats"], told["proven_until_ns"], told["grace_until_ns"])
            self._sources[told["source"]] = proof
        elif operation.name == "lose_source" and (source := self._sources.get(told["source"])):
            self._lose(source, told["grace_until_ns"])
        elif operation.name == "revoke" and result is True:
            self._gone(self._fence_of_open[operation.opened_by])
        elif operation.name == "restart":
            self._restart(operation.now_ns)
        if self._raw_ns != before_ns or operation.name in ("prove_source", "lose_source", "restart"):
            self._doubt_where_seats_went()
        if isinstance(result, Answer):
            self._saw_answer(operation, result)

    # --- capacity --------------------------------------------------------------------------------------------
    @property
    def _ledger_ns(self) -> int:
        return self._raw_ns - self._stalled_ns

    def pass_time(self, now_ns: int) -> None:
        """By an operation, or by a reading that carries a time."""
        step_ns = max(0, now_ns - self._raw_ns)
        self._raw_ns += step_ns
        if self._stall_ns and step_ns > self._stall_ns:
            self._stalled_ns += step_ns

    def _restart(self, now_ns: int) -> None:
        """Whoever had time left has at least as much again; no key has proven itself."""
        ledger_ns = self._ledger_ns
        self._raw_ns = now_ns
        self._stalled_ns = now_ns - ledger_ns
        self._sources.clear()

    def _lose(self, source: _Source, grace_until_ns: int) -> None:
        """One that is gone already, key grace and all, cannot be lost again."""
        if max(source.proven_until_ns, source.grace_until_ns) > self._raw_ns:
            source.proven_until_ns = self._raw_ns
            source.grace_until_ns = grace_until_ns

    def _capacity(self, pool: int) -> int:
        sources = self._sources.values()
        return sum(
            each.seats for each in sources if each.pool == pool and each.proven_until_ns > self._raw_ns
        )

    def _doubt_where_seats_went(self) -> None:
        """Where fewer seats may stay than before, charges may be ended by force, now or later; no client knows which."""
        staying: dict[int, int] = {}
        for source in self._sources.values():
            is_staying = max(source.proven_until_ns, source.grace_until_ns) > self._raw_ns
            staying[source.pool] = staying.get(source.pool, 0) + source.seats * is_staying
        for pool, seats in self._staying.items():
            if staying.get(pool, 0) < seats:
                self._doubtful_up_to[pool] = self._fence_max
        self._staying = staying

    def _surely_taken(self) -> dict[int, int]:
        """By pool: seats of charges under sessions that cannot have ended."""
        now_ns, doubtful_up_to = self._ledger_ns, self._doubtful_up_to
        certain = {
            lease.fence: lease
            for client in self._clients.values()
            if client.surely_until_ns > now_ns
            for lease in client.leases.values()
            if lease.fence > doubtful_up_to.get(lease.pool, 0)
        }
        taken: dict[int, int] = {}
        for lease in certain.values():
            taken[lease.pool] = taken.get(lease.pool, 0) + lease.seats
        return taken

    # --- answers ---------------------------------------------------------------------------------------------
    def _saw_answer(self, operation: Operation, answer: Answer) -> None:
        match answer.status:
            case Status.GRANTED | Status.ENDED if answer.is_replayed:
                first = self._first_fences.get(_request_name(operation))
                _demand(first == answer.fence, "a retry that names another session")
            case Status.GRANTED:
                self._saw_grant(operation, answer)
            case Status.RENEWED:
                self._saw_renewal(answer)
            case Status.ACQUIRED:
                self._saw_leases(operation, answer, self._living(answer.fence))
            case Status.RELEASED:
                held = self._living(answer.fence).leases
                held.pop(operation.arguments["product"], None)
            case Status.CLOSED:
                self._gone(answer.fence)
            case Status.NOT_FOUND if not operation.is_forged:
                self._saw_lost(operation)

    def _saw_grant(self, operation: Operation, answer: Answer) -> None:
        _demand(answer.fence > self._fence_max, "a fence that does not grow")
        told = operation.arguments
        instance = (*_scope(operation), told.get("identity"), told.get("instance_id"))
        if told.get("instance_id"):
            for other in [each for each in self._clients.values() if each.instance == instance]:
                self._gone(other.fence)
        name = _request_name(operation)
        first = self._first_fences.get(name)
        client = self._clients[answer.fence] = _Client(answer.fence, instance)
        living = first in self._clients and self._clients[first].surely_until_ns > self._ledger_ns
        _demand(not living, "one request_id opened two living sessions")
        self._first_fences[name] = self._fence_max = answer.fence
        self._fence_of_open[operation.number] = answer.fence
        client.surely_until_ns = self._ledger_ns + answer.ttl_ns
        self._saw_leases(operation, answer, client)

    def _saw_renewal(self, answer: Answer) -> None:
        client = self._living(answer.fence)
        client.surely_until_ns = self._ledger_ns + answer.ttl_ns
        for lease in answer.leases:
            if lease.state is LeaseState.ENDED:
                client.leases.pop(lease.product, None)

    def _saw_leases(self, operation: Operation, answer: Answer, client: _Client) -> None:
        named = {lease.product for lease in answer.leases}
        items = operation.arguments["products"]
        required = {name for name, is_optional in items if not is_optional}
        _demand(answer.is_replayed or required <= named, "a grant without all that is required")
        _demand(
            named | {each.product for each in answer.unavailable} <= {name for name, _ in items}, "a gift"
        )
        client.leases |= {lease.product: lease for lease in answer.leases}
        fresh = [lease for lease in answer.leases if lease.fence > self._fence_max]
        taken = self._surely_taken() if fresh else {}
        for lease in fresh:
            self._fence_max = max(self._fence_max, lease.fence)
            seats, capacity = taken.get(lease.pool, 0), self._capacity(lease.pool)
            _demand(seats <= capacity, f"a new charge makes {seats} of {capacity} seats of pool {lease.pool}")

    def _saw_lost(self, operation: Operation) -> None:
        client = self._clients.get(self._fence_of_open.get(operation.opened_by, 0))
        promised = client is not None and client.surely_until_ns > self._ledger_ns
        _demand(not promised, "a session was lost before its ttl was over")

    def _living(self, fence: int) -> _Client:
        _demand(fence in self._clients, "an answer for a session that is over")
        return self._clients[fence]

    def _gone(self, fence: int) -> None:
        self._clients.pop(fence, None)


def _scope(operation: Operation) -> tuple[bytes, ...]:
    told = operation.arguments
    return told["user"], told["host"], told.get("app", b""), told.get("label", b"")


def _request_name(operation: Operation) -> Hashable:
    return operation.arguments.get("identity") or _scope(operation), operation.arguments["request_id"]


@dataclass(slots=True)
class _Charge:
    pool: int
    seats: int
    lease_count: int = 0
    is_in_key_grace: bool = False


class LogAuditor:
    """Never over-granted and every end once: from the events alone, as the journal will have them.

    `has_all`: no event was dropped. Where one may have been, what a pool has is not known, and is not held against it.
    """

    def __init__(self) -> None:
        self._capacities: dict[int, int] = {}
        self._charges: dict[int, _Charge] = {}
        self._holders: dict[int, tuple[bytes, ...]] = {}
        self._lease_counts: dict[int, int] = {}
        """Both by fence of each open session."""
        self._sequence = 0
        self._time_ns = 0

    def saw(self, events: Iterable[Event], has_all: bool) -> None:
        for event in events:
            _demand(event.sequence == self._sequence + 1, "a sequence number left out")
            _demand(event.time_ns >= self._time_ns, "an event from before the last one")
            self._sequence, self._time_ns = event.sequence, event.time_ns
            self._saw(event, has_all)

    def _saw(self, event: Event, has_all: bool) -> None:
        match event.kind:
            case EventKind.RUN_STARTED:
                self._capacities.clear()
                for charge in self._charges.values():
                    charge.is_in_key_grace = False
            case EventKind.CAPACITY_CHANGED:
                self._capacities[event.pool] = event.seats
                in_use = self._in_use(event.pool)
                is_right = event.deficit == max(0, in_use - event.seats)
                _demand(is_right, f"a deficit of {event.deficit} with {in_use} of {event.seats} in use")
            case EventKind.SESSION_OPENED:
                _demand(event.fence not in self._holders, "a session opened twice")
                self._holders[event.fence] = _holder(event)
                self._lease_counts[event.fence] = 0
            case EventKind.SESSION_ENDED:
                left = self._lease_counts.pop(event.fence, None)
                del self._holders[event.fence]
                _demand(left == 0, f"a session ended with {left} leases")
            case EventKind.CHARGE_MOVED if self._charges[event.charge].lease_count:
                self._saw_take_over(event)
            case EventKind.LEASE_STARTED:
                self._saw_start(event, has_all)
            case EventKind.LEASE_ENDED:
                self._lease_counts[event.fence] -= 1
                self._charges[event.charge].lease_count -= 1
                _demand(self._charges[event.charge].lease_count >= 0, "a lease ended twice")
            case EventKind.CHARGE_LINGERS:
                _demand(self._charges[event.charge].lease_count == 0, "a charge lingers under a lease")
            case EventKind.CHARGE_FREED:
                _demand(self._charges.pop(event.charge).lease_count == 0, "a charge freed under a lease")
            case EventKind.KEY_GRACE_STARTED | EventKind.KEY_GRACE_ENDED:
                self._saw_key_grace(event, has_all)

    def _saw_take_over(self, event: Event) -> None:
        """The lease that leaves is of the one other session of the same instance."""
        mine = self._holders[event.fence]
        (old,) = (fence for fence, holder in self._holders.items() if holder == mine and fence != event.fence)
        self._lease_counts[old] -= 1
        self._charges[event.charge].lease_count -= 1

    def _saw_start(self, event: Event, has_all: bool) -> None:
        if event.seats:
            _demand(event.charge not in self._charges, "a charge taken twice")
            self._charges[event.charge] = _Charge(event.pool, event.seats)
            in_use, capacity = self._in_use(event.pool), self._capacities.get(event.pool, 0)
            is_right = in_use <= capacity or not has_all
            _demand(is_right, f"a new charge makes {in_use} of {capacity} seats of pool {event.pool}")
        self._charges[event.charge].lease_count += 1
        self._lease_counts[event.fence] += 1

    def _saw_key_grace(self, event: Event, has_all: bool) -> None:
        starts = event.kind is EventKind.KEY_GRACE_STARTED
        mine = [charge for charge in self._charges.values() if charge.pool == event.pool]
        concerned = (
            [self._charges[event.charge]] if event.charge else [each for each in mine if each.is_in_key_grace]
        )
        for charge in concerned:
            is_right = charge.is_in_key_grace is not starts or not has_all
            _demand(is_right, "key grace that started or ended twice")
            charge.is_in_key_grace = starts

    def _in_use(self, pool: int) -> int:
        return sum(charge.seats for charge in self._charges.values() if charge.pool == pool)


def _holder(event: Event) -> tuple[bytes, ...]:
    return event.user, event.host, event.app, event.label, event.instance_id, event.identity
