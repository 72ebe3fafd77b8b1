"""BER-TLV against vectors from ISO/IEC 7816-4 and NIST SP 800-73-4, and its refusals."""

from __future__ import annotations

import pytest

from hwkey import ProtocolError
from hwkey.tlv import Tlv, decode, encode, value_of

PIV_SELECT_ANSWER = bytes.fromhex("61114F0600001000010079074F05A000000308")


def test_object_id_of_the_9e_certificate_is_encoded_as_in_sp_800_73() -> None:
    assert encode(0x5C, bytes.fromhex("5FC101")) == bytes.fromhex("5C035FC101")


def test_nested_select_answer_of_sp_800_73_is_decoded() -> None:
    template = value_of(PIV_SELECT_ANSWER, 0x61)
    assert decode(template) == [
        Tlv(0x4F, bytes.fromhex("000010000100")),
        Tlv(0x79, bytes.fromhex("4F05A000000308")),
    ]


@pytest.mark.parametrize(
    ("size", "header"), [(0, "5300"), (127, "537F"), (128, "538180"), (255, "5381FF"), (256, "53820100"), (65_536, "5383010000")]
)
def test_lengths_take_the_shortest_form(size: int, header: str) -> None:
    encoded = encode(0x53, bytes(size))
    assert encoded[: -size or None] == bytes.fromhex(header)
    assert decode(encoded) == [Tlv(0x53, bytes(size))]


def test_three_byte_tag_is_one_number() -> None:
    assert decode(bytes.fromhex("7F490186")) == [Tlv(0x7F49, b"\x86")]
    assert decode(bytes.fromhex("5FC1010102")) == [Tlv(0x5FC101, b"\x02")]


def test_length_longer_than_need_be_is_accepted() -> None:
    assert decode(bytes.fromhex("5382000155")) == [Tlv(0x53, b"\x55")]


@pytest.mark.parametrize(
    "broken",
    ["53", "5302AA", "5381", "538201", "5380AA0000", "53FF", "5F", "5FC1", "5FC1C1C10100", "0000", "5384000000010A"],
)
def test_broken_object_is_a_protocol_error_of_layer_tlv(broken: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(bytes.fromhex(broken))
    assert caught.value.layer == "tlv"


def test_missing_object_is_named() -> None:
    with pytest.raises(ProtocolError, match="7C"):
        value_of(b"\x53\x00", 0x7C)


@pytest.mark.parametrize("tag", [0, -1, 1 << 24])
def test_tag_that_does_not_fit_three_bytes_is_our_own_mistake(tag: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode(tag, b"")
