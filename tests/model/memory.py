"""What the ledger model remembers of answered requests, so that a retry gets the first answer (semantics rule 11).

One dictionary by scope and request_id. A grant is put to be forgotten when its session ends, everything else at once:
one line for denials, one for the rest, both in the order of their instants. Nothing is forgotten early, and nothing
late either except by `advance`, which forgets; at the bound new requests are refused instead.
"""

from __future__ import annotations

from collections.abc import Hashable

from broker.model.words import Status
from tests.model.clock import Clock
from tests.model.records import Remembered, Session


class Memory:
    """`window_ns` for what was done, `denial_window_ns` for denials, both in ledger time."""

    def __init__(
        self, clock: Clock, *, window_ns: int, denial_window_ns: int, requests_max: int, denials_max: int
    ) -> None:
        self._clock = clock
        self._window_ns = window_ns
        self._denial_window_ns = denial_window_ns
        self._requests_max = requests_max
        self._denials_max = denials_max
        self.by_name: dict[Hashable, Remembered] = {}
        self.requests_to_forget: list[Remembered] = []
        self.denials_to_forget: list[Remembered] = []
        self._forgotten: list[Remembered] = []
        """Requests, in their order: no event told that they were, so that a restart may bring the last of them back."""

    @property
    def denial_count(self) -> int:
        return len(self.denials_to_forget)

    @property
    def request_count(self) -> int:
        return len(self.by_name) - self.denial_count

    def has_request_room(self) -> bool:
        return self.request_count < self._requests_max

    def has_room(self) -> bool:
        """For any outcome: it is asked before the decision."""
        return self.has_request_room() and self.denial_count < self._denials_max

    def find(self, name: Hashable) -> Remembered | None:
        return self.by_name.get(name)

    def remember(self, entry: Remembered) -> None:
        """From now; a grant of Open has no end yet."""
        self.by_name[entry.name] = entry
        if entry.status is Status.DENIED:
            entry.forget_at_ns = self._clock.ledger_ns + self._denial_window_ns
            self.denials_to_forget.append(entry)
        elif entry.status is not Status.GRANTED:
            self._put_to_forget(entry)

    def session_ended(self, session: Session) -> None:
        """Its Open is remembered for the request window more."""
        for entry in self.by_name.values():
            if entry.session is session and entry.status is Status.GRANTED:
                self._put_to_forget(entry)

    def _put_to_forget(self, entry: Remembered) -> None:
        entry.forget_at_ns = self._clock.ledger_ns + self._window_ns
        self.requests_to_forget.append(entry)

    def forget(self, entry: Remembered) -> None:
        del self.by_name[entry.name]
        line = self.denials_to_forget if entry.status is Status.DENIED else self.requests_to_forget
        line.remove(entry)
        if entry.status is not Status.DENIED:
            self._forgotten.append(entry)

    def restart(self, ledger_ns: int) -> None:
        """Denials are forgotten; requests, exactly those whose time has come at the last event."""
        for denied in list(self.denials_to_forget):
            self.forget(denied)
        line = [*self._forgotten, *self.requests_to_forget]
        self.requests_to_forget = [entry for entry in line if (entry.forget_at_ns or 0) > ledger_ns]
        for entry in line:
            self.by_name.pop(entry.name, None)
        self.by_name |= {entry.name: entry for entry in self.requests_to_forget}
        self._forgotten = []
