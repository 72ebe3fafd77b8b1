"""CCID messages: their layout, their status, and how they are cut out of a byte stream.

Source: USB "Device Class: Smart Card CCID", revision 1.1, chapter 6. Every message starts with ten bytes:

    0            1         5       6      7                  10
    | bMessageType | dwLength LE | bSlot | bSeq | 3 specific bytes | dwLength bytes of data ...

    PC_to_RDR_XfrBlock   6F: bBWI, wLevelParameter (LE)
    PC_to_RDR_IccPowerOn 62: bPowerSelect, 0, 0
    RDR_to_PC_DataBlock  80: bStatus, bError, bChainParameter
    PC_to_RDR_SetParameters 61: bProtocolNum, 0, 0
    RDR_to_PC_SlotStatus 81: bStatus, bError, bClockStatus
    RDR_to_PC_Parameters 82: bStatus, bError, bProtocolNum
    bStatus: bits 0-1 bmICCStatus (0 active, 1 inactive, 2 absent), bits 6-7 bmCommandStatus (0 done,
    1 failed, 2 time extension)

Pure; any thread. Used by the driver's slot engine and, from the other side, by the emulated reader. Read next:
`ccid_slot`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hwkey.errors import ProtocolError

HEADER_SIZE = 10
SEQUENCE_MODULUS = 256

INTERFACE_CLASS = 0x0B
REQUEST_ABORT = 0x01  # class request on the control pipe, chapter 5.3.1


class MessageType(IntEnum):
    """bMessageType of the messages that we send or understand."""

    SET_PARAMETERS = 0x61
    ICC_POWER_ON = 0x62
    ICC_POWER_OFF = 0x63
    GET_SLOT_STATUS = 0x65
    GET_PARAMETERS = 0x6C
    XFR_BLOCK = 0x6F
    ABORT = 0x72
    DATA_BLOCK = 0x80
    SLOT_STATUS = 0x81
    PARAMETERS = 0x82


ANSWER_TYPES = frozenset({MessageType.DATA_BLOCK, MessageType.SLOT_STATUS, MessageType.PARAMETERS})


class IccStatus(IntEnum):
    """bmICCStatus."""

    ACTIVE = 0
    INACTIVE = 1
    ABSENT = 2


class CommandStatus(IntEnum):
    """bmCommandStatus."""

    DONE = 0
    FAILED = 1
    TIME_EXTENSION = 2


class SlotError(IntEnum):
    """bError values with a name here; every other value stays a plain number."""

    COMMAND_NOT_SUPPORTED = 0x00
    BAD_LENGTH = 0x01
    BAD_SLOT = 0x05
    BAD_PROTOCOL = 0x07
    HARDWARE = 0xFB
    MUTE = 0xFE


class Chain(IntEnum):
    """wLevelParameter of a block we send, bChainParameter of one we get (extended APDU level)."""

    WHOLE = 0x00
    BEGINS = 0x01
    ENDS = 0x02
    CONTINUES = 0x03
    WANTS_MORE = 0x10


@dataclass(frozen=True, slots=True)
class CcidMessage:
    """One message, either way. `message_type` stays a number, so that unknown ones are representable."""

    message_type: int
    slot_index: int
    sequence: int
    specific: bytes = bytes(3)
    data: bytes = b""

    def encode(self) -> bytes:
        """Header and data."""
        assert len(self.specific) == 3, "a CCID header has three message-specific bytes"
        return (
            bytes([self.message_type])
            + len(self.data).to_bytes(4, "little")
            + bytes([self.slot_index, self.sequence])
            + self.specific
            + self.data
        )

    @property
    def icc_status(self) -> int:
        """bmICCStatus of an answer."""
        return self.specific[0] & 0b11

    @property
    def command_status(self) -> int:
        """bmCommandStatus of an answer."""
        return self.specific[0] >> 6

    @property
    def error_code(self) -> int:
        """bError of an answer; for a time extension its multiplier."""
        return self.specific[1]

    @property
    def chain(self) -> int:
        """bChainParameter of a data block."""
        return self.specific[2]

    @property
    def level_parameter(self) -> int:
        """wLevelParameter of a PC_to_RDR_XfrBlock."""
        return int.from_bytes(self.specific[1:], "little")


def xfr_block(slot_index: int, sequence: int, block: bytes, level_parameter: int = Chain.WHOLE) -> CcidMessage:
    """PC_to_RDR_XfrBlock with bBWI 0."""
    return CcidMessage(
        MessageType.XFR_BLOCK, slot_index, sequence, b"\x00" + level_parameter.to_bytes(2, "little"), block
    )


def answer(
    message_type: MessageType,
    command: CcidMessage,
    *,
    data: bytes = b"",
    icc_status: int = IccStatus.ACTIVE,
    command_status: int = CommandStatus.DONE,
    error_code: int = 0,
    last_specific: int = 0,
) -> CcidMessage:
    """The reader's answer to `command`, echoing its slot and sequence number."""
    specific = bytes([icc_status | command_status << 6, error_code, last_specific])
    return CcidMessage(message_type, command.slot_index, command.sequence, specific, data)


def split_message(buffer: bytes, data_size_max: int) -> tuple[CcidMessage, bytes] | None:
    """The first message of `buffer` and what follows it; None while it is incomplete.

    `data_size_max` bounds dwLength before anything is waited for. Raises ProtocolError.
    """
    if len(buffer) < HEADER_SIZE:
        return None
    size = int.from_bytes(buffer[1:5], "little")
    if size > data_size_max:
        raise ProtocolError("ccid", f"a message says {size} bytes of data, {data_size_max} are allowed", data=buffer)
    end = HEADER_SIZE + size
    if len(buffer) < end:
        return None
    message = CcidMessage(buffer[0], buffer[5], buffer[6], buffer[7:HEADER_SIZE], buffer[HEADER_SIZE:end])
    return message, buffer[end:]
