"""The standard USB descriptors of an emulated token as bytes, made from its profile.

Source: USB 2.0, chapter 9.6. A host that attaches the token over USB/IP reads these; the pyusb backend shows the same
fields as objects. Every string says EMULATED or is the token's serial. Pure; any thread.
"""

from __future__ import annotations

import struct

from hwkey.emulated.profile import (
    MANUFACTURER,
    PACKET_SIZE,
    PRODUCT_ID,
    VENDOR_ID,
    InterfaceSpec,
    Profile,
)

TYPE_DEVICE, TYPE_CONFIGURATION, TYPE_STRING, TYPE_INTERFACE, TYPE_ENDPOINT = 0x01, 0x02, 0x03, 0x04, 0x05
INDEX_MANUFACTURER, INDEX_PRODUCT, INDEX_SERIAL = 1, 2, 3
CONFIGURATION_VALUE = 1
USB_RELEASE = 0x0200
ATTRIBUTES_BUS_POWERED = 0x80
POWER_2MA_COUNT = 15
LANGUAGE_US_ENGLISH = 0x0409
STRING_BODY_SIZE_MAX = 252


def device_descriptor(profile: Profile) -> bytes:
    """The 18 bytes of the device."""
    return struct.pack(
        "<BBHBBBBHHHBBBB",
        18,
        TYPE_DEVICE,
        USB_RELEASE,
        *(0, 0, 0),  # class, subclass and protocol are those of the interfaces
        PACKET_SIZE,
        VENDOR_ID,
        PRODUCT_ID,
        profile.device_release,
        INDEX_MANUFACTURER,
        INDEX_PRODUCT,
        INDEX_SERIAL,
        1,
    )


def configuration_descriptor(profile: Profile) -> bytes:
    """The configuration with all its interfaces, class descriptors and endpoints."""
    body = b"".join(_interface(interface) for interface in profile.interfaces)
    head = struct.pack(
        "<BBHBBBBB",
        9,
        TYPE_CONFIGURATION,
        9 + len(body),
        len(profile.interfaces),
        CONFIGURATION_VALUE,
        0,
        ATTRIBUTES_BUS_POWERED,
        POWER_2MA_COUNT,
    )
    return head + body


def string_descriptor(profile: Profile, serial: str, index: int) -> bytes | None:
    """One string, or the languages for index 0; None when there is no such string."""
    strings = {INDEX_MANUFACTURER: MANUFACTURER, INDEX_PRODUCT: profile.product, INDEX_SERIAL: serial}
    if index == 0:
        body = LANGUAGE_US_ENGLISH.to_bytes(2, "little")
    elif index in strings:
        body = strings[index].encode("utf-16-le")[:STRING_BODY_SIZE_MAX]
    else:
        return None
    return bytes([len(body) + 2, TYPE_STRING]) + body


def _interface(interface: InterfaceSpec) -> bytes:
    head = bytes(
        [
            *(9, TYPE_INTERFACE, interface.number, 0, len(interface.endpoints)),
            *(interface.interface_class, interface.subclass, interface.protocol, 0),
        ]
    )
    endpoints = b"".join(
        struct.pack("<BBBBHB", 7, TYPE_ENDPOINT, one.address, one.attributes, one.packet_size, one.interval)
        for one in interface.endpoints
    )
    return head + interface.extra_descriptors + endpoints
