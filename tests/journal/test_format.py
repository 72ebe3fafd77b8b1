"""The log's format to the byte: checksums by the book, headers and blocks as their description says, words with one number."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from broker._journal import checksum
from broker.model.journal import SYNC_BUCKET_BOUNDS_NS, JournalStep, LogStop
from tests.journal.material import (
    BLOCK,
    BROKER_ID,
    HEADER,
    HEADER_SIZE,
    SEGMENT_SIZE,
    STREAM,
    blocks_of,
    segments,
    written,
)

RECORDS = Path(__file__).resolve().parents[2] / "ext" / "journal" / "journal_records.pxd"
READ_COMMAND = bytes.fromhex(
    "01c00000000000000000000000000000140000000000040000000014000000182800000000000000020000000000000000"[:96]
)
VECTORS = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(reversed(range(32))), 0x113FDB5C),
    (READ_COMMAND, 0xD9963A56),
]
"""RFC 3720, appendix B.4; the sums there are in the order of the wire."""


@pytest.mark.parametrize("is_by_table", [False, True])
@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_the_checksums_of_the_rfc_come_out(data: bytes, expected: int, is_by_table: bool) -> None:
    assert checksum(data, is_by_table=is_by_table) == expected


def test_processor_and_table_agree_on_every_length_and_in_pieces() -> None:
    for size in range(200):
        data = STREAM[size : 2 * size]
        whole = checksum(data)
        assert checksum(data, is_by_table=True) == whole
        assert checksum(data[size // 3 :], checksum(data[: size // 3])) == whole


def test_segments_are_as_their_description_says() -> None:
    disk = written(30_000)
    position = 0
    assert len(segments(disk)) >= 3
    salts = set()
    for name in segments(disk):
        data = disk.read(name)
        magic, version, header_size, size, broker_id, generation, first, salt, flags, crc = HEADER.unpack_from(data)
        assert (magic, version, header_size, size) == (b"USHERLOG", 1, HEADER_SIZE, SEGMENT_SIZE)
        assert (broker_id, generation, first, flags) == (BROKER_ID, 1, position, 0)
        assert name == f"{first:016x}.log"
        assert crc == checksum(data[:60])
        assert data[HEADER.size : HEADER_SIZE] == bytes(HEADER_SIZE - HEADER.size)
        salts.add(salt)
        for block in blocks_of(data):
            assert block.position == position
            assert block.events == STREAM[position : position + len(block.events)]
            sized = salt.to_bytes(8, "little") + position.to_bytes(8, "little") + len(block.events).to_bytes(8, "little")
            assert BLOCK.unpack_from(data, block.offset)[1] == checksum(sized + block.events)
            position += len(block.events)
        assert not any(data[block.end :])
    assert len(salts) == len(segments(disk))


def test_another_seed_gives_other_salts_and_the_same_seed_the_same_bytes() -> None:
    first, same, other = written(9000), written(9000), written(9000, salt_seed=8)
    name = segments(first)[0]
    assert first.read(name) == same.read(name) != other.read(name)


@pytest.mark.parametrize(("prefix", "words"), [("STOP", LogStop), ("STEP", JournalStep)])
def test_words_have_the_same_numbers_in_c_and_in_python(prefix: str, words: type[IntEnum]) -> None:
    found = dict(re.findall(rf"^    {prefix}_(\w+) = (\d+)", RECORDS.read_text(), re.MULTILINE))
    inner = {"NONE", "SEGMENT"} if words is LogStop else {"NONE"}
    assert {name: int(number) for name, number in found.items() if name not in inner} == {word.name: word.value for word in words}


def test_there_is_a_bound_for_every_bucket_but_the_last() -> None:
    found = re.search(r"SYNC_BUCKET_COUNT = (\d+)", RECORDS.read_text())
    assert found is not None
    assert len(SYNC_BUCKET_BOUNDS_NS) == int(found[1]) - 1
