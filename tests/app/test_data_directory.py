"""The data directory: made once, kept, locked, and damaged in every way."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker.app import data_directory
from broker.app.data_directory import GENERATION_MAX, opened, read_run_file, read_token
from broker.errors import AlreadyRunning, DataDirectoryError
from tests.support.broker_process import process_environment


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_start_makes_everything_that_a_broker_is(tmp_path: Path) -> None:
    with opened(tmp_path / "state" / "usher") as directory:
        assert len(directory.broker_id) == 8
        assert len(directory.secret) == 16
        assert directory.generation == 1
        assert len(directory.admin_token) >= 40
    path = tmp_path / "state" / "usher"
    assert mode_of(path) == 0o700
    assert mode_of(path / "secret") == 0o600
    assert mode_of(path / "admin.token") == 0o600
    assert read_token(path) == directory.admin_token


def test_restart_keeps_identity_and_secrets_and_grows_the_generation(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        pass
    with opened(tmp_path) as second:
        pass
    assert (second.broker_id, second.secret, second.admin_token) == (first.broker_id, first.secret, first.admin_token)
    assert second.generation == first.generation + 1


def test_two_directories_share_no_secret(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        assert a.broker_id != b.broker_id
        assert a.secret != b.secret
        assert a.admin_token != b.admin_token


def test_second_broker_on_a_directory_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}\)") as caught, opened(tmp_path):
        pass
    assert caught.value.pid == os.getpid()


def test_refused_second_broker_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        first.write_run_file({"pid": 1})
        with pytest.raises(AlreadyRunning), opened(tmp_path):
            pass
        assert read_run_file(tmp_path) == {"pid": 1}
    with opened(tmp_path) as later:
        assert later.generation == first.generation + 1


def test_lock_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom broker.app.data_directory import opened\n"
        f"with opened(pathlib.Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=process_environment()
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(AlreadyRunning, match=str(holder.pid)), opened(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with opened(tmp_path) as directory:
        assert directory.generation == 2


@pytest.mark.parametrize("name", ["secret", "admin.token"])
def test_secret_that_others_can_read_is_refused(tmp_path: Path, name: str) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / name).chmod(0o640)
    with pytest.raises(DataDirectoryError, match="can be read by others than its owner; delete it to get a new one"), opened(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broker.id", "zz"),
        ("broker.id", "00112233"),
        ("broker.id", ""),
        ("secret", "00" * 15),
        ("generation", "one"),
        ("generation", ""),
        ("admin.token", "short"),
        ("admin.token", "x" * 20 + " " + "x" * 20),
    ],
)
def test_damaged_file_is_named_and_never_replaced_by_itself(tmp_path: Path, name: str, text: str) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / name).write_text(text)
    with pytest.raises(DataDirectoryError, match="is damaged") as caught, opened(tmp_path):
        pass
    assert caught.value.path == tmp_path / name
    assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("name", ["broker.id", "secret", "generation", "admin.token"])
def test_file_that_is_no_text_is_damaged_and_no_bug_of_ours(tmp_path: Path, name: str) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / name).write_bytes(b"\xff" * 64)
    with pytest.raises(DataDirectoryError, match="is damaged"), opened(tmp_path):
        pass


def test_secret_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("00" * 16)
    elsewhere.chmod(0o600)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").symlink_to(elsewhere)
    with pytest.raises(DataDirectoryError, match="cannot be used"), opened(tmp_path / "data"):
        pass


def test_generation_beyond_what_a_fence_holds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "generation").write_text(str(GENERATION_MAX - 1))
    with opened(tmp_path) as last:
        assert last.generation == GENERATION_MAX
    with pytest.raises(DataDirectoryError, match="the most that a fence holds"), opened(tmp_path):
        pass


def test_generation_is_on_disk_before_the_broker_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real_sync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    with opened(tmp_path):
        assert str(tmp_path / "generation.new") in synced
        assert synced[-1] == str(tmp_path)


def test_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("")
    with pytest.raises(DataDirectoryError, match="cannot be used: File exists"), opened(path):
        pass


def test_run_file_of_a_crash_is_gone_with_the_next_start(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        directory.write_run_file({"admin": "127.0.0.1:1"})
        assert read_run_file(tmp_path)["admin"] == "127.0.0.1:1"
    with opened(tmp_path):
        assert read_run_file(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_run_file_that_is_none_reads_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "running.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_run_file(tmp_path) == {}


def test_repr_shows_no_secret(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        shown = repr(directory)
    assert directory.admin_token not in shown
    assert directory.secret.hex() not in shown
    assert str(directory.secret) not in shown


# --- a disk that can be read and not written ----------------------------------------------------------------


class FullDisk:
    """Writing fails with this errno; `make_room` mends it if `room` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, room: bool) -> None:
        self.asked_count = 0
        self._number, self._room, self._write = number, room, data_directory._replace
        self._is_full = True
        monkeypatch.setattr(data_directory, "_replace", self._replace)

    def make_room(self) -> bool:
        self.asked_count += 1
        self._is_full = not self._room
        return self._room

    def _replace(self, path: Path, text: str, mode: int) -> None:
        if self._is_full:
            raise OSError(self._number, os.strerror(self._number), str(path))
        self._write(path, text, mode)


