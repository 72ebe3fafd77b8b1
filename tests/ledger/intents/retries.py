"""What clients repeat: the same request again, and another one under a request_id that was used before."""

from __future__ import annotations

from typing import Any

from broker.model.words import Status
from tests.ledger.intents.desk import HISTORY_COUNT, Desk
from tests.ledger.operations import Operation
from tests.model.records import Remembered


class RetryIntents:
    """Everything here is about requests that the ledger remembers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rng = desk.rng

    def again(self) -> None:
        """Of any kind, whatever became of it."""
        if old := self._remembered():
            self._desk.put(old.name, old.arguments, old.opened_by)

    def again_inside(self) -> None:
        """What was asked in a session that lives."""
        if old := self._remembered_inside():
            self._desk.put(old.name, old.arguments, old.opened_by)

    def changed(self) -> None:
        old = self._remembered()
        if old is not None and old.name == "open":
            self._desk.put("open", self._changed_open(old.arguments))

    def changed_inside(self) -> None:
        """With something else in it, or with another verb."""
        if old := self._remembered_inside():
            name = self._rng.choice(("acquire", "release", "close"))
            others: dict[str, dict[str, Any]] = {
                "acquire": {"products": [(self._desk.episode.products[0], False)], "salt": b"other"},
                "release": {"product": "another"},
                "close": {},
            }
            self._desk.put(name, {"request_id": old.arguments["request_id"]} | others[name], old.opened_by)

    def _remembered(self) -> Operation | None:
        desk, memory = self._desk, self._desk.model.memory
        living = list(desk.model.live)
        recent = memory.requests_to_forget[-HISTORY_COUNT:]
        if not recent or self._rng.random() < 0.1:
            recent = memory.denials_to_forget[-HISTORY_COUNT:]
        if recent and (not living or self._rng.random() < 0.75):
            return desk.asked[self._rng.choice(recent).request_id]
        return desk.openers[self._rng.choice(living)] if living else None

    def _remembered_inside(self) -> Operation | None:
        memory, live = self._desk.model.memory, self._desk.model.live
        recent = [*memory.requests_to_forget[-HISTORY_COUNT:], *memory.denials_to_forget[-HISTORY_COUNT:]]
        inside = [entry for entry in recent if entry.scope in live]
        denied = [entry for entry in inside if entry.status is Status.DENIED]
        chosen: list[Remembered] = denied if denied and self._rng.random() < 0.3 else inside
        return self._desk.asked[self._rng.choice(chosen).request_id] if chosen else None

    def _changed_open(self, told: dict[str, Any]) -> dict[str, Any]:
        changed = {
            "products": [*told["products"][::-1], ("another", True)][-16:],
            "ttl_ns": told["ttl_ns"] + 1,
            "priority": (told["priority"] + 1) % 8,
            "salt": told["salt"] + b"?",
            "instance_id": told["instance_id"] + b"?",
        }
        part = self._rng.choice(list(changed))
        return told | {part: changed[part]}
