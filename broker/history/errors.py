"""What can be wrong with a history, as errors that say what to do. None of them ever stops a broker."""

from __future__ import annotations

from pathlib import Path

from broker.errors import DataDirectoryError


class HistoryError(DataDirectoryError):
    """The history cannot be used as it is."""


class HistoryMissing(HistoryError):
    """There is none (yet)."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, "there is no history", "name the broker's data directory with --data-dir; a broker makes one soon after its start"
        )


class HistoryBusy(HistoryError):
    """Somebody else writes it."""

    def __init__(self, path: Path, pid: int) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(path, f"{who} writes this history", "wait until it is done, or stop it")
        self.pid = pid
