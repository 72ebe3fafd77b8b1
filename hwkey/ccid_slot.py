"""One CCID slot as a state machine without I/O: commands and read results in, the next step out.

The driver loop is: take a step; `Send` means write the message and read, `Read` means read again, `Done` is
the answer. Whatever a read returned, an empty one too, goes to `receive`, which gives the next step or raises.

    state \\ event     | WHOLE  BEGINS    CONTINUES  ENDS   WANTS_MORE  WANTS_LAST  STATUS  PARAMETERS
    POWERING           | finish
    STATUS_ASKED       |                                                            finish
    PARAMETERS_SET     |                                                                    finish
    SENDING            |                                    send        send -> AWAITING
    AWAITING           | finish ask -> RECEIVING
    RECEIVING          |                  ask        finish

An empty square is a ProtocolError. Before the table come the rules that hold in every state: a message with
another sequence number or slot is stale and skipped, a time extension means read on and wait longer, a failed
command raises. Each of these is counted and bounded, so a reader can not keep us for ever; wall time is
bounded by the driver loop. After any error the machine is IDLE and the next command starts clean.
Waits are milliseconds. One thread at a time. Source: CCID rev. 1.1, 6.1.4, 6.2.6 and libccid's practice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hwkey.ccid import (
    ANSWER_TYPES,
    HEADER_SIZE,
    SEQUENCE_MODULUS,
    CcidMessage,
    Chain,
    CommandStatus,
    IccStatus,
    MessageType,
    SlotError,
    split_message,
    xfr_block,
)
from hwkey.errors import (
    CardAbsent,
    CardFailure,
    CardMute,
    CardUnpowered,
    HwkeyError,
    ProtocolError,
    Unsupported,
)

STALE_COUNT_MAX = 10
EMPTY_READ_COUNT_MAX = 16
EXTENSION_COUNT_MAX = 100
PART_COUNT_MAX = 2_048  # the longest response in parts of 54 bytes, the smallest that a token sends, is 1,214
RESPONSE_SIZE_MAX = 65_546  # the longest extended response, with room for its status word


class State(Enum):
    """Where the slot is between two messages."""

    IDLE = "idle"
    POWERING = "powering"
    STATUS_ASKED = "status_asked"
    PARAMETERS_SET = "parameters_set"
    SENDING = "sending"
    AWAITING = "awaiting"
    RECEIVING = "receiving"


class Event(Enum):
    """What a message of the right sequence number means."""

    BLOCK_WHOLE = "block_whole"
    BLOCK_BEGINS = "block_begins"
    BLOCK_CONTINUES = "block_continues"
    BLOCK_ENDS = "block_ends"
    WANTS_MORE = "wants_more"
    WANTS_LAST = "wants_last"
    STATUS = "status"
    PARAMETERS = "parameters"
    OTHER = "other"


class Action(Enum):
    """What to do on a transition."""

    FINISH = "finish"
    ASK_MORE = "ask_more"
    SEND_NEXT = "send_next"


TRANSITIONS: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.POWERING, Event.BLOCK_WHOLE): (State.IDLE, Action.FINISH),
    (State.STATUS_ASKED, Event.STATUS): (State.IDLE, Action.FINISH),
    (State.PARAMETERS_SET, Event.PARAMETERS): (State.IDLE, Action.FINISH),
    (State.SENDING, Event.WANTS_MORE): (State.SENDING, Action.SEND_NEXT),
    (State.SENDING, Event.WANTS_LAST): (State.AWAITING, Action.SEND_NEXT),
    (State.AWAITING, Event.BLOCK_WHOLE): (State.IDLE, Action.FINISH),
    (State.AWAITING, Event.BLOCK_BEGINS): (State.RECEIVING, Action.ASK_MORE),
    (State.RECEIVING, Event.BLOCK_CONTINUES): (State.RECEIVING, Action.ASK_MORE),
    (State.RECEIVING, Event.BLOCK_ENDS): (State.IDLE, Action.FINISH),
}

_BLOCK_EVENTS: dict[int, Event] = {
    Chain.WHOLE: Event.BLOCK_WHOLE,
    Chain.BEGINS: Event.BLOCK_BEGINS,
    Chain.CONTINUES: Event.BLOCK_CONTINUES,
    Chain.ENDS: Event.BLOCK_ENDS,
}


@dataclass(frozen=True, slots=True)
class Send:
    """Write `message`, then read, waiting up to the ordinary time."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Read again; the reader asked for `wait_multiplier` times the ordinary wait."""

    wait_multiplier: int = 1


