"""How long a call may take, and when it is tried again: a pure decision, sync and asyncio share it.

Each attempt has its own deadline, set per call (deadlines in a gRPC service config fire early, grpc/grpc#40633). Only
UNAVAILABLE and an attempt's own deadline are tried again: with them the broker may not have got the request, and a repeated
request carries the same request_id, so it takes nothing twice (semantics rule 11). Pauses grow by doubling and are
drawn evenly from zero up to that (full jitter), so that a thousand clients of a restarted broker do not return in step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc

RETRIED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of one call, in seconds."""

    attempt_s: float = 5.0
    """One attempt, from sending to the answer."""
    total_s: float = 15.0
    """All attempts and the pauses between them."""
    pause_s_min: float = 0.05
    """The bound of the first pause."""
    pause_s_max: float = 2.0
    """The bound of any pause."""

    def pause_s_bound(self, failure_count: int) -> float:
        """The longest pause after so many failures in a row (1 or more)."""
        doublings = min(failure_count - 1, 30)  # 30: beyond any bound, and still exact in a float
        return min(self.pause_s_max, self.pause_s_min * 2.0**doublings)


class Attempts:
    """The attempts of one call. `now_ns` is a monotonic clock; `draw` gives random numbers in [0, 1)."""

    def __init__(self, policy: RetryPolicy, now_ns: int, draw: Callable[[], float]) -> None:
        self._policy = policy
        self._draw = draw
        self._deadline_ns = now_ns + round(policy.total_s * _NANOSECONDS)
        self.failure_count = 0

    def attempt_s(self, now_ns: int) -> float:
        """How long the next attempt may take. More than zero."""
        return max(0.001, min(self._policy.attempt_s, self._left_s(now_ns)))

    def pause_s(self, code: grpc.StatusCode | None, now_ns: int) -> float | None:
        """After a failed attempt: the pause before the next one, or None to give up."""
        self.failure_count += 1
        if code not in RETRIED:
            return None
        pause_s = self._draw() * self._policy.pause_s_bound(self.failure_count)
        return pause_s if pause_s < self._left_s(now_ns) else None

    def _left_s(self, now_ns: int) -> float:
        return (self._deadline_ns - now_ns) / _NANOSECONDS
