"""Scripted troubles of an emulated token: what goes wrong, at which of its events, how often.

Each kind belongs to one layer of the token and happens at an event of that layer, counted from the moment that
the fault is appended:

    OPEN        an open of the device
    PACKET      a bulk packet that moves, either way
    COMMAND     a whole CCID message that reached the reader
    SIGNATURE   a signature that the applet is about to return

A fault lets `skip_count` events pass, then happens `repeat_count` times and is gone. `event_count` tells a test
how many events a run has, so that it can walk a fault through all of them. Beside the script a token may be flaky: its
troubles then come by themselves, drawn from a seed, so that the same seed and the same events give the same troubles.
Thread-safe: a test appends while the device runs.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from enum import Enum


class FaultLayer(Enum):
    """Where a fault happens."""

    OPEN = "open"
    PACKET = "packet"
    COMMAND = "command"
    SIGNATURE = "signature"


class FaultKind(Enum):
    """What goes wrong."""

    ACCESS_DENIED = "access_denied"  # open: EACCES, as without a udev rule
    OPEN_EIO = "open_eio"  # open: EIO, and the next one works
    OPEN_EIO_MOVED = "open_eio_moved"  # open: EIO, and the device comes back with a new address, as after autosuspend
    UNPLUG = "unplug"  # packet: the token leaves the bus in the middle of the transfer
    STALL = "stall"  # packet: the endpoint halts until it is cleared
    SPLIT_PACKET = "split_packet"  # packet: comes in two short ones, and so in two reads
    EMPTY_PACKET = "empty_packet"  # packet: an empty one comes before it
    LOST_PACKET = "lost_packet"  # packet: is dropped
    NO_ANSWER = "no_answer"  # command: swallowed
    LATE_ANSWER = "late_answer"  # command: answered `delay_ms` later without asking for time, abort or not
    WRONG_SEQUENCE = "wrong_sequence"  # command: only an answer with another bSeq comes
    STALE_ANSWER = "stale_answer"  # command: an old answer comes before the right one
    STALE_PACKET = "stale_packet"  # command: 64 bytes from the middle of an old answer come before the right one
    SLOW = "slow"  # command: time extensions, then the answer, `delay_ms` later
    EXTENSION_FLOOD = "extension_flood"  # command: time extensions and nothing else
    EMPTY_ANSWER = "empty_answer"  # command: a data block without data
    TRUNCATED_ANSWER = "truncated_answer"  # command: half of the answer's bytes
    UNENDED_ANSWER = "unended_answer"  # command: without the empty packet that ends an answer of n * 64 bytes
    READER_FAILURE = "reader_failure"  # command: failed, hardware error
    CARD_ABSENT = "card_absent"  # command: failed, no card in the slot, and the card needs power again
    CARD_MUTE = "card_mute"  # command: failed, the card does not answer
    CARD_UNPOWERED = "card_unpowered"  # command: failed, the card has lost its power
    BAD_SIGNATURE = "bad_signature"  # signature: one bit wrong
    OTHER_KEY_SIGNATURE = "other_key_signature"  # signature: well made by another private key


_KINDS_OF: dict[FaultLayer, tuple[FaultKind, ...]] = {
    FaultLayer.OPEN: (FaultKind.ACCESS_DENIED, FaultKind.OPEN_EIO, FaultKind.OPEN_EIO_MOVED),
    FaultLayer.PACKET: (
        FaultKind.UNPLUG,
        FaultKind.STALL,
        FaultKind.SPLIT_PACKET,
        FaultKind.EMPTY_PACKET,
        FaultKind.LOST_PACKET,
    ),
    FaultLayer.SIGNATURE: (FaultKind.BAD_SIGNATURE, FaultKind.OTHER_KEY_SIGNATURE),
}
LAYER_OF: dict[FaultKind, FaultLayer] = dict.fromkeys(FaultKind, FaultLayer.COMMAND) | {
    kind: layer for layer, kinds in _KINDS_OF.items() for kind in kinds
}

# What a flaky token does: all that a bad contact, a bad hub or firmware in a hurry does, and never a wrong signature.
FLAKY_KINDS: tuple[FaultKind, ...] = (
    FaultKind.STALL,
    FaultKind.SPLIT_PACKET,
    FaultKind.EMPTY_PACKET,
    FaultKind.LOST_PACKET,
    FaultKind.NO_ANSWER,
    FaultKind.WRONG_SEQUENCE,
    FaultKind.STALE_ANSWER,
    FaultKind.STALE_PACKET,
    FaultKind.SLOW,
    FaultKind.EMPTY_ANSWER,
    FaultKind.TRUNCATED_ANSWER,
    FaultKind.READER_FAILURE,
    FaultKind.CARD_UNPOWERED,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted trouble. `delay_ms` is used by SLOW and LATE_ANSWER alone."""

    kind: FaultKind
    skip_count: int = 0
    repeat_count: int = 1
    delay_ms: int = 20


@dataclass(slots=True)
class _Pending:
    fault: Fault
    skip_count_left: int
    repeat_count_left: int


class FaultScript:
    """The faults of one token, shared by all its layers.

    `flaky_per_mille` of its packets and commands go wrong by themselves, as `seed` says.
    """

    def __init__(self, *, flaky_per_mille: int = 0, seed: str = "") -> None:
        self._lock = threading.Lock()
        self._flaky_per_mille = flaky_per_mille
        self._random = random.Random(seed)
        self._pending: list[_Pending] = []
        self._event_counts = dict.fromkeys(FaultLayer, 0)

    def append(self, fault: Fault) -> None:
        """Script one more fault; those of one layer do not wait for each other."""
        with self._lock:
            self._pending.append(_Pending(fault, fault.skip_count, fault.repeat_count))

    def clear(self) -> None:
        """Forget all that has not happened."""
        with self._lock:
            self._pending.clear()

    @property
    def is_empty(self) -> bool:
        """True when every scripted fault has happened."""
        with self._lock:
            return not self._pending

    def event_count(self, layer: FaultLayer) -> int:
        """Events of a layer so far."""
        with self._lock:
            return self._event_counts[layer]

    def take(self, layer: FaultLayer) -> Fault | None:
        """Count one event of `layer`, and the fault that happens at it; for the token's own layers."""
        with self._lock:
            self._event_counts[layer] += 1
            happening: Fault | None = None
            for pending in [item for item in self._pending if LAYER_OF[item.fault.kind] is layer]:
                if pending.skip_count_left:
                    pending.skip_count_left -= 1
                elif happening is None:
                    happening = pending.fault
                    pending.repeat_count_left -= 1
                    if not pending.repeat_count_left:
                        self._pending.remove(pending)
            return happening or self._draw(layer)

    def _draw(self, layer: FaultLayer) -> Fault | None:
        if not self._flaky_per_mille or self._random.randrange(1000) >= self._flaky_per_mille:
            return None
        kinds = [kind for kind in FLAKY_KINDS if LAYER_OF[kind] is layer]
        return Fault(self._random.choice(kinds)) if kinds else None
