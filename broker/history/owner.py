"""Whose the files of a history are: the owner's of the data directory, also when root makes them.

Else a rebuild by root would leave a database that the broker's own user cannot write. SQLite itself does the same for the files
beside a database. Nothing is done for others than root.
"""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """A folder (0700) like the one that it lies in; OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_to_owner(folder)


def make_file(path: Path) -> None:
    """An empty file (0600) if there is none; OSError."""
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        give_to_owner(path)


def give_to_owner(path: Path) -> None:
    """To the owner of the folder that it lies in."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
