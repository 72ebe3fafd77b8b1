"""What is remembered of each security key and of each connection to one.

A `KeyRecord` is an identity (a thumbprint) and outlives its connections: it carries the state, the last proof and the
grace budget. An `Attachment` is one connection: something plugged in at a place, from its plug-in to its unplug. Before
an attachment has said who it is, it has a record of its own without a thumbprint. Of the attachments that claim one
identity the first is the *incumbent*, on which the record stands; others are *challengers* (see `core.py`, clones).
Mutable, and touched only by `core.KeyringCore`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from broker.keyring.capacity import KeyStanding
from broker.keyring.grace import GraceBudget
from broker.keyring.remembered import KeyMemory, Stand
from broker.keyring.states import COUNTING_STATES, TRANSITIONS, KeyInput, KeyState
from broker.model.words import EndReason
from hwkey import KeyPort

# The states that an admin ends, and time does not.
_STANDS = {KeyState.DISABLED: Stand.DISABLED, KeyState.QUARANTINED: Stand.QUARANTINED}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an opened connection claims to be. `description` and `address` are for display."""

    thumbprint: str
    description: str
    address: str
    is_emulated: bool


class FaultKind(Enum):
    """What a failure of opening or proving says about the key."""

    UNANSWERED = auto()  # it may answer next time
    WRONG = auto()  # it answered, and the answer is false
    GONE = auto()  # it is not there any more


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure: its kind, a constant word for labels, and a sentence for people."""

    kind: FaultKind
    code: str
    sentence: str


@dataclass(slots=True, eq=False)
class Attachment:
    """One connection. `due_ns`: when it is to be opened or proven next."""

    number: int
    bus: str
    port: KeyPort
    record: KeyRecord
    due_ns: int
    is_open: bool = False
    opened_ns: int = 0
    may_prove: bool = False  # of a challenger: the incumbent has been proven since this one was opened
    failure_count: int = 0  # in a row
    is_settled: bool = False  # has been proven or has failed since it was plugged in

    @property
    def is_challenger(self) -> bool:
        """Whether another connection stands for the identity that this one claims."""
        return self.record.attachment is not self


@dataclass(slots=True, eq=False)
class KeyRecord:
    """One identity, or one attachment that has none yet (`thumbprint` empty). `code` and `sentence` say why the state."""

    thumbprint: str
    budget: GraceBudget
    state: KeyState = KeyState.ABSENT
    code: str = ""
    sentence: str = ""
    description: str = ""
    address: str = ""
    is_emulated: bool = False
    proven_until_ns: int = 0
    last_proof_ns: int | None = None
    proof_latency_ns: int | None = None
    proof_count: int = 0
    failure_count: int = 0
    was_licensed: bool = False  # ever: what it has spent of its grace must not be forgotten
    is_recalled: bool = False  # an earlier run remembers it
    attachment: Attachment | None = None
    challengers: list[Attachment] = field(default_factory=list)

    def apply(self, word: KeyInput, code: str = "", sentence: str = "") -> KeyState:
        """Goes where the table says; the reason is kept with the new state."""
        self.state = TRANSITIONS[self.state][word]
        self.code, self.sentence = code, sentence
        return self.state

    def describe(self, identity: Identity) -> None:
        """Takes over how the key shows itself now."""
        self.description, self.address = identity.description, identity.address
        self.is_emulated = identity.is_emulated

    def remembered(self, now_ns: int, ahead_ns: int, *, is_end: bool = False) -> KeyMemory | None:
        """What the next run shall know of it, if this one ends here or before `ahead_ns` are over; None: nothing to know."""
        stand = _STANDS.get(self.state)
        has_history = self.was_licensed and self.budget.last_proof_ns is not None
        if stand is None and not has_history:
            return None
        budget = self.budget.remembered_at_end(now_ns) if is_end else self.budget.remembered(now_ns, ahead_ns)
        if stand is None:
            stand = Stand.LOST if budget.awaited_ns is None else Stand.STOOD
        if stand is Stand.STOOD:
            return KeyMemory(stand, budget, is_emulated=self.is_emulated)
        return KeyMemory(stand, budget, self.code, self.sentence, self.is_emulated)

    def standing(self, now_ns: int) -> KeyStanding:
        """What the key is good for now."""
        proven_until_ns = self.proven_until_ns if self.state in COUNTING_STATES else 0
        cause = EndReason.POLICY_CHANGED if self.state is KeyState.DISABLED else EndReason.KEY_LOST
        return KeyStanding(proven_until_ns, self.budget.deadline_ns(now_ns), cause, self.is_emulated)
