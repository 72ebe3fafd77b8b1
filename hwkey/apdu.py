"""APDUs: their three encodings, and the small processors between a command and a card.

Source: ISO/IEC 7816-4 (cases 1 to 4, short and extended; command chaining 5.1.1.1; GET RESPONSE), 7816-3 12.2 (how
T=0 carries them: a case 4 command goes out without its Le, and the card says 61xx). Commands flow down a chain of
processors, each with one concern, and responses flow up:

    ResponseGathering      61xx: GET RESPONSE until all is there; 6Cxx: ask again with the right size
      CommandChaining      data over what one command takes: several, CLA bit 0x10 on all but the last
        ShortEncoding | ExtendedEncoding | T0Encoding     bytes over the card

Pure except for what the `Card` does; a chain belongs to one thread, as its card does. Everything a card sends
is bounded. Read next: `piv` (what is said over it), `ccid_card` (the card behind it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from hwkey.errors import ProtocolError, StatusWordError

SHORT_DATA_SIZE_MAX = 255
SHORT_EXPECTED_SIZE_MAX = 256
EXTENDED_DATA_SIZE_MAX = 65_535
EXTENDED_EXPECTED_SIZE_MAX = 65_536
# The longest PIV object is about 3 KiB; what a hostile card may make us hold is bounded here.
GATHERED_SIZE_MAX = 65_536
GATHER_ROUND_COUNT_MAX = 512

CHAINING_BIT = 0x10
INS_GET_RESPONSE = 0xC0
SW_OK = 0x9000
SW_NOT_FOUND = 0x6A82


@dataclass(frozen=True, slots=True)
class Command:
    """A command APDU. `expected_size_max` is Ne: 0 for none, up to 65,536; an encoding may ask for less."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    expected_size_max: int = 0

    def __post_init__(self) -> None:
        if not all(0 <= octet <= 0xFF for octet in (self.cla, self.ins, self.p1, self.p2)):
            raise ValueError("a header field of an APDU is one byte")
        if len(self.data) > EXTENDED_DATA_SIZE_MAX or not 0 <= self.expected_size_max <= EXTENDED_EXPECTED_SIZE_MAX:
            raise ValueError("an APDU carries at most 65,535 bytes and expects at most 65,536")

    @property
    def header(self) -> bytes:
        """CLA INS P1 P2."""
        return bytes([self.cla, self.ins, self.p1, self.p2])

    def encode_short(self) -> bytes:
        """Cases 1, 2S, 3S, 4S; Ne over 256 is asked for as 256. ValueError when the data is over 255 bytes."""
        if len(self.data) > SHORT_DATA_SIZE_MAX:
            raise ValueError(f"{len(self.data)} bytes do not fit a short APDU")
        body = bytes([len(self.data)]) + self.data if self.data else b""
        if self.expected_size_max:
            body += bytes([min(self.expected_size_max, SHORT_EXPECTED_SIZE_MAX) & 0xFF])
        return self.header + body

    def encode_extended(self) -> bytes:
        """Cases 2E, 3E, 4E; a command that has neither data nor Ne is case 1, which has one form only."""
        if not self.data and not self.expected_size_max:
            return self.header
        body = b"\x00"
        if self.data:
            body += len(self.data).to_bytes(2, "big") + self.data
        if self.expected_size_max:
            body += (self.expected_size_max & 0xFFFF).to_bytes(2, "big")
        return self.header + body

    def encode_t0(self) -> bytes:
        """The T=0 TPDU: five bytes, then the data. P3 is Lc, or Le where there is no data, or 0 for neither.

        ValueError when the data is over 255 bytes.
        """
        if len(self.data) > SHORT_DATA_SIZE_MAX:
            raise ValueError(f"{len(self.data)} bytes do not fit a TPDU")
        p3 = len(self.data) or min(self.expected_size_max, SHORT_EXPECTED_SIZE_MAX) & 0xFF
        return self.header + bytes([p3]) + self.data


