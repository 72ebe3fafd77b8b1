"""The ledger's events: what changed, in the order of the changes; and their decoder.

An event is a header of 64 bytes, little-endian, and for some kinds a body behind it (drawn in ext/ledger/events.pxi, which writes
them). `size` is that of header and body, a multiple of 8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.errors import BrokerError
from broker.model.words import DenialReason, EndReason, EventKind

_HEADER = struct.Struct("<IHBBQqQQiiiiQ")
assert _HEADER.size == 64
HEADER_SIZE = _HEADER.size
FLAG_LAST = 1
"""The last event of its command: a crash leaves all events of a command, or none."""


class EventsFull(BrokerError):
    """The event ring has no room for an event of the control plane, not even in its reserve; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("the ledger's event ring is full: nothing was changed, and it can be tried again")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `time_ns` is ledger time; `fence` the session's, `charge` the charge's; -1 or 0 where there is none.

    `seats` is: capacity for CAPACITY_CHANGED (deficit beside it), the charge's seats for charge events, the number of denials for
    DENIED (1, or more for a second in which denials were only counted), 1 for a REQUEST_DONE that released what was held, the
    generation for RUN_STARTED, the weight for POOL_DECLARED, sizes elsewhere.
    `place` is the number of the session's record, `detail` what events.pxi says for the kind, for WALL_CLOCK and RUN_STARTED wall time in
    nanoseconds; `body` the bytes behind the header, where they are no texts. Two events are equal without these and `flags`.
    """

    sequence: int
    time_ns: int
    kind: EventKind
    reason: EndReason | DenialReason
    fence: int
    charge: int
    pool: int
    product: int
    seats: int
    deficit: int
    user: bytes = b""
    host: bytes = b""
    app: bytes = b""
    label: bytes = b""
    instance_id: bytes = b""
    identity: bytes = b""
    flags: int = field(default=0, compare=False, kw_only=True)
    place: int = field(default=-1, compare=False, kw_only=True)
    detail: int = field(default=0, compare=False, kw_only=True)
    body: bytes = field(default=b"", compare=False, repr=False, kw_only=True)


_SIZE = struct.Struct("<I")


def event_start(data: bytes, index: int) -> int:
    """Where in a drained block its index-th event begins, counted from 0; the block must have that many before it."""
    position = 0
    for _ in range(index):
        position += _SIZE.unpack_from(data, position)[0]
    return position


def decode_events(data: bytes, position: int = 0) -> Iterator[Event]:
    """All events of one drained block, or those from the event on that begins there. A block always holds whole events; ValueError on
    anything else."""
    while position < len(data):
        if len(data) - position < HEADER_SIZE:
            raise ValueError(f"half an event header at byte {position}")
        size = _SIZE.unpack_from(data, position)[0]
        if size < HEADER_SIZE or size % 8 or position + size > len(data):
            raise ValueError(f"event of {size} bytes at byte {position} of {len(data)}")
        yield _decode(data, position)
        position += size


_NAMES_NO_SESSION = frozenset((EventKind.CAPACITY_CHANGED, EventKind.NOTE))


def _decode(data: bytes, start: int) -> Event:
    (size, kind_number, reason_number, flags, sequence, time_ns, fence, charge, pool, product, seats, deficit, detail) = _HEADER.unpack_from(
        data, start
    )
    kind = EventKind(kind_number)
    reason = DenialReason(reason_number) if kind is EventKind.DENIED else EndReason(reason_number)
    place = deficit if fence and kind not in _NAMES_NO_SESSION else -1
    deficit = deficit if kind in _NAMES_NO_SESSION else 0
    texts: tuple[bytes, ...] = ()
    body = b""
    if kind is EventKind.SESSION_OPENED:
        texts = _texts(data, start + HEADER_SIZE)
    elif size > HEADER_SIZE:
        body = data[start + HEADER_SIZE : start + size]
    return Event(
        sequence, time_ns, kind, reason, fence, charge, pool, product, seats, deficit, *texts, flags=flags, place=place, detail=detail, body=body
    )


def _texts(data: bytes, start: int) -> tuple[bytes, ...]:
    """Six sizes of one byte, two bytes of padding, then ttl, place, request key and fingerprint (32 bytes), then the texts."""
    sizes = data[start : start + 6]
    position = start + 40
    texts = []
    for size in sizes:
        texts.append(data[position : position + size])
        position += size
    return tuple(texts)
