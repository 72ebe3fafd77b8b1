"""The one clock of a simulated world, and what is to happen when. Nanoseconds since the world began.

What is due at the same instant happens in the order in which it was put down, so that a course depends on its seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

US = 1_000
MS = 1_000_000
S = 1_000_000_000


class Agenda:
    """Things to come. Whoever changes his mind ignores what comes: nothing is taken out."""

    __slots__ = ("_coming", "_count", "now_ns")

    def __init__(self) -> None:
        self.now_ns = 0
        self._coming: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when_ns: int, happens: Callable[..., None], *arguments: Any) -> None:
        """Puts down what happens at an instant, or now if that has passed."""
        self._count += 1
        heappush(self._coming, (max(when_ns, self.now_ns), self._count, happens, arguments))

    def after(self, delay_ns: int, happens: Callable[..., None], *arguments: Any) -> None:
        """As `at`, counted from now."""
        self._count += 1
        heappush(self._coming, (self.now_ns + delay_ns, self._count, happens, arguments))

    def step(self) -> bool:
        """Time goes on to the next thing, and it happens; False: nothing is to come."""
        if not self._coming:
            return False
        self.now_ns, _, happens, arguments = heappop(self._coming)
        happens(*arguments)
        return True

    @property
    def next_ns(self) -> int | None:
        """When the next thing happens."""
        return self._coming[0][0] if self._coming else None