@dataclass(frozen=True, slots=True)
class Response:
    """A response APDU: its data and its status word SW1 SW2."""

    data: bytes
    status_word: int

    def encode(self) -> bytes:
        """Data, SW1, SW2."""
        return self.data + self.status_word.to_bytes(2, "big")

    def expect_ok(self, instruction: int) -> bytes:
        """The data when the status word is 9000; raises StatusWordError otherwise."""
        if self.status_word != SW_OK:
            raise StatusWordError(instruction=instruction, status_word=self.status_word)
        return self.data


def decode_response(data: bytes) -> Response:
    """Split a response; raises ProtocolError when there is no status word (an empty or one-byte block)."""
    if len(data) < 2:
        raise ProtocolError("apdu", f"a response of {len(data)} bytes has no status word", data=data)
    return Response(data[:-2], int.from_bytes(data[-2:], "big"))


def decode_command(data: bytes) -> Command:
    """Read a command in any of the seven forms; raises ProtocolError. The emulated card's side of the codec."""
    if len(data) < 4:
        raise ProtocolError("apdu", f"a command of {len(data)} bytes has no header", data=data)
    header, body = data[:4], data[4:]
    if not body:
        payload, expected = b"", 0
    elif body[0] == 0 and len(body) >= 3:
        payload, expected = _decode_extended_body(body)
    else:
        payload, expected = _decode_short_body(body)
    return Command(header[0], header[1], header[2], header[3], payload, expected)


def _decode_short_body(body: bytes) -> tuple[bytes, int]:
    if len(body) == 1:
        return b"", body[0] or SHORT_EXPECTED_SIZE_MAX
    size = body[0]
    if size == 0 or len(body) - 1 - size not in (0, 1):
        raise ProtocolError("apdu", f"Lc {size} with {len(body) - 1} bytes after it", data=body)
    expected = (body[-1] or SHORT_EXPECTED_SIZE_MAX) if len(body) - 1 > size else 0
    return body[1 : 1 + size], expected


def _decode_extended_body(body: bytes) -> tuple[bytes, int]:
    size = int.from_bytes(body[1:3], "big")
    if len(body) == 3:
        return b"", size or EXTENDED_EXPECTED_SIZE_MAX
    rest_size = len(body) - 3 - size
    if size == 0 or rest_size not in (0, 2):
        raise ProtocolError("apdu", f"extended Lc {size} with {len(body) - 3} bytes after it", data=body)
    expected = (int.from_bytes(body[-2:], "big") or EXTENDED_EXPECTED_SIZE_MAX) if rest_size else 0
    return body[3 : 3 + size], expected


class ApduForm(Enum):
    """How a command is written for a card and its reader."""

    SHORT = "short"
    EXTENDED = "extended"
    T0_TPDU = "t0_tpdu"


@dataclass(frozen=True, slots=True)
class CommandShape:
    """What one command to a card may be: its form, its largest data, and the most that it may ask for."""

    form: ApduForm = ApduForm.SHORT
    data_size_max: int = SHORT_DATA_SIZE_MAX
    expected_size_max: int = SHORT_EXPECTED_SIZE_MAX


SHORT_SHAPE = CommandShape()
EXTENDED_SHAPE = CommandShape(ApduForm.EXTENDED, EXTENDED_DATA_SIZE_MAX, EXTENDED_EXPECTED_SIZE_MAX)
T0_SHAPE = CommandShape(ApduForm.T0_TPDU)


class Card(Protocol):
    """The narrow seam to a smart card: a powered card behind any transport (CCID over USB now, PC/SC later)."""

    @property
    def atr(self) -> bytes:
        """Answer to reset of the last power-up."""

    @property
    def shape(self) -> CommandShape:
        """What `transmit` takes: the lesser of what the reader and the card can do."""

    def transmit(self, command: bytes) -> bytes:
        """One command of this shape in, one response APDU out; raises HwkeyError."""

    def reset(self) -> None:
        """Bring reader and card back to a known state after any doubt; raises HwkeyError."""

    def close(self) -> None:
        """Let go of the device; never raises, may be called twice."""


