"""Snapshots: whole or not there, whatever a crash meets; damaged ones are told at any bit; small files beside the log are the old or the new."""

from __future__ import annotations

import errno
import itertools
import random

import pytest

from broker._journal import (
    CrashPoint,
    SimulatedDisk,
    SnapshotWriter,
    read_snapshot,
    segment_positions,
    snapshot_positions,
)
from broker.model.journal import LogStop, SnapshotDamaged
from tests.journal.material import (
    BOUNDARIES,
    BROKER_ID,
    HEADER,
    HEADER_SIZE,
    STREAM,
    SegmentFacts,
    blocks_of,
    segment_facts,
    segments,
    written,
)

EVENTS = STREAM[: BOUNDARIES[60]]
POSITION = 7777
NAME = f"{POSITION:016x}.snap"


def writer(disk: SimulatedDisk, position: int = POSITION) -> SnapshotWriter:
    return SnapshotWriter(disk, broker_id=BROKER_ID, generation=3, position=position, salt_seed=5)


def write(disk: SimulatedDisk, events: bytes = EVENTS, position: int = POSITION, parts: int = 6) -> str:
    """In some blocks."""
    target = writer(disk, position)
    bounds = [at for at in BOUNDARIES if at <= len(events)]
    step = max(1, len(bounds) // parts)
    cuts = [*bounds[::step], len(events)]
    for start, stop in itertools.pairwise(cuts):
        target.write(events[start:stop])
    return target.commit()


def write_much(disk: SimulatedDisk) -> str:
    """More than is synced at once."""
    target = writer(disk)
    for _ in range(80):
        target.write(STREAM[: BOUNDARIES[400]])
    return target.commit()


def read(disk: SimulatedDisk, position: int | None = None) -> bytes:
    return b"".join(read_snapshot(disk, broker_id=BROKER_ID, position=position))


def test_what_was_written_is_read() -> None:
    disk = SimulatedDisk(1)
    assert write(disk) == NAME
    reading = read_snapshot(disk, broker_id=BROKER_ID)
    assert (reading.name, reading.position, reading.generation) == (NAME, POSITION, 3)
    assert reading.size == len(disk.read(NAME))
    assert b"".join(reading) == EVENTS
    assert snapshot_positions(disk) == [POSITION]
    assert disk.names() == [NAME]


def test_its_file_is_as_the_format_is_described() -> None:
    disk = SimulatedDisk(1)
    write(disk)
    data = disk.read(NAME)
    facts = segment_facts(data)
    salt = facts.salt
    assert facts == SegmentFacts(b"USHERSNP", 1, HEADER_SIZE, len(data), BROKER_ID, 3, POSITION, salt)
    assert b"".join(block.events for block in blocks_of(data)) == EVENTS
    assert [block.position for block in blocks_of(data)][:2] == [0, len(next(blocks_of(data)).events)]


def test_nothing_but_whole_events_is_taken() -> None:
    target = writer(SimulatedDisk(1))
    with pytest.raises(ValueError, match="whole events"):
        target.write(EVENTS[:-8])
    target.write(EVENTS)
    target.commit()
    with pytest.raises(RuntimeError, match="committed or abandoned"):
        target.write(EVENTS)


def test_more_than_a_block_holds_goes_into_several() -> None:
    disk = SimulatedDisk(1)
    events = STREAM[: BOUNDARIES[-1]] * 4
    assert len(events) > 1_500_000
    target = writer(disk)
    target.write(events)
    target.commit()
    assert read(disk) == events
    assert len(list(blocks_of(disk.read(NAME)))) == 2


def test_one_without_events_can_be_read() -> None:
    disk = SimulatedDisk(1)
    writer(disk).commit()
    assert read(disk) == b""


def test_power_lost_at_each_operation_leaves_the_older_snapshot_and_at_most_a_whole_new_one() -> None:
    seen = set()
    for at in range(1, 24):
        for seed in range(6):
            disk = SimulatedDisk(100 * at + seed, writes_short=bool(seed % 2))
            write(disk, position=1)
            disk.power_off_after(at)
            is_told = False
            try:
                write(disk)
                is_told = True
            except OSError:
                assert disk.is_off
            disk.crash()
            positions = snapshot_positions(disk)
            seen.add(tuple(positions))
            assert positions in ([1], [POSITION, 1])
            assert not is_told or positions == [POSITION, 1]
            assert all(read(disk, position) == EVENTS for position in positions)
    assert len(seen) == 2


@pytest.mark.parametrize("operation", ["open", "write", "sync", "rename", "sync_names"])
def test_a_disk_that_fails_or_is_full_leaves_no_half_snapshot(operation: str) -> None:
    disk = SimulatedDisk(3)
    disk.fail(operation, errno.ENOSPC, after=1 if operation in ("write", "sync") else 0)
    with pytest.raises(OSError, match="cannot be written") as caught:
        write_much(disk)
    assert caught.value.errno == errno.ENOSPC
    assert "snapshot-new" not in disk.names()
    assert operation == "sync_names" or snapshot_positions(disk) == []


@pytest.mark.parametrize("seed", range(4))
def test_any_flipped_bit_or_cut_is_told_before_anything_is_given(seed: int) -> None:
    chance = random.Random(seed)
    intact = SimulatedDisk(1)
    write(intact)
    data = intact.read(NAME)
    for _ in range(150):
        damaged = bytearray(data)
        at = chance.choice((chance.randrange(HEADER.size), chance.randrange(HEADER_SIZE, len(data))))
        if chance.random() < 0.8:
            damaged[at] ^= 1 << chance.randrange(8)
        else:
            del damaged[at:]
        disk = SimulatedDisk(2)
        disk.put(NAME, bytes(damaged))
        with pytest.raises(SnapshotDamaged) as caught:
            read_snapshot(disk, broker_id=BROKER_ID)
        assert caught.value.is_replaceable
        assert caught.value.path.name == NAME


def test_what_the_disk_does_not_give_is_its_error_and_not_the_snapshots() -> None:
    for operation in ("open", "read", "size"):
        for after in range(4):
            disk = SimulatedDisk(1)
            write(disk)
            disk.fail(operation, errno.EIO, after=after if operation == "read" else 0)
            with pytest.raises(OSError, match=NAME):
                read(disk)
    disk = SimulatedDisk(1)
    write(disk)
    reading = read_snapshot(disk, broker_id=BROKER_ID)
    disk.fail("read", errno.EIO)
    with pytest.raises(OSError, match=NAME):
        next(reading)


def test_one_of_another_broker_or_with_another_name_is_refused() -> None:
    disk = SimulatedDisk(1)
    write(disk)
    with pytest.raises(SnapshotDamaged, match="another broker") as caught:
        read_snapshot(disk, broker_id=b"somebody")
    assert not caught.value.is_replaceable
    disk.put(f"{POSITION + 8:016x}.snap", disk.read(NAME))
    with pytest.raises(SnapshotDamaged, match="elsewhere") as caught:
        read_snapshot(disk, broker_id=BROKER_ID)
    assert caught.value.stop is LogStop.MISNAMED


def test_a_segment_is_no_snapshot() -> None:
    disk = written(9000)
    disk.put(NAME, disk.read(segments(disk)[0]))
    with pytest.raises(SnapshotDamaged, match="header does not verify"):
        read_snapshot(disk, broker_id=BROKER_ID)


def test_an_abandoned_one_leaves_nothing() -> None:
    disk = SimulatedDisk(1)
    target = writer(disk)
    target.write(EVENTS)
    target.abandon()
    assert disk.names() == []
    with pytest.raises(FileNotFoundError):
        read_snapshot(disk, broker_id=BROKER_ID)


def test_segments_and_snapshots_are_told_apart_by_name() -> None:
    disk = written(30_000)
    write(disk)
    assert [f"{position:016x}.log" for position in segment_positions(disk)] == segments(disk)
    assert snapshot_positions(disk) == [POSITION]


def test_a_small_file_is_the_old_one_or_the_new_one_after_a_crash_and_the_new_one_once_told() -> None:
    seen = set()
    for at in range(1, 9):
        for seed in range(8):
            disk = SimulatedDisk(10 * at + seed)
            disk.store("state", b"old" * 300)
            disk.power_off_after(at)
            is_told = False
            try:
                disk.store("state", b"new" * 700)
                is_told = True
            except OSError:
                pass
            disk.crash()
            found = disk.load("state")
            seen.add((is_told, found[:3]))
            assert found in (b"old" * 300, b"new" * 700)
            assert not is_told or found == b"new" * 700
    assert seen >= {(True, b"new"), (False, b"old")}


def test_small_files_are_listed_moved_and_dropped() -> None:
    disk = SimulatedDisk(1)
    disk.store("one", b"1")
    disk.store("two", b"22")
    disk.move("one", "three")
    disk.drop("two")
    assert (disk.file_names(), disk.file_size("three")) == (["three"], 1)
    with pytest.raises(FileNotFoundError, match="two"):
        disk.load("two")
    with pytest.raises(ValueError, match="too long"):
        disk.store("a" * 44, b"")


def test_a_crash_point_names_a_place_and_a_count() -> None:
    with pytest.raises(ValueError, match="is no crash point: before_append"):
        CrashPoint("after_lunch")
    for text in ("after_sync:", "after_sync"):
        assert CrashPoint(text)
    for text in ("after_sync:0", "after_sync:x", "after_sync:-1"):
        with pytest.raises(ValueError, match="how often"):
            CrashPoint(text)
