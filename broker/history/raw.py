"""Events as the history takes them apart: the header as one tuple, and what stands behind it, without an object for each event.

broker/model/events.py says what the fields mean; it makes objects, which at some hundred thousand events a second are too dear here. A test
holds the two against each other.

    header tuple    0 size  1 kind  2 reason  3 flags  4 sequence  5 time_ns  6 fence  7 charge  8 pool  9 product  10 seats  11 deficit  12 detail
"""

from __future__ import annotations

import struct

from broker.model.terms import PoolTerms
from broker.model.words import JOURNAL_KINDS, EventKind, LicenceModel, Sharing

HEADER = struct.Struct("<IHBBQqQQiiiiq")
assert HEADER.size == 64

SESSION_OPENED, SESSION_ENDED, DENIED = int(EventKind.SESSION_OPENED), int(EventKind.SESSION_ENDED), int(EventKind.DENIED)
LEASE_STARTED, LEASE_ENDED = int(EventKind.LEASE_STARTED), int(EventKind.LEASE_ENDED)
CAPACITY_CHANGED, CHARGE_FREED = int(EventKind.CAPACITY_CHANGED), int(EventKind.CHARGE_FREED)
PRODUCT_DECLARED, POOL_DECLARED = int(EventKind.PRODUCT_DECLARED), int(EventKind.POOL_DECLARED)
WALL_CLOCK, RUN_STARTED, RUN_ENDED = int(EventKind.WALL_CLOCK), int(EventKind.RUN_STARTED), int(EventKind.RUN_ENDED)
BOOKKEEPING = frozenset(int(kind) for kind in JOURNAL_KINDS - {EventKind.RUN_STARTED, EventKind.RUN_ENDED})
"""What only the ledger needs to be made anew."""

_BODY_AT = HEADER.size
_TEXTS_AT = 104
_DETAIL = struct.Struct("<q")
_DETAIL_AT = 56
_SEATS = struct.Struct("<i")
_SEATS_AT = 48
_TERMS = struct.Struct("<BBBxIqq")


def opened_texts(data: bytes, start: int) -> list[bytes]:
    """User, host, app, label, instance_id, identity of the SESSION_OPENED that begins there."""
    position = start + _TEXTS_AT
    texts = []
    for size in data[start + 64 : start + 70]:
        texts.append(data[position : position + size])
        position += size
    return texts


def opened_size(data: bytes, start: int) -> int:
    """Of the SESSION_OPENED that begins there, or of the like part of a snapshot's record: header, body, texts, padding."""
    return _TEXTS_AT + (sum(data[start + 64 : start + 70]) + 7) // 8 * 8


def wall_ns(data: bytes, start: int) -> int:
    """Wall time of a RUN_STARTED or WALL_CLOCK."""
    return int(_DETAIL.unpack_from(data, start + _DETAIL_AT)[0])


def generation(data: bytes, start: int) -> int:
    """Of a RUN_STARTED."""
    return int(_SEATS.unpack_from(data, start + _SEATS_AT)[0])


def product_name(data: bytes, start: int) -> str:
    """Of a PRODUCT_DECLARED."""
    size: int = _SEATS.unpack_from(data, start + _SEATS_AT)[0]
    return data[start + _BODY_AT : start + _BODY_AT + size].decode(errors="replace")


def pool_terms(data: bytes, start: int) -> tuple[str, bool]:
    """Of a POOL_DECLARED: its terms in words, and whether it is emulated."""
    model, sharing, is_emulated, share_max, linger_ns, min_hold_ns = _TERMS.unpack_from(data, start + _BODY_AT)
    weight: int = _SEATS.unpack_from(data, start + _SEATS_AT)[0]
    terms = PoolTerms(LicenceModel(model), Sharing(sharing), share_max, weight, linger_ns, min_hold_ns)
    return terms.in_words(), bool(is_emulated)


def first_wall_offset_ns(data: bytes) -> int | None:
    """Wall time minus ledger time by the first RUN_STARTED or WALL_CLOCK of a block; None if it holds none."""
    start = 0
    while start < len(data):
        header = HEADER.unpack_from(data, start)
        if header[1] in (WALL_CLOCK, RUN_STARTED):
            return wall_ns(data, start) - int(header[5])
        start += header[0]
    return None
