"""A data directory copied while its broker runs, and put back: what a backup holds, in which order it is read, and what it proves.

A backup is a directory (0700; it holds secrets) with the shape of a data directory, and a list of what is in it:

    backup.json                   what it is: broker, generation, log position, and of each file its size and SHA-256
    broker.id, secret, ...        as they were
    journal/<position>.snap       the newest snapshot that verifies
    journal/<position>.log        the segments behind it, cut where the backup ends; what is behind that is zeros
    journal/state                 says that more was committed than is here: see below

Read in this order, beside a running broker: what it has committed (asked at its door) → the newest snapshot → the log from there up to what was
committed. Nothing is locked and nothing waits. A compaction in between can only remove what is older than two snapshots; should a file go
all the same, everything is begun again, a few times. At the end the copy is read as a start would read it.

What happened after a backup is not in it: acknowledged sessions are lost by restoring it, and their holders may use their seats until their next
renew. So a person decides (semantics rule 22): the state of a backup names a position behind its end, and a broker refuses it until it is
started once with --accept-restored. The generation of a restored directory is GENERATION_GAP above all that is known, so that no fence
is given twice even if the directory was started again after the backup.

No history (it is made of the log), nothing of the running process. Main thread of a command; no GIL is spared.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from broker._journal import RealDisk, read_log, segment_positions
from broker.errors import DataDirectoryError
from broker.journal.recovery import choose_start
from broker.journal.state import STATE_NAME, LogState, StatePlace
from broker.model.journal import LogDamaged, LogEnd, LogStop

MANIFEST_NAME, JOURNAL_NAME, GENERATION_NAME = "backup.json", "journal", "generation"
FORMAT_VERSION = 1
GENERATION_GAP = 1024
ATTEMPTS_MAX = 5
CHUNK_SIZE = 1 << 20
SEGMENT_HEADER_SIZE = 4096
"""Where the first block of a segment stands: the format at the head of ext/journal/_journal.pyx."""

Committed = Callable[[], int | None]
"""What a running broker has committed; None if none runs: then the log is read to its end."""


class BackupError(DataDirectoryError):
    """A backup cannot be made, or is not what it says that it is. What it is of, or would replace, was not changed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is. Sizes are bytes, `position` is a log position: all before it is in the backup."""

    broker: str
    generation: int
    position: int
    snapshot: str
    made_unix_s: int
    files: dict[str, tuple[int, str]]
    version: int = FORMAT_VERSION

    @property
    def size(self) -> int:
        """Of all its files."""
        return sum(size for size, _ in self.files.values())


@dataclass(frozen=True, slots=True)
class Source:
    """What is backed up: the files of a data directory that make a broker itself, and where its log lies."""

    data_dir: Path
    journal: Path
    kept: Sequence[str]
    """Files and folders of the data directory; those that are not there are left out."""
    broker_id: bytes
    generation: int


def back_up(source: Source, target: Path, committed: Committed) -> Manifest:
    """Copies, verifies and lists. DataDirectoryError's tree, OSError; then the target is removed again if it was made here."""
    is_ours = not target.exists()
    _require_empty(target)
    try:
        return _copy(source, target, committed)
    except BaseException:
        if is_ours:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _copy(source: Source, target: Path, committed: Committed) -> Manifest:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.chmod(0o700)
    for name in source.kept:
        _copy_kept(source.data_dir / name, target / name)
    snapshot, end = _copy_log(source, target / JOURNAL_NAME, committed)
    state = LogState(source.broker_id, source.generation, end.position + 1)
    _state_place(target / JOURNAL_NAME).write(state)
    files = {name: _fingerprint(target / name) for name in _file_names(target)}
    manifest = Manifest(source.broker_id.hex(), source.generation, end.position, snapshot, int(time.time()), files)
    _write_synced(target / MANIFEST_NAME, json.dumps(asdict(manifest), indent=1).encode())
    _sync_tree(target)
    return verified(target)


# --- the log -------------------------------------------------------------------------------------------------------------


def _copy_log(source: Source, target: Path, committed: Committed) -> tuple[str, LogEnd]:
    """The name of the snapshot, if there is one, and where the copied log ends."""
    for _ in range(ATTEMPTS_MAX):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        try:
            return _copy_log_once(source, target, committed())
        except (FileNotFoundError, LogDamaged) as error:
            # A compaction has taken a file away that was to be read next. What is really damaged is so the next time, too.
            last = error
    if isinstance(last, LogDamaged):
        raise last
    raise BackupError(source.journal, "its files go faster than they can be read", "try again when the broker has less to do") from last


def _copy_log_once(source: Source, target: Path, until: int | None) -> tuple[str, LogEnd]:
    start = choose_start(RealDisk(source.journal), source.broker_id)
    name = start.snapshot.name if start.snapshot else ""
    if name:
        _copy_file(source.journal / name, target / name)
    if until is not None and until < start.position:
        until = start.position  # a snapshot has been made since the broker was asked: what it holds is committed
    end = _end_of_log(source, start.position, until)
    for one in _segments(source.journal, start.position, end):
        _copy_file(source.journal / one, target / one)
    if end.segment:
        _blank_behind(target / end.segment, end.offset)
    return name, end


def _end_of_log(source: Source, position: int, until: int | None) -> LogEnd:
    """Where the log ends, with file and offset; read from the beginning of the segment in which the position lies, for a reading that has nothing to
    read says neither."""
    first = max((one for one in segment_positions(source.journal) if one <= position), default=position)
    end = _read_to_end(source.journal, source.broker_id, first, until)
    if not end.segment and end.position:
        return replace(end, segment=f"{first:016x}.log", offset=SEGMENT_HEADER_SIZE)
    return end


