"""Descriptor dumps of real readers, as libccid collects them: each is read, and taken or refused by name.

The dumps are data beside the checkout, not in it; where they are absent the test is skipped and says so.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from pathlib import Path

import pytest

from hwkey.ccid_descriptor import (
    DESCRIPTOR_SIZE,
    CcidDescriptor,
    ExchangeLevel,
    Refusal,
    decode_descriptor,
    refusal_of_descriptor,
    refusal_of_interface,
)
from hwkey.emulated import PROFILES

# Of 773 interfaces in 691 dumps: what becomes of them, and the levels of those that are taken.
COUNTS = {
    "supported": 715,
    "vendor_class": 26,
    "tpdu_t1": 19,
    "iccd_protocol": 8,
    "character_level": 3,
    "unknown_subclass": 1,
    "message_size": 1,
}
LEVELS = {"extended_apdu": 293, "short_apdu": 184, "tpdu": 238}

DUMPS = Path(__file__).parents[3] / "shared" / "data" / "ccid-readers"


def number(section: str, name: str) -> int:
    """The value of a line such as `dwFeatures: 0x000400FE` or `dwMaxIFSD: 254`; two words are the high and low one."""
    found = re.search(rf"^ +{name}: +(.+)$", section, re.MULTILINE)
    assert found, name
    words = re.findall(r"0x[0-9A-Fa-f]+|\d+", found[1])
    if name == "dwProtocols":
        return int(words[0], 16) << 16 | int(words[1], 16)
    return int(words[0], 0)


def descriptor_bytes(section: str) -> bytes:
    """The functional descriptor that the printed fields came from; the fields that nobody reads are zero."""
    return struct.pack(
        "<BBHBBIIIBIIBIIIIIBBHBB",
        DESCRIPTOR_SIZE,
        0x21,
        0,
        number(section, "bMaxSlotIndex"),
        number(section, "bVoltageSupport"),
        number(section, "dwProtocols"),
        *(0, 0, 0, 0, 0, 0),
        number(section, "dwMaxIFSD"),
        *(0, 0),
        number(section, "dwFeatures"),
        number(section, "dwMaxCCIDMessageLength"),
        *(0xFF, 0xFF, 0, 0),
        number(section, "bMaxCCIDBusySlots"),
    )


def interface_sections(path: Path) -> list[str]:
    """The part of a dump that describes each of its interfaces."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return [section for section in text.split("bInterfaceNumber")[1:] if "dwFeatures" in section]


def refusal_of(section: str) -> Refusal | None:
    names = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
    by_interface = refusal_of_interface(*(number(section, name) for name in names))
    return by_interface or refusal_of_descriptor(decode_descriptor(descriptor_bytes(section)))


@pytest.fixture(scope="module")
def dumps() -> dict[str, list[str]]:
    if not DUMPS.is_dir():
        pytest.skip(f"no descriptor dumps at {DUMPS}: data beside the checkout")
    return {path.stem: interface_sections(path) for path in sorted(DUMPS.glob("*.txt"))}


def test_every_dump_of_a_real_reader_is_read_and_classified(dumps: dict[str, list[str]]) -> None:
    counts = Counter(refusal_of(section) for sections in dumps.values() for section in sections)
    without = [name for name, sections in dumps.items() if not sections]
    assert without == ["supported_readers"]
    assert {"supported" if refusal is None else refusal.value: count for refusal, count in counts.items()} == COUNTS


def test_supported_readers_of_the_dumps_are_at_these_levels(dumps: dict[str, list[str]]) -> None:
    levels = Counter(
        decode_descriptor(descriptor_bytes(section)).level.value
        for sections in dumps.values()
        for section in sections
        if refusal_of(section) is None
    )
    assert levels == LEVELS


@pytest.mark.parametrize(
    ("name", "message_size_max", "level"),
    [
        ("Yubico_Yubikey_4_OTP+U2F+CCID", 3072, ExchangeLevel.EXTENDED_APDU),
        ("Nitrokey_Nitrokey_3", 3072, ExchangeLevel.EXTENDED_APDU),
        ("SoloKeys_Solo_2", 3072, ExchangeLevel.EXTENDED_APDU),
        ("GemPCTwin", 271, ExchangeLevel.TPDU),
    ],
)
def test_known_readers_are_what_they_are_known_to_be(
    dumps: dict[str, list[str]], name: str, message_size_max: int, level: ExchangeLevel
) -> None:
    (section,) = dumps[name]
    descriptor: CcidDescriptor = decode_descriptor(descriptor_bytes(section))
    assert (descriptor.message_size_max, descriptor.level) == (message_size_max, level)


def test_emulated_profiles_show_the_descriptors_of_the_keys_they_are_named_after(dumps: dict[str, list[str]]) -> None:
    for profile, dump in (("yubikey5-like", "Yubico_Yubikey_4_OTP+U2F+CCID"), ("nitrokey3-like", "Nitrokey_Nitrokey_3")):
        (section,) = dumps[dump]
        assert decode_descriptor(descriptor_bytes(section)) == PROFILES[profile].descriptor