def lived_in(path: Path) -> int:
    """Its generation."""
    with opened(path) as directory:
        return directory.generation


def test_full_disk_gets_room_made_once_and_is_then_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lived_in(tmp_path)
    disk = FullDisk(monkeypatch, errno.ENOSPC, room=True)
    with opened(tmp_path, make_room=disk.make_room) as directory:
        assert (directory.generation, directory.unwritable) == (before + 1, "")
    assert disk.asked_count == 1
    assert (tmp_path / "generation").read_text() == f"{before + 1}\n"


@pytest.mark.parametrize(("number", "asked_count"), [(errno.ENOSPC, 1), (errno.EROFS, 0), (errno.EACCES, 0), (errno.EFBIG, 0)])
def test_directory_that_can_only_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, asked_count: int
) -> None:
    before = lived_in(tmp_path)
    disk = FullDisk(monkeypatch, number, room=False)
    with opened(tmp_path, make_room=disk.make_room) as directory:
        assert directory.generation == before + 1
        assert directory.unwritable == os.strerror(number)
        directory.write_run_file({"pid": 1})
    assert disk.asked_count == asked_count
    assert (tmp_path / "generation").read_text() == f"{before}\n"


def test_disk_with_a_fault_is_refused_however_well_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived_in(tmp_path)
    disk = FullDisk(monkeypatch, errno.EIO, room=False)
    with pytest.raises(DataDirectoryError, match="Input/output error"), opened(tmp_path, make_room=disk.make_room):
        pass


def test_new_directory_on_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch, errno.ENOSPC, room=False)
    with pytest.raises(DataDirectoryError, match="No space left"), opened(tmp_path / "new", make_room=disk.make_room):
        pass


def test_broker_that_keeps_nothing_wants_a_directory_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived_in(tmp_path)
    FullDisk(monkeypatch, errno.ENOSPC, room=False)
    with pytest.raises(DataDirectoryError, match="No space left"), opened(tmp_path):
        pass


def test_lock_on_a_read_only_disk_still_keeps_a_second_broker_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived_in(tmp_path)
    really_open = os.open

    def read_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == "lock" and flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return really_open(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    FullDisk(monkeypatch, errno.EROFS, room=False)
    with opened(tmp_path, make_room=lambda: False) as directory:
        assert directory.unwritable == os.strerror(errno.EROFS)
        with pytest.raises(AlreadyRunning), opened(tmp_path, make_room=lambda: False):
            pass


def test_directory_of_a_backup_begins_behind_the_last_start_that_is_known(tmp_path: Path) -> None:
    before = lived_in(tmp_path)
    asked: list[bytes] = []

    def seen(broker_id: bytes) -> int:
        asked.append(broker_id)
        return before + 40

    with opened(tmp_path, generation_seen=seen) as directory:
        assert directory.generation == before + 41
        assert asked == [directory.broker_id]
    assert lived_in(tmp_path) == before + 42


def test_state_that_knows_nothing_newer_changes_nothing(tmp_path: Path) -> None:
    before = lived_in(tmp_path)
    with opened(tmp_path, generation_seen=lambda _: 0) as directory:
        assert directory.generation == before + 1
