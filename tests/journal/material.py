"""What the journal's tests write and read: a stream of events that is known in advance, and the format as its description says, in plain Python."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from broker._journal import EventQueue, Journal, LogDisk, LogReading, SimulatedDisk, read_log
from broker.model.journal import LogDamaged, LogEnd

BROKER_ID = b"\x01\x02\x03\x04brok"
SEGMENT_SIZE = 16384
GROUP_SIZE = 4096
HEADER_SIZE = 4096
SECTOR_SIZE = 512
HEADER = struct.Struct("<8sIIQ8sQQQII")
BLOCK = struct.Struct("<IIQ")


def event(sequence: int) -> bytes:
    """One event of a size of its own; its bytes say which it is."""
    chance = random.Random(sequence)
    size = chance.choice((64, 64, 64, 128, 200, 680))
    return struct.pack("<IHBBQ", size, 1, 0, 0, sequence) + chance.randbytes(size - 16)


def stream(size_min: int) -> bytes:
    """The beginning of the one event stream of all tests."""
    parts, size, sequence = [], 0, 0
    while size < size_min:
        sequence += 1
        parts.append(event(sequence))
        size += len(parts[-1])
    return b"".join(parts)


STREAM = stream(400_000)


def boundaries(events: bytes = STREAM) -> list[int]:
    """Where events begin, and the end."""
    found = [0]
    while found[-1] < len(events):
        found.append(found[-1] + struct.unpack_from("<I", events, found[-1])[0])
    return found


BOUNDARIES = boundaries()


def events_from(position: int, count: int) -> bytes:
    """So many events of the stream, from a boundary on."""
    index = BOUNDARIES.index(position)
    return STREAM[position : BOUNDARIES[index + count]]


# --- the format, once more ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What the header of a segment or a snapshot says."""

    magic: bytes
    version: int
    header_size: int
    size: int
    broker_id: bytes
    generation: int
    position: int
    salt: int


def segment_facts(data: bytes) -> SegmentFacts:
    """Of its first bytes; flags and checksum are left to others."""
    return SegmentFacts(*HEADER.unpack_from(data)[:8])


@dataclass(frozen=True, slots=True)
class Block:
    """One of a segment."""

    offset: int
    position: int
    events: bytes

    @property
    def end(self) -> int:
        return self.offset + BLOCK.size + len(self.events)


def blocks_of(segment: bytes) -> Iterator[Block]:
    """As long as there are sizes: nothing is verified."""
    offset = HEADER_SIZE
    while offset + BLOCK.size <= len(segment):
        size, _, position = BLOCK.unpack_from(segment, offset)
        if size == 0:
            return
        yield Block(offset, position, segment[offset + BLOCK.size : offset + BLOCK.size + size])
        offset += BLOCK.size + size


# --- logs ----------------------------------------------------------------------------------------------------------------------


def opened(place: Any, generation: int = 1, **settings: Any) -> Journal:
    """With small segments."""
    defaults: dict[str, Any] = {"segment_size": SEGMENT_SIZE, "group_size_max": GROUP_SIZE, "salt_seed": 7}
    return Journal(place, broker_id=BROKER_ID, generation=generation, **(defaults | settings))


def recovered(journal: Journal, position: int = 0) -> bytes:
    """All that it holds from there on."""
    return b"".join(events for _, events in journal.recover(position))


def begun(place: Any, generation: int = 1, **settings: Any) -> tuple[Journal, EventQueue]:
    """Recovered, and begun on a queue."""
    journal = opened(place, generation, **settings)
    recovered(journal)
    queue = EventQueue(1 << 20)
    journal.begin(queue)
    return journal, queue


def commit_all(journal: Journal) -> None:
    """Until there is nothing to do, or it has failed."""
    while journal.step():
        pass


def written(size_min: int, group_events: int = 7, **settings: Any) -> SimulatedDisk:
    """A disk with the stream's beginning, committed in groups of so many events, closed."""
    disk = SimulatedDisk(5)
    journal, queue = begun(disk, **settings)
    while queue.position < size_min:
        assert queue.put(events_from(queue.position, group_events))
        commit_all(journal)
    journal.close()
    return disk


def read_all(place: LogDisk | str, **settings: Any) -> tuple[bytes, LogEnd]:
    """What can be read, and where that ends; refusals too."""
    reading: LogReading = read_log(place, broker_id=settings.pop("broker_id", BROKER_ID), **settings)
    parts: list[bytes] = []
    with contextlib.suppress(LogDamaged):
        parts.extend(events for _, events in reading)
    assert reading.end is not None
    return b"".join(parts), reading.end


def segments(disk: SimulatedDisk) -> list[str]:
    """Names, oldest first."""
    return [name for name in disk.names() if name.endswith(".log")]
