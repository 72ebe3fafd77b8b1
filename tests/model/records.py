"""The records of the ledger model: sources, pools, charges, leases, sessions, remembered requests.

Mutable, compared by identity, linked with plain references. All instants are nanoseconds: `_until_ns` of a source in
raw time (a stopped process proves nothing), all others in ledger time. For tests only, one thread.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from broker.model.answers import DenialView
from broker.model.terms import PoolTerms
from broker.model.words import DenialReason, EndReason, Sharing, Status


class Holder(NamedTuple):
    """Who a session says it is; all six parts make the name of an instance."""

    user: bytes
    host: bytes
    app: bytes
    label: bytes
    instance_id: bytes
    identity: bytes

    def request_scope(self) -> Hashable:
        """Within what a request_id of an Open is unique: the identity, else the holder without its instance."""
        return self.identity or (self.user, self.host, self.app, self.label)


class SourceState(Enum):
    """What a source gives: its seats, its key grace, or nothing."""

    ABSENT = 0
    PROVEN = 1
    LAPSED = 2


@dataclass(slots=True, eq=False)
class Source:
    """One licence on one present key: seats of one pool until proven_until_ns, key grace until grace_until_ns."""

    pool: Pool
    state: SourceState = SourceState.ABSENT
    seats: int = 0
    proven_until_ns: int = 0
    grace_until_ns: int = 0
    cause: EndReason = EndReason.KEY_LOST


@dataclass(slots=True, eq=False)
class DenialCount:
    """The denials of one product in the second in which the last one came (semantics rule 27)."""

    product: int
    second: int = 0
    single_count: int = 0
    pending_count: int = 0
    last_reason: DenialReason = DenialReason.NONE


@dataclass(slots=True, eq=False)
class Product:
    """One product and its counters since the start."""

    index: int
    name: str
    denials: DenialCount
    lease_total: int = 0
    denial_totals: list[int] = field(default_factory=lambda: [0] * 16)
    end_totals: list[int] = field(default_factory=lambda: [0] * 13)


@dataclass(slots=True, eq=False)
class Pool:
    """The seats of one product under equal terms."""

    number: int
    product: Product
    terms: PoolTerms
    is_emulated: bool
    is_starting: bool = False
    charges: list[Charge] = field(default_factory=list)
    roomy: dict[Hashable, list[Charge]] = field(default_factory=dict)
    """Per sharing group: charges with room for one more lease, in the order in which they gained room."""
    key_grace: list[Charge] = field(default_factory=list)
    """A prefix of charges_by_rank()."""
    loss_cause: EndReason = EndReason.KEY_LOST
    in_use_peak: int = 0
    charge_total: int = 0

    @property
    def in_use(self) -> int:
        """Seats of all its charges, active and lingering."""
        return self.terms.weight * len(self.charges)

    @property
    def share_max(self) -> int:
        """Leases on one charge, 0 for any number: sharing by session is sharing with nobody."""
        return 1 if self.terms.sharing is Sharing.SESSION else self.terms.share_max

    def charges_by_rank(self) -> list[Charge]:
        """Who goes into key grace first: lowest priority, then newest."""
        return sorted(self.charges, key=lambda charge: (charge.priority, -charge.fence))


@dataclass(slots=True, eq=False)
class Charge:
    """The seats taken by one sharing group; `leases` in the order in which they were added; lingering without any."""

    fence: int
    pool: Pool
    group: Hashable
    priority: int
    granted_ns: int
    leases: list[Lease] = field(default_factory=list)
    free_at_ns: int | None = None
    """When a lingering charge is freed; None while a lease stands on it."""

    def has_room(self) -> bool:
        return self.pool.share_max == 0 or len(self.leases) < self.pool.share_max


@dataclass(slots=True, eq=False)
class Lease:
    """One session's use of one product. An ended one stays as a record until its session has heard of it."""

    session: Session
    pool: Pool
    charge: Charge
    end_reason: EndReason = EndReason.NONE
    changed_version: int = 0

    @property
    def is_active(self) -> bool:
        return self.end_reason is EndReason.NONE


@dataclass(slots=True, eq=False)
class Session:
    """One client's presence; `leases` in session order, ended records included. `fence` is 0 before it is granted."""

    fence: int
    holder: Holder
    priority: int
    opened_ns: int
    ttl_ns: int
    deadline_ns: int
    change_version: int = 1
    leases: list[Lease] = field(default_factory=list)
    end_reason: EndReason = EndReason.NONE

    @property
    def is_live(self) -> bool:
        return self.end_reason is EndReason.NONE

    def group(self, sharing: Sharing) -> Hashable:
        """With whom it stands on one charge."""
        groups: dict[Sharing, Hashable] = {
            Sharing.SESSION: self.fence,
            Sharing.USER: self.holder.user,
            Sharing.HOST: self.holder.host,
            Sharing.USER_HOST: (self.holder.user, self.holder.host),
        }
        return groups[sharing]

    def active_leases(self) -> list[Lease]:
        return [lease for lease in self.leases if lease.is_active]

    def lease_of(self, product: Product | None) -> Lease | None:
        """Its active lease on a product; there is at most one."""
        for lease in self.leases:
            if lease.is_active and lease.pool.product is product:
                return lease
        return None


@dataclass(slots=True, eq=False)
class Remembered:
    """A request that was answered: what it was, and what is needed to give the answer again."""

    scope: Hashable
    """Within what its request_id is unique."""
    request_id: bytes
    fingerprint: Hashable
    status: Status
    session: Session | None = None
    denial: DenialView | None = None
    product_names: tuple[str, ...] = ()
    detail: int = 0
    forget_at_ns: int | None = None
    """None while the session that it opened lives."""

    @property
    def name(self) -> Hashable:
        return self.scope, self.request_id
