"""A broker's log over its lives: snapshots and log into a ledger, old files gone, what is damaged or put back noticed."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
from pathlib import Path

import pytest

from broker._journal import EventQueue, SimulatedDisk, checksum, segment_positions, snapshot_positions
from broker.errors import AlreadyRunning, DataDirectoryError
from broker.exit_codes import ExitCode
from broker.journal.compaction import Compactor, compact, retire
from broker.journal.recovery import PROGRESS_NS, ReplayRefused
from broker.journal.state import STATE_NAME, RestoredBackup
from broker.journal.store import JournalStore
from broker.model.journal import LogDamaged, LogStop, SnapshotDamaged
from tests.journal.lives import Life, Scribe, store_on, with_snapshots
from tests.journal.material import BROKER_ID, STREAM, blocks_of, segments


def snapshot_files(disk: SimulatedDisk) -> list[str]:
    """Newest first."""
    return [f"{position:016x}.snap" for position in snapshot_positions(disk)]


def flip(disk: SimulatedDisk, name: str, at: int) -> None:
    data = bytearray(disk.read(name))
    data[at] ^= 1
    disk.put(name, bytes(data))


def test_each_life_goes_on_where_the_one_before_ended() -> None:
    disk = SimulatedDisk(4)
    end = 0
    for generation in range(1, 7):
        life = Life(disk, generation)
        assert (life.report.position, life.ledger.events) == (end, STREAM[:end])
        life.write(15_000)
        assert life.compactor.is_due == (generation % 2 == 0) or generation > 2
        if life.compactor.is_due:
            assert life.compactor.compact()
        end = life.store.committed
        life.end()
    assert end > 90_000


def test_recovery_is_the_newest_snapshot_and_the_log_behind_it() -> None:
    disk = with_snapshots(3, behind=10_000)
    life = Life(disk, 2)
    newest = snapshot_positions(disk)[0]
    assert life.report.snapshot == f"{newest:016x}.snap"
    assert life.report.snapshot_position == newest
    assert 10_000 <= life.report.log_size < 12_000
    assert life.report.position == newest + life.report.log_size == len(life.ledger.events)
    assert life.report.warnings == ()


def test_two_snapshots_are_kept_and_the_log_from_the_older_one_on() -> None:
    disk = with_snapshots(4)
    positions = snapshot_positions(disk)
    assert len(positions) == 2
    firsts = segment_positions(disk)
    assert firsts[0] <= positions[1] < firsts[1]
    assert firsts[0] > 0


def test_a_snapshot_is_due_when_the_log_behind_outgrows_the_setting_and_the_snapshot_itself() -> None:
    life = Life(SimulatedDisk(1), snapshot_after_size=30_000)
    life.write(29_000)
    assert not life.compactor.is_due
    life.write(3_000)
    assert life.compactor.is_due
    life.write(50_000)
    assert life.compactor.compact()
    life.write(60_000)  # more than 30,000, and less than the snapshot
    assert not life.compactor.is_due
    life.write(30_000)
    assert life.compactor.is_due


def test_a_snapshot_is_due_at_half_the_bound_of_the_log_whatever_its_own_size() -> None:
    life = Life(SimulatedDisk(1), snapshot_after_size=200_000, log_size_max=100_000)
    life.write(49_000)
    assert not life.compactor.is_due
    life.write(3_000)
    assert life.compactor.is_due


@pytest.mark.parametrize("at", [20, 5000, 30_000])
def test_a_damaged_newest_snapshot_is_replaced_by_the_older_one_loudly_and_put_aside(at: int, caplog: pytest.LogCaptureFixture) -> None:
    disk = with_snapshots(3)
    newest, older = snapshot_files(disk)
    flip(disk, newest, at)
    caplog.set_level(logging.INFO)
    life = Life(disk, 2)
    assert life.ledger.events == STREAM[: life.report.position]
    assert life.report.snapshot == older
    assert "Look after the disk" in life.report.warnings[0]
    assert newest in caplog.text
    assert snapshot_files(disk) == [older]
    assert f"damaged-{newest}" in disk.names()
    life.write(30_000)
    assert life.compactor.compact()
    assert len(snapshot_files(disk)) == 2


def test_without_a_log_that_reaches_back_a_damaged_snapshot_is_refused_with_what_to_do() -> None:
    disk = with_snapshots(3)
    for name in snapshot_files(disk):
        flip(disk, name, 6000)
    before = {name: disk.read(name) for name in disk.names()}
    with pytest.raises(SnapshotDamaged, match="restore the log directory from a backup") as caught:
        Life(disk, 2)
    assert caught.value.exit_code == ExitCode.DATA_DIRECTORY
    assert {name: disk.read(name) for name in disk.names()} == before
    disk = with_snapshots(3)
    newest = snapshot_files(disk)[0]
    flip(disk, newest, 6000)
    disk.remove(segments(disk)[0])
    with pytest.raises(SnapshotDamaged, match=newest):
        Life(disk, 2)


def test_a_snapshot_that_the_disk_cannot_read_is_replaced_by_the_older_one() -> None:
    disk = with_snapshots(3)
    newest, older = snapshot_files(disk)
    disk.fail("read", errno.EIO, after=6)  # of the state, the header, some blocks
    life = Life(disk, 2)
    assert life.report.snapshot == older
    assert life.ledger.events == STREAM[: life.report.position]
    assert f"damaged-{newest}" in disk.names()


def test_a_snapshot_that_rots_while_the_broker_runs_is_not_counted_as_one_of_the_two() -> None:
    disk = SimulatedDisk(4)
    life = Life(disk)
    for _ in range(2):
        life.write(25_000)
        assert life.compactor.compact()
    newest, older = snapshot_files(disk)
    flip(disk, newest, 6000)
    life.write(25_000)
    assert life.compactor.compact()
    assert snapshot_files(disk)[1:] == [older]
    assert f"damaged-{newest}" in disk.names()
    flip(disk, snapshot_files(disk)[0], 6000)
    disk.crash()
    assert Life(disk, 2).report.snapshot == older


def test_a_log_of_a_later_start_is_refused_though_no_state_tells() -> None:
    disk = SimulatedDisk(4)
    life = Life(disk, 5)
    life.write(25_000)
    assert life.compactor.compact()
    life.end()
    disk.remove(STATE_NAME)
    with pytest.raises(RestoredBackup, match="started 5 times"):
        Life(disk, 5)
    with pytest.raises(DataDirectoryError, match="write 5 into"):
        Life(disk, 4, accepts_restored=True)
    assert Life(disk, 6)


def test_of_damaged_snapshots_only_the_last_is_kept_and_a_half_one_goes() -> None:
    disk = with_snapshots(2)
    for generation in range(2, 5):
        newest = snapshot_files(disk)[0]
        flip(disk, newest, 6000)
        disk.put("snapshot-new", b"half")
        life = Life(disk, generation)
        assert [name for name in disk.names() if name.startswith("damaged-")] == [f"damaged-{newest}"]
        assert "snapshot-new" not in disk.names()
        life.write(20_000)
        assert life.compactor.compact()
        life.end()


def test_a_first_snapshot_that_is_damaged_is_not_needed_while_the_log_begins_at_the_beginning() -> None:
    disk = with_snapshots(1)
    flip(disk, snapshot_files(disk)[0], 6000)
    life = Life(disk, 2)
    assert (life.report.snapshot, life.report.snapshot_position) == ("", 0)
    assert "the whole log" in life.report.warnings[0]
    assert life.ledger.events == STREAM[: life.report.position]


def test_a_snapshot_of_a_newer_version_or_another_broker_is_refused_though_an_older_one_is_there() -> None:
    disk = with_snapshots(3)
    newest = snapshot_files(disk)[0]
    other = SimulatedDisk(9)
    life = Life(other)
    life.write(20_000)
    disk.put(newest, b"USHERSNP" + disk.read(newest)[8:])
    life.end()
    stranger = bytearray(disk.read(newest))
    stranger[24:32] = b"somebody"
    stranger[60:64] = checksum(bytes(stranger[:60])).to_bytes(4, "little")
    disk.put(newest, bytes(stranger))
    with pytest.raises(SnapshotDamaged, match="another broker"):
        Life(disk, 2)
    stranger[24:32] = BROKER_ID
    stranger[8] = 2
    stranger[60:64] = checksum(bytes(stranger[:60])).to_bytes(4, "little")
    disk.put(newest, bytes(stranger))
    with pytest.raises(SnapshotDamaged, match="newer version"):
        Life(disk, 2)


def test_damage_in_the_log_behind_the_snapshot_is_refused_and_changes_nothing() -> None:
    disk = with_snapshots(2, behind=12_000)
    name = segments(disk)[-1]
    first = next(iter(blocks_of(disk.read(name))))
    flip(disk, name, first.offset + 20)
    before = {one: disk.read(one) for one in disk.names()}
    with pytest.raises(LogDamaged) as caught:
        Life(disk, 2)
    assert caught.value.end.stop is LogStop.DAMAGED
    assert {one: disk.read(one) for one in disk.names()} == before


def test_a_torn_tail_is_kept_aside_and_said_and_only_the_newest_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    disk = SimulatedDisk(4)
    for generation in range(1, 14):
        life = Life(disk, generation)
        life.write(2_000)
        name = segments(disk)[-1]
        data = bytearray(disk.read(name))
        end = list(blocks_of(bytes(data)))[-1].end
        data[end : end + 100] = b"\x77" * 100
        disk.put(name, bytes(data))
        disk.crash()
        if generation > 1:
            assert life.report.torn_size == 100
            assert life.report.torn_file in disk.names()
    assert "half written" in caplog.text
    torn = [name for name in disk.names() if name.startswith("torn-")]
    assert sorted(int(name.rpartition("-")[2]) for name in torn) == list(range(5, 13))


def test_a_last_block_that_seems_whole_is_said_to_be_perhaps_damage() -> None:
    disk = SimulatedDisk(4)
    life = Life(disk)
    life.write(9_000)
    disk.crash()
    last = list(blocks_of(disk.read(segments(disk)[-1])))[-1]
    flip(disk, segments(disk)[-1], last.offset + 100)
    again = Life(disk, 2)
    assert "perhaps" in again.report.warnings[0]
    assert again.report.torn_file in again.report.warnings[0]


def test_an_event_that_cannot_be_is_refused_with_its_position() -> None:
    class Doubter(Scribe):
        def replay(self, events: bytes) -> None:
            super().replay(events)
            if len(self.events) > 8_000:
                raise ValueError("a lease without its session")

    disk = SimulatedDisk(4)
    life = Life(disk)
    life.write(12_000)
    life.end()
    with pytest.raises(ReplayRefused, match="a lease without its session; please report it") as caught:
        Life(disk, 2, make=Doubter)
    assert 4_000 < caught.value.position < 8_000


def test_a_long_recovery_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    disk = with_snapshots(1, behind=20_000)
    caplog.set_level(logging.INFO)
    ticks = iter(range(0, 10**15, PROGRESS_NS // 3))
    store = store_on(disk, 2)
    store._clock = lambda: next(ticks)
    store.recover(Scribe())
    said = [record.getMessage() for record in caplog.records if "recovering" in record.getMessage()]
    assert any("snapshot" in line for line in said)
    assert any("log: position" in line for line in said)


def test_recovering_twice_gives_the_same_twice() -> None:
    store = store_on(with_snapshots(2), 2)
    first, second = Scribe(), Scribe()
    reports = (store.recover(first), store.recover(second))
    assert first.events == second.events
    assert reports[0].position == reports[1].position


# --- compaction ------------------------------------------------------------------------------------------------------------------


def test_a_snapshot_holds_what_was_committed_when_it_began_though_the_log_grows_meanwhile() -> None:
    disk = SimulatedDisk(4)
    life = Life(disk)
    life.write(30_000)
    until = life.store.committed
    for _ in compact(life.store, Scribe):
        life.write(300, group_events=1)
    assert snapshot_positions(disk) == [until]
    assert life.store.committed > until + 3_000
    end = life.store.committed
    disk.crash()
    assert Life(disk, 2).ledger.events == STREAM[:end]


def test_a_compaction_that_is_closed_at_any_step_leaves_nothing_behind() -> None:
    disk = SimulatedDisk(4)
    life = Life(disk)
    life.write(30_000)
    before = disk.names()
    step_count = sum(1 for _ in compact(store_of_copy(), Scribe))
    for stop in range(1, step_count, 3):
        steps = compact(life.store, Scribe)
        for _ in range(stop):
            next(steps)
        steps.close()
        assert disk.names() == before


def store_of_copy() -> JournalStore:
    life = Life(SimulatedDisk(4))
    life.write(30_000)
    return life.store


def test_without_new_events_there_is_nothing_to_compact() -> None:
    life = Life(with_snapshots(1, behind=0), 2)
    assert list(compact(life.store, Scribe)) == []
    assert not life.compactor.is_due


def test_a_full_disk_fails_the_snapshot_and_not_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    disk = SimulatedDisk(4)
    life = Life(disk)
    life.write(30_000)
    disk.size_max = sum(disk.file_size(name) for name in disk.file_names()) + 2 * 16384 + 9_000
    assert disk.free_size() == 2 * 16384 + 9_000
    assert not life.compactor.compact()
    facts = life.compactor.facts()
    assert (facts.failed_count, facts.written_count, facts.position) == (1, 0, 0)
    assert "No space left" in facts.failure
    assert "the log keeps growing" in caplog.text
    assert snapshot_positions(disk) == []
    assert "snapshot-new" not in disk.names()
    life.write(20_000)
    assert life.store.failure is None
    assert life.compactor.facts().log_behind_size > 50_000
    disk.size_max = 10**7
    assert life.compactor.compact()
    facts = life.compactor.facts()
    assert (facts.failed_count, facts.written_count, facts.failure) == (1, 1, "")
    assert facts.log_behind_size == life.store.committed - facts.position


def test_a_state_outside_that_cannot_be_written_is_said_and_keeps_no_old_segment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = SimulatedDisk(4)
    life = Life(disk, state_file=tmp_path / "outside" / "usher.state")
    shutil.rmtree(tmp_path / "outside")
    for _ in range(3):
        life.write(30_000)
        assert not life.compactor.compact()
    life.write(10)
    assert "No such file" in caplog.text
    assert len(snapshot_positions(disk)) == 2
    assert 0 < segment_positions(disk)[0] <= snapshot_positions(disk)[1]


def test_a_fault_of_ours_in_a_snapshot_is_said_and_kills_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Scribe):
        def dump(self, cursor: int, size_max: int) -> tuple[bytes, int]:
            raise ValueError("no state in the middle of a command")

    life = Life(SimulatedDisk(4))
    life.write(30_000)
    compactor = Compactor(life.store, Faulty)
    assert not compactor.compact()
    assert compactor.facts().failure == "no state in the middle of a command"
    assert "please report it" in caplog.text
    assert life.compactor.compact()


def test_the_log_waits_for_history_up_to_its_bound_and_then_history_loses_loudly(caplog: pytest.LogCaptureFixture) -> None:
    disk = SimulatedDisk(4)
    life = Life(disk, log_size_max=150_000)
    for _ in range(3):
        life.write(30_000)
        list(compact(life.store, Scribe))
        assert retire(life.store, 700) == 0
        life.write(10)
    assert segment_positions(disk)[0] == 0
    assert len(snapshot_positions(disk)) == 2
    while life.store.committed < 152_000:
        life.write(1_000)
    lost_size = retire(life.store, 700)
    assert lost_size == snapshot_positions(disk)[1] - 700
    assert "history loses" in caplog.text
    life.write(10)
    assert 0 < segment_positions(disk)[0] <= snapshot_positions(disk)[1]
    assert retire(life.store, 0) == 0  # what is gone is counted once


def test_power_lost_at_any_moment_of_a_compaction_loses_nothing() -> None:
    for at in range(1, 200, 3):
        disk = SimulatedDisk(at)
        life = Life(disk)
        for _ in range(2):
            life.write(14_000)
            life.compactor.compact()
        life.write(14_000)
        disk.power_off_after(at)
        life.compactor.compact()
        life.write(500)
        committed = life.store.committed
        disk.crash()
        again = Life(disk, 2)
        assert again.report.position >= committed
        assert again.ledger.events == STREAM[: again.report.position]
        again.write(5_000)
        assert again.compactor.compact()


# --- who may not --------------------------------------------------------------------------------------------------------------------


def test_a_second_broker_on_the_directory_is_refused_and_a_refused_one_leaves_no_lock(tmp_path: Path) -> None:
    life = Life(tmp_path / "log")
    with pytest.raises(AlreadyRunning):
        store_on(tmp_path / "log", 2)
    life.end()
    with pytest.raises(RestoredBackup):
        store_on(tmp_path / "log", 1)
    Life(tmp_path / "log", 2).end()


def test_a_directory_that_can_only_be_read_is_recovered_and_not_begun() -> None:
    disk = with_snapshots(2)
    for operation in ("write", "allocate", "sync", "rename"):
        disk.fail(operation, errno.EROFS, is_lasting=True)
    store = store_on(disk, 2)
    ledger = Scribe()
    report = store.recover(ledger)
    assert ledger.events == STREAM[: report.position]
    with pytest.raises(OSError, match="Read-only") as caught:
        store.begin(EventQueue(1 << 16))
    assert caught.value.errno == errno.EROFS
    assert not store.is_begun
    again = Scribe()
    assert store.recover(again).position == report.position
    assert again.events == ledger.events
    store.close()


def test_whatever_fails_at_the_beginning_nothing_has_begun_and_all_can_be_read_again() -> None:
    for operation in ("open", "write", "allocate", "sync", "rename", "sync_names"):
        for after in range(7):
            disk = with_snapshots(1)
            store = store_on(disk, 2)
            position = store.recover(Scribe()).position
            disk.fail(operation, errno.EIO, after=after)
            try:
                store.begin(EventQueue(1 << 16))
            except OSError:
                assert not store.is_begun
                disk.mend()
                ledger = Scribe()
                assert store.recover(ledger).position == position
                assert ledger.events == STREAM[:position]
            else:
                assert store.is_begun


def test_begin_may_be_tried_again_when_there_is_room() -> None:
    disk = with_snapshots(2)
    store = store_on(disk, 2)
    report = store.recover(Scribe())
    disk.size_max = 1
    queue = EventQueue(1 << 16)
    with pytest.raises(OSError, match="No space left"):
        store.begin(queue)
    disk.size_max = 10**7
    store.begin(queue)
    assert store.committed == report.position


def test_a_compactor_writes_snapshots_in_its_own_thread_while_the_log_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.journal.compaction.CHECK_S", 0.01)
    written = threading.Event()
    life = Life(tmp_path / "log")
    write_state = life.store.write_state

    def told() -> None:
        write_state()
        written.set()

    monkeypatch.setattr(life.store, "write_state", told)
    life.compactor.start()
    life.write(30_000)
    assert written.wait(20)
    life.write(5_000)
    end = life.store.committed
    monkeypatch.undo()
    life.end()
    facts = life.compactor.facts()
    assert facts.written_count >= 1
    assert facts.unix_s > 0
    assert Life(tmp_path / "log", 2).ledger.events == STREAM[:end]
