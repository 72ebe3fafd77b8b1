"""Scripted troubles of an emulated token: what goes wrong, at which of its events, how often.

Each kind belongs to one layer of the token and happens at an event of that layer, counted from the moment that
the fault is appended:

    OPEN        an open of the device
    TRANSFER    a bulk transfer, either way
    COMMAND     a whole CCID message that reached the reader
    SIGNATURE   a signature that the applet is about to return

A fault lets `skip_count` events pass, then happens `repeat_count` times and is gone. `event_count` tells a test
how many events a run has, so that it can walk a fault through all of them. Thread-safe: a test appends while
the device runs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum


class FaultLayer(Enum):
    """Where a fault happens."""

    OPEN = "open"
    TRANSFER = "transfer"
    COMMAND = "command"
    SIGNATURE = "signature"


class FaultKind(Enum):
    """What goes wrong."""

    ACCESS_DENIED = "access_denied"  # open: EACCES, as without a udev rule
    OPEN_EIO = "open_eio"  # open: EIO, as after autosuspend
    UNPLUG = "unplug"  # transfer: the token leaves the bus in the middle of it
    STALL = "stall"  # transfer: the endpoint halts until it is cleared
    NO_ANSWER = "no_answer"  # command: swallowed
    WRONG_SEQUENCE = "wrong_sequence"  # command: only an answer with another bSeq comes
    STALE_ANSWER = "stale_answer"  # command: an old answer comes before the right one
    SLOW = "slow"  # command: time extensions, then the answer, `delay_ms` later
    EXTENSION_FLOOD = "extension_flood"  # command: time extensions and nothing else
    EMPTY_ANSWER = "empty_answer"  # command: a data block without data
    TRUNCATED_ANSWER = "truncated_answer"  # command: half of the answer's bytes
    READER_FAILURE = "reader_failure"  # command: failed, hardware error
    BAD_SIGNATURE = "bad_signature"  # signature: one bit wrong
    OTHER_KEY_SIGNATURE = "other_key_signature"  # signature: well made by another private key


LAYER_OF: dict[FaultKind, FaultLayer] = {
    FaultKind.ACCESS_DENIED: FaultLayer.OPEN,
    FaultKind.OPEN_EIO: FaultLayer.OPEN,
    FaultKind.UNPLUG: FaultLayer.TRANSFER,
    FaultKind.STALL: FaultLayer.TRANSFER,
    FaultKind.NO_ANSWER: FaultLayer.COMMAND,
    FaultKind.WRONG_SEQUENCE: FaultLayer.COMMAND,
    FaultKind.STALE_ANSWER: FaultLayer.COMMAND,
    FaultKind.SLOW: FaultLayer.COMMAND,
    FaultKind.EXTENSION_FLOOD: FaultLayer.COMMAND,
    FaultKind.EMPTY_ANSWER: FaultLayer.COMMAND,
    FaultKind.TRUNCATED_ANSWER: FaultLayer.COMMAND,
    FaultKind.READER_FAILURE: FaultLayer.COMMAND,
    FaultKind.BAD_SIGNATURE: FaultLayer.SIGNATURE,
    FaultKind.OTHER_KEY_SIGNATURE: FaultLayer.SIGNATURE,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted trouble. `delay_ms` is used by SLOW alone."""

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
    """The faults of one token, shared by all its layers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
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
            return happening
