"""The key grace budget: how long a pool may live on without one of its keys (`semantics.md` 9).

A key has `limit_ns` [300 s] of grace. It is counted from the key's last good proof, not from the moment its loss was
noticed and never from start-up, to its next one; so whoever carries a key away takes the time since its last proof out of
the budget as well. The budget is filled again, and wholly, by `refill_ns` [1 h] of continuous presence and by nothing
else. Therefore no window of an hour holds more than `limit_ns` of grace, however the key is pulled and returned: between
two spendings that do not come out of one filling lies at least an hour of presence.

Over a restart all of this goes on in *served* time: the time in which a broker ran. Monotonic clocks end with the boot, so
what is remembered is ages, and the next run counts on from them; the time between two runs is nobody's. As to `semantics.md` 20,
a broker that does not run is a stopped process: it gives no seats, so nothing is spent, and nothing is filled either.

* A key that stood when the last run ended is *awaited*. If it proves itself while the keys are first tried, that wait is
  what it pays: before the end it stood on proofs, after it again. Its hour of presence begins anew.
* If it does not, it is lost since its last proof, like a key that was pulled, and what ran between that proof and the end
  is spent as well.
* What is remembered is never kinder than the truth, whenever the process dies. Of a key that stands it is written once and not at
  each proof: after a crash its last proof counts as just ending, the oldest that it can be. While a key is lost or
  awaited, time is paid ahead: a writing covers the next seconds, and before they are over the next one is made. A stop in good
  order writes exact ages.
* An awaited key may be waited for though its budget is empty, since else every restart in a bad hour would end the
  sessions of keys that are there: `start_wait_ns_max` for each good proof, counted over all starts since.

So a loop of restarts without the key spends one budget, once; one with the key spends its waits.
Times are monotonic nanoseconds of this run. Pure values: they are replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class BudgetMemory:
    """A budget for the next run, in nanoseconds of served time: the age that the last proof has at its start at most (None: there
    was none), and for how long the key has been awaited since (None: it did not stand)."""

    left_ns: int
    proof_age_ns: int | None
    awaited_ns: int | None


@dataclass(frozen=True, slots=True)
class GraceBudget:
    """What is left to one key. `present_since_ns` is None while it is lost, and before its first proof; `awaited_since_ns` is set
    from a start until the key's first proof or the end of the first tries."""

    limit_ns: int
    refill_ns: int
    proof_ttl_ns: int
    left_ns: int
    last_proof_ns: int | None = None
    present_since_ns: int | None = None
    awaited_since_ns: int | None = None

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
        if self.awaited_since_ns is not None:
            return self._returned(at_ns, max(0, at_ns - self.awaited_since_ns))
        if self.present_since_ns is None or at_ns > self.last_proof_ns + self.proof_ttl_ns:
            return self._returned(at_ns, at_ns - self.last_proof_ns)
        is_refilled = at_ns - self.present_since_ns >= self.refill_ns
        return replace(self, left_ns=self.limit_ns if is_refilled else self.left_ns, last_proof_ns=at_ns)

    def _returned(self, at_ns: int, spent_ns: int) -> GraceBudget:
        return replace(
            self,
            left_ns=max(0, self.left_ns - spent_ns),
            last_proof_ns=at_ns,
            present_since_ns=at_ns,
            awaited_since_ns=None,
        )

    def lost(self) -> GraceBudget:
        """After a loss: presence is interrupted, and the time since the last proof is being spent."""
        return replace(self, present_since_ns=None, awaited_since_ns=None)

    @property
    def is_spending(self) -> bool:
        """Whether time takes from it at this moment."""
        return self.present_since_ns is None and self.last_proof_ns is not None

    def deadline_ns(self, now_ns: int) -> int:
        """When grace ends if no proof comes any more; `now_ns` for a key that never proved."""
        return now_ns if self.last_proof_ns is None else self.last_proof_ns + self.left_ns

    def remaining_ns(self, now_ns: int) -> int:
        """What is left, less what a loss is spending at this moment."""
        if self.last_proof_ns is None or not self.is_spending:
            return self.left_ns
        return max(0, self.left_ns - max(0, now_ns - self.last_proof_ns))

    # --- over a restart -------------------------------------------------------------------------------------------------

    def remembered(self, now_ns: int, ahead_ns: int) -> BudgetMemory:
        """What the next run shall know if this one ends before `now_ns + ahead_ns`."""
        if self.last_proof_ns is None:
            return BudgetMemory(self.left_ns, None, None)
        if self.present_since_ns is not None:
            return BudgetMemory(self.left_ns, self.proof_ttl_ns, 0)
        age_ns = max(0, now_ns - self.last_proof_ns) + ahead_ns
        if self.awaited_since_ns is not None:
            return BudgetMemory(self.left_ns, age_ns, max(0, now_ns - self.awaited_since_ns) + ahead_ns)
        if age_ns >= self.left_ns:
            # All of it is spent; said so that it needs no more writing.
            return BudgetMemory(0, 0, None)
        return BudgetMemory(self.left_ns, age_ns, None)

    def remembered_at_end(self, now_ns: int) -> BudgetMemory:
        """What the next run shall know after a stop in good order, from which on this one serves nothing."""
        if self.present_since_ns is None or self.last_proof_ns is None:
            return self.remembered(now_ns, 0)
        return BudgetMemory(self.left_ns, max(0, now_ns - self.last_proof_ns), 0)

    def recalled(self, memory: BudgetMemory, now_ns: int, start_wait_ns_max: int) -> GraceBudget:
        """This budget as it is at a start that remembers it."""
        left_ns = max(0, min(memory.left_ns, self.limit_ns))
        if memory.proof_age_ns is None:
            return replace(self, left_ns=left_ns)
        is_awaited = memory.awaited_ns is not None and memory.awaited_ns < start_wait_ns_max
        return replace(
            self,
            left_ns=left_ns,
            last_proof_ns=now_ns - memory.proof_age_ns,
            present_since_ns=None,
            awaited_since_ns=now_ns - memory.awaited_ns if is_awaited and memory.awaited_ns is not None else None,
        )

    def start_wait_ns(self, now_ns: int, start_wait_ns_max: int) -> int:
        """How long a start may wait for the key before charges end for want of it."""
        wait_ns = min(start_wait_ns_max, self.remaining_ns(now_ns)) if self.last_proof_ns is not None else 0
        if self.awaited_since_ns is not None:
            wait_ns = max(wait_ns, start_wait_ns_max - (now_ns - self.awaited_since_ns))
        return max(0, wait_ns)
