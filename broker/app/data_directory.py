"""The data directory: what makes this broker itself over restarts, and the lock that lets one process use it.

    lock            held (flock) while a broker runs; holds its pid
    broker.id       8 bytes in hexadecimal: part of every session id
    secret          16 bytes in hexadecimal, 0600: signs session ids
    generation      how often the directory has been started; grows by one, synced, before listening (semantics rule 22)
    admin.token     0600: who can read it may administer
    running.json    0600: pid and addresses, while the broker serves

Written with a temporary file, fsync and rename, so that a crash leaves the old or the new. Everything here runs before the event
loop starts or after it ended, in the main thread. Raises DataDirectoryError, which says what to do.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from broker.errors import AlreadyRunning, DataDirectoryError

LOCK_FILE, BROKER_ID_FILE, SECRET_FILE = "lock", "broker.id", "secret"
GENERATION_FILE, TOKEN_FILE, RUN_FILE = "generation", "admin.token", "running.json"
BROKER_ID_SIZE, SECRET_SIZE, TOKEN_SIZE = 8, 16, 32
GENERATION_MAX = 2**23 - 1
TEXT_SIZE_MAX = 4096

UNWRITABLE = frozenset((errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM))
"""What a disk says that can be read and not written. Everything else (EIO) is a fault, and stops the start."""
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """An opened data directory; the lock is held as long as `opened` has not ended."""

    path: Path
    broker_id: bytes
    secret: bytes
    generation: int
    admin_token: str
    lock: int
    """The descriptor that holds the lock: whoever gets it passed has the lock too."""
    unwritable: str = ""
    """Why nothing can be written here, though all can be read; empty: it can. The generation is then not synced, and must mark nothing new."""

    def write_run_file(self, facts: dict[str, Any]) -> None:
        """Says where the broker serves, for the command line and for tests; if it can."""
        try:
            _replace(self.path / RUN_FILE, json.dumps(facts) + "\n", 0o600)
        except OSError as error:
            if not self.unwritable:
                raise _trouble(self.path / RUN_FILE, error) from error

    def remove_run_file(self) -> None:
        """The broker no longer serves. Failing to say so harms nobody."""
        with contextlib.suppress(OSError):
            (self.path / RUN_FILE).unlink()

    def __repr__(self) -> str:
        # The secret and the token must not reach a log or a traceback.
        return f"DataDirectory({str(self.path)!r}, generation={self.generation})"


@contextmanager
def opened(
    path: Path,
    lock: int | None = None,
    make_room: Callable[[], bool] | None = None,
    generation_seen: Callable[[bytes], int] | None = None,
) -> Iterator[DataDirectory]:
    """Locks the directory, making it if need be, and starts a new generation. `lock` is its lock's descriptor, locked already, if
    another broker has passed it; it is closed here. With `make_room` a directory that can be read and not written is opened all the same, once
    that has been called for a full disk and did not help. `generation_seen` knows of later starts than this directory does, by the broker's id:
    a backup was restored, and its fences must not come a second time."""
    _make(path)
    with _locked(path / LOCK_FILE, lock) as descriptor:
        try:
            broker_id = _hexadecimal(path / BROKER_ID_FILE, BROKER_ID_SIZE, 0o644)
            secret = _hexadecimal(path / SECRET_FILE, SECRET_SIZE, 0o600)
            token = _kept(path / TOKEN_FILE, 0o600, lambda: secrets.token_urlsafe(TOKEN_SIZE), _as_token)
            seen = generation_seen(broker_id) if generation_seen is not None else 0
            generation, unwritable = _generation(path / GENERATION_FILE, seen, make_room)
        except OSError as error:
            raise _trouble(path, error) from error
        directory = DataDirectory(path, broker_id, secret, generation, token, descriptor, unwritable)
        directory.remove_run_file()
        yield directory


def read_run_file(path: Path) -> dict[str, Any]:
    """Where the broker of a data directory serves; empty if it does not, or may not be asked."""
    try:
        facts = json.loads((path / RUN_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def read_token(path: Path) -> str:
    """The admin token of a data directory; OSError if it cannot be read."""
    return (path / TOKEN_FILE).read_text().strip()


def default_data_dir() -> Path:
    """/var/lib/usher for root, else usher in the user's state directory (XDG base directories)."""
    if os.geteuid() == 0:
        return Path("/var/lib/usher")
    state_home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state_home).expanduser() / "usher"


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _trouble(path, error) from error


