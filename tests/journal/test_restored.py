"""A log that was put back from a backup, or lost its end: noticed by what stands beside it, and refused with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker._journal import SimulatedDisk
from broker.errors import DataDirectoryError
from broker.exit_codes import ExitCode
from broker.journal.state import STATE_NAME, LogState, RestoredBackup, StatePlace, generation_seen
from tests.journal.lives import Life, store_on, with_snapshots
from tests.journal.material import BROKER_ID, STREAM, segments


def backup_of(disk: SimulatedDisk) -> dict[str, bytes]:
    return {name: disk.read(name) for name in disk.names()}


def restore(disk: SimulatedDisk, files: dict[str, bytes]) -> None:
    for name in disk.names():
        disk.remove(name)
    for name, data in files.items():
        disk.put(name, data)


def test_a_log_that_lost_its_end_since_a_clean_stop_is_refused() -> None:
    disk = with_snapshots(2, behind=12_000)
    disk.remove(segments(disk)[-1])
    with pytest.raises(RestoredBackup, match="--accept-restored") as caught:
        Life(disk, 2)
    assert caught.value.exit_code == ExitCode.DATA_DIRECTORY
    life = Life(disk, 2, accepts_restored=True)
    assert life.ledger.events == STREAM[: life.report.position]


def test_a_restored_directory_is_noticed_by_the_state_outside_of_it(tmp_path: Path) -> None:
    state_file = tmp_path / "outside" / "usher.state"
    disk = SimulatedDisk(4)
    life = Life(disk, 1, state_file=state_file)
    life.write(9_000)
    life.end()
    files = backup_of(disk)
    for generation in (2, 3):
        life = Life(disk, generation, state_file=state_file)
        life.write(9_000)
        life.end()
    restore(disk, files)
    with pytest.raises(RestoredBackup, match="started 3 times"):
        Life(disk, 2, state_file=state_file)
    with pytest.raises(DataDirectoryError, match="write 3 into the file"):
        Life(disk, 2, state_file=state_file, accepts_restored=True)
    with pytest.raises(RestoredBackup, match="the log here ends at"):
        Life(disk, 4, state_file=state_file)
    life = Life(disk, 4, state_file=state_file, accepts_restored=True)
    assert 9_000 <= life.report.position < 10_000
    life.end()
    assert generation_seen(tmp_path / "outside", state_file, BROKER_ID) == 4
    assert Life(disk, 5, state_file=state_file, accepts_restored=True)


def test_the_same_directory_twice_with_one_generation_is_refused() -> None:
    disk = SimulatedDisk(4)
    Life(disk, 3).end()
    with pytest.raises(RestoredBackup, match="only start 3"):
        store_on(disk, 3)


def test_a_state_file_of_another_broker_or_a_damaged_one_is_refused_with_what_to_do() -> None:
    disk = SimulatedDisk(4)
    StatePlace(disk, STATE_NAME).write(LogState(b"somebody", 1, 2))
    with pytest.raises(DataDirectoryError, match="of another broker"):
        store_on(disk, 3)
    for text in (b"", b"{", b"[]", b'{"version": 1}', b'{"broker": "zz", "version": 1, "generation": 1, "committed": 1}'):
        disk.put(STATE_NAME, text)
        with pytest.raises(DataDirectoryError, match="delete it"):
            store_on(disk, 3)
    disk.put(STATE_NAME, b'{"version": 9, "broker": "0000000000000000", "generation": 1, "committed": 1}')
    with pytest.raises(DataDirectoryError, match="newer version"):
        store_on(disk, 3)
    disk.remove(STATE_NAME)
    assert store_on(disk, 3)


def test_the_state_never_says_more_than_is_on_the_disk() -> None:
    for at in range(1, 120, 2):
        disk = SimulatedDisk(at)
        disk.power_off_after(at)
        try:
            life = Life(disk)
            life.write(9_000)
            life.compactor.compact()
            life.end()
        except (OSError, DataDirectoryError):
            assert disk.is_off
        disk.crash()
        again = Life(disk, 2)
        assert again.ledger.events == STREAM[: again.report.position]
