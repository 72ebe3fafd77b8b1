"""The network between holders and broker: messages are late, lost, doubled and overtake each other. While it is calm none of that happens.

A message is a call that happens at its receiver. Nothing is ever changed on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.sim.agenda import US, Agenda
from tests.sim.course import Course

CALM_DELAY_NS = 100 * US


class Network:
    """All links at once. `cut` holds the numbers of holders who are cut off."""

    __slots__ = ("_agenda", "_chance", "_delay_ns_max", "_duplicate", "_loss", "cut", "is_calm")

    def __init__(self, agenda: Agenda, course: Course, chance: Random) -> None:
        self._agenda = agenda
        self._chance = chance
        self._loss = course.loss
        self._duplicate = course.duplicate
        self._delay_ns_max = course.delay_ns_max
        self.is_calm = False
        self.cut: set[int] = set()

    def carry(self, holder_number: int, arrives: Callable[..., None], *arguments: Any) -> None:
        """A message from or to a holder."""
        if self.is_calm:
            self._agenda.after(CALM_DELAY_NS, arrives, *arguments)
            return
        draw = self._chance.random
        if holder_number in self.cut or draw() < self._loss:
            return
        self._agenda.after(1 + int(draw() ** 3 * self._delay_ns_max), arrives, *arguments)
        if draw() < self._duplicate:
            self._agenda.after(1 + int(draw() * self._delay_ns_max * 3), arrives, *arguments)