class Exchange(Protocol):
    """One link of the chain of processors."""

    def exchange(self, command: Command) -> Response:
        """Run one command; raises HwkeyError, but returns whatever status word came."""


class ShortEncoding:
    """Sends short APDUs; the link nearest to a card that has only these."""

    def __init__(self, card: Card) -> None:
        self._card = card

    def exchange(self, command: Command) -> Response:
        return decode_response(self._card.transmit(command.encode_short()))


class T0Encoding:
    """Sends T=0 TPDUs, for readers that leave it to the host to make them."""

    def __init__(self, card: Card) -> None:
        self._card = card

    def exchange(self, command: Command) -> Response:
        return decode_response(self._card.transmit(command.encode_t0()))


class ExtendedEncoding:
    """Sends extended APDUs where short ones do not suffice: the short form is understood by every card."""

    def __init__(self, card: Card) -> None:
        self._card = card

    def exchange(self, command: Command) -> Response:
        is_short = (
            len(command.data) <= SHORT_DATA_SIZE_MAX and command.expected_size_max <= SHORT_EXPECTED_SIZE_MAX
        )
        encoded = command.encode_short() if is_short else command.encode_extended()
        return decode_response(self._card.transmit(encoded))


class CommandChaining:
    """Splits data over what one command takes into chained commands; only the last one asks for an answer."""

    def __init__(self, inner: Exchange, shape: CommandShape = SHORT_SHAPE) -> None:
        self._inner = inner
        self._part_size = shape.data_size_max
        self._expected_size_max = shape.expected_size_max

    def exchange(self, command: Command) -> Response:
        data = command.data
        while len(data) > self._part_size:
            part = Command(command.cla | CHAINING_BIT, command.ins, command.p1, command.p2, data[: self._part_size])
            response = self._inner.exchange(part)
            if response.status_word != SW_OK:
                return response
            data = data[self._part_size :]
        expected_size_max = min(command.expected_size_max, self._expected_size_max)
        return self._inner.exchange(replace(command, data=data, expected_size_max=expected_size_max))


class ResponseGathering:
    """Collects an answer that comes in parts (61xx) and repeats a command whose Le was wrong (6Cxx)."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner

    def exchange(self, command: Command) -> Response:
        response = self._exchange_sized(command)
        gathered = response.data
        for _ in range(GATHER_ROUND_COUNT_MAX):
            if response.status_word >> 8 != 0x61:
                return Response(gathered, response.status_word)
            response = self._exchange_sized(_get_response(command.cla, response.status_word & 0xFF))
            gathered += response.data
            if len(gathered) > GATHERED_SIZE_MAX:
                raise ProtocolError("apdu", f"an answer of over {GATHERED_SIZE_MAX} bytes")
        raise ProtocolError("apdu", f"an answer in over {GATHER_ROUND_COUNT_MAX} parts")

    def _exchange_sized(self, command: Command) -> Response:
        """Once more when the card names the right size, as over T=0 also for GET RESPONSE; a second 6Cxx stands."""
        response = self._inner.exchange(command)
        if response.status_word >> 8 != 0x6C:
            return response
        return self._inner.exchange(replace(command, expected_size_max=response.status_word & 0xFF or 256))


def _get_response(cla: int, size: int) -> Command:
    """GET RESPONSE in the class of the command, without its chaining bit (SP 800-73-4 part 2, 2.4.3)."""
    return Command(cla & ~CHAINING_BIT, INS_GET_RESPONSE, 0, 0, expected_size_max=size or SHORT_EXPECTED_SIZE_MAX)


def exchange_over(card: Card) -> Exchange:
    """The chain of processors that fits what the card and its reader can do."""
    encodings: dict[ApduForm, type[ShortEncoding | ExtendedEncoding | T0Encoding]] = {
        ApduForm.SHORT: ShortEncoding,
        ApduForm.EXTENDED: ExtendedEncoding,
        ApduForm.T0_TPDU: T0Encoding,
    }
    return ResponseGathering(CommandChaining(encodings[card.shape.form](card), card.shape))
