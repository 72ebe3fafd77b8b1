"""ATRs of real cards, as published in Ludovic Rousseau's list, and their refusals."""

from __future__ import annotations

import pytest

from hwkey import ProtocolError
from hwkey.atr import decode_atr, encode_atr

YUBIKEY_5 = bytes.fromhex("3BFD1300008131FE158073C021C057597562694B657940")
NITROKEY_3 = bytes.fromhex("3B8F01805D4E6974726F6B657900000000006A")


def test_yubikey_5_says_that_it_takes_extended_lengths() -> None:
    atr = decode_atr(YUBIKEY_5)
    assert atr.historical == bytes.fromhex("8073C021C057597562694B6579")
    assert atr.protocols == {1}
    assert atr.has_extended_lengths


def test_nitrokey_3_says_nothing_of_extended_lengths() -> None:
    atr = decode_atr(NITROKEY_3)
    assert atr.historical == b"\x80\x5dNitrokey" + bytes(5)
    assert not atr.has_extended_lengths


def test_atr_without_interface_bytes_offers_t0() -> None:
    assert decode_atr(bytes.fromhex("3B021450")).protocols == {0}


def test_encoded_atr_of_the_nitrokey_has_its_real_check_byte() -> None:
    assert encode_atr(b"\x80\x5dNitrokey" + bytes(5)) == NITROKEY_3


@pytest.mark.parametrize("broken", ["", "3B", "3A00", "3B0F11", "3B8F", "3BFF1111", "3B" + "00" * 33])
def test_broken_atr_is_a_protocol_error(broken: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_atr(bytes.fromhex(broken))
    assert caught.value.layer == "atr"


@pytest.mark.parametrize(
    ("atr", "default_protocol", "protocols", "is_fixed", "parameters"),
    [
        # No TD1: T=0 and nothing else, with the standard's defaults.
        ("3B021450", 0, {0}, False, "1100000A00"),
        # Oberthur ID-One Cosmo 64 PIV: TA1 is an offer that nobody takes up here, so the default rate stands.
        ("3BDB9600801F030031C064B0F3100007900080", 0, {0, 15}, False, "1100000A00"),
        # TC1 (extra guard time FF) and TC2 (waiting integer 20).
        ("3B40FF", 0, {0}, False, "1100FF0A00"),
        ("3BC0FF4014", 0, {0}, False, "1100FF1400"),
        # Inverse convention.
        ("3F0100", 0, {0}, False, "1102000A00"),
        # TA2 with explicit rate: that of TA1; the protocol is fixed.
        ("3B9096100000", 0, {0}, True, "9600000A00"),
        # TA2 with implicit rate.
        ("3B90961010", 0, {0}, True, "1100000A00"),
        # T=1 first, T=0 second.
        ("3B80810000", 1, {1, 0}, False, "1100000A00"),
    ],
)
def test_protocol_and_t0_parameters_follow_the_interface_bytes(
    atr: str, default_protocol: int, protocols: set[int], is_fixed: bool, parameters: str
) -> None:
    read = decode_atr(bytes.fromhex(atr))
    assert read.default_protocol == default_protocol
    assert read.protocols == protocols - {15}
    assert read.has_fixed_protocol is is_fixed
    assert read.t0_parameters.hex().upper() == parameters


def test_encoded_atr_of_a_t0_card_has_no_check_byte_and_offers_t0_alone() -> None:
    encoded = encode_atr(b"\x80EMULATED", 0)
    assert encoded == b"\x3b\x09\x80EMULATED"
    assert decode_atr(encoded).protocols == {0}
