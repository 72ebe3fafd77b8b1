"""A data directory copied beside a committer at work, and what of it can be believed, refused and put back."""

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker._journal import segment_positions, snapshot_positions
from broker.journal import backup as module
from broker.journal.backup import (
    GENERATION_GAP,
    MANIFEST_NAME,
    BackupError,
    Destination,
    Manifest,
    Source,
    back_up,
    restore,
    verified,
)
from broker.journal.compaction import compact, retire
from broker.journal.settings import JournalSettings
from broker.journal.state import RestoredBackup
from broker.journal.store import JournalStore
from broker.model.journal import LogDamaged
from tests.journal.ledger_lives import LedgerLives, dump_of, make_ledger
from tests.journal.material import BROKER_ID

KEPT = ("broker.id", "secret", "generation", "licences", "not-there")


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[LedgerLives]:
    """A broker that runs, with some committed history, on a real disk; no thread yet."""
    data_dir = tmp_path / "data"
    (data_dir / "licences" / "old").mkdir(parents=True)
    (data_dir / "broker.id").write_text(BROKER_ID.hex())
    (data_dir / "secret").write_text("73" * 16)
    (data_dir / "secret").chmod(0o600)
    (data_dir / "generation").write_text("1\n")
    (data_dir / "licences" / "one.jwt").write_text("x")
    (data_dir / "licences" / "half.jwt.new").write_text("y")
    (data_dir / "running.json").write_text("{}")
    one = LedgerLives(data_dir / "journal", 7)
    one.begin()
    act(one, 60)
    yield one
    one.store.stop()
    one.store.journal.close()


def act(lives: LedgerLives, count: int) -> None:
    """Commands, all of them committed."""
    for _ in range(count):
        lives.act()
    while lives.store.journal.step():
        pass


def source_of(lives: LedgerLives) -> Source:
    journal = Path(str(lives.place))
    return Source(journal.parent, journal, KEPT, BROKER_ID, lives.generation)


def take(lives: LedgerLives, target: Path) -> Manifest:
    return back_up(source_of(lives), target, lambda: lives.store.committed)


def snapshot_now(lives: LedgerLives) -> None:
    """A compaction, whole."""
    for _ in compact(lives.store, lives.shadow):
        pass
    retire(lives.store, None)


def recovered(journal: Path, generation: int, *, accepts_restored: bool = True) -> bytes:
    """The dump of the ledger that a start makes of a log directory."""
    settings = JournalSettings(accepts_restored=accepts_restored, segment_size=65536)
    store = JournalStore.open(journal, broker_id=BROKER_ID, generation=generation, settings=settings)
    try:
        ledger = make_ledger(generation)
        store.recover(ledger)
        return dump_of(ledger)
    finally:
        store.journal.close()


# --- what is in it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot_count", [0, 1, 3])
def test_restored_ledger_is_what_the_committed_events_make(lives: LedgerLives, tmp_path: Path, snapshot_count: int) -> None:
    for _ in range(snapshot_count):
        act(lives, 200)
        snapshot_now(lives)
    act(lives, 100)
    manifest = take(lives, tmp_path / "backup")
    assert manifest.position == lives.store.committed == lives.position
    assert bool(manifest.snapshot) == bool(snapshot_count)
    target = Destination(tmp_path / "new", tmp_path / "new" / "journal")
    generation = restore(tmp_path / "backup", target, generation_known=0).generation
    assert recovered(target.journal, generation + 1) == dump_of(lives.expected(manifest.position))


def test_backup_beside_a_committer_at_work_holds_at_least_what_was_committed_when_it_began(lives: LedgerLives, tmp_path: Path) -> None:
    lives.store.start()
    done = threading.Event()
    manifests: list[tuple[int, Manifest]] = []

    def back_up_again_and_again() -> None:
        try:
            for number in range(8):
                before = lives.store.committed
                manifests.append((before, take(lives, tmp_path / f"backup-{number}")))
        finally:
            done.set()

    thread = threading.Thread(target=back_up_again_and_again)
    thread.start()
    while not done.is_set():
        lives.act()
        lives.store.journal.wake()
        if lives.chance.random() < 0.01:
            snapshot_now(lives)
    thread.join()
    assert len(manifests) == 8
    for number, (before, manifest) in enumerate(manifests):
        assert before <= manifest.position
        expected = dump_of(lives.expected(manifest.position))
        assert recovered(tmp_path / f"backup-{number}" / "journal", lives.generation + 1) == expected


