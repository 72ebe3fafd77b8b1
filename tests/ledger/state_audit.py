"""What must be true of a ledger's state whatever happened to it, read from its dump alone: for crashes, cuts and damaged logs.

`audit_state` knows the format (ext/ledger/state.pxi) and nothing of how a ledger works. It raises Accusation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.model.words import EventKind, Sharing, StateKind
from tests.ledger.audit import Accusation

_HEADER = struct.Struct("<IHBBQqQQiiiiQ")
_OPENED = struct.Struct("<6sBxIIQQQ")
_LEASE = struct.Struct("<IHBB")
_CHARGE = struct.Struct("<QQq")
_REQUEST = struct.Struct("<QQQB7x")
_POOL = struct.Struct("<BBBxIqq")
FLAG_ALONE = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One header, and what is behind it."""

    kind: int
    reason: int
    flags: int
    sequence: int
    time_ns: int
    fence: int
    charge: int
    pool: int
    product: int
    seats: int
    deficit: int
    detail: int
    body: bytes


@dataclass(slots=True)
class _Pool:
    product: int
    weight: int
    sharing: Sharing
    share_max: int


@dataclass(slots=True)
class State:
    """What a dump says, summed up."""

    live_fences: set[int] = field(default_factory=set)
    over_fences: set[int] = field(default_factory=set)
    places: dict[int, int] = field(default_factory=dict)
    """Place -> fence, of sessions that live or are over."""
    seats_in_use: dict[int, int] = field(default_factory=dict)
    """By pool: of all charges."""
    charge_fences: set[int] = field(default_factory=set)
    live_count: int = 0
    charge_count: int = 0
    lookups: set[tuple[int, int]] = field(default_factory=set)
    notes: dict[bytes, bytes] = field(default_factory=dict)
    pools: list[_Pool] = field(default_factory=list)
    leases: dict[tuple[int, int], int] = field(default_factory=dict)
    """Active ones by place and product: their pool; taken out when their charge is met."""
    lease_count: int = 0
    fence_max: int = 0
    time_ns: int = 0
    are_fences_genuine: bool = True
    expected_places: int = 0
    """Of the last charge: leases that are told by the records behind it."""


def _demand(is_kept: bool, accusation: str) -> None:
    if not is_kept:
        raise Accusation(accusation)


def records_of(dump: bytes) -> Iterator[Record]:
    """All records of a dump, in their order."""
    at = 0
    while at < len(dump):
        size, *fields = _HEADER.unpack_from(dump, at)
        _demand(size >= _HEADER.size and size % 8 == 0 and at + size <= len(dump), "a record that is not whole")
        yield Record(*fields, dump[at + _HEADER.size : at + size])
        at += size


def audit_state(dump: bytes, *, are_fences_genuine: bool = True) -> State:
    """Σ charges and leases agree, everything is there once, and everything that is named is there. Fences that were forged in a file may
    come twice: no ledger looks for that."""
    state = State(are_fences_genuine=are_fences_genuine)
    records = list(records_of(dump))
    _demand(records[0].kind == StateKind.BEGIN and records[-1].kind == StateKind.END, "a dump without beginning or end")
    state.fence_max, state.time_ns = records[0].fence, records[0].time_ns
    for record in records[1:-1]:
        _saw(state, record)
    _demand(not state.leases, f"active leases on no charge: {state.leases}")
    _demand(state.expected_places == 0, "a charge whose leases are not all there")
    end = records[-1]
    told = (end.fence, end.charge, end.detail)
    _demand(told == (state.live_count, state.charge_count, state.lease_count), f"an end that counts {told}")
    return state


