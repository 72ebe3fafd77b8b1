"""Findings about the data directory and the log: whose it is, who may read it, on what disk, how much room, how old the last snapshot is.

Looked at from outside, also beside a running broker; what the log holds is not read: `usher backup` does that, and the start. Sizes in
bytes; times are seconds of the wall clock.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.app.ballast import BALLAST_FILE
from broker.app.config import Config
from broker.app.data_directory import SECRET_FILE, TOKEN_FILE
from broker.doctor.finding import Finding, good, notice, trouble, warning
from hwkey.diagnosis import Account, NodeFacts

FORGETFUL = frozenset({"tmpfs", "ramfs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"})
SEGMENTS_AHEAD = 4
"""So many segments must fit, so that a log can be cut behind a snapshot."""
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Mount:
    """What a folder lies on."""

    point: str
    filesystem: str
    is_read_only: bool


def storage_findings(config: Config, account: Account, mountinfo: str, now_unix_s: float) -> Iterator[Finding]:
    """Everything about data directory and log. `mountinfo` as in proc(5)."""
    directory = config.data_dir
    if not directory.exists():
        yield notice("data", str(directory), "is not there yet: the first start makes it")
        return
    yield from access_findings(directory, account)
    if not config.journal.is_kept:
        yield warning("log", "durability", 'is "none": a restart forgets every session', 'write durability = "strict" into [journal]')
        return
    if not config.journal.is_strict:
        yield notice("log", "durability", 'is "relaxed": a power cut may lose the last moments')
    folder = config.journal_folder
    if folder.exists():
        yield from disk_findings(folder, mount_of(folder, mountinfo))
        yield from room_findings(config, shutil.disk_usage(folder).free)
        yield from file_findings(config, now_unix_s)


def access_findings(directory: Path, account: Account) -> Iterator[Finding]:
    """May the broker's user use it, and nobody else read its secrets."""
    found = directory.stat()
    facts = NodeFacts(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), has_acl=False)
    if facts.may_open(account):
        yield good("data", str(directory), f"{account.name} may use it")
    else:
        yield trouble("data", str(directory), f"{account.name} may not write there", f"`chown -R {account.name} {directory}`")
    for name in (SECRET_FILE, TOKEN_FILE):
        path = directory / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield trouble("data", str(path), "can be read by others than its owner", f"`chmod 600 {path}`; if others may have read it: delete it")


def disk_findings(folder: Path, mount: Mount | None) -> Iterator[Finding]:
    """Does the disk keep what it promises."""
    if mount is None:
        return
    if mount.is_read_only:
        yield trouble("log", str(folder), f"lies on {mount.point}, which is read-only: the broker serves renew-only", "mount it for writing")
    if mount.filesystem in FORGETFUL:
        yield trouble(
            "log", str(folder), f"lies in memory ({mount.filesystem} at {mount.point}): a reboot forgets every session",
            "name a folder on a disk: [journal] folder",
        )  # fmt: skip
    elif mount.filesystem in REMOTE:
        yield warning(
            "log", str(folder), f"lies on {mount.filesystem} at {mount.point}: each answer waits for the network, and not every server syncs",
            "put the log on a disk of this machine: [journal] folder",
        )  # fmt: skip


def room_findings(config: Config, free_size: int) -> Iterator[Finding]:
    """Is there room for what the log may still grow by."""
    folder, journal = config.journal_folder, config.journal
    used_size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    missing_size = journal.log_size_max - used_size
    shown = f"{free_size // MEBIBYTE} MiB are free, and the log may grow by {max(0, missing_size) // MEBIBYTE} MiB"
    least_size = SEGMENTS_AHEAD * journal.segment_size
    if free_size < least_size:
        yield trouble("room", str(folder), shown, "make room: with a full disk the broker ends, and then serves renew-only")
    elif free_size < missing_size:
        yield warning("room", str(folder), shown, "make room, or write a smaller [journal] log_size_max")
    else:
        yield good("room", str(folder), shown)
    ballast = folder / BALLAST_FILE
    ballast_size = ballast.stat().st_size if ballast.exists() else 0
    if ballast_size < journal.ballast_size:
        yield warning("room", str(ballast), "the ballast is not there: nothing is kept back for a full disk", "make room, then restart the broker")


def file_findings(config: Config, now_unix_s: float) -> Iterator[Finding]:
    """What the files of log and data directory tell by their names and ages."""
    folder = config.journal_folder
    names = sorted(os.listdir(folder))
    snapshots = [folder / name for name in names if name.endswith(".snap")]
    if snapshots:
        age_s = now_unix_s - max(path.stat().st_mtime for path in snapshots)
        yield good("snapshot", str(folder), f"the last is {max(0.0, age_s) / 3600:.1f} h old")
    else:
        yield good("snapshot", str(folder), "there is none yet: the log is still short")
    damaged = [name for name in names if name.startswith("damaged-")]
    if damaged:
        yield warning(
            "log", str(folder), f"the disk changed what had been written: {', '.join(damaged)}",
            "look at the disk (`smartctl -a`, `dmesg`); the files are only for who wants to look, and may be deleted",
        )  # fmt: skip
    if (config.data_dir / "last-commands").exists():
        yield notice("data", str(config.data_dir / "last-commands"), "an earlier run ended by a fatal signal; send us this file (it names users)")


def mount_of(folder: Path, mountinfo: str) -> Mount | None:
    """The mount that a folder lies on: the longest mount point above it; of equals the last, which lies over the others."""
    best: Mount | None = None
    path = str(folder.resolve())
    for line in mountinfo.splitlines():
        fields = line.split()
        if "-" not in fields or len(fields) < 9:
            continue
        # Blanks in a path are written as \040 (proc(5)).
        point = fields[4].encode("latin-1", "replace").decode("unicode_escape")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and (best is None or len(point) >= len(best.point)):
            behind = fields[fields.index("-") + 1 :]
            options = fields[5].split(",") + behind[2].split(",") if len(behind) > 2 else fields[5].split(",")
            best = Mount(point, behind[0], "ro" in options)
    return best
