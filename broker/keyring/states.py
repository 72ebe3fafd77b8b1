"""Where a security key stands, as a table of (state, input) to state.

    absent ──plugged──► opening ──opened──► proving ──proved──► present ◄──┐
      ▲                    │ failed            │ failed    failed │  proved│
      │ forgotten          └───────► suspect ◄─┴──────────────────┘────────┘
    lost ◄── unplugged, rejected, gave up (from everywhere)     quarantined, disabled ── enabled ──► absent

The table is total: an input that comes late (a proof that was under way when its key was pulled) leaves a state as it is,
and only `proved` in `proving`, `present` or `suspect` leads to `present`. A lost key that is still plugged in is opened
anew, so its way back leads through a first proof again. Pure data; any thread.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class KeyState(StrEnum):
    """Where a key stands. The values are those of `KeyState` in admin.proto, and metric labels."""

    ABSENT = "absent"
    OPENING = "opening"
    PROVING = "proving"
    PRESENT = "present"
    SUSPECT = "suspect"
    LOST = "lost"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"


class KeyInput(StrEnum):
    """What can happen to a key."""

    PLUGGED = "plugged"  # a connection to open
    OPENED = "opened"  # the connection is claimed and says who it is
    PROVED = "proved"  # a good answer to a fresh nonce
    FAILED = "failed"  # no answer; it will be asked again
    GAVE_UP = "gave_up"  # no answer too often, or not before the last proof ended
    REJECTED = "rejected"  # a wrong answer
    UNPLUGGED = "unplugged"
    CLONE_PROVEN = "clone_proven"  # two live connections have answered as this key
    DISABLED = "disabled"  # by an admin
    ENABLED = "enabled"  # by an admin, also out of quarantine
    FORGOTTEN = "forgotten"  # lost, and nothing of it is left to grace


# States whose licences count while their last proof is good.
COUNTING_STATES: Final = frozenset({KeyState.PRESENT, KeyState.SUSPECT})
# States in which a key is not asked for proofs.
IDLE_STATES: Final = frozenset({KeyState.QUARANTINED, KeyState.DISABLED})


def _row(state: KeyState, **changes: KeyState) -> Mapping[KeyInput, KeyState]:
    """A row of the table: what an input changes; all other inputs leave the state."""
    return {word: changes.get(word.value, state) for word in KeyInput}


_A, _O, _P, _X, _S, _L, _Q, _D = KeyState
# What a connected key can always meet.
_PULLED: Final = {"gave_up": _L, "rejected": _L, "unplugged": _L, "clone_proven": _Q, "disabled": _D}

TRANSITIONS: Final[Mapping[KeyState, Mapping[KeyInput, KeyState]]] = {
    _A: _row(_A, plugged=_O, disabled=_D),
    _O: _row(_O, opened=_P, failed=_S, **_PULLED),
    _P: _row(_P, plugged=_O, proved=_X, failed=_S, **_PULLED),
    _X: _row(_X, plugged=_O, opened=_P, failed=_S, **_PULLED),
    _S: _row(_S, plugged=_O, opened=_P, proved=_X, **_PULLED),
    _L: _row(_L, plugged=_O, opened=_P, forgotten=_A, clone_proven=_Q, disabled=_D),
    _Q: _row(_Q, enabled=_A, disabled=_D),
    _D: _row(_D, enabled=_A),
}