def _saw(state: State, record: Record) -> None:
    _demand(state.expected_places == 0 or record.kind == StateKind.LEASES, "a charge whose leases are not all there")
    match record.kind:
        case EventKind.POOL_DECLARED:
            _, sharing, _, share_max, _, _ = _POOL.unpack(record.body)
            state.pools.append(_Pool(record.product, record.seats, Sharing(sharing), share_max))
        case EventKind.NOTE:
            state.notes[record.body[: record.seats]] = record.body[record.seats : record.seats + record.deficit]
        case StateKind.SESSION:
            _saw_session(state, record)
        case StateKind.CHARGE:
            _saw_charge(state, record)
        case StateKind.LEASES:
            _saw_places(state, record.pool, record.body, record.seats)
            state.expected_places -= record.seats
        case StateKind.OVER:
            _saw_over(state, record)
        case StateKind.REQUEST:
            _demand(record.time_ns > state.time_ns, "a request that should be forgotten")
            _saw_lookup(state, _REQUEST.unpack(record.body)[:2])


def _saw_lookup(state: State, lookup: tuple[int, int]) -> None:
    _demand(lookup not in state.lookups, "one request remembered twice")
    state.lookups.add(lookup)


def _saw_place(state: State, record: Record) -> None:
    _demand(record.deficit not in state.places, f"two sessions in place {record.deficit}")
    _demand(0 < record.fence <= state.fence_max, "a session with a fence that was never given out")
    is_new = record.fence not in state.live_fences and record.fence not in state.over_fences
    _demand(is_new or not state.are_fences_genuine, "one session twice")
    state.places[record.deficit] = record.fence


def _saw_session(state: State, record: Record) -> None:
    sizes, _, _, place, *lookup, _ = _OPENED.unpack_from(record.body)
    _saw_place(state, record)
    _demand(place == record.deficit, "a session that names another place")
    _saw_lookup(state, (lookup[0], lookup[1]))
    state.live_fences.add(record.fence)
    state.live_count += 1
    start = _OPENED.size + (sum(sizes) + 7) // 8 * 8
    for version, product, pool, end_reason in _LEASE.iter_unpack(record.body[start:]):
        _demand(state.pools[pool].product == product, "a lease of another product than its pool's")
        _demand(bool(version) == bool(end_reason) and version <= record.detail, "an end that no version tells")
        if not end_reason:
            _demand((place, product) not in state.leases, "two leases of one product in a session")
            state.leases[place, product] = pool


def _saw_charge(state: State, record: Record) -> None:
    pool = state.pools[record.pool]
    _demand(pool.product == record.product, "a charge of another product than its pool's")
    is_new = record.charge not in state.charge_fences
    _demand(0 < record.charge <= state.fence_max, "a charge with a fence that was never given out")
    _demand(is_new or not state.are_fences_genuine, "one charge twice")
    _demand(record.time_ns <= state.time_ns, "a charge from the future")
    state.charge_fences.add(record.charge)
    state.charge_count += 1
    state.seats_in_use[record.pool] = state.seats_in_use.get(record.pool, 0) + pool.weight
    share_max = 1 if pool.sharing is Sharing.SESSION else pool.share_max
    _demand(share_max == 0 or record.seats <= share_max, "more leases on a charge than may share it")
    if not record.body:
        _saw_places(state, record.pool, struct.pack("<i", record.deficit), 1)
        return
    free_at_ns = _CHARGE.unpack_from(record.body)[2]
    _demand((free_at_ns != 0) == (record.seats == 0), "a charge without leases that does not linger")
    here = min(record.seats, (len(record.body) - _CHARGE.size) // 4)
    _saw_places(state, record.pool, record.body[_CHARGE.size :], here)
    state.expected_places = record.seats - here


def _saw_places(state: State, pool: int, body: bytes, count: int) -> None:
    for (place,) in struct.iter_unpack("<I", body[: 4 * count]):
        found = state.leases.pop((place, state.pools[pool].product), None)
        _demand(found == pool, f"a charge for a lease in place {place} that is not there")
        state.lease_count += 1


def _saw_over(state: State, record: Record) -> None:
    _saw_place(state, record)
    _demand(record.time_ns > state.time_ns, "a session that should be forgotten")
    _saw_lookup(state, _REQUEST.unpack(record.body)[:2])
    state.over_fences.add(record.fence)