@dataclass(frozen=True, slots=True)
class Done:
    """The command has ended; `data` is the ATR, the response, or empty for a status."""

    data: bytes
    icc_status: int


Step = Send | Read | Done


class CcidSlot:
    """The engine for one slot of one reader.

    `message_size_max` is dwMaxCCIDMessageLength. `has_chaining` holds at the extended APDU level only: below
    it the chain parameter is reserved, readers leave anything in it, and a block must fit one message.
    """

    def __init__(self, *, message_size_max: int, has_chaining: bool, slot_index: int = 0) -> None:
        self._block_size_max = message_size_max - HEADER_SIZE
        self._has_chaining = has_chaining
        self._slot_index = slot_index
        self._sequence = SEQUENCE_MODULUS - 1
        self._unsent: list[bytes] = []
        self._begin(State.IDLE)

    @property
    def sequence(self) -> int:
        """bSeq of the last message that was made."""
        return self._sequence

    def power_on(self, power_select: int) -> Send:
        """Power the card; Done carries its ATR."""
        self._begin(State.POWERING)
        return self._send(MessageType.ICC_POWER_ON, bytes([power_select, 0, 0]))

    def power_off(self) -> Send:
        """Take the power away; Done carries no data."""
        self._begin(State.STATUS_ASKED)
        return self._send(MessageType.ICC_POWER_OFF)

    def slot_status(self) -> Send:
        """Ask whether a card is there; Done carries its status."""
        self._begin(State.STATUS_ASKED)
        return self._send(MessageType.GET_SLOT_STATUS)

    def abort(self) -> Send:
        """The bulk half of an abort; the control half (`sequence`, slot) goes first, see CCID 5.3.1."""
        self._begin(State.STATUS_ASKED)
        return self._send(MessageType.ABORT)

    def set_parameters(self, protocol: int, parameters: bytes) -> Send:
        """Have the reader speak a protocol (0: T=0) with these parameters; Done carries those now in force."""
        self._begin(State.PARAMETERS_SET)
        return self._send(MessageType.SET_PARAMETERS, bytes([protocol, 0, 0]), parameters)

    def transfer(self, block: bytes) -> Send:
        """Send one APDU, in chained blocks when it is over the reader's message size; may raise Unsupported."""
        size = self._block_size_max
        if len(block) > size and not self._has_chaining:
            raise Unsupported(
                reason="message_size", detail=f"a command of {len(block)} bytes, its reader takes {size}"
            )
        self._begin(State.AWAITING)
        self._unsent = [block[start : start + size] for start in range(0, len(block), size)] or [b""]
        if len(self._unsent) > 1:
            self.state = State.SENDING
        return self._send_block(Chain.BEGINS if len(self._unsent) > 1 else Chain.WHOLE)

    def receive(self, data: bytes) -> Step:
        """Take the result of one read and say what to do next; raises HwkeyError, and is IDLE after that."""
        assert self.state is not State.IDLE, "a read without a command"
        try:
            return self._receive(data)
        except HwkeyError:
            self._begin(State.IDLE)
            raise

    def cancel(self) -> None:
        """Forget the command under way, as after a transfer that failed."""
        self._begin(State.IDLE)

    def _begin(self, state: State) -> None:
        self.state = state
        self._buffer = b""
        self._gathered = bytearray()
        self._part_count = 0
        self._unsent = []
        self._stale_count = self._empty_count = self._extension_count = 0

    def _send(self, message_type: MessageType, specific: bytes = bytes(3), data: bytes = b"") -> Send:
        self._sequence = (self._sequence + 1) % SEQUENCE_MODULUS
        return Send(CcidMessage(message_type, self._slot_index, self._sequence, specific, data).encode())

    def _send_block(self, chain: Chain) -> Send:
        self._sequence = (self._sequence + 1) % SEQUENCE_MODULUS
        return Send(xfr_block(self._slot_index, self._sequence, self._unsent.pop(0), chain).encode())

    def _receive(self, data: bytes) -> Step:
        if not data:
            return self._read_after_empty()
        self._buffer += data
        while (split := split_message(self._buffer, self._answer_size_max())) is not None:
            message, self._buffer = split
            step = self._take(message)
            if step is not None:
                return step
        return Read()

    def _answer_size_max(self) -> int:
        # Some readers count the header into dwMaxCCIDMessageLength and some do not.
        return self._block_size_max + HEADER_SIZE

    def _read_after_empty(self) -> Read:
        self._empty_count += 1
        if self._empty_count > EMPTY_READ_COUNT_MAX:
            raise ProtocolError("ccid", f"over {EMPTY_READ_COUNT_MAX} empty reads")
        return Read()

    def _take(self, message: CcidMessage) -> Step | None:
        """One message; None when it was stale and the next one decides."""
        if message.message_type not in ANSWER_TYPES:
            raise ProtocolError("ccid", f"message type {message.message_type:02X} is no answer", data=message.encode())
        if message.sequence != self._sequence or message.slot_index != self._slot_index:
            self._stale_count += 1
            if self._stale_count > STALE_COUNT_MAX:
                raise ProtocolError("ccid", f"over {STALE_COUNT_MAX} answers with a stale sequence number")
            return None
        if message.command_status == CommandStatus.TIME_EXTENSION:
            return self._extend(message.error_code)
        if message.command_status != CommandStatus.DONE:
            raise _failure(message, self.state)
        return self._move(message)

    def _extend(self, multiplier: int) -> Read:
        self._extension_count += 1
        if self._extension_count > EXTENSION_COUNT_MAX:
            raise ProtocolError("ccid", f"over {EXTENSION_COUNT_MAX} time extensions")
        return Read(wait_multiplier=max(1, multiplier))

    def _move(self, message: CcidMessage) -> Step:
        event = self._event_of(message)
        transition = TRANSITIONS.get((self.state, event))
        if transition is None:
            raise ProtocolError("ccid", f"{event.value} while {self.state.value}", data=message.encode())
        self.state, action = transition
        if action is Action.SEND_NEXT:
            return self._send_block(Chain.ENDS if self.state is State.AWAITING else Chain.CONTINUES)
        self._gather(message.data)
        if action is Action.ASK_MORE:
            self._unsent = [b""]
            return self._send_block(Chain.WANTS_MORE)
        return Done(bytes(self._gathered), message.icc_status)

    def _gather(self, data: bytes) -> None:
        self._gathered += data
        self._part_count += 1
        if len(self._gathered) > RESPONSE_SIZE_MAX or self._part_count > PART_COUNT_MAX:
            raise ProtocolError("ccid", f"a response of over {RESPONSE_SIZE_MAX} bytes or {PART_COUNT_MAX} parts")

    def _event_of(self, message: CcidMessage) -> Event:
        if message.message_type == MessageType.SLOT_STATUS:
            return Event.STATUS
        if message.message_type == MessageType.PARAMETERS:
            return Event.PARAMETERS
        if self.state is State.POWERING or not self._has_chaining:
            return Event.BLOCK_WHOLE
        if message.chain == Chain.WANTS_MORE:
            return Event.WANTS_LAST if len(self._unsent) == 1 else Event.WANTS_MORE
        return _BLOCK_EVENTS.get(message.chain, Event.OTHER)


def _failure(message: CcidMessage, state: State) -> HwkeyError:
    if message.icc_status == IccStatus.ABSENT:
        return CardAbsent()
    kind = CardFailure
    # Readers say "mute" of a card that has lost its power, too; while it is powered up, mute is what it says.
    if message.icc_status == IccStatus.INACTIVE and state is not State.POWERING:
        kind = CardUnpowered
    elif message.error_code == SlotError.MUTE:
        kind = CardMute
    return kind(error_code=message.error_code, icc_status=message.icc_status)
