"""The switch that lets no new session in, shared by Admin, the session verbs and the shutdown.

The ledger itself refuses, because only it can tell a new request from the repetition of one that it has granted: a client whose
answer was lost must get that answer, from a broker that drains too (semantics rule 11).
"""

from __future__ import annotations

from typing import Protocol

from broker.verbs.seams import Clock


class Admitting(Protocol):
    """The part of the ledger that the switch moves."""

    def set_admitting(self, now_ns: int, is_admitting: bool) -> None: ...


class DrainSwitch:
    """Off at the start. Set by Admin.Drain and by the shutdown. Event loop's thread only."""

    def __init__(self, ledger: Admitting, clock_ns: Clock) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._is_draining = False

    @property
    def is_draining(self) -> bool:
        """Whether Opens that were not seen before are refused with UNAVAILABLE, DRAINING."""
        return self._is_draining

    def set(self, is_draining: bool) -> None:
        """Starts or stops draining. Doing it again changes nothing."""
        self._ledger.set_admitting(self._clock_ns(), not is_draining)
        self._is_draining = is_draining
