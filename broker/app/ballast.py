"""The ballast: a file that takes room on the log's disk, so that there is some to give back when the disk is full.

    ballast     in the log's folder, journal.ballast_size bytes, allocated and never read

It is made at the start if the disk has room several times over, and given back by itself, once, the first time that the log finds no room: at the start,
or when its next segment cannot be made. That buys the admin so much more log, and is said loudly; the next start makes it anew. An admin
may delete it as well. Not being able to make it stops nothing. Any thread, one at a time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from broker.app.logs import facts

log = logging.getLogger("broker.app")

BALLAST_FILE = "ballast"
ROOM_FACTOR = 4
"""A disk with less room than so many ballasts needs it for something better."""


class Ballast:
    """The file of one log's folder. `wanted_size` 0: none is made, and one that is there is given back."""

    def __init__(self, folder: Path, wanted_size: int) -> None:
        self._path = folder / BALLAST_FILE
        self._wanted_size = wanted_size

    @property
    def size(self) -> int:
        """Of the file as it stands; 0 if there is none."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def make(self) -> None:
        """Makes the file as large as it is wanted, if there is plenty of room."""
        if self.size == self._wanted_size:
            return
        try:
            self._path.unlink(missing_ok=True)
            room_size = shutil.disk_usage(self._path.parent).free
            if self._wanted_size and room_size > ROOM_FACTOR * self._wanted_size:
                self._allocate()
            elif self._wanted_size:
                log.warning("no ballast: the disk of the log is nearly full", extra=facts(file=str(self._path), free=room_size))
        except OSError as error:
            self._remove()
            log.warning("no ballast", extra=facts(file=str(self._path), cause=str(error)))

    def release(self) -> bool:
        """Gives the room back; whether there was any to give. Says so loudly."""
        size = self.size
        if not size or not self._remove():
            return False
        log.error(
            "the disk of the log is full: the ballast was given back, and will not be a second time; make room now",
            extra=facts(file=str(self._path), size=size),
        )
        return True

    def _allocate(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._wanted_size)
        finally:
            os.close(descriptor)

    def _remove(self) -> bool:
        with contextlib.suppress(OSError):
            self._path.unlink()
            return True
        return False
