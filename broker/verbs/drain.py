"""The switch that lets no new session in, shared by Admin, the session verbs and the shutdown."""

from __future__ import annotations


class DrainSwitch:
    """Off at the start. Read by every Open; set by Admin.Drain and by the shutdown. Event loop's thread only."""

    def __init__(self) -> None:
        self._is_draining = False

    @property
    def is_draining(self) -> bool:
        """Whether Opens are refused with UNAVAILABLE, DRAINING."""
        return self._is_draining

    def set(self, is_draining: bool) -> None:
        """Starts or stops draining. Doing it again changes nothing."""
        self._is_draining = is_draining
