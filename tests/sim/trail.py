"""What happened in a course: the last steps in words for who has to understand a failure, and a digest of all of them.

A step is kept as the parts of a line, and only made into one when it is shown. The digest is over numbers and bytes alone, so that it is the same
in every process.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from zlib import crc32

SHOWN_COUNT = 40


class Trail:
    """The course so far. `digest` is a CRC of everything that was said, if somebody wants it: it costs some percent of a course."""

    __slots__ = ("_is_digested", "_last", "digest", "step_count")

    def __init__(self, *, is_digested: bool = True) -> None:
        self._is_digested = is_digested
        self._last: deque[tuple[int, tuple[Any, ...]]] = deque(maxlen=SHOWN_COUNT)
        self.digest = 0
        self.step_count = 0

    def say(self, now_ns: int, *parts: Any) -> None:
        """One step: who, what, and the facts; each of them a text, a number, or what prints the same in every process."""
        self.step_count += 1
        self._last.append((now_ns, parts))
        if self._is_digested:
            self.digest = crc32(b"%d %r" % (now_ns, parts), self.digest)

    def lines(self) -> list[str]:
        """The last steps, the newest last."""
        return [f"{now_ns / 1e9:12.6f} s  " + "  ".join(str(part) for part in parts) for now_ns, parts in self._last]
