"""What the verbs must know of the sessions' times, and when a session is asked to renew.

`renew_after` is a third of the ttl, so that two renewals may be lost, moved by up to ±10 % so that sessions opened
together (a login rush, a restart) do not renew together. The move is derived from the fence, not drawn: the same session
always gets the same answer, from every data plane. The arithmetic, in unsigned 64-bit integers:

    mixed          = fence * 0x9E3779B97F4A7C15 mod 2**64     (Fibonacci hashing: neighbours fall far apart)
    permille       = 900 + (mixed >> 32) mod 201              (900..1100)
    renew_after_ns = ttl_ns * permille // 3000
"""

from __future__ import annotations

from dataclasses import dataclass

_MIX = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The ledger's own ttl and renew grace, in nanoseconds: the same that it was built with."""

    ttl_ns: int
    renew_grace_ns: int


def renew_after_ns(ttl_ns: int, fence: int) -> int:
    """When a session with this fence and this much ttl left should renew, in nanoseconds from now."""
    mixed = fence * _MIX & _MASK
    permille = 900 + (mixed >> 32) % 201
    return ttl_ns * permille // 3000
