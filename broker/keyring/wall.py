"""The wall clock as licences may see it: it never goes back (`semantics.md` 21).

A clock that is set back holds at the latest instant ever seen, so nothing that expired revives and nothing new becomes
valid until real time has caught up. A step back of more than five minutes is said to the admin, from then on until the
clock has passed the mark again. The mark outlives the process: the caller gives that of the earlier run, and the machine that
came up with the year of its making is suspect at once. Seconds since 1970.
"""

from typing import Final

STEP_BACK_S_MAX: Final = 300


class WallMark:
    """The latest instant seen; `high_unix_s` at the start is that of an earlier run, 0 if there is none."""

    def __init__(self, high_unix_s: int = 0) -> None:
        self.high_unix_s = high_unix_s
        self.is_suspect = False

    def see(self, unix_s: int) -> int:
        """The instant to judge licences by, given what the clock says."""
        is_behind = unix_s < self.high_unix_s
        self.is_suspect = is_behind and (self.is_suspect or unix_s < self.high_unix_s - STEP_BACK_S_MAX)
        self.high_unix_s = max(self.high_unix_s, unix_s)
        return self.high_unix_s
