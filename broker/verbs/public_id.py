"""The short public id of a session: "generation.counter", the two halves of its fence (semantics rule 22).

    fence = generation << 40 | counter          fence 3298534884370 is "3.1042"

It names a session to people and to Admin; it opens nothing.
"""

from __future__ import annotations

import re

_COUNTER_BITS = 40
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_GENERATION_MAX = (1 << 23) - 1
_FORM = re.compile(r"([1-9][0-9]{0,7})\.([1-9][0-9]{0,12})", re.ASCII)


def public_id_of(fence: int) -> str:
    """The public id of the session with this fence; empty for 0, which is no session."""
    return f"{fence >> _COUNTER_BITS}.{fence & _COUNTER_MASK}" if fence else ""


def fence_of(public_id: str) -> int | None:
    """The fence behind a public id; None if the text is not one."""
    match = _FORM.fullmatch(public_id)
    if match is None:
        return None
    generation, counter = int(match[1]), int(match[2])
    if generation > _GENERATION_MAX or counter > _COUNTER_MASK:
        return None
    return generation << _COUNTER_BITS | counter
