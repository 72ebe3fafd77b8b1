"""The answer to reset: what a card says of itself when it is powered.

Source: ISO/IEC 7816-3 section 8.2 (structure), 7816-4 section 8.1.1 (historical bytes, card capabilities).
We need one fact from it: whether the card takes extended APDUs. A reader at the extended level does not
promise that for the card in it, and PIV guarantees only short APDUs with chaining. Pure; any thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwkey.errors import ProtocolError

ATR_SIZE_MAX = 33
CAPABILITIES_TAG = 0x7
EXTENDED_LENGTHS_BIT = 0x40


@dataclass(frozen=True, slots=True)
class Atr:
    """The parts of an ATR that are used: historical bytes and the protocols offered (0: T=0, 1: T=1)."""

    historical: bytes
    protocols: frozenset[int]

    @property
    def has_extended_lengths(self) -> bool:
        """True when the card capabilities say "extended Lc and Le fields"; False when nothing is said."""
        return any(
            tag == CAPABILITIES_TAG and len(value) >= 3 and bool(value[2] & EXTENDED_LENGTHS_BIT)
            for tag, value in _compact_tlvs(self.historical)
        )


def decode_atr(data: bytes) -> Atr:
    """Read an ATR; raises ProtocolError."""
    if not 2 <= len(data) <= ATR_SIZE_MAX or data[0] not in (0x3B, 0x3F):
        raise ProtocolError("atr", "not an answer to reset", data=data)
    protocols: set[int] = set()
    indicator, position = data[1] >> 4, 2
    while indicator:
        td_index = position + bin(indicator & 0b0111).count("1")
        if not indicator & 0b1000:
            position = td_index
            break
        if td_index >= len(data):
            raise ProtocolError("atr", "interface bytes cut short", data=data)
        protocols.add(data[td_index] & 0x0F)
        indicator, position = data[td_index] >> 4, td_index + 1
    historical = data[position : position + (data[1] & 0x0F)]
    if len(historical) != data[1] & 0x0F:
        raise ProtocolError("atr", "historical bytes cut short", data=data)
    return Atr(historical, frozenset(protocols - {15} or {0}))


def encode_atr(historical: bytes) -> bytes:
    """A T=1 ATR with these historical bytes and a right check byte; for the emulated cards."""
    if len(historical) > 15:
        raise ValueError("an ATR has at most 15 historical bytes")
    body = bytes([0x80 | len(historical), 0x01]) + historical
    check = 0
    for octet in body:
        check ^= octet
    return b"\x3b" + body + bytes([check])


def _compact_tlvs(historical: bytes) -> list[tuple[int, bytes]]:
    """COMPACT-TLV objects of category 80 (and 00, whose last three bytes are a status); others carry none."""
    if not historical or historical[0] not in (0x00, 0x80):
        return []
    body = historical[1:-3] if historical[0] == 0x00 else historical[1:]
    objects: list[tuple[int, bytes]] = []
    position = 0
    while position < len(body):
        size = body[position] & 0x0F
        objects.append((body[position] >> 4, body[position + 1 : position + 1 + size]))
        position += 1 + size
    return objects
