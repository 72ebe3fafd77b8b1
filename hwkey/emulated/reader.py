"""The CCID reader of an emulated token: USB packets in, USB packets out.

Takes the bulk-out stream packet by packet, puts messages together, runs them against the card, and leaves its
answers as packets of at most 64 bytes. As on a real bus a message ends with a short packet, so one of exactly
n * 64 bytes is followed by an empty packet. Long answers are chained when the profile's chunk size says so:
the host then asks for each further part with an empty block (CCID rev. 1.1, 6.1.4, bChainParameter). At the TPDU level
there are no chains, and a block is a T=0 TPDU: five bytes, and as many more as the fifth says where it is Lc.

Pure: delays are written on the packets (`delay_ms` after the packet before), and whoever carries them keeps them. One
thread at a time. Read next: `function`, which is the USB around it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from hwkey.apdu import Response
from hwkey.atr import PROTOCOL_T0, encode_atr
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
from hwkey.ccid_descriptor import ExchangeLevel
from hwkey.ccid_slot import EXTENSION_COUNT_MAX
from hwkey.emulated.applet import PivApplet
from hwkey.emulated.faults import Fault, FaultKind, FaultLayer, FaultScript
from hwkey.emulated.profile import PACKET_SIZE, Profile
from hwkey.errors import ProtocolError

T1_PARAMETERS = bytes.fromhex("11100015 00FE00")
T0_PARAMETERS = bytes.fromhex("1100000A00")
PPS_BEGIN = 0xFF
T0_HEADER_SIZE = 5
EXTENSION_MULTIPLIER = 2
SLOW_EXTENSION_MULTIPLIER = 10  # ample: a busy machine must not make a slow token a silent one


@dataclass(frozen=True, slots=True)
class Packet:
    """One bulk-in packet of 0 to 64 bytes, ready `delay_ms` after the one before it.

    One that `outlives_abort` is still sent after an abort that should have stopped it, as bad readers do.
    """

    data: bytes
    delay_ms: int = 0
    outlives_abort: bool = False


class EmulatedReader:
    """One slot with one card in it. `packets` is what has not been taken yet."""

    def __init__(self, profile: Profile, card: PivApplet, faults: FaultScript) -> None:
        self._profile = profile
        self._card = card
        self._faults = faults
        self._incoming = b""
        self._block = b""
        self._unsent_parts: list[bytes] = []
        self._is_powered = False
        self._is_tpdu = profile.descriptor.level is ExchangeLevel.TPDU
        self._parameters = T0_PARAMETERS if profile.card_protocol == PROTOCOL_T0 else T1_PARAMETERS
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
        """The control half of an abort: whatever was under way is forgotten."""
        self._incoming = self._block = b""
        self._unsent_parts = []

    def take_packets(self) -> list[Packet]:
        """What the reader has to send since the last call."""
        taken = list(self.packets)
        self.packets.clear()
        return taken

    def _emit_with_faults(self, command: CcidMessage) -> None:
        fault = self._faults.take(FaultLayer.COMMAND)
        if fault is None:
            self._emit_in_time(command)
        elif fault.kind in _LOSSES_OF_THE_CARD:
            self._is_powered = self._is_powered and fault.kind is FaultKind.CARD_MUTE
            icc_status, error = _LOSSES_OF_THE_CARD[fault.kind]
            self._emit(self._failed(command, error, icc_status))
        elif fault.kind is not FaultKind.NO_ANSWER:
            self._emit_faulty(fault, command, self._answer(command))

    def _emit_in_time(self, command: CcidMessage) -> None:
        sound = self._answer(command)
        if self._profile.answer_delay_ms and command.message_type == MessageType.XFR_BLOCK:
            self._emit(_extension(command, SLOW_EXTENSION_MULTIPLIER))
            self._emit(sound, delay_ms=self._profile.answer_delay_ms)
        else:
            self._emit(sound)

    def _emit_faulty(self, fault: Fault, command: CcidMessage, sound: CcidMessage) -> None:
        encoded = sound.encode()
        stale = replace(sound, sequence=(command.sequence - 7) % 256)
        if fault.kind is FaultKind.WRONG_SEQUENCE:
            self._emit(stale)
        elif fault.kind is FaultKind.STALE_ANSWER:
            self._emit(stale)
            self._emit(sound)
        elif fault.kind is FaultKind.STALE_PACKET:
            self.packets.append(Packet(STALE_PACKET))
            self._emit(sound)
        elif fault.kind is FaultKind.LATE_ANSWER:
            self._emit_bytes(encoded, delay_ms=fault.delay_ms, outlives_abort=True)
        elif fault.kind is FaultKind.SLOW:
            self._emit(_extension(command, EXTENSION_MULTIPLIER))
            self._emit(sound, delay_ms=fault.delay_ms)
        elif fault.kind is FaultKind.EXTENSION_FLOOD:
            for _ in range(EXTENSION_COUNT_MAX + 1):
                self._emit(_extension(command, EXTENSION_MULTIPLIER))
        elif fault.kind is FaultKind.EMPTY_ANSWER:
            self._emit(answer(MessageType.DATA_BLOCK, command))
        elif fault.kind is FaultKind.TRUNCATED_ANSWER:
            self._emit_bytes(encoded[: len(encoded) // 2])
        elif fault.kind is FaultKind.UNENDED_ANSWER:
            self._emit(sound)
            if not self.packets[-1].data:
                self.packets.pop()
        else:
            self._emit(self._failed(command, SlotError.HARDWARE))

    def _emit(self, message: CcidMessage, *, delay_ms: int = 0) -> None:
        self._emit_bytes(message.encode(), delay_ms=delay_ms)

    def _emit_bytes(self, data: bytes, *, delay_ms: int = 0, outlives_abort: bool = False) -> None:
        # One past the end on purpose: a last whole packet is followed by an empty one.
        for start in range(0, len(data) + 1, PACKET_SIZE):
            packet = data[start : start + PACKET_SIZE]
            self.packets.append(Packet(packet, 0 if start else delay_ms, outlives_abort))

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
            return self._exchange_parameters(command)
        if command.message_type == MessageType.XFR_BLOCK:
            return self._transfer(command)
        return self._failed(command, SlotError.COMMAND_NOT_SUPPORTED)

    def _power_on(self, command: CcidMessage) -> CcidMessage:
        self._card.reset()
        self._is_powered = True
        self._block = b""
        self._unsent_parts = []
        atr = encode_atr(self._profile.historical_bytes, self._profile.card_protocol)
        return answer(MessageType.DATA_BLOCK, command, data=atr)

    def _exchange_parameters(self, command: CcidMessage) -> CcidMessage:
        protocol = self._profile.card_protocol
        if command.message_type == MessageType.SET_PARAMETERS:
            if command.specific[0] != protocol or len(command.data) != len(self._parameters):
                return self._failed(command, SlotError.BAD_PROTOCOL)
            self._parameters = command.data
        return answer(MessageType.PARAMETERS, command, data=self._parameters, last_specific=protocol)

    def _transfer(self, command: CcidMessage) -> CcidMessage:
        if not self._is_powered:
            return self._failed(command, SlotError.MUTE)
        if self._is_tpdu:
            return self._transfer_tpdu(command)
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

    def _transfer_tpdu(self, command: CcidMessage) -> CcidMessage:
        data = command.data
        if data[:1] == bytes([PPS_BEGIN]):
            return answer(MessageType.DATA_BLOCK, command, data=data)  # a card that agrees says it back
        if len(data) < T0_HEADER_SIZE or len(data) not in (T0_HEADER_SIZE, T0_HEADER_SIZE + data[4]):
            return self._failed(command, SlotError.BAD_LENGTH)
        return answer(MessageType.DATA_BLOCK, command, data=self._card.exchange(data))

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

    def _failed(self, command: CcidMessage, error: SlotError, icc_status: IccStatus | None = None) -> CcidMessage:
        return answer(
            _ANSWER_TYPES.get(command.message_type, MessageType.SLOT_STATUS),
            command,
            icc_status=self._icc_status() if icc_status is None else icc_status,
            command_status=CommandStatus.FAILED,
            error_code=error,
        )

    def _icc_status(self) -> IccStatus:
        return IccStatus.ACTIVE if self._is_powered else IccStatus.INACTIVE


STALE_PACKET = bytes([0x5A]) * PACKET_SIZE

_ANSWER_TYPES: dict[int, MessageType] = {
    MessageType.XFR_BLOCK: MessageType.DATA_BLOCK,
    MessageType.ICC_POWER_ON: MessageType.DATA_BLOCK,
    MessageType.SET_PARAMETERS: MessageType.PARAMETERS,
    MessageType.GET_PARAMETERS: MessageType.PARAMETERS,
}
_LOSSES_OF_THE_CARD: dict[FaultKind, tuple[IccStatus, SlotError]] = {
    FaultKind.CARD_ABSENT: (IccStatus.ABSENT, SlotError.MUTE),
    FaultKind.CARD_MUTE: (IccStatus.ACTIVE, SlotError.MUTE),
    FaultKind.CARD_UNPOWERED: (IccStatus.INACTIVE, SlotError.MUTE),
}


def _extension(command: CcidMessage, multiplier: int) -> CcidMessage:
    status = CommandStatus.TIME_EXTENSION
    return answer(MessageType.DATA_BLOCK, command, command_status=status, error_code=multiplier)
