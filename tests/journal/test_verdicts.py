"""What the reader says of a log that is not as it was written: cut short, torn, damaged, of somebody else. Never a wrong event."""

from __future__ import annotations

import random
import struct

import pytest

from broker._journal import EventQueue, Journal, SimulatedDisk, checksum
from broker.errors import DataDirectoryError
from broker.model.journal import LogDamaged, LogStop
from tests.journal.material import (
    BOUNDARIES,
    BROKER_ID,
    GROUP_SIZE,
    HEADER,
    HEADER_SIZE,
    SECTOR_SIZE,
    SEGMENT_SIZE,
    STREAM,
    Block,
    begun,
    blocks_of,
    commit_all,
    events_from,
    opened,
    read_all,
    recovered,
    segments,
    written,
)

LOG_SIZE = 30_000


def last_blocks(disk: SimulatedDisk) -> list[Block]:
    return list(blocks_of(disk.read(segments(disk)[-1])))


def with_last_segment(data: bytes, group_events: int = 7) -> SimulatedDisk:
    """The log, with these bytes for its last segment."""
    disk = written(LOG_SIZE, group_events)
    disk.put(segments(disk)[-1], data)
    return disk


def test_a_whole_log_is_read_to_its_end() -> None:
    events, end = read_all(written(LOG_SIZE))
    assert (end.stop, end.torn_size) == (LogStop.END, 0)
    assert events == STREAM[: end.position]
    assert end.position >= LOG_SIZE


def test_every_prefix_of_the_last_segment_by_sectors_ends_behind_its_last_whole_block() -> None:
    intact = written(LOG_SIZE)
    data = intact.read(segments(intact)[-1])
    blocks = last_blocks(intact)
    for size in range(HEADER_SIZE, blocks[-1].end + SECTOR_SIZE, SECTOR_SIZE):
        whole = [block for block in blocks if block.end <= size]
        expected = whole[-1].position + len(whole[-1].events) if whole else blocks[0].position
        cut = data[:size] + bytes(SEGMENT_SIZE - size)
        events, end = read_all(with_last_segment(cut))
        assert (events, end.position) == (STREAM[:expected], expected)
        is_clean = not any(cut[(whole[-1].end if whole else HEADER_SIZE) :])
        assert end.stop is (LogStop.END if is_clean else LogStop.TORN)


