"""The CCID functional descriptor, and whether this driver can speak to the reader that shows it.

Source: USB "Device Class: Smart Card CCID", revision 1.1, chapter 5.1 (54 bytes, type 21, in the extra bytes of
the interface). What is refused is refused by name, so that an admin can be told. Pure; any thread.

A reader exchanges whole APDUs, or TPDUs that the host must build itself. At the APDU levels T=0 and T=1 are
the reader's affair. At the TPDU level T=0 is spoken and T=1 is not: a reader that has both is taken, and then it is
the card in it that decides (`ccid_card`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from hwkey.ccid import HEADER_SIZE, INTERFACE_CLASS
from hwkey.errors import ProtocolError, Unsupported

DESCRIPTOR_SIZE = 54
DESCRIPTOR_TYPE = 0x21
MESSAGE_SIZE_MIN = HEADER_SIZE + 5  # room for the shortest APDU that has a body
MESSAGE_SIZE_MAX = HEADER_SIZE + 65_544  # header and the longest extended APDU; real readers go this far

FEATURE_AUTO_VOLTAGE = 0x0000_0008
FEATURE_AUTO_NEGOTIATION = 0x0000_0040  # protocol and parameters are chosen by the reader
FEATURE_AUTO_PPS = 0x0000_0080  # the reader tells the card what SetParameters has set
PROTOCOL_T0, PROTOCOL_T1 = 0x1, 0x2

# bLength bType bcdCCID bMaxSlotIndex bVoltageSupport dwProtocols dwDefaultClock dwMaximumClock
# bNumClockSupported dwDataRate dwMaxDataRate bNumDataRates dwMaxIFSD dwSynchProtocols dwMechanical
# dwFeatures dwMaxCCIDMessageLength bClassGetResponse bClassEnvelope wLcdLayout bPINSupport bMaxCCIDBusySlots
_LAYOUT = struct.Struct("<BBHBBIIIBIIBIIIIIBBHBB")
assert _LAYOUT.size == DESCRIPTOR_SIZE


class ExchangeLevel(Enum):
    """What the reader and the host exchange (dwFeatures bits 16-18)."""

    CHARACTER = "character"
    TPDU = "tpdu"
    SHORT_APDU = "short_apdu"
    EXTENDED_APDU = "extended_apdu"


class Refusal(Enum):
    """Why a reader is not used; the value is a constant word for metrics and lists."""

    VENDOR_CLASS = "vendor_class"
    UNKNOWN_SUBCLASS = "unknown_subclass"
    ICCD_PROTOCOL = "iccd_protocol"
    NO_DESCRIPTOR = "no_descriptor"
    MALFORMED_DESCRIPTOR = "malformed_descriptor"
    CHARACTER_LEVEL = "character_level"
    TPDU_T1 = "tpdu_t1"
    TPDU_UNKNOWN = "tpdu_unknown"
    MESSAGE_SIZE = "message_size"


REFUSAL_SENTENCES: dict[Refusal, str] = {
    Refusal.VENDOR_CLASS: "its interface is of a vendor class, not of the smart card class 0B",
    Refusal.UNKNOWN_SUBCLASS: "its interface has a subclass other than 0",
    Refusal.ICCD_PROTOCOL: "it speaks ICCD over the control pipe, not CCID over bulk pipes",
    Refusal.NO_DESCRIPTOR: "its interface carries no CCID descriptor or no pair of bulk endpoints",
    Refusal.MALFORMED_DESCRIPTOR: "its CCID descriptor can not be read",
    Refusal.CHARACTER_LEVEL: "it exchanges single characters, which this driver does not speak; use another reader",
    Refusal.TPDU_T1: (
        "it exchanges T=1 TPDUs, which this driver does not speak; use a USB security key, or a reader that exchanges "
        "APDUs"
    ),
    Refusal.TPDU_UNKNOWN: "it exchanges TPDUs of neither T=0 nor T=1; use another reader",
    Refusal.MESSAGE_SIZE: f"its largest message is not within {MESSAGE_SIZE_MIN} to {MESSAGE_SIZE_MAX} bytes",
}


@dataclass(frozen=True, slots=True)
class CcidDescriptor:
    """The fields of the functional descriptor that the driver or an admin needs."""

    slot_count: int
    voltage_support: int
    protocols: int
    information_field_size_max: int
    features: int
    message_size_max: int
    busy_slot_count_max: int

    @property
    def level(self) -> ExchangeLevel:
        """The highest exchange level of dwFeatures."""
        bits = self.features >> 16 & 0b111
        if bits & 0b100:
            return ExchangeLevel.EXTENDED_APDU
        if bits & 0b010:
            return ExchangeLevel.SHORT_APDU
        return ExchangeLevel.TPDU if bits else ExchangeLevel.CHARACTER

    @property
    def has_auto_negotiation(self) -> bool:
        """True when the reader agrees with the card on protocol and parameters by itself."""
        return bool(self.features & FEATURE_AUTO_NEGOTIATION)

    @property
    def has_auto_pps(self) -> bool:
        """True when the reader does the PPS exchange that SetParameters calls for."""
        return bool(self.features & FEATURE_AUTO_PPS)

    @property
    def has_auto_voltage(self) -> bool:
        """True when the reader chooses the voltage itself."""
        return bool(self.features & FEATURE_AUTO_VOLTAGE)

    @property
    def power_selects(self) -> tuple[int, ...]:
        """The bPowerSelect values to try in turn: 0 automatic, else 1 (5 V), 2 (3 V), 3 (1.8 V)."""
        if self.has_auto_voltage:
            return (0,)
        offered = tuple(select for select in (1, 2, 3) if self.voltage_support >> (select - 1) & 1)
        return offered or (1, 2, 3)

    def encode(self) -> bytes:
        """The 54 bytes, with the fields that nobody reads at common values; for the emulated readers."""
        clock_khz, rate_bps = 4_000, 307_200
        return _LAYOUT.pack(
            DESCRIPTOR_SIZE, DESCRIPTOR_TYPE, 0x0110, self.slot_count - 1, self.voltage_support, self.protocols,
            clock_khz, clock_khz, 0, rate_bps, rate_bps, 0, self.information_field_size_max, 0, 0,
            self.features, self.message_size_max, 0xFF, 0xFF, 0, 0, self.busy_slot_count_max,
        )  # fmt: skip


def decode_descriptor(extra: bytes) -> CcidDescriptor:
    """Find and read the functional descriptor among the extra bytes of an interface; raises ProtocolError."""
    fields = _LAYOUT.unpack(_find_descriptor(extra))
    return CcidDescriptor(
        slot_count=fields[3] + 1,
        voltage_support=fields[4],
        protocols=fields[5],
        information_field_size_max=fields[12],
        features=fields[15],
        message_size_max=fields[16],
        busy_slot_count_max=fields[21],
    )


def _find_descriptor(extra: bytes) -> bytes:
    position = 0
    while position + 2 <= len(extra):
        size, descriptor_type = extra[position], extra[position + 1]
        if size < 2:
            break
        if descriptor_type == DESCRIPTOR_TYPE and size == DESCRIPTOR_SIZE and position + size <= len(extra):
            return extra[position : position + size]
        position += size
    raise ProtocolError("ccid", "no functional descriptor of 54 bytes and type 21", data=extra)


def refusal_of_interface(interface_class: int, subclass: int, protocol: int) -> Refusal | None:
    """Why an interface of these three numbers is not spoken to; None when it is."""
    if interface_class != INTERFACE_CLASS:
        return Refusal.VENDOR_CLASS
    if subclass != 0:
        return Refusal.UNKNOWN_SUBCLASS
    return None if protocol == 0 else Refusal.ICCD_PROTOCOL


def refusal_of_descriptor(descriptor: CcidDescriptor) -> Refusal | None:
    """Why a reader with this descriptor is not spoken to; None when it is."""
    if descriptor.level is ExchangeLevel.CHARACTER:
        return Refusal.CHARACTER_LEVEL
    if descriptor.level is ExchangeLevel.TPDU and not descriptor.protocols & PROTOCOL_T0:
        return Refusal.TPDU_T1 if descriptor.protocols & PROTOCOL_T1 else Refusal.TPDU_UNKNOWN
    if not MESSAGE_SIZE_MIN <= descriptor.message_size_max <= MESSAGE_SIZE_MAX:
        return Refusal.MESSAGE_SIZE
    return None


def unsupported(refusal: Refusal) -> Unsupported:
    """The refusal as the error that opening such a reader raises."""
    return Unsupported(reason=refusal.value, detail=REFUSAL_SENTENCES[refusal])
