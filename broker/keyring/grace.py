"""The key grace budget: how long a pool may live on without one of its keys (`semantics.md` 9).

A key has `limit_ns` [300 s] of grace. It is counted from the key's last good proof, not from the moment its loss was
noticed and never from start-up, to its next one; so whoever carries a key away takes the time since its last proof out of
the budget as well. The budget is filled again, and wholly, by `refill_ns` [1 h] of continuous presence and by nothing
else. Therefore no window of an hour holds more than `limit_ns` of grace, however the key is pulled and returned: between
two spendings that do not come out of one filling lies at least an hour of presence.
Times are monotonic nanoseconds. A pure value: it is replaced, and can be journaled as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class GraceBudget:
    """What is left to one key. `present_since_ns` is None while it is lost, and before its first proof."""

    limit_ns: int
    refill_ns: int
    proof_ttl_ns: int
    left_ns: int
    last_proof_ns: int | None = None
    present_since_ns: int | None = None

    @classmethod
    def full(cls, *, limit_ns: int, refill_ns: int, proof_ttl_ns: int) -> GraceBudget:
        """The budget of a key that was never seen."""
        return cls(limit_ns, refill_ns, proof_ttl_ns, limit_ns)

    def proved(self, at_ns: int) -> GraceBudget:
        """After a good proof at an instant. An older proof than the last changes nothing."""
        if self.last_proof_ns is None:
            return replace(self, last_proof_ns=at_ns, present_since_ns=at_ns)
        if at_ns <= self.last_proof_ns:
            return self
        if self.present_since_ns is None or at_ns > self.last_proof_ns + self.proof_ttl_ns:
            spent_ns = min(at_ns - self.last_proof_ns, self.left_ns)
            return replace(self, left_ns=self.left_ns - spent_ns, last_proof_ns=at_ns, present_since_ns=at_ns)
        is_refilled = at_ns - self.present_since_ns >= self.refill_ns
        return replace(self, left_ns=self.limit_ns if is_refilled else self.left_ns, last_proof_ns=at_ns)

    def lost(self) -> GraceBudget:
        """After a loss: presence is interrupted, and the time since the last proof is being spent."""
        return replace(self, present_since_ns=None)

    def deadline_ns(self, now_ns: int) -> int:
        """When grace ends if no proof comes any more; `now_ns` for a key that never proved."""
        return now_ns if self.last_proof_ns is None else self.last_proof_ns + self.left_ns

    def remaining_ns(self, now_ns: int) -> int:
        """What is left, less what a loss is spending at this moment."""
        if self.present_since_ns is not None or self.last_proof_ns is None:
            return self.left_ns
        return max(0, self.left_ns - max(0, now_ns - self.last_proof_ns))
