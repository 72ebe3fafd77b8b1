"""The demand side of the ledger model: who stands on which charge, what is freed when, and who is in key grace.

`decide` is pure: it says what one product would cost one session. `give` does what was decided. A charge ends with its
last lease, after lingering if its terms say so. The key-grace set of a pool is a prefix of its charges by rank;
it is moved toward its target one charge at a time, by `advance` only, save that a freed charge takes one with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from broker.model.answers import DenialView, LeaseView
from broker.model.words import DenialReason, EndReason, EventKind, LeaseState
from tests.model.capacity import Capacity
from tests.model.clock import Clock
from tests.model.event_log import EventLog
from tests.model.records import Charge, Lease, Pool, Product, Session

SECOND_NS = 1_000_000_000
RETRY_AFTER_NS = {
    DenialReason.KEYS_STARTING: 1 * SECOND_NS,
    DenialReason.DEFICIT: 5 * SECOND_NS,
    DenialReason.NO_FREE_SEATS: 5 * SECOND_NS,
}


@dataclass(frozen=True, slots=True)
class Hold:
    """The session has it already."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Move:
    """The superseded session has it: its place on the charge is taken over."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Join:
    """The sharing group has a charge with room."""

    charge: Charge


@dataclass(frozen=True, slots=True)
class New:
    """A new charge of a pool."""

    pool: Pool


Decision = Hold | Move | Join | New | DenialView


class Charges:
    """All charges of all pools."""

    def __init__(self, clock: Clock, log: EventLog, capacity: Capacity, generation: int) -> None:
        self._clock = clock
        self._log = log
        self._capacity = capacity
        self._generation = generation
        self._fence_count = 0
        self.learning_until_ns = 0
        """Ledger time; until then nothing new is charged."""

    def restart(self, generation: int) -> None:
        """Fences of a new generation."""
        self._generation = generation
        self._fence_count = 0
        self.learning_until_ns = 0

    def next_fence(self) -> int:
        """The number that orders sessions and charges alike."""
        self._fence_count += 1
        return self._generation << 40 | self._fence_count

    def count(self) -> int:
        return sum(len(pool.charges) for pool in self._capacity.pools)

    def lingering(self) -> list[Charge]:
        return [
            charge
            for pool in self._capacity.pools
            for charge in pool.charges
            if charge.free_at_ns is not None
        ]

    # --- deciding ------------------------------------------------------------------------------------------
    def decide(self, name: str, session: Session, old: Session | None) -> Decision:
        """What one product would cost; `session` may not exist yet, `old` is the one that it would supersede."""
        product = self._capacity.find_product(name)
        if product is None:
            return _denial(DenialReason.UNKNOWN_PRODUCT, name, 0, 0, 0)
        if held := session.lease_of(product):
            return Hold(held)
        if old is not None and (taken_over := old.lease_of(product)):
            return Move(taken_over)
        pools = self._capacity.pools_of(product)
        for pool in pools:
            if roomy := _roomy(pool, session.group(pool.terms.sharing)):
                return Join(roomy[-1])
        for pool in pools:
            if self._has_free_seats(pool) and not self._is_learning():
                return New(pool)
        return self._why_denied(product, pools)

    def _is_learning(self) -> bool:
        return self._clock.ledger_ns < self.learning_until_ns

    def _has_free_seats(self, pool: Pool) -> bool:
        free = self._capacity.seats(pool) - pool.in_use
        return self._capacity.deficit(pool) == 0 and free >= pool.terms.weight

    def _why_denied(self, product: Product, pools: list[Pool]) -> DenialView:
        capacity = sum(self._capacity.seats(pool) for pool in pools)
        in_use = sum(pool.in_use for pool in pools)
        deficit = sum(self._capacity.deficit(pool) for pool in pools)
        if any(pool.is_starting for pool in pools):
            reason = DenialReason.KEYS_STARTING
        elif deficit > 0:
            reason = DenialReason.DEFICIT
        elif self._is_learning() and any(self._has_free_seats(pool) for pool in pools):
            rest_ns = self.learning_until_ns - self._clock.ledger_ns
            return _denial(DenialReason.LEARNING, product.name, capacity, in_use, deficit, rest_ns)
        elif capacity == 0:
            reason = DenialReason.NO_CAPACITY
        else:
            reason = DenialReason.NO_FREE_SEATS
        return _denial(reason, product.name, capacity, in_use, deficit, RETRY_AFTER_NS.get(reason, 0))

    # --- giving --------------------------------------------------------------------------------------------
    def give(self, session: Session, decision: Hold | Move | Join | New) -> LeaseView:
        """Does what was decided and shows the lease as its new holder sees it."""
        match decision:
            case Hold(lease):
                return self.view(lease)
            case Move(lease):
                return self.view(self._move(session, lease), is_shared=False)
            case Join(charge):
                return self.view(self._join(session, charge), is_shared=True)
            case New(pool):
                return self.view(self._take(session, pool), is_shared=False)

    def _move(self, session: Session, old_lease: Lease) -> Lease:
        charge = old_lease.charge
        lease = Lease(session, charge.pool, charge)
        charge.leases[charge.leases.index(old_lease)] = lease
        charge.group = session.group(charge.pool.terms.sharing)
        old_lease.session.leases.remove(old_lease)
        self._tell_charge(EventKind.CHARGE_MOVED, charge, fence=session.fence)
        self._start(lease, seats=0)
        return lease

    def _join(self, session: Session, charge: Charge) -> Lease:
        if charge.free_at_ns is not None:
            charge.free_at_ns = None
            self._tell_charge(EventKind.CHARGE_MOVED, charge, fence=session.fence)
        lease = Lease(session, charge.pool, charge)
        charge.leases.append(lease)
        if not charge.has_room():
            _roomy(charge.pool, charge.group).remove(charge)
        self._start(lease, seats=0)
        return lease

    def _take(self, session: Session, pool: Pool) -> Lease:
        group = session.group(pool.terms.sharing)
        charge = Charge(self.next_fence(), pool, group, session.priority, self._clock.ledger_ns)
        lease = Lease(session, pool, charge)
        charge.leases.append(lease)
        pool.charges.append(charge)
        pool.charge_total += 1
        pool.in_use_peak = max(pool.in_use_peak, pool.in_use)
        if charge.has_room():
            _roomy(pool, group).append(charge)
        self._start(lease, seats=pool.terms.weight)
        return lease

    def _start(self, lease: Lease, seats: int) -> None:
        lease.pool.product.lease_total += 1
        lease.session.leases.append(lease)
        fence, charge = lease.session.fence, lease.charge
        self._log.add(EventKind.LEASE_STARTED, fence=fence, charge=charge, pool=lease.pool, seats=seats)

    def view(self, lease: Lease, is_shared: bool | None = None) -> LeaseView:
        """The lease as its holder sees it; is_shared None: whether others stand on the charge now."""
        pool = lease.pool
        name, is_emulated, number = pool.product.name, pool.is_emulated, pool.number
        if not lease.is_active:
            return LeaseView(name, LeaseState.ENDED, lease.end_reason, 0, False, is_emulated, 0, number, 0)
        if is_shared is None:
            is_shared = len(lease.charge.leases) > 1
        state, key_grace_ns = LeaseState.ACTIVE, 0
        if lease.charge in pool.key_grace:
            state, key_grace_ns = LeaseState.KEY_GRACE, self._capacity.key_grace_ns(pool)
        seats, fence = pool.terms.weight, lease.charge.fence
        return LeaseView(
            name, state, EndReason.NONE, seats, is_shared, is_emulated, fence, number, key_grace_ns
        )

    # --- ending --------------------------------------------------------------------------------------------
    def end(self, lease: Lease, reason: EndReason) -> None:
        """Ends one lease; the caller decides what becomes of its record. The last one of a charge lets it go."""
        charge = lease.charge
        lease.end_reason = reason
        lease.pool.product.end_totals[reason] += 1
        self._log.add(
            EventKind.LEASE_ENDED, fence=lease.session.fence, charge=charge, pool=lease.pool, reason=reason
        )
        had_room = charge.has_room()
        charge.leases.remove(lease)
        if not charge.leases and not self._lingers(charge, reason):
            self.free(charge, reason)
        elif not had_room:
            _roomy(charge.pool, charge.group).append(charge)

    def _lingers(self, charge: Charge, reason: EndReason) -> bool:
        terms, now_ns = charge.pool.terms, self._clock.ledger_ns
        free_at_ns = max(now_ns + terms.linger_ns, charge.granted_ns + terms.min_hold_ns)
        if reason not in (EndReason.CLOSED, EndReason.EXPIRED) or free_at_ns <= now_ns:
            return False
        charge.free_at_ns = free_at_ns
        self._tell_charge(EventKind.CHARGE_LINGERS, charge)
        return True

    def free(self, charge: Charge, reason: EndReason) -> None:
        """Gives its seats back to the pool, or to the deficit."""
        pool = charge.pool
        pool.charges.remove(charge)
        roomy = _roomy(pool, charge.group)
        if charge in roomy:
            roomy.remove(charge)
        self._tell_charge(EventKind.CHARGE_FREED, charge, reason=reason)
        if charge in pool.key_grace:
            pool.key_grace.remove(charge)
        if self._capacity.deficit(pool) == 0:
            self._capacity.heal(pool)
        elif len(pool.key_grace) > self._key_grace_target(pool):
            self._leave_key_grace(pool)

    def _tell_charge(
        self, kind: EventKind, charge: Charge, fence: int = 0, reason: EndReason = EndReason.NONE
    ) -> None:
        seats = charge.pool.terms.weight
        self._log.add(kind, fence=fence, charge=charge, pool=charge.pool, seats=seats, reason=reason)

    # --- losses of capacity, in steps ----------------------------------------------------------------------
    def is_over(self, pool: Pool) -> bool:
        """Whether more is in use than key grace covers, and it is known that it is."""
        return not pool.is_starting and pool.in_use > self._capacity.seats(pool) + self._capacity.grace_seats(pool)

    def force_one(self, pool: Pool) -> None:
        """Ends one lease, or frees one lingering charge, of the lowest and newest; the session lives on."""
        victim = pool.charges_by_rank()[0]
        if not victim.leases:
            self.free(victim, pool.loss_cause)
            return
        lease = victim.leases[-1]
        lease.session.change_version += 1
        lease.changed_version = lease.session.change_version
        self.end(lease, pool.loss_cause)

    def is_unsettled(self, pool: Pool) -> bool:
        return not pool.is_starting and len(pool.key_grace) != self._key_grace_target(pool)

    def settle_one(self, pool: Pool) -> None:
        """Moves the key-grace set one charge toward its target."""
        if len(pool.key_grace) > self._key_grace_target(pool):
            self._leave_key_grace(pool)
        else:
            charge = pool.charges_by_rank()[len(pool.key_grace)]
            pool.key_grace.append(charge)
            self._tell_charge(EventKind.KEY_GRACE_STARTED, charge)

    def _key_grace_target(self, pool: Pool) -> int:
        """How many charges the deficit amounts to."""
        return -(-self._capacity.deficit(pool) // pool.terms.weight)

    def _leave_key_grace(self, pool: Pool) -> None:
        self._tell_charge(EventKind.KEY_GRACE_ENDED, pool.key_grace.pop())

    # --- for audits ----------------------------------------------------------------------------------------
    def leases(self) -> Iterator[Lease]:
        """All active leases."""
        for pool in self._capacity.pools:
            for charge in pool.charges:
                yield from charge.leases


def _roomy(pool: Pool, group: Hashable) -> list[Charge]:
    return pool.roomy.setdefault(group, [])


def _denial(reason: DenialReason, name: str, capacity: int, in_use: int, deficit: int, retry_after_ns: int = 0) -> DenialView:
    return DenialView(reason, name, capacity, in_use, 0, 0, deficit, 0, retry_after_ns)
