"""The outcomes of a lockstep run: what came of one operation, in words; and the table of all that can come of any.

An outcome is read from the operation, the answer, the events that it caused and what it changed in the counts. One operation may
have several: what it answered, and what happened on the way. What is the same whatever the cause stands under a name of its
own: `time`, `end` (of a session), `charge`, `key grace`, `denial`. The table is closed: a run fails for a pair
outside it as well as for one that it met too seldom.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from broker.model.answers import Answer, LeaseView
from broker.model.events import HEADER_SIZE, Event
from broker.model.words import Bound, EndReason, EventKind, InvalidField, LeaseState, Status
from tests.ledger.operations import Operation
from tests.ledger.sides import Result
from tests.model.ledger_model import LEASE_COUNT_OF_SESSION_MAX, LedgerModel
from tests.model.records import SourceState

Pair = tuple[str, str]
ITEM_SIZE_MAX = HEADER_SIZE * (3 * LEASE_COUNT_OF_SESSION_MAX + 1)
"""Of the events of one item of advance, at worst: with room for it none waits."""


class Snapshot(NamedTuple):
    """The counts of the model before an operation, to see what it did."""

    event_total: int
    dropped_total: int
    events_full_total: int
    request_count: int
    denial_count: int
    pending_denial_count: int
    stall_total: int
    raw_ns: int
    source_states: tuple[SourceState, ...]

    @classmethod
    def of(cls, model: LedgerModel) -> Snapshot:
        return cls(
            model.log.total,
            model.log.dropped_total,
            model.totals["events_full_total"],
            model.memory.request_count,
            model.memory.denial_count,
            model.denial_counts.pending_total(),
            model.clock.stall_total,
            model.clock.raw_ns,
            tuple([source.state for source in model.capacity.sources.values()]),
        )


def pairs_of(
    operation: Operation, result: Result, before: Snapshot, after: Snapshot, model: LedgerModel
) -> set[Pair]:
    """All (operation, outcome) pairs of one operation, which led from one snapshot to the other."""
    new_count = after.event_total - before.event_total
    events = model.log.events[-new_count:] if new_count else []
    found = {("time", word) for word in _of_time(operation, before, after)}
    if after.pending_denial_count > before.pending_denial_count:
        found.add(("denial", "only counted"))
    for index, event in enumerate(events):
        found.update(_of_event(operation, event, events[max(0, index - 1) : index + 2]))
    words: Iterable[str]
    if isinstance(result, Answer):
        words = [
            *_of_answer(operation, result),
            *(_of_starts(operation, events, result) if result.leases else ()),
        ]
    elif operation.name == "advance":
        words = _of_advance(before, after, bool(result), model)
    else:
        words = _of_control(operation, bool(result), before, after, events, model)
    return found | {(operation.name, word) for word in words}


# --- what it answered ----------------------------------------------------------------------------------------
def _of_answer(operation: Operation, answer: Answer) -> Iterator[str]:
    again = " again" if answer.is_replayed else ""
    match answer.status:
        case Status.DENIED:
            assert answer.denial is not None
            yield "denied again" if again else f"denied {answer.denial.reason.name}"
        case Status.ENDED:
            yield f"ended {answer.end_reason.name}"
        case Status.INVALID:
            yield f"invalid {InvalidField(answer.detail).name}"
        case Status.OVERLOADED:
            yield f"overloaded {Bound(answer.detail).name}"
        case Status.RELEASED:
            yield f"released{again}, {'held' if answer.detail else 'not held'}"
        case Status.NOT_FOUND if operation.is_forged:
            yield "not found, forged"
        case status:
            yield f"{status.name.lower().replace('_', ' ')}{again}"
    yield from (f"{word}{again}" for word in _of_leases(answer.leases))
    yield from (f"without {denial.reason.name}" for denial in answer.unavailable)


def _of_leases(leases: Iterable[LeaseView]) -> Iterator[str]:
    for lease in leases:
        if lease.state is LeaseState.KEY_GRACE:
            yield "tells key grace"
        elif lease.state is LeaseState.ENDED:
            yield f"tells end {lease.end_reason.name}"


# --- what happened on the way ----------------------------------------------------------------------------------
def _of_starts(operation: Operation, events: list[Event], answer: Answer) -> Iterator[str]:
    """How a client came to its leases."""
    shared = {lease.fence for lease in answer.leases if lease.is_shared}
    moved = {event.charge for event in events if event.kind is EventKind.CHARGE_MOVED}
    started = {event.charge: event.seats for event in events if event.kind is EventKind.LEASE_STARTED}
    for charge, seats in started.items():
        if seats:
            yield "takes seats"
        elif charge in moved:
            yield "retakes a lingering charge" if charge in shared else "takes a charge over"
        else:
            yield "joins a charge"
    is_held = any(lease.fence not in started for lease in answer.leases)
    if operation.name == "acquire" and is_held and not answer.is_replayed:
        yield "shows what it holds"


def _of_event(operation: Operation, event: Event, neighbours: list[Event]) -> Iterator[Pair]:
    """`neighbours`: the event before, itself, and the one behind, as far as the operation caused them."""
    reason = event.reason.name
    match event.kind:
        case EventKind.SESSION_ENDED:
            yield operation.name, f"ends a session {reason}"
        case EventKind.DENIED:
            told = "advance" if operation.name == "advance" else "the next one"
            yield "denial", "told singly" if event.seats == 1 else f"counted ones told, {told}"
        case EventKind.CAPACITY_CHANGED if operation.name not in ("prove_source", "lose_source"):
            yield "time", "takes capacity"
        case EventKind.LEASE_ENDED:
            is_last = neighbours[-1].kind in (EventKind.CHARGE_FREED, EventKind.CHARGE_LINGERS)
            yield "lease", f"ended {reason}" if is_last else "left a charge to others"
        case EventKind.CHARGE_LINGERS:
            yield "charge", "lingers"
        case EventKind.CHARGE_FREED if (
            event.reason in LOSSES and neighbours[0].kind is not EventKind.LEASE_ENDED
        ):
            yield "charge", "forced out while it lingered"
        case EventKind.CHARGE_FREED:
            yield "charge", f"freed {reason}"
        case EventKind.KEY_GRACE_STARTED:
            yield "key grace", "starts for one"
        case EventKind.KEY_GRACE_ENDED:
            who = "one" if event.charge else "all"
            is_freed = neighbours[0].kind is EventKind.CHARGE_FREED
            yield "key grace", f"ends for {who}, {'another was freed' if is_freed else operation.name}"


LOSSES = (EndReason.KEY_LOST, EndReason.LICENCE_ENDED, EndReason.POLICY_CHANGED)


def _of_time(operation: Operation, before: Snapshot, after: Snapshot) -> Iterator[str]:
    if not operation.carries_time:
        return
    if operation.now_ns < before.raw_ns:
        yield "goes back"
    if after.stall_total > before.stall_total:
        yield "stalls"
    if operation.name in ("prove_source", "lose_source"):
        return
    if after.dropped_total > before.dropped_total:
        yield "drops an event"
    for was, now in zip(before.source_states, after.source_states, strict=True):
        if was is not now:
            yield f"{was.name.lower()} to {now.name.lower()}"


def _of_advance(before: Snapshot, after: Snapshot, is_spent: bool, model: LedgerModel) -> Iterator[str]:
    if is_spent:
        yield "spends its budget"
    elif not model.log.has_room(ITEM_SIZE_MAX) and model.is_due():
        yield "finds no event room"
    if after.request_count < before.request_count:
        yield "forgets a request"
    if after.denial_count < before.denial_count:
        yield "forgets a denial"
    if after == before:
        yield "finds nothing to do"


# --- the control plane -----------------------------------------------------------------------------------------
def _of_control(
    operation: Operation,
    result: bool,
    before: Snapshot,
    after: Snapshot,
    events: list[Event],
    model: LedgerModel,
) -> Iterator[str]:
    match operation.name:
        case "revoke" if after.events_full_total > before.events_full_total:
            yield "events full"
        case "revoke":
            yield "revoked" if result else "not revoked"
        case "prove_source" | "lose_source":
            yield from _of_source(before, after, events)
        case "set_starting":
            yield "starting" if operation.arguments["is_starting"] else "started"
        case "set_writable":
            yield "writable" if operation.arguments["is_writable"] else "read only"
        case "note" | "mark_wall" if not result:
            yield "events full"
        case "note":
            yield "noted" if operation.arguments["value"] else "forgotten"
        case "mark_wall":
            yield "marked"
        case "set_admitting":
            yield "admits" if operation.arguments["is_admitting"] else "drains"
        case "drain":
            yield "drained in part" if model.log.size else "drained"
        case name:
            yield f"{name} done"


def _of_source(before: Snapshot, after: Snapshot, events: list[Event]) -> Iterator[str]:
    changes = [event for event in events if event.kind is EventKind.CAPACITY_CHANGED]
    if after.dropped_total > before.dropped_total:
        yield "drops an event"
    elif not changes:
        yield "changes nothing"
    elif any(event.deficit for event in changes):
        yield "leaves a deficit"
    else:
        yield "leaves no deficit"


# --- the table -------------------------------------------------------------------------------------------------
_DENIED = ("NO_FREE_SEATS", "DEFICIT", "KEYS_STARTING", "NO_CAPACITY", "UNKNOWN_PRODUCT", "LEARNING")
_GIVING = (
    *(f"denied {reason}" for reason in _DENIED),
    *(f"without {reason}" for reason in _DENIED),
    "denied again",
    "takes seats",
    "joins a charge",
    "retakes a lingering charge",
    "tells key grace",
    "tells key grace again",
)
_EVERY_COMMAND = ("ends a session EXPIRED", "events full")
_IN_SESSION = (*_EVERY_COMMAND, "not found", "not found, forged", "request id reused")

TABLE: dict[str, tuple[str, ...]] = {
    "open": (
        *_EVERY_COMMAND,
        *_GIVING,
        "draining",
        "not writable",
        "granted",
        "granted again",
        *(f"ended {reason}" for reason in ("CLOSED", "EXPIRED", "REVOKED", "SUPERSEDED", "POLICY_CHANGED")),
        "request id reused",
        *(f"invalid {field.name}" for field in InvalidField if field),
        *(f"overloaded {name}" for name in ("REMEMBERED_REQUESTS", "SESSIONS", "LEASES", "CHARGES")),
        "takes a charge over",
        "ends a session SUPERSEDED",
    ),
    "renew": (
        *_EVERY_COMMAND,
        "renewed",
        "not found",
        "not found, forged",
        "tells key grace",
        *(f"tells end {reason.name}" for reason in LOSSES),
    ),
    "acquire": (
        *_IN_SESSION,
        *_GIVING,
        "acquired",
        "acquired again",
        "shows what it holds",
        "not writable",
        "invalid PRODUCTS",
        *(f"overloaded {name}" for name in ("REMEMBERED_REQUESTS", "LEASES", "CHARGES", "LEASES_OF_SESSION")),
    ),
    "release": (
        *_IN_SESSION,
        *(f"released{again}, {held}" for again in ("", " again") for held in ("held", "not held")),
        "overloaded REMEMBERED_REQUESTS",
    ),
    "close": (*_IN_SESSION, "closed", "closed again", "ends a session CLOSED"),
    "revoke": (
        *_EVERY_COMMAND,
        "revoked",
        "not revoked",
        "ends a session REVOKED",
        "ends a session POLICY_CHANGED",
    ),
    "advance": (
        "spends its budget",
        "finds no event room",
        "finds nothing to do",
        "forgets a request",
        "forgets a denial",
        "ends a session EXPIRED",
    ),
    "prove_source": ("drops an event", "changes nothing", "leaves a deficit", "leaves no deficit"),
    "lose_source": ("drops an event", "changes nothing", "leaves a deficit", "leaves no deficit"),
    "set_starting": ("starting", "started"),
    "set_admitting": ("admits", "drains"),
    "declare_pool": ("declare_pool done",),
    "drain": ("drained", "drained in part"),
    "read": ("read done",),
    "restart": ("restart done",),
    "set_writable": ("read only", "writable"),
    "set_learning": ("set_learning done",),
    "note": ("noted", "forgotten", "events full"),
    "mark_wall": ("marked", "events full"),
    "time": (
        "goes back",
        "stalls",
        "takes capacity",
        "drops an event",
        "proven to lapsed",
        "proven to absent",
        "lapsed to absent",
    ),
    "lease": (
        "left a charge to others",
        *(f"ended {reason}" for reason in ("CLOSED", "EXPIRED", "REVOKED", "SUPERSEDED")),
        *(f"ended {reason.name}" for reason in LOSSES),
    ),
    "charge": (
        "lingers",
        "freed NONE",
        "forced out while it lingered",
        *(f"freed {reason}" for reason in ("CLOSED", "EXPIRED", "REVOKED", "SUPERSEDED")),
        *(f"freed {reason.name}" for reason in LOSSES),
    ),
    "key grace": (
        "starts for one",
        "ends for one, another was freed",
        "ends for one, advance",
        "ends for all, another was freed",
        "ends for all, prove_source",
    ),
    "denial": (
        "told singly",
        "only counted",
        "counted ones told, the next one",
        "counted ones told, advance",
    ),
}
PAIRS = frozenset((name, word) for name, words in TABLE.items() for word in words)
