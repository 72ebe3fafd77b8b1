"""How long requests took and how they ended: one histogram for each (method, outcome).

Methods are "Service/Method" ("Sessions/Open", "Admin/ListKeys", "Door/Open"), outcomes one of `OUTCOMES`; both sets are
closed, so the number of series is bounded whatever clients send. Every pair that can happen exists from the start with zeros:
a counter that is born at one is invisible to rate(). Observed on the event loop's thread, read from any thread.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

BUCKET_BOUNDS_SECONDS: tuple[float, ...] = (
    *(float(f"{digit}e{exponent}") for exponent in range(-5, 1) for digit in (1, 2, 5)),
    10.0,
)
"""Upper bounds, inclusive: 1-2-5 from 10 µs to 10 s."""

OK = "ok"
GRANTED = "granted"
DENIED = "denied"
ENDED = "ended"
INTERNAL = "internal"

_OUTCOME_OF_STATUS = {
    "INVALID_ARGUMENT": "invalid",
    "NOT_FOUND": "not_found",
    "UNAUTHENTICATED": "unauthenticated",
    "RESOURCE_EXHAUSTED": "overloaded",
    "UNAVAILABLE": "unavailable",
    "UNIMPLEMENTED": "unimplemented",
    "FAILED_PRECONDITION": "failed",
    "INTERNAL": INTERNAL,
}
OUTCOMES = (OK, GRANTED, DENIED, ENDED, *_OUTCOME_OF_STATUS.values())

_OUTCOME_OF_ANSWER = {"grant": GRANTED, "acquired": GRANTED, "denial": DENIED, "ended": ENDED}

_ERRORS = ("invalid", INTERNAL)
_SESSION_ERRORS = (*_ERRORS, "not_found", "overloaded", "unavailable")
_OUTCOMES_OF_VERB: dict[str, tuple[str, ...]] = {
    "Open": (GRANTED, DENIED, ENDED, "unauthenticated", "overloaded", "unavailable", *_ERRORS),
    "Renew": (OK, "not_found", "unavailable", *_ERRORS),
    "KeepAlive": (OK, "overloaded", "unavailable", *_ERRORS),
    "Acquire": (GRANTED, DENIED, *_SESSION_ERRORS),
    "Release": (OK, DENIED, *_SESSION_ERRORS),
    "Close": (OK, *_SESSION_ERRORS),
    "OpenWaiting": (DENIED, "unavailable", *_ERRORS),
}
_OUTCOMES_OF_ADMIN = (OK, "unauthenticated", *_ERRORS)
_DOOR_VERBS = ("Open", "Renew", "Acquire", "Release", "Close")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one (method, outcome): one for each bound and a last one for what took longer; not cumulative."""

    bucket_counts: tuple[int, ...]
    sum_seconds: float

    @property
    def count(self) -> int:
        """All requests of it."""
        return sum(self.bucket_counts)


class RequestStats:
    """All histograms. `admin_methods` are the names of the Admin rpcs to count from the start."""

    def __init__(self, admin_methods: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}
        for verb, outcomes in _OUTCOMES_OF_VERB.items():
            self._prepare(f"Sessions/{verb}", outcomes)
        for verb in _DOOR_VERBS:
            self._prepare(f"Door/{verb}", _OUTCOMES_OF_VERB[verb])
        for method in admin_methods:
            self._prepare(f"Admin/{method}", _OUTCOMES_OF_ADMIN)

    def observe(self, method: str, outcome: str, seconds: float) -> None:
        """Counts one request. `outcome` is one of OUTCOMES, `method` the name of something that is served."""
        assert outcome in OUTCOMES, outcome
        index = bisect_left(BUCKET_BOUNDS_SECONDS, seconds)
        with self._lock:
            self._prepare(method, (outcome,))
            self._buckets[method, outcome][index] += 1
            self._sums[method, outcome] += seconds

    def snapshot(self) -> Mapping[tuple[str, str], Histogram]:
        """All histograms as they are at one instant."""
        with self._lock:
            return {pair: Histogram(tuple(counts), self._sums[pair]) for pair, counts in self._buckets.items()}

    def _prepare(self, method: str, outcomes: Iterable[str]) -> None:
        for outcome in outcomes:
            if (method, outcome) not in self._buckets:
                self._buckets[method, outcome] = [0] * (len(BUCKET_BOUNDS_SECONDS) + 1)
                self._sums[method, outcome] = 0.0


def outcome_of_status(status: str) -> str:
    """The outcome that stands for a VerbError with this status."""
    return _OUTCOME_OF_STATUS.get(status, INTERNAL)


def outcome_of_answer(answer: Message) -> str:
    """The outcome that stands for an answer: by the one field that is set of those that exclude each other."""
    for oneof in answer.DESCRIPTOR.oneofs:
        return _OUTCOME_OF_ANSWER.get(answer.WhichOneof(oneof.name) or "", OK)
    return OK
