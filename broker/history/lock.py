"""The lock of a history: one process writes it, whatever it is; flock, gone with its process.

The file holds the process number of the last writer. Any thread.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from broker.history.errors import HistoryBusy
from broker.history.owner import make_file, make_folder


class WriterLock:
    """Held from its making until `close`. HistoryBusy names who holds it."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_suffix(".lock")
        make_folder(self.path.parent)
        make_file(self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(self._descriptor, 32, 0).strip()
            os.close(self._descriptor)
            raise HistoryBusy(database, int(text) if text.isdigit() else 0) from None
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Lets the next one write."""
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the flock of a file: a history's, or a log's. OSError if it cannot be looked at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
