"""What the auditor remembers of a session, a lease and a key: only what was told and proven. Instants are those of the world's clock.

"Surely" always means: by the promises that were made. What may be otherwise, for a reason that the auditor knows of, is not held against the broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.licence import Licence
from broker.model.words import EndReason
from tests.sim.calls import Person


class Accusation(AssertionError):
    """The broker broke a promise that can be seen from outside."""


def demand(is_kept: bool, accusation: str, *facts: object) -> None:
    """Accuses unless it is kept; the facts make the sentence."""
    if not is_kept:
        raise Accusation(accusation.format(*facts))


@dataclass(slots=True, eq=False)
class LeaseKept:
    """A lease as its holder was told. `confirmed_ns`: when the broker last confirmed it, by naming it or by not naming it as changed."""

    charge: int
    pool: int
    seats: int
    confirmed_ns: int
    is_release_asked: bool = False


@dataclass(slots=True, eq=False)
class SessionKept:
    """A session that a holder was told of. `excuses`: ends that somebody asked for. `ended`: what was told of its end, None before.
    `was_unsafe`: told by a broker that promised no durability, and has crashed since."""

    fence: int
    session_id: bytes
    person: Person
    call_number: tuple[int, int]
    surely_until_ns: int
    granted_ns: int
    leases: dict[str, LeaseKept] = field(default_factory=dict)
    excuses: set[EndReason] = field(default_factory=set)
    ended: EndReason | None = None
    was_unsafe: bool = False
    believed_until_ns: int = 0
    """Of an unsafe one: until when its holder may believe what was said before the crash."""


@dataclass(slots=True, eq=False)
class KeyKept:
    """A security key: when it last proved itself, and what is at most left of its grace. Grace is counted in *served* time, in which a broker
    ran (broker/keyring/grace.py); `last_proof_ns` is of the world's clock, all else of served time."""

    licences: tuple[Licence, ...]
    grace_ns: int
    refill_ns: int
    proof_ttl_ns: int
    left_ns: int = 0
    last_proof_ns: int | None = None
    served_proof_ns: int = 0
    present_since_ns: int = 0
    is_restarted: bool = False
    """There was another start since its last proof."""
    is_troubled: bool = False
    """Somebody pulled it, made it slow, cloned it: its seats may go."""

    def proved(self, asked_ns: int, served_ns: int) -> None:
        """A fresh challenge was answered. Silence beyond a proof's life was spent of the grace; only presence fills it again."""
        if self.last_proof_ns is None:
            self.left_ns, self.present_since_ns = self.grace_ns, served_ns
        elif asked_ns <= self.last_proof_ns:
            return
        else:
            self._pass(served_ns)
        self.last_proof_ns, self.served_proof_ns, self.is_restarted = asked_ns, served_ns, False

    def _pass(self, served_ns: int) -> None:
        gap_ns = served_ns - self.served_proof_ns
        if gap_ns > self.proof_ttl_ns:
            # It may have stood on its last proof until a restart, and pays only for the wait after it.
            spent_ns = gap_ns - self.proof_ttl_ns if self.is_restarted else gap_ns
            self.left_ns -= min(spent_ns, self.left_ns)
            self.present_since_ns = served_ns
        elif served_ns - self.present_since_ns >= self.refill_ns:
            self.left_ns = self.grace_ns

    @property
    def stays_until_ns(self) -> int:
        """Until then (in served time) at most seats that were given on it may stay taken."""
        return 0 if self.last_proof_ns is None else self.served_proof_ns + max(self.proof_ttl_ns, self.left_ns)
