"""The capacity sink: what the keyring needs of the ledger, and all of it.

A *source* is one licence on one present key; a *pool* the seats of one product under equal terms. The keyring makes the
calls one at a time, in the order of its decisions, while it holds its own lock: they must be short and must not call
back. Times are CLOCK_MONOTONIC in nanoseconds.
"""

from typing import Protocol

from broker.model.terms import PoolTerms
from broker.model.words import EndReason


class CapacitySink(Protocol):
    """Where proven capacity goes."""

    def declare_pool(self, product: str, terms: PoolTerms, is_emulated: bool) -> int:
        """The pool's id; the same for equal arguments. ValueError when there is no room for another pool."""

    def set_starting(self, pool: int, is_starting: bool) -> None:
        """While a pool is starting its keys are still being tried, and a new charge is denied `keys_starting`."""

    def prove_source(
        self, source_id: int, pool: int, seats: int, proven_until_ns: int, grace_until_ns: int
    ) -> None:
        """The source gives seats until `proven_until_ns`. Without another call they then end by themselves, and charges
        over what is left may stay until `grace_until_ns`. A source id is 0 to `source_count_max` - 1; a call for one
        that is known renews or heals it, or after `remove_source` begins a new one."""

    def lapse_source(self, source_id: int, pool: int, seats: int, grace_until_ns: int, cause: EndReason) -> None:
        """The source gave seats in an earlier run and gives none now: charges that were recovered may stand on it until
        `grace_until_ns`, as after `lose_source`. Only for a source id that is not in use; `prove_source` heals it."""

    def lose_source(self, source_id: int, grace_until_ns: int, cause: EndReason) -> None:
        """The source gives nothing from now; charges over what is left may stay until `grace_until_ns` and then end with
        the cause: KEY_LOST, LICENCE_ENDED or POLICY_CHANGED."""

    def remove_source(self, source_id: int) -> None:
        """The grace of a lost source is over; its id may name another source from now."""
