"""The ledger's events: what changed, in the order of the changes; and their decoder.

An event is a header of 64 bytes, little-endian, and for SESSION_OPENED the texts of the holder behind it
(drawn in ext/ledger/events.pxi, which writes them). `size` is that of header and texts, a multiple of 8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from broker.model.words import DenialReason, EndReason, EventKind

_HEADER = struct.Struct("<IHBBQqQQiiiiii")
assert _HEADER.size == 64
HEADER_SIZE = _HEADER.size


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `time_ns` is ledger time; `fence` the session's, `charge` the charge's; -1 or 0 where there is none.

    `seats` is: capacity for CAPACITY_CHANGED (deficit beside it), the charge's seats for charge events, the number of denials for
    DENIED (1, or more for a second in which denials were only counted).
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


def _decode(data: bytes, start: int) -> Event:
    (_, kind_number, reason_number, _flags, sequence, time_ns, fence, charge, pool, product, seats, deficit, _a, _b) = (
        _HEADER.unpack_from(data, start)
    )
    kind = EventKind(kind_number)
    reason = DenialReason(reason_number) if kind is EventKind.DENIED else EndReason(reason_number)
    texts = _texts(data, start + HEADER_SIZE) if kind is EventKind.SESSION_OPENED else ()
    return Event(sequence, time_ns, kind, reason, fence, charge, pool, product, seats, deficit, *texts)


def _texts(data: bytes, start: int) -> tuple[bytes, ...]:
    """Six sizes of one byte, two bytes of padding, then ttl, request key and fingerprint (32 bytes), then the texts."""
    sizes = data[start : start + 6]
    position = start + 40
    texts = []
    for size in sizes:
        texts.append(data[position : position + size])
        position += size
    return tuple(texts)
