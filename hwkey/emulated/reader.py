"""The CCID reader of an emulated token: USB packets in, USB packets out.

Takes the bulk-out stream packet by packet, puts messages together, runs them against the card, and leaves its
answers as packets of at most 64 bytes. As on a real bus a message ends with a short packet, so one of exactly
n * 64 bytes is followed by an empty packet. Long answers are chained when the profile's chunk size says so:
the host then asks for each further part with an empty block (CCID rev. 1.1, 6.1.4, bChainParameter).

Pure: delays are written on the packets (`delay_ms` after the packet before), and the device keeps them. One
thread at a time, the device's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from hwkey.apdu import Response
from hwkey.atr import encode_atr
from hwkey.ccid import (
    CcidMessage,
    Chain,
    CommandStatus,
    IccStatus,
    MessageType,
    SlotError,
    answer,
    split_message,
)
from hwkey.ccid_slot import EXTENSION_COUNT_MAX
from hwkey.emulated.applet import PivApplet
from hwkey.emulated.faults import Fault, FaultKind, FaultLayer, FaultScript
from hwkey.emulated.profile import PACKET_SIZE, Profile
from hwkey.errors import ProtocolError

T1_PARAMETERS = bytes.fromhex("11100015 00FE00")
EXTENSION_MULTIPLIER = 2


@dataclass(frozen=True, slots=True)
class Packet:
    """One bulk-in packet of 0 to 64 bytes, ready `delay_ms` after the one before it."""

    data: bytes
    delay_ms: int = 0


class EmulatedReader:
    """One slot with one card that is always in it. `packets` is what the host has not read yet."""

    def __init__(self, profile: Profile, card: PivApplet, faults: FaultScript) -> None:
        self._profile = profile
        self._card = card
        self._faults = faults
        self._incoming = b""
        self._block = b""
        self._unsent_parts: list[bytes] = []
        self._is_powered = False
        self.packets: deque[Packet] = deque()

    def receive(self, packet: bytes) -> None:
        """Take one bulk-out packet; garbage is dropped, as by a reader that waits for the next header."""
        self._incoming += packet
        try:
            split = split_message(self._incoming, self._profile.descriptor.message_size_max)
        except ProtocolError:
            self._incoming = b""
            return
        if split is not None:
            message, self._incoming = split
            self._emit_with_faults(message)

    def abort(self) -> None:
        """The control half of an abort: whatever was under way or waits to be read is forgotten."""
        self._incoming = self._block = b""
        self._unsent_parts = []
        self.packets.clear()

    def _emit_with_faults(self, command: CcidMessage) -> None:
        fault = self._faults.take(FaultLayer.COMMAND)
        if fault is None:
            self._emit(self._answer(command))
        elif fault.kind is not FaultKind.NO_ANSWER:
            self._emit_faulty(fault, command)

    def _emit_faulty(self, fault: Fault, command: CcidMessage) -> None:
        sound = self._answer(command)
        stale = replace(sound, sequence=(command.sequence - 7) % 256)
        extension = answer(
            MessageType.DATA_BLOCK,
            command,
            command_status=CommandStatus.TIME_EXTENSION,
            error_code=EXTENSION_MULTIPLIER,
        )
        if fault.kind is FaultKind.WRONG_SEQUENCE:
            self._emit(stale)
        elif fault.kind is FaultKind.STALE_ANSWER:
            self._emit(stale)
            self._emit(sound)
        elif fault.kind is FaultKind.SLOW:
            self._emit(extension)
            self._emit(sound, delay_ms=fault.delay_ms)
        elif fault.kind is FaultKind.EXTENSION_FLOOD:
            for _ in range(EXTENSION_COUNT_MAX + 1):
                self._emit(extension)
        elif fault.kind is FaultKind.EMPTY_ANSWER:
            self._emit(answer(MessageType.DATA_BLOCK, command))
        elif fault.kind is FaultKind.TRUNCATED_ANSWER:
            encoded = sound.encode()
            self._emit_bytes(encoded[: len(encoded) // 2])
        else:
            self._emit(self._failed(command, SlotError.HARDWARE))

    def _emit(self, message: CcidMessage, *, delay_ms: int = 0) -> None:
        self._emit_bytes(message.encode(), delay_ms=delay_ms)

    def _emit_bytes(self, data: bytes, *, delay_ms: int = 0) -> None:
        # One past the end on purpose: a last whole packet is followed by an empty one.
        for start in range(0, len(data) + 1, PACKET_SIZE):
            self.packets.append(Packet(data[start : start + PACKET_SIZE], delay_ms if start == 0 else 0))

    def _answer(self, command: CcidMessage) -> CcidMessage:
        if command.slot_index != 0:
            return self._failed(command, SlotError.BAD_SLOT)
        if command.message_type == MessageType.ICC_POWER_ON:
            return self._power_on(command)
        if command.message_type == MessageType.ICC_POWER_OFF:
            self._is_powered = False
            return self._status(command)
        if command.message_type in (MessageType.GET_SLOT_STATUS, MessageType.ABORT):
            return self._status(command)
        if command.message_type in (MessageType.GET_PARAMETERS, MessageType.SET_PARAMETERS):
            return answer(MessageType.PARAMETERS, command, data=T1_PARAMETERS, last_specific=1)
        if command.message_type == MessageType.XFR_BLOCK:
            return self._transfer(command)
        return self._failed(command, SlotError.COMMAND_NOT_SUPPORTED)

    def _power_on(self, command: CcidMessage) -> CcidMessage:
        self._card.reset()
        self._is_powered = True
        self._block = b""
        self._unsent_parts = []
        return answer(MessageType.DATA_BLOCK, command, data=encode_atr(self._profile.historical_bytes))

    def _transfer(self, command: CcidMessage) -> CcidMessage:
        if not self._is_powered:
            return self._failed(command, SlotError.MUTE)
        if command.level_parameter == Chain.WANTS_MORE:
            return self._next_part(command, is_first=False)
        self._block += command.data
        if command.level_parameter in (Chain.BEGINS, Chain.CONTINUES):
            return answer(MessageType.DATA_BLOCK, command, last_specific=Chain.WANTS_MORE)
        block, self._block = self._block, b""
        response = self._card.exchange(block) if block else Response(b"", 0x6700).encode()
        size = self._profile.answer_chunk_size
        self._unsent_parts = [response[start : start + size] for start in range(0, len(response), size)]
        return self._next_part(command, is_first=True)

    def _next_part(self, command: CcidMessage, *, is_first: bool) -> CcidMessage:
        if not self._unsent_parts:
            return self._failed(command, SlotError.BAD_LENGTH)
        part = self._unsent_parts.pop(0)
        if self._unsent_parts:
            chain = Chain.BEGINS if is_first else Chain.CONTINUES
        else:
            chain = Chain.WHOLE if is_first else Chain.ENDS
        return answer(MessageType.DATA_BLOCK, command, data=part, last_specific=chain)

    def _status(self, command: CcidMessage) -> CcidMessage:
        return answer(MessageType.SLOT_STATUS, command, icc_status=self._icc_status())

    def _failed(self, command: CcidMessage, error: SlotError) -> CcidMessage:
        is_block = command.message_type in (MessageType.XFR_BLOCK, MessageType.ICC_POWER_ON)
        return answer(
            MessageType.DATA_BLOCK if is_block else MessageType.SLOT_STATUS,
            command,
            icc_status=self._icc_status(),
            command_status=CommandStatus.FAILED,
            error_code=error,
        )

    def _icc_status(self) -> IccStatus:
        return IccStatus.ACTIVE if self._is_powered else IccStatus.INACTIVE
