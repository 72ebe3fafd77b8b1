"""What kinds of token can be emulated: their descriptors and habits, taken from dumps of real ones.

A profile copies the shape of a real key (interfaces, endpoints, dwFeatures, message sizes, chaining) but never its
identity: vendor and product id are those for private tests, and every string says EMULATED. Sources: libccid's
readers list, and issue logs of their users. No real YubiKey or Nitrokey was at hand to compare with. Values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwkey.ccid import HEADER_SIZE, INTERFACE_CLASS
from hwkey.ccid_descriptor import CcidDescriptor

VENDOR_ID, PRODUCT_ID = 0x1209, 0x0001
PACKET_SIZE = 64
MANUFACTURER = "Usher (EMULATED)"

ATTRIBUTES_BULK, ATTRIBUTES_INTERRUPT = 0x02, 0x03
CLASS_HID = 0x03


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One endpoint descriptor; `interval` is bInterval."""

    address: int
    attributes: int
    packet_size: int = PACKET_SIZE
    interval: int = 0


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """One interface descriptor with its endpoints and the class descriptors between them."""

    number: int
    interface_class: int
    subclass: int
    protocol: int
    endpoints: tuple[EndpointSpec, ...]
    extra_descriptors: bytes = b""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of token.

    `answer_chunk_size` is the largest data of one answer: longer ones are chained. `has_prefix_select` says
    whether SELECT takes a shortened application id, `has_gathered_select` whether its answer comes by 61xx.
    `card_protocol` is what the ATR offers: 0 for T=0, 1 for T=1. Each answer of the card comes `answer_delay_ms` after its
    command, announced by a time extension; `flaky_per_mille` of packets and commands go wrong (`faults`).
    """

    name: str
    device_release: int
    interfaces: tuple[InterfaceSpec, ...]
    ccid_interface_number: int
    descriptor: CcidDescriptor
    historical_bytes: bytes
    answer_chunk_size: int
    has_prefix_select: bool
    has_gathered_select: bool
    card_protocol: int = 1
    answer_delay_ms: int = 0
    flaky_per_mille: int = 0

    @property
    def product(self) -> str:
        """The product string; always says EMULATED."""
        return f"EMULATED security key ({self.name})"


def _ccid_interface(
    number: int, descriptor: CcidDescriptor, endpoints: tuple[EndpointSpec, ...]
) -> InterfaceSpec:
    return InterfaceSpec(number, INTERFACE_CLASS, 0, 0, endpoints, descriptor.encode())


def _bulk_pair(number: int) -> tuple[EndpointSpec, EndpointSpec]:
    return EndpointSpec(number, ATTRIBUTES_BULK), EndpointSpec(0x80 | number, ATTRIBUTES_BULK)


def _yubikey5_like() -> Profile:
    descriptor = CcidDescriptor(
        slot_count=1,
        voltage_support=0x07,
        protocols=0x2,
        information_field_size_max=3062,
        features=0x0004_00FE,
        message_size_max=3072,
        busy_slot_count_max=1,
    )
    keyboard = InterfaceSpec(0, CLASS_HID, 1, 1, (EndpointSpec(0x81, ATTRIBUTES_INTERRUPT, 8, 10),))
    fido = InterfaceSpec(
        1, CLASS_HID, 0, 0, (EndpointSpec(0x04, ATTRIBUTES_INTERRUPT, interval=2), EndpointSpec(0x84, ATTRIBUTES_INTERRUPT, interval=2))
    )  # fmt: skip
    ccid = _ccid_interface(2, descriptor, (*_bulk_pair(2), EndpointSpec(0x83, ATTRIBUTES_INTERRUPT, 8, 32)))
    return Profile(
        name="yubikey5-like",
        device_release=0x0503,
        interfaces=(keyboard, fido, ccid),
        ccid_interface_number=2,
        descriptor=descriptor,
        # Card capabilities 73 C0 21 C0: command chaining and extended lengths.
        historical_bytes=bytes.fromhex("8073C021C0") + b"\x57EMULATE",
        answer_chunk_size=descriptor.message_size_max - HEADER_SIZE,
        has_prefix_select=True,
        has_gathered_select=False,
    )


def _nitrokey3_like() -> Profile:
    descriptor = CcidDescriptor(
        slot_count=1,
        voltage_support=0x01,
        protocols=0x2,
        information_field_size_max=254,
        features=0x0004_0840,
        message_size_max=3072,
        busy_slot_count_max=1,
    )
    return Profile(
        name="nitrokey3-like",
        device_release=0x0002,
        interfaces=(_ccid_interface(0, descriptor, _bulk_pair(1)),),
        ccid_interface_number=0,
        descriptor=descriptor,
        historical_bytes=b"\x80\x5dEMULATED" + bytes(5),
        answer_chunk_size=PACKET_SIZE - HEADER_SIZE,
        has_prefix_select=False,
        has_gathered_select=True,
    )


def _t0_reader() -> Profile:
    """A card in a reader: the descriptor is that of a GemPC Twin, whose host has to agree on T=0 and make the TPDUs."""
    descriptor = CcidDescriptor(
        slot_count=1,
        voltage_support=0x07,
        protocols=0x3,
        information_field_size_max=254,
        features=0x0001_0230,
        message_size_max=271,
        busy_slot_count_max=1,
    )
    endpoints = (*_bulk_pair(2), EndpointSpec(0x83, ATTRIBUTES_INTERRUPT, 8, 24))
    return Profile(
        name="t0-reader",
        device_release=0x0100,
        interfaces=(_ccid_interface(0, descriptor, endpoints),),
        ccid_interface_number=0,
        descriptor=descriptor,
        historical_bytes=b"\x80\x58EMULATED",
        answer_chunk_size=descriptor.message_size_max - HEADER_SIZE,
        has_prefix_select=True,
        has_gathered_select=True,
        card_protocol=0,
    )


def _slow() -> Profile:
    """A token that needs an eighth of a second for every command; real ones take up to one for a signature."""
    return replace(_yubikey5_like(), name="slow", answer_delay_ms=125)


def _flaky() -> Profile:
    """A token on a bad contact: one opening in five and one proof in thirty meets a trouble."""
    return replace(_nitrokey3_like(), name="flaky", flaky_per_mille=4)


PROFILES: dict[str, Profile] = {
    profile.name: profile for profile in (_yubikey5_like(), _nitrokey3_like(), _t0_reader(), _slow(), _flaky())
}