def test_any_loss_among_the_sectors_of_the_last_write_takes_that_write_and_no_other() -> None:
    intact = written(LOG_SIZE, group_events=20)
    data = intact.read(segments(intact)[-1])
    last = last_blocks(intact)[-1]
    chance = random.Random(11)
    starts = [last.offset, *range((last.offset // SECTOR_SIZE + 1) * SECTOR_SIZE, last.end, SECTOR_SIZE)]
    assert len(starts) >= 5
    for _ in range(60):
        torn = bytearray(data)
        for start, stop in zip(starts, [*starts[1:], last.end], strict=True):
            kept = chance.choice((0, 0, stop - start, chance.randrange(stop - start)))
            torn[start + kept : stop] = bytes(stop - start - kept)
        if bytes(torn) == data:
            continue
        events, end = read_all(with_last_segment(bytes(torn), group_events=20))
        assert (events, end.position) == (STREAM[: last.position], last.position)
        assert end.stop is (LogStop.TORN if any(torn[last.offset :]) else LogStop.END)


@pytest.mark.parametrize("seed", range(4))
def test_any_flipped_bit_is_told_and_gives_no_wrong_event(seed: int) -> None:
    chance = random.Random(seed)
    intact = written(LOG_SIZE)
    names = segments(intact)
    for _ in range(100):
        index = chance.randrange(len(names))
        data = bytearray(intact.read(names[index]))
        blocks = list(blocks_of(bytes(data)))
        at = chance.choice((chance.randrange(HEADER.size), chance.randrange(HEADER_SIZE, blocks[-1].end), chance.randrange(len(data))))
        data[at] ^= 1 << chance.randrange(8)
        disk = written(LOG_SIZE)
        disk.put(names[index], bytes(data))
        events, end = read_all(disk)
        assert events == STREAM[: len(events)]
        is_last_segment = index == len(names) - 1
        if at < HEADER.size:
            assert (end.stop, end.segment) == (LogStop.HEADER, names[index])
        elif HEADER_SIZE <= at < blocks[-1].end:
            hit = next(block for block in blocks if block.offset <= at < block.end)
            assert end.position == hit.position == len(events)
            if hit is not blocks[-1]:
                assert (end.stop, end.offset) == (LogStop.DAMAGED, hit.offset)
            else:
                assert end.stop is (LogStop.TORN if is_last_segment else LogStop.GAP)
                # A flipped size may send the look for blank sectors anywhere; any other bit leaves the block whole.
                assert not is_last_segment or at < hit.offset + 16 or end.is_whole
        else:
            assert end.is_good
            assert end.position >= LOG_SIZE


def test_bytes_of_another_life_of_the_segment_are_never_taken_for_blocks() -> None:
    old, new = written(LOG_SIZE, salt_seed=1), written(LOG_SIZE, salt_seed=2)
    name = segments(new)[-1]
    blocks = last_blocks(new)
    cut = blocks[len(blocks) // 2].offset
    new.put(name, new.read(name)[:cut] + old.read(name)[cut:])
    events, end = read_all(new)
    assert (end.stop, end.position) == (LogStop.TORN, blocks[len(blocks) // 2].position)
    assert events == STREAM[: end.position]


def test_a_missing_segment_is_a_gap() -> None:
    disk = written(LOG_SIZE)
    names = segments(disk)
    disk.remove(names[1])
    events, end = read_all(disk)
    assert (end.stop, end.segment, end.found) == (LogStop.GAP, names[2], int(names[2][:16], 16))
    assert events == STREAM[: end.position]


def test_a_segment_under_another_name_is_refused() -> None:
    disk = written(LOG_SIZE)
    first = segments(disk)[0]
    disk.put("0000000000ffffff.log", disk.read(first))
    assert read_all(disk)[1].stop is LogStop.MISNAMED


def headed(data: bytes, **changes: int | bytes) -> bytes:
    """A segment with another header that verifies."""
    names = ["magic", "version", "header_size", "size", "broker_id", "generation", "first", "salt", "flags"]
    fields = dict(zip(names, HEADER.unpack_from(data), strict=False)) | changes
    head = HEADER.pack(*fields.values(), 0)[:60]
    return head + struct.pack("<I", checksum(head)) + data[HEADER.size :]


@pytest.mark.parametrize(
    ("changes", "stop"),
    [({"version": 2}, LogStop.VERSION), ({"broker_id": b"somebody"}, LogStop.BROKER), ({"magic": b"NOTUSHER"}, LogStop.HEADER), ({"header_size": 512}, LogStop.HEADER), ({"first": 64}, LogStop.MISNAMED)],
)  # fmt: skip
def test_a_header_that_is_not_ours_is_refused(changes: dict[str, int | bytes], stop: LogStop) -> None:
    disk = written(3000)
    name = segments(disk)[0]
    disk.put(name, headed(disk.read(name), **changes))
    events, end = read_all(disk)
    assert (events, end.stop, end.segment) == (b"", stop, name)


def test_events_that_come_twice_are_refused() -> None:
    disk = written(LOG_SIZE)
    first, second = segments(disk)[:2]
    position = next(iter(blocks_of(disk.read(first)))).events
    double = headed(disk.read(second), first=len(position))
    disk.put(f"{len(position):016x}.log", double)
    assert read_all(disk)[1].stop is LogStop.DUPLICATE


def test_an_earlier_generation_behind_a_later_one_is_refused() -> None:
    disk = written(LOG_SIZE)
    first = segments(disk)[0]
    disk.put(first, headed(disk.read(first), generation=9))
    assert read_all(disk)[1].stop is LogStop.GENERATION


def test_a_log_of_a_later_start_than_this_one_cannot_be_begun() -> None:
    disk = SimulatedDisk(1)
    begun(disk, generation=5)[0].close()
    with pytest.raises(DataDirectoryError, match="written by start 5"):
        begun(disk, generation=4)


def test_a_segment_cut_off_in_its_header_is_refused() -> None:
    disk = written(3000)
    disk.put(segments(disk)[0], disk.read(segments(disk)[0])[:100])
    assert read_all(disk)[1].stop is LogStop.HEADER


def test_a_log_that_ends_before_the_snapshot_is_refused() -> None:
    disk = written(3000)
    end = read_all(disk)[1].position
    journal = opened(disk, 2)
    with pytest.raises(LogDamaged, match="the log ends at position"):
        recovered(journal, BOUNDARIES[BOUNDARIES.index(end) + 1])


def test_no_log_at_all_is_refused_where_a_snapshot_is() -> None:
    with pytest.raises(LogDamaged, match="before what is known"):
        recovered(opened(SimulatedDisk(1)), 64)
    assert recovered(opened(SimulatedDisk(1))) == b""


def test_reading_begins_at_any_event_and_nowhere_else() -> None:
    disk = written(LOG_SIZE)
    for position in BOUNDARIES[:150:7]:
        events, end = read_all(disk, position=position)
        assert events == STREAM[position : end.position]
    assert read_all(disk, position=BOUNDARIES[20] + 8)[1].stop is LogStop.POSITION


def test_a_block_without_whole_events_is_refused_although_it_verifies() -> None:
    disk = written(3000)
    name = segments(disk)[0]
    data = bytearray(disk.read(name))
    salt = HEADER.unpack_from(bytes(data))[7]
    block = next(blocks_of(bytes(data)))
    broken = struct.pack("<I", 72) + block.events[4:]
    crc = checksum(salt.to_bytes(8, "little") + bytes(8) + len(broken).to_bytes(8, "little") + broken)
    data[HEADER_SIZE : block.end] = struct.pack("<IIQ", len(broken), crc, 0) + broken
    disk.put(name, bytes(data))
    assert read_all(disk)[1].stop is LogStop.EVENTS


def test_a_torn_tail_is_kept_aside_and_cut_and_the_log_goes_on_behind_it() -> None:
    disk = written(LOG_SIZE)
    name = segments(disk)[-1]
    last = last_blocks(disk)[-1]
    torn = disk.read(name)[: last.end - 24] + bytes(SEGMENT_SIZE - last.end + 24)
    disk.put(name, torn)
    journal = opened(disk, 2)
    assert recovered(journal) == STREAM[: last.position]
    queue = EventQueue(GROUP_SIZE * 4)
    journal.begin(queue)
    assert queue.put(events_from(last.position, 3))
    commit_all(journal)
    aside = [one for one in disk.names() if one.startswith("torn-")]
    assert aside == [f"torn-{last.position:016x}-1"]
    assert disk.read(aside[0]) == torn[last.offset :].rstrip(b"\0")
    assert not any(disk.read(name)[last.offset :])
    events, end = read_all(disk)
    assert (events, end.stop) == (STREAM[: journal.committed], LogStop.END)


def test_a_refusal_says_where_and_what_to_do_and_changes_nothing() -> None:
    disk = written(LOG_SIZE)
    name = segments(disk)[0]
    data = bytearray(disk.read(name))
    data[HEADER_SIZE + 40] ^= 1
    disk.put(name, bytes(data))
    before = {one: disk.read(one) for one in disk.names()}
    with pytest.raises(LogDamaged, match=rf"{name} is damaged at byte {HEADER_SIZE}.*restore the log") as refusal:
        recovered(opened(disk, 2))
    assert refusal.value.end.stop is LogStop.DAMAGED
    assert {one: disk.read(one) for one in disk.names()} == before


def test_what_is_not_yet_committed_is_not_looked_at() -> None:
    disk = written(LOG_SIZE)
    last = last_blocks(disk)[-1]
    name = segments(disk)[-1]
    disk.put(name, disk.read(name)[: last.offset + 20] + bytes(SEGMENT_SIZE - last.offset - 20))
    events, end = read_all(disk, until=last.position)
    assert (events, end.stop) == (STREAM[: last.position], LogStop.END)
    assert read_all(disk, until=last.position + 64)[1].stop is LogStop.SHORT


def test_broker_ids_have_eight_bytes() -> None:
    with pytest.raises(ValueError, match="broker_id has 3 bytes"):
        Journal(SimulatedDisk(1), broker_id=b"abc", generation=1)
    assert len(BROKER_ID) == 8
