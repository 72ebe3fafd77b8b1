"""A counter of changes that a thread can wait on: how a plug or unplug wakes the keyring at once.

A waiter says which count it has seen, so a change between its scan and its wait is never lost. Any thread.
"""

from __future__ import annotations

import threading


class ChangeCounter:
    """Counts changes and wakes everyone who waits for one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """Changes so far; only grows."""
        with self._condition:
            return self._count

    def bump(self) -> None:
        """Count one change and wake all waiters."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait_beyond(self, seen_count: int, wait_s: float) -> bool:
        """Wait until the count is over `seen_count`, at most `wait_s` seconds; True when it is."""
        with self._condition:
            return self._condition.wait_for(lambda: self._count > seen_count, wait_s)
