"""The answer to reset: what a card says of itself when it is powered.

Source: ISO/IEC 7816-3 section 8.2 (structure), 7816-4 section 8.1.1 (historical bytes, card capabilities).
Two facts are needed. Whether the card takes extended APDUs: a reader at the extended level does not promise that
for the card in it, and PIV guarantees only short APDUs with chaining. And, for a reader that leaves the protocol to
us, whether the card speaks T=0 and with which parameters. Pure; any thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwkey.errors import ProtocolError

ATR_SIZE_MAX = 33
INVERSE_CONVENTION = 0x3F
PROTOCOL_T0 = 0
GLOBAL_BYTES = 15  # "T=15" is no protocol: it marks interface bytes that concern all of them
CLOCK_RATE_DEFAULT = 0x11  # F = 372, D = 1 (7816-3 table 7)
IMPLICIT_PARAMETERS_BIT = 0x10  # of TA2: the rate is not that of TA1
WAITING_INTEGER_DEFAULT = 10  # 7816-3 10.2
CAPABILITIES_TAG = 0x7
EXTENDED_LENGTHS_BIT = 0x40


@dataclass(frozen=True, slots=True)
class Atr:
    """The parts of an ATR that are used: historical bytes and the protocols offered (0: T=0, 1: T=1).

    `interface_bytes` are those up to TD2 by name (`TA1`, `TC2` ...), where present.
    """

    historical: bytes
    protocols: frozenset[int]
    default_protocol: int
    is_inverse: bool
    interface_bytes: dict[str, int]

    @property
    def has_fixed_protocol(self) -> bool:
        """True in specific mode: the card speaks its default protocol and no other (TA2, 7816-3 6.3.1)."""
        return "TA2" in self.interface_bytes

    @property
    def t0_parameters(self) -> bytes:
        """abProtocolDataStructure of CCID for T=0 (6.1.7): what the card speaks when no rate is negotiated."""
        clock_rate = CLOCK_RATE_DEFAULT
        if self.has_fixed_protocol and not self.interface_bytes["TA2"] & IMPLICIT_PARAMETERS_BIT:
            clock_rate = self.interface_bytes.get("TA1", CLOCK_RATE_DEFAULT)
        convention = 0x02 if self.is_inverse else 0x00
        guard_time = self.interface_bytes.get("TC1", 0)
        waiting_integer = self.interface_bytes.get("TC2", WAITING_INTEGER_DEFAULT)
        return bytes([clock_rate, convention, guard_time, waiting_integer, 0x00])

    @property
    def has_extended_lengths(self) -> bool:
        """True when the card capabilities say "extended Lc and Le fields"; False when nothing is said."""
        return any(
            tag == CAPABILITIES_TAG and len(value) >= 3 and bool(value[2] & EXTENDED_LENGTHS_BIT)
            for tag, value in _compact_tlvs(self.historical)
        )


def decode_atr(data: bytes) -> Atr:
    """Read an ATR; raises ProtocolError."""
    if not 2 <= len(data) <= ATR_SIZE_MAX or data[0] not in (0x3B, INVERSE_CONVENTION):
        raise ProtocolError("atr", "not an answer to reset", data=data)
    interface_bytes, offered, position = _read_interface_bytes(data)
    historical = data[position : position + (data[1] & 0x0F)]
    if len(historical) != data[1] & 0x0F:
        raise ProtocolError("atr", "historical bytes cut short", data=data)
    offered = [protocol for protocol in offered if protocol != GLOBAL_BYTES] or [PROTOCOL_T0]
    default_protocol = interface_bytes["TA2"] & 0x0F if "TA2" in interface_bytes else offered[0]
    named = {name: value for name, value in interface_bytes.items() if name[2:] in ("1", "2")}
    return Atr(historical, frozenset(offered), default_protocol, data[0] == INVERSE_CONVENTION, named)


def _read_interface_bytes(data: bytes) -> tuple[dict[str, int], list[int], int]:
    """All interface bytes by name, the protocols in their order, and where the historical bytes begin."""
    found: dict[str, int] = {}
    protocols: list[int] = []
    indicator, position, index = data[1] >> 4, 2, 1
    while indicator:
        for bit, letter in enumerate("ABCD"):
            if not indicator >> bit & 1:
                continue
            if position >= len(data):
                raise ProtocolError("atr", "interface bytes cut short", data=data)
            found[f"T{letter}{index}"] = data[position]
            position += 1
        next_indicator = found.get(f"TD{index}", 0)
        if indicator & 0b1000:
            protocols.append(next_indicator & 0x0F)
        indicator, index = next_indicator >> 4, index + 1
    return found, protocols, position


def encode_atr(historical: bytes, protocol: int = 1) -> bytes:
    """An ATR that offers one protocol, with these historical bytes; for the emulated cards.

    T=0 alone needs no TD1 and has no check byte (7816-3 8.2.5).
    """
    if len(historical) > 15:
        raise ValueError("an ATR has at most 15 historical bytes")
    if protocol == PROTOCOL_T0:
        return bytes([0x3B, len(historical)]) + historical
    body = bytes([0x80 | len(historical), protocol]) + historical
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
