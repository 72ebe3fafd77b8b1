"""Readers that no profile has, driven end to end by packets: short APDU levels, small messages, chains of 54 bytes."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from hwkey import SigningAlgorithm
from hwkey.ccid import HEADER_SIZE
from hwkey.emulated import PROFILES, EmulatedToken, Profile

from .packet_link import PacketLink


def reader(profile: str, *, features: int, message_size_max: int) -> Profile:
    """A profile whose reader has another level and message size."""
    base = PROFILES[profile]
    descriptor = replace(base.descriptor, features=features, message_size_max=message_size_max)
    return replace(base, descriptor=descriptor, answer_chunk_size=message_size_max - HEADER_SIZE)


READERS = {
    "short APDUs": reader("yubikey5-like", features=0x0002_0842, message_size_max=271),
    "short APDUs, small messages": reader("yubikey5-like", features=0x0002_0842, message_size_max=240),
    "extended APDUs, messages of one packet": reader("yubikey5-like", features=0x0004_0042, message_size_max=64),
    "T=0 TPDUs, negotiated by the reader": reader("t0-reader", features=0x0001_04FE, message_size_max=65_554),
    "T=0 TPDUs, small messages": reader("t0-reader", features=0x0001_00B2, message_size_max=263),
}


@pytest.mark.parametrize("profile", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("algorithm", list(SigningAlgorithm), ids=lambda algorithm: algorithm.value)
def test_key_in_a_reader_of_any_shape_is_identified_and_proven(profile: Profile, algorithm: SigningAlgorithm) -> None:
    token = replace(EmulatedToken.create(serial="S", algorithm=algorithm), profile=profile)
    opened = PacketLink(token, transfer_count_max=400).open_key()
    assert opened.thumbprint == token.thumbprint
    for _ in range(2):
        proof = opened.prove(nonce=secrets.token_bytes(32), broker_id="b", purpose="p")
        assert proof.algorithm is algorithm
    opened.close()
