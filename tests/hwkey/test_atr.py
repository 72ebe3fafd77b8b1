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