def _trouble(path: Path, error: OSError) -> DataDirectoryError:
    where = Path(error.filename) if error.filename else path
    reason = f"cannot be used: {error.strerror or error}"
    return DataDirectoryError(where, reason, "make it usable for the broker's user, or choose another --data-dir")


@contextmanager
def _locked(path: Path, given: int | None) -> Iterator[int]:
    """Holds the lock, which ends with the process however that ends."""
    try:
        descriptor = given if given is not None else _lock_file(path)
    except OSError as error:
        raise _trouble(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(path.parent, _pid_in(descriptor)) from None
        with contextlib.suppress(OSError):  # a disk that is full, or read-only: only the sentence for a second broker is poorer
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_file(path: Path) -> int:
    """The file to lock; one that is there already may lie on a read-only disk."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in UNWRITABLE or not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _pid_in(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _hexadecimal(path: Path, size: int, mode: int) -> bytes:
    def read(text: str) -> bytes:
        data = bytes.fromhex(text)
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes")
        return data

    return _kept(path, mode, lambda: secrets.token_hex(size), read)


def _as_token(text: str) -> str:
    if len(text) < TOKEN_SIZE or not text.isascii() or any(letter.isspace() for letter in text):
        raise ValueError("too short, or not one word")
    return text


def _kept(path: Path, mode: int, make: Callable[[], str], read: Callable[[str], _Value]) -> _Value:
    """What a file holds; it is made the first time and never replaced by itself."""
    text = _read_text(path, mode)
    if text is None:
        text = make()
        _replace(path, text + "\n", mode)
    try:
        return read(text)
    except ValueError as error:
        # Made anew it would disown every open session, so that only a person may decide it.
        raise DataDirectoryError(path, f"is damaged ({error})", "restore it, or delete it to begin anew") from None


def _generation(path: Path, seen: int, make_room: Callable[[], bool] | None) -> tuple[int, str]:
    """The generation of this start, and why it could not be written down, if it could not."""
    for is_last in (False, True):
        try:
            return _next_generation(path, seen), ""
        except OSError as error:
            if make_room is None or error.errno not in UNWRITABLE or not path.exists():
                raise
            if is_last or error.errno not in FULL or not make_room():
                return _grown(path, seen), error.strerror or str(error)
    raise AssertionError("unreachable")


def _next_generation(path: Path, seen: int) -> int:
    generation = _grown(path, seen)
    _replace(path, f"{generation}\n", 0o644)
    return generation


def _grown(path: Path, seen: int) -> int:
    def read(text: str) -> int:
        if not text.isdigit():
            raise ValueError("no number")
        return int(text)

    generation = _kept(path, 0o644, lambda: "0", read)
    generation = max(generation, seen) + 1
    if generation > GENERATION_MAX:
        raise DataDirectoryError(path, f"has been started {GENERATION_MAX} times, the most that a fence holds", "use a new one")
    return generation


def _read_text(path: Path, mode: int) -> str | None:
    """The text of a file; None if there is none. A secret that others may read is no secret."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        if mode == 0o600 and stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise DataDirectoryError(
                path, "can be read by others than its owner", f"delete it to get a new one, or `chmod 600 {path}` if nobody has"
            )
        return file.read(TEXT_SIZE_MAX).strip()


def _replace(path: Path, text: str, mode: int) -> None:
    """Puts a whole file in place, durably."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