def _read_to_end(journal: Path, broker_id: bytes, position: int, until: int | None) -> LogEnd:
    """Where the log ends that begins at a position, each block of it verified. LogDamaged."""
    reading = read_log(journal, broker_id=broker_id, position=position, until=until)
    for _ in reading:
        pass
    assert reading.end is not None
    return reading.end


def _segments(journal: Path, position: int, end: LogEnd) -> Iterator[str]:
    """The files that hold the events from a position up to the end."""
    positions = segment_positions(journal)
    first = max((one for one in positions if one <= position), default=position)
    return (f"{one:016x}.log" for one in positions if first <= one and f"{one:016x}.log" <= end.segment)


def _blank_behind(path: Path, offset: int) -> None:
    """Zeros from an offset on: what a committer was writing there while it was copied belongs to nobody."""
    size = path.stat().st_size
    os.truncate(path, min(offset, size))
    os.truncate(path, size)


# --- what was copied -------------------------------------------------------------------------------------------------------


def verified(backup: Path) -> Manifest:
    """What a backup is, once all of it has been read: each file as it was listed, and snapshot and log as a start would read them. BackupError,
    LogDamaged, SnapshotDamaged."""
    manifest = read_manifest(backup)
    found = set(_file_names(backup)) - {MANIFEST_NAME}
    for name, fingerprint in manifest.files.items():
        if name not in found or _fingerprint(backup / name) != tuple(fingerprint):
            raise BackupError(backup / name, "is missing or not as it was when the backup was made", "use another backup")
    if strangers := sorted(found - manifest.files.keys()):
        raise BackupError(backup / strangers[0], "does not belong to this backup", "remove it, if you know what it is")
    journal, broker_id = backup / JOURNAL_NAME, bytes.fromhex(manifest.broker)
    start = choose_start(RealDisk(journal), broker_id)
    end = _read_to_end(journal, broker_id, start.position, None)
    if end.position != manifest.position or end.stop is not LogStop.END:
        raise BackupError(journal, f"ends at {end.position} and not at {manifest.position}", "use another backup")
    return manifest


def read_manifest(backup: Path) -> Manifest:
    """What a backup says that it is. BackupError."""
    path = backup / MANIFEST_NAME
    try:
        members: dict[str, Any] = json.loads(path.read_bytes())
        manifest = Manifest(**members)
    except (OSError, ValueError, TypeError) as error:
        raise BackupError(path, f"cannot be read ({error}): this is no whole backup", "name the directory that `usher backup` made") from None
    if manifest.version != FORMAT_VERSION:
        raise BackupError(path, f"has the format {manifest.version}", "use the version of usher that made it, or a newer one")
    return replace(manifest, files={name: (int(size), str(digest)) for name, (size, digest) in manifest.files.items()})


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a backup is put back: two directories that are empty or do not exist. `owner`: user and group that get the files, when root restores."""

    data_dir: Path
    journal: Path
    owner: tuple[int, int] | None = None


def restore(backup: Path, target: Destination, *, generation_known: int) -> Manifest:
    """Puts a backup back; the broker then refuses it until it is told --accept-restored. `generation_known`: the latest start that is known
    of beside the backup. What is given says the generation that was written. BackupError, OSError."""
    manifest = verified(backup)
    roots = (target.data_dir, target.journal)
    for one in roots:
        _require_empty(one)
    for one in roots:
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
        one.chmod(0o700)
    for name in manifest.files:
        _put_back(backup / name, _place(target, name))
    generation = max(manifest.generation, generation_known) + GENERATION_GAP
    _write_synced(target.data_dir / GENERATION_NAME, f"{generation}\n".encode(), 0o644)
    for one in roots:
        _give_to(target.owner, one)
        _sync_tree(one)
    return replace(manifest, generation=generation)


def _place(target: Destination, name: str) -> Path:
    top, _, rest = name.partition("/")
    return target.journal / rest if top == JOURNAL_NAME else target.data_dir / name


def _put_back(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy_file(source, target)


def _give_to(owner: tuple[int, int] | None, root: Path) -> None:
    if owner is not None:
        for path in (root, *root.rglob("*")):
            os.chown(path, *owner, follow_symlinks=False)


# --- files -----------------------------------------------------------------------------------------------------------------


def _require_empty(directory: Path) -> None:
    try:
        is_empty = not any(directory.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        is_empty = False
    if not is_empty:
        raise BackupError(directory, "is not empty", "name a directory that is, or does not exist yet")


def _state_place(journal: Path) -> StatePlace:
    return StatePlace(RealDisk(journal), STATE_NAME)


def _file_names(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _copy_kept(source: Path, target: Path) -> None:
    """A file, or all files of a folder; what is being replaced at this moment (*.new) and links to elsewhere stay behind."""
    if source.is_symlink() or source.name.endswith(".new"):
        return
    if source.is_dir():
        target.mkdir(mode=0o700)
        for one in sorted(source.iterdir()):
            _copy_kept(one, target / one.name)
    elif source.is_file():
        _copy_file(source, target)


def _copy_file(source: Path, target: Path) -> None:
    """Bytes and access rights, with holes where there are only zeros: most of a log's newest segment is. OSError, also for a full disk."""
    with source.open("rb") as reader, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as writer:
        while chunk := reader.read(CHUNK_SIZE):
            if chunk.count(0) == len(chunk):
                writer.seek(len(chunk), os.SEEK_CUR)
            else:
                writer.write(chunk)
        writer.truncate()
        os.fchmod(writer.fileno(), source.stat().st_mode & 0o700)


def _fingerprint(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _write_synced(path: Path, data: bytes, mode: int = 0o600) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_tree(directory: Path) -> None:
    """All files, then the directories that name them. OSError."""
    for path in (*directory.rglob("*"), directory, directory.parent):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot sync names
                raise
        finally:
            os.close(descriptor)
