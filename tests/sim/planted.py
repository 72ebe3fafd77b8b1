"""Errors planted at the seams of the broker, which the auditor must find: what each one does wrong, and what the production parts get instead.

The compiled parts stay as they are. What recovery is shown is filtered on its way to the ledger, so that it forgets what a wrong event or a wrong replay
would forget; answers leave early; the keyring's memory is empty.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from broker.keyring.memory import Memory
from broker.model.words import EndReason, EventKind, StateKind
from tests.sim.course import Scale
from tests.sim.life import Parts

_HEAD = struct.Struct("<IHBBQ")
_FENCE = struct.Struct("<Q")
_FENCE_AT = 24
_LOOKUP_AT, _LOOKUP_SIZE = 80, 16
_LAST_OF_COMMAND = 1


@dataclass(frozen=True, slots=True)
class Planted:
    """One error, and the parts that make it. Made anew for each course."""

    name: str
    parts: Callable[[], Parts]
    scale: Scale | None = None
    """Of the courses that find it soonest; None: whatever the seeds say."""


@dataclass(slots=True)
class Raw:
    """An event as bytes, its head taken apart."""

    kind: int
    reason: int
    flags: int
    data: bytes

    @property
    def sequence(self) -> int:
        """Of the whole stream."""
        return int(_HEAD.unpack_from(self.data)[4])

    @property
    def fence(self) -> int:
        """Of its session."""
        return int(_FENCE.unpack_from(self.data, _FENCE_AT)[0])


def _events(data: bytes) -> Iterator[Raw]:
    position = 0
    while position < len(data):
        size, kind, reason, flags, _ = _HEAD.unpack_from(data, position)
        yield Raw(kind, reason, flags, data[position : position + size])
        position += size


class _Filter:
    """Leaves events of the log out, or changes them; sequences leave none out all the same. Snapshots pass as they are."""

    def __init__(self, keep: Callable[[list[Raw]], list[Raw]]) -> None:
        self._keep = keep
        self._sequence = 0
        self._is_in_snapshot = False

    def __call__(self, data: bytes) -> bytes:
        events = list(_events(data))
        if events and (events[0].kind == StateKind.BEGIN or self._is_in_snapshot):
            self._is_in_snapshot = events[-1].kind != StateKind.END
            self._sequence = events[-1].sequence
            return data
        return b"".join(self._numbered(event) for event in self._keep(events))

    def _numbered(self, event: Raw) -> bytes:
        self._sequence += 1
        head = _HEAD.pack(len(event.data), event.kind, event.reason, event.flags, self._sequence)
        return head + event.data[_HEAD.size :]


def _without_expiry(events: list[Raw]) -> list[Raw]:
    """As if the end of a silent session were no event: all that it made end goes."""
    over = {one.fence for one in events if one.kind == EventKind.SESSION_ENDED and one.reason == EndReason.EXPIRED}
    kinds = {EventKind.SESSION_ENDED, EventKind.LEASE_ENDED, EventKind.CHARGE_FREED, EventKind.CHARGE_LINGERS}
    kept: list[Raw] = []
    for event in events:
        if event.fence in over and event.kind in kinds and event.reason in (EndReason.EXPIRED, EndReason.NONE):
            if kept and event.flags & _LAST_OF_COMMAND:
                kept[-1].flags |= _LAST_OF_COMMAND
        else:
            kept.append(event)
    return kept


def _without_request_ids(events: list[Raw]) -> list[Raw]:
    """As if an Open's request_id were not in the log: another one stands there."""
    for event in events:
        if event.kind == EventKind.SESSION_OPENED:
            lookup = event.sequence.to_bytes(_LOOKUP_SIZE, "big")
            event.data = event.data[:_LOOKUP_AT] + lookup + event.data[_LOOKUP_AT + _LOOKUP_SIZE :]
    return events


class _Refilling:
    """A memory in which every key had all of its grace, and has just proven itself."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def put(self, name: bytes, value: bytes) -> None:
        self._memory.put(name, value)

    def all(self) -> Mapping[bytes, bytes]:
        kept = dict(self._memory.all())
        for name, value in kept.items():
            if name.startswith(b"key/"):
                kept[name] = json.dumps(json.loads(value) | {"left_ms": 1 << 40, "age_ms": 0}).encode()
        return kept


PLANTED = (
    Planted("answers leave before they are committed", lambda: Parts(is_holding=False)),
    Planted("expiry is not journaled", lambda: Parts(make_filter=lambda: _Filter(_without_expiry))),
    Planted("request_ids are forgotten on restart", lambda: Parts(make_filter=lambda: _Filter(_without_request_ids))),
    Planted("grace is refilled by a restart", lambda: Parts(memory=_Refilling), Scale.LONG),
    Planted("a relaxed broker does not learn", lambda: Parts(is_learning=False), Scale.LONG),
)