def test_files_that_a_compaction_takes_away_meanwhile_are_no_harm(
    lives: LedgerLives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act(lives, 300)
    snapshot_now(lives)
    plain_copy, names = module._copy_file, list[str]()

    def copy_late(source: Path, target: Path) -> None:
        if source.suffix == ".snap" and not names:
            for _ in range(3):
                act(lives, 300)
                snapshot_now(lives)
            assert not source.exists()
        names.append(source.name)
        plain_copy(source, target)

    monkeypatch.setattr(module, "_copy_file", copy_late)
    manifest = take(lives, tmp_path / "backup")
    assert manifest.position == lives.store.committed
    assert recovered(tmp_path / "backup" / "journal", 2) == dump_of(lives.expected(manifest.position))


def test_what_a_committer_is_writing_behind_the_end_is_not_in_the_backup(lives: LedgerLives, tmp_path: Path) -> None:
    until = lives.store.committed
    act(lives, 50)
    assert lives.store.committed > until
    manifest = back_up(source_of(lives), tmp_path / "backup", lambda: until)
    assert manifest.position == until
    assert recovered(tmp_path / "backup" / "journal", 2) == dump_of(lives.expected(until))


def test_only_the_owner_may_read_it_and_nothing_of_the_process_is_in_it(lives: LedgerLives, tmp_path: Path) -> None:
    take(lives, tmp_path / "backup")
    found = {path.relative_to(tmp_path / "backup").as_posix(): path.stat().st_mode for path in (tmp_path / "backup").rglob("*")}
    assert {name for name in found if "/" not in name} == {MANIFEST_NAME, "broker.id", "secret", "generation", "licences", "journal"}
    assert {name for name in found if name.startswith("licences/")} == {"licences/one.jwt", "licences/old"}
    assert not [name for name, mode in found.items() if stat.S_IMODE(mode) & 0o077]
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700


def test_backup_takes_no_room_for_what_is_zero(lives: LedgerLives, tmp_path: Path) -> None:
    take(lives, tmp_path / "backup")
    (segment,) = (tmp_path / "backup" / "journal").glob("*.log")
    assert segment.stat().st_size == 65536
    assert segment.stat().st_blocks * 512 < 65536


# --- what is refused -----------------------------------------------------------------------------------------------------


def test_damaged_log_is_said_and_nothing_is_left_of_the_backup(lives: LedgerLives, tmp_path: Path) -> None:
    journal = Path(str(lives.place))
    segment = journal / f"{segment_positions(journal)[0]:016x}.log"
    data = bytearray(segment.read_bytes())
    data[4096 + 40] ^= 1
    segment.write_bytes(data)
    with pytest.raises(LogDamaged):
        take(lives, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_directory_that_is_not_empty_is_refused_and_left_as_it_was(lives: LedgerLives, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").write_text("dear")
    with pytest.raises(BackupError, match="is not empty"):
        take(lives, tmp_path / "other")
    take(lives, tmp_path / "backup")
    with pytest.raises(BackupError, match="is not empty"):
        restore(tmp_path / "backup", Destination(tmp_path / "other", tmp_path / "new"), generation_known=0)
    assert [one.name for one in (tmp_path / "other").iterdir()] == ["letter"]


@pytest.mark.parametrize("name", ["secret", "licences/one.jwt", "journal/state", "log", "manifest"])
@pytest.mark.parametrize("harm", ["flip", "remove", "cut"])
def test_backup_of_which_anything_is_damaged_is_refused(lives: LedgerLives, tmp_path: Path, name: str, harm: str) -> None:
    act(lives, 100)
    take(lives, tmp_path / "backup")
    segment = next((tmp_path / "backup" / "journal").glob("*.log"))
    path = {"log": segment, "manifest": tmp_path / "backup" / MANIFEST_NAME}.get(name, tmp_path / "backup" / name)
    data = path.read_bytes()
    if harm == "flip":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif harm == "cut":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    with pytest.raises(BackupError):
        restore(tmp_path / "backup", Destination(tmp_path / "new", tmp_path / "new" / "journal"), generation_known=0)
    assert not (tmp_path / "new").exists()


def test_file_that_does_not_belong_to_the_backup_is_refused(lives: LedgerLives, tmp_path: Path) -> None:
    take(lives, tmp_path / "backup")
    (tmp_path / "backup" / "licences" / "two.jwt").write_text("z")
    with pytest.raises(BackupError, match="does not belong"):
        verified(tmp_path / "backup")


def test_manifest_that_names_a_file_elsewhere_leads_nowhere(lives: LedgerLives, tmp_path: Path) -> None:
    take(lives, tmp_path / "backup")
    path = tmp_path / "backup" / MANIFEST_NAME
    members = json.loads(path.read_text())
    (tmp_path / "outside").write_text("mine")
    members["files"]["../outside"] = module._fingerprint(tmp_path / "outside")
    path.write_text(json.dumps(members))
    with pytest.raises(BackupError):
        verified(tmp_path / "backup")


def test_backup_of_a_newer_format_is_left_to_its_version(lives: LedgerLives, tmp_path: Path) -> None:
    take(lives, tmp_path / "backup")
    path = tmp_path / "backup" / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(BackupError, match="has the format 2"):
        verified(tmp_path / "backup")


# --- what a restore means --------------------------------------------------------------------------------------------------


def test_restored_backup_is_refused_until_somebody_accepts_it(lives: LedgerLives, tmp_path: Path) -> None:
    manifest = take(lives, tmp_path / "backup")
    target = Destination(tmp_path / "new", tmp_path / "new" / "journal")
    generation = restore(tmp_path / "backup", target, generation_known=0).generation
    with pytest.raises(RestoredBackup, match="--accept-restored"):
        recovered(target.journal, generation + 1, accepts_restored=False)
    settings = JournalSettings(accepts_restored=True, segment_size=65536)
    store = JournalStore.open(target.journal, broker_id=BROKER_ID, generation=generation + 1, settings=settings)
    ledger = make_ledger(generation + 1)
    assert store.recover(ledger).position == manifest.position
    ledger.resume(lives.now_ns, lives.wall_ns)
    store.begin(ledger)
    while store.journal.step():
        pass
    store.close()
    recovered(target.journal, generation + 2, accepts_restored=False)  # once is enough


@pytest.mark.parametrize(("known", "expected"), [(0, 1 + GENERATION_GAP), (50, 50 + GENERATION_GAP)])
def test_generation_begins_far_above_all_that_is_known(lives: LedgerLives, tmp_path: Path, known: int, expected: int) -> None:
    take(lives, tmp_path / "backup")
    restored = restore(tmp_path / "backup", Destination(tmp_path / "new", tmp_path / "log"), generation_known=known)
    assert restored.generation == expected
    assert (tmp_path / "new" / "generation").read_text() == f"{expected}\n"


def test_log_can_be_put_back_into_a_folder_of_its_own(lives: LedgerLives, tmp_path: Path) -> None:
    act(lives, 300)
    snapshot_now(lives)
    manifest = take(lives, tmp_path / "backup")
    restore(tmp_path / "backup", Destination(tmp_path / "new", tmp_path / "log"), generation_known=0)
    assert not (tmp_path / "new" / "journal").exists()
    assert not (tmp_path / "new" / MANIFEST_NAME).exists()
    assert snapshot_positions(tmp_path / "log") == [int(manifest.snapshot.removesuffix(".snap"), 16)]
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o777 == 0o600
