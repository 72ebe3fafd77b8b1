"""BER-TLV as PIV uses it: definite lengths, tags of one to three bytes.

Source: ISO/IEC 7816-4 section 5.2.2, NIST SP 800-73-4 part 1. Pure functions over bytes, callable from any
thread. Strict: a length beyond the data, an indefinite length or a tag over three bytes is a ProtocolError.
Long-form lengths that are longer than need be are accepted, because real cards write them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwkey.errors import ProtocolError

TAG_SIZE_MAX = 3
LENGTH_SIZE_MAX = 3  # 83 xx xx xx: 16 MiB, far over any card's object; every caller bounds its input anyway


@dataclass(frozen=True, slots=True)
class Tlv:
    """One data object. `tag` is the tag's bytes as a big-endian number, so 5F C1 01 is 0x5FC101."""

    tag: int
    value: bytes

    def encode(self) -> bytes:
        """The object as bytes, with the shortest length form."""
        return encode(self.tag, self.value)


def encode(tag: int, value: bytes) -> bytes:
    """One data object as bytes; ValueError when `tag` is not one to three bytes long."""
    if not 0 < tag < 1 << (8 * TAG_SIZE_MAX):
        raise ValueError(f"tag {tag:#x} does not fit {TAG_SIZE_MAX} bytes")
    tag_bytes = tag.to_bytes((tag.bit_length() + 7) // 8, "big")
    return tag_bytes + _encode_length(len(value)) + value


def decode(data: bytes) -> list[Tlv]:
    """All data objects of `data`, in order; raises ProtocolError."""
    objects: list[Tlv] = []
    position = 0
    while position < len(data):
        tag, position = _decode_tag(data, position)
        size, position = _decode_length(data, position)
        if size > len(data) - position:
            raise ProtocolError("tlv", f"value of {tag:X} says {size} bytes, {len(data) - position} left", data=data)
        objects.append(Tlv(tag, data[position : position + size]))
        position += size
    return objects


def value_of(data: bytes, tag: int) -> bytes:
    """The value of the first object with `tag`; raises ProtocolError when there is none."""
    for item in decode(data):
        if item.tag == tag:
            return item.value
    raise ProtocolError("tlv", f"no data object {tag:X}", data=data)


def _encode_length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    if len(octets) > LENGTH_SIZE_MAX:
        raise ValueError(f"a value of {size} bytes is too long")
    return bytes([0x80 | len(octets)]) + octets


def _decode_tag(data: bytes, position: int) -> tuple[int, int]:
    start = position
    is_long = data[position] & 0x1F == 0x1F
    position += 1
    while is_long:
        if position >= len(data) or position - start >= TAG_SIZE_MAX:
            raise ProtocolError("tlv", "tag without an end", data=data[start:])
        is_long = bool(data[position] & 0x80)
        position += 1
    tag = int.from_bytes(data[start:position], "big")
    if tag == 0:
        raise ProtocolError("tlv", "tag 00 is not a data object", data=data[start:])
    return tag, position


def _decode_length(data: bytes, position: int) -> tuple[int, int]:
    if position >= len(data):
        raise ProtocolError("tlv", "no length after the tag", data=data)
    first = data[position]
    position += 1
    if first < 0x80:
        return first, position
    count = first & 0x7F
    if not 1 <= count <= LENGTH_SIZE_MAX:
        raise ProtocolError("tlv", f"length form {first:02X}", data=data)
    if count > len(data) - position:
        raise ProtocolError("tlv", "length cut short", data=data)
    return int.from_bytes(data[position : position + count], "big"), position + count
