"""The driver loop against a scripted link and a clock in hand: waits, their bounds, voltages, and the way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hwkey import CardFailure, HwkeyError, NotAnswering, ProtocolError, Stalled, Unsupported, Waits
from hwkey.apdu import SHORT_SHAPE, T0_SHAPE, ApduForm, CommandShape
from hwkey.ccid import CcidMessage, CommandStatus, MessageType, answer, split_message
from hwkey.ccid_card import DRAIN_READ_COUNT_MAX, CcidCard
from hwkey.ccid_descriptor import CcidDescriptor

WAITS = Waits(answer_wait_ms=100, command_wait_ms=1_000, drain_wait_ms=7)
ATR = bytes.fromhex("3B8F01805D4E6974726F6B657900000000006A")
Answerer = Callable[[CcidMessage], list[bytes | HwkeyError]]


def descriptor(features: int = 0x0004_0840, voltage_support: int = 7, protocols: int = 2, message_size_max: int = 271) -> CcidDescriptor:
    return CcidDescriptor(
        slot_count=1,
        voltage_support=voltage_support,
        protocols=protocols,
        information_field_size_max=254,
        features=features,
        message_size_max=message_size_max,
        busy_slot_count_max=1,
    )


class ScriptedLink:
    """Turns each command into prepared read results; a read of nothing uses up its whole wait."""

    def __init__(self, answerer: Answerer | None = None) -> None:
        self.answerer = answerer or sound_answer
        self.pending: list[bytes | HwkeyError] = []
        self.calls: list[str] = []
        self.read_waits_ms: list[int] = []
        self.now_ns = 0
        self.is_open = True

    def clock_ns(self) -> int:
        return self.now_ns

    def write(self, data: bytes, wait_ms: int) -> None:
        split = split_message(data, 1_000)
        assert split is not None
        command = split[0]
        self.calls.append(f"{MessageType(command.message_type).name} {command.specific[0]}".removesuffix(" 0"))
        self.pending += self.answerer(command)

    def read(self, size_max: int, wait_ms: int) -> bytes:
        self.read_waits_ms.append(wait_ms)
        if not self.pending:
            self.calls.append("read of nothing")
            self.now_ns += wait_ms * 1_000_000
            raise NotAnswering(operation="bulk read", waited_ms=wait_ms)
        result = self.pending.pop(0)
        if isinstance(result, HwkeyError):
            raise result
        return result

    def request_abort(self, slot_index: int, sequence: int, wait_ms: int) -> None:
        self.calls.append(f"abort request {slot_index} {sequence}")

    def clear_halts(self) -> None:
        self.calls.append("clear halts")

    def close(self) -> None:
        self.is_open = False


def sound_answer(command: CcidMessage) -> list[bytes | HwkeyError]:
    if command.message_type == MessageType.ICC_POWER_ON:
        return [answer(MessageType.DATA_BLOCK, command, data=ATR).encode()]
    if command.message_type == MessageType.XFR_BLOCK:
        return [answer(MessageType.DATA_BLOCK, command, data=b"\x90\x00").encode()]
    return [answer(MessageType.SLOT_STATUS, command).encode()]


def opened(link: ScriptedLink, **descriptor_changes: int) -> CcidCard:
    return CcidCard.open(link, descriptor(**descriptor_changes), waits=WAITS, clock_ns=link.clock_ns)


def extension(command: CcidMessage, multiplier: int) -> bytes:
    return answer(
        MessageType.DATA_BLOCK, command, command_status=CommandStatus.TIME_EXTENSION, error_code=multiplier
    ).encode()


def failed(command: CcidMessage) -> bytes:
    return answer(
        MessageType.DATA_BLOCK, command, icc_status=1, command_status=CommandStatus.FAILED, error_code=0xFE
    ).encode()


def test_time_extension_stretches_the_next_wait_and_no_other() -> None:
    link = ScriptedLink()
    card = opened(link)
    link.read_waits_ms.clear()
    link.answerer = lambda command: [extension(command, 4), *sound_answer(command)]
    card.transmit(b"\x00\x87\x11\x9e")
    link.answerer = sound_answer
    card.transmit(b"\x00\x87\x11\x9e")
    assert link.read_waits_ms == [100, 400, 100]


def test_time_extensions_never_stretch_a_command_over_its_whole_wait() -> None:
    link = ScriptedLink()
    card = opened(link)
    link.read_waits_ms.clear()
    link.answerer = lambda command: [extension(command, 255)]
    started_ns = link.now_ns
    with pytest.raises(NotAnswering):
        card.transmit(b"\x00\x87\x11\x9e")
    assert link.read_waits_ms == [100, 1_000]
    assert link.now_ns - started_ns == 1_000 * 1_000_000


def test_no_wait_of_zero_is_ever_asked_for_since_libusb_takes_it_for_ever() -> None:
    link = ScriptedLink()
    card = opened(link)

    def slow_but_alive(command: CcidMessage) -> list[bytes | HwkeyError]:
        link.now_ns += 1_000 * 1_000_000
        return sound_answer(command)

    link.answerer = slow_but_alive
    with pytest.raises(NotAnswering, match="1000 ms"):
        card.transmit(b"\x00\x87\x11\x9e")
    assert 0 not in link.read_waits_ms


def test_reset_aborts_drains_and_cycles_the_power_in_this_order() -> None:
    link = ScriptedLink()
    card = opened(link)
    link.calls.clear()
    link.pending = []
    card.reset()
    assert link.calls == ["abort request 0 1", "ABORT", "read of nothing", "ICC_POWER_OFF", "ICC_POWER_ON 1"]


def test_reset_reads_away_what_an_older_command_left() -> None:
    link = ScriptedLink()
    card = opened(link)

    def with_leftovers(command: CcidMessage) -> list[bytes | HwkeyError]:
        leftovers: list[bytes | HwkeyError] = [b"\xff" * 64, b"\xff" * 64, b""]
        return sound_answer(command) + (leftovers if command.message_type == MessageType.ABORT else [])

    link.answerer = with_leftovers
    card.reset()
    assert card.transmit(b"\x00\xa4\x04\x00") == b"\x90\x00"


def test_reader_that_never_stops_sending_is_drained_for_a_bounded_time() -> None:
    link = ScriptedLink()
    card = opened(link)
    link.pending = [b"\xff" * 64] * (10 * DRAIN_READ_COUNT_MAX)
    with pytest.raises(ProtocolError):
        card.reset()


def test_halt_is_cleared_by_the_next_reset_and_by_no_other() -> None:
    link = ScriptedLink()
    card = opened(link)
    link.answerer = lambda _: [Stalled(operation="bulk read")]
    with pytest.raises(Stalled):
        card.transmit(b"\x00\xa4\x04\x00")
    link.answerer = sound_answer
    card.reset()
    card.reset()
    assert link.calls.count("clear halts") == 1


def test_stall_while_draining_is_cleared_by_the_reset_after_it() -> None:
    link = ScriptedLink()
    card = opened(link)

    def stalling(command: CcidMessage) -> list[bytes | HwkeyError]:
        stall: list[bytes | HwkeyError] = [Stalled(operation="bulk read")]
        return sound_answer(command) + (stall if command.message_type == MessageType.ABORT else [])

    link.answerer = stalling
    with pytest.raises(Stalled):
        card.reset()
    link.answerer = sound_answer
    card.reset()
    assert link.calls.count("clear halts") == 1


def test_voltages_are_tried_in_turn_until_the_card_answers() -> None:
    def only_at_1_8_volts(command: CcidMessage) -> list[bytes | HwkeyError]:
        return sound_answer(command) if command.specific[0] == 3 else [failed(command)]

    link = ScriptedLink(only_at_1_8_volts)
    assert opened(link).atr == ATR
    assert link.calls == ["ICC_POWER_ON 1", "ICC_POWER_ON 2", "ICC_POWER_ON 3"]


def test_card_that_answers_at_no_voltage_is_a_card_failure() -> None:
    link = ScriptedLink(lambda command: [failed(command)])
    with pytest.raises(CardFailure):
        opened(link, voltage_support=1)
    assert link.calls == ["ICC_POWER_ON 1"]


def test_reader_with_automatic_voltage_is_left_to_choose() -> None:
    link = ScriptedLink()
    opened(link, features=0x0004_00FE)
    assert link.calls == ["ICC_POWER_ON"]


def test_unanswered_first_command_is_tried_again_once_and_then_told() -> None:
    link = ScriptedLink(lambda _: [])
    with pytest.raises(NotAnswering):
        opened(link)
    assert [call for call in link.calls if call != "read of nothing"] == [
        "ICC_POWER_ON 1",
        "abort request 0 1",
        "ABORT",
        "ICC_POWER_OFF",
    ]


def test_t1_tpdu_reader_is_unsupported_before_anything_is_sent_and_says_what_to_do() -> None:
    link = ScriptedLink()
    with pytest.raises(Unsupported) as caught:
        opened(link, features=0x0001_0030)
    assert caught.value.reason == "tpdu_t1"
    assert "use a USB security key" in caught.value.detail
    assert link.calls == []


def test_closing_powers_the_card_off_and_a_silent_reader_is_not_waited_for() -> None:
    link = ScriptedLink()
    card = opened(link)
    link.answerer = lambda _: []
    link.read_waits_ms.clear()
    card.close()
    assert not link.is_open
    assert link.calls[-2:] == ["ICC_POWER_OFF", "read of nothing"]
    assert link.read_waits_ms == [70]


# TPDU readers

T0_READER = 0x0001_0230  # features of a GemPC Twin: nothing about protocols is automatic
T0_ATR, T1_ATR, T1_THEN_T0_ATR, T1_FIXED_ATR = (
    bytes.fromhex(atr) for atr in ("3B021450", "3B800181", "3B80810001", "3B80910100 00")
)


class TpduReader:
    """Powers a card with the given ATR and keeps what follows, in hex without the header's first seven bytes."""

    def __init__(self, atr: bytes, *, pps_answer: bytes = bytes.fromhex("FF00FF"), parameters_error: int | None = None) -> None:
        self.atr = atr
        self.pps_answer = pps_answer
        self.parameters_error = parameters_error
        self.sent: list[str] = []

    def __call__(self, command: CcidMessage) -> list[bytes | HwkeyError]:
        if command.message_type == MessageType.ICC_POWER_ON:
            return [answer(MessageType.DATA_BLOCK, command, data=self.atr).encode()]
        self.sent.append(f"{command.message_type:02X} {command.specific.hex()} {command.data.hex().upper()}")
        if command.message_type == MessageType.SET_PARAMETERS and self.parameters_error is not None:
            status = CommandStatus.FAILED
            return [answer(MessageType.PARAMETERS, command, command_status=status, error_code=self.parameters_error).encode()]
        if command.message_type == MessageType.SET_PARAMETERS:
            return [answer(MessageType.PARAMETERS, command, data=command.data).encode()]
        if command.data == bytes.fromhex("FF00FF"):
            return [answer(MessageType.DATA_BLOCK, command, data=self.pps_answer).encode()]
        return sound_answer(command)


SET_T0 = "61 000000 1100000A00"
PPS = "6F 000000 FF00FF"


@pytest.mark.parametrize(
    ("atr", "features", "sent"),
    [
        (T0_ATR, 0x0001_0230, [SET_T0]),
        (T0_ATR, 0x0001_00B2, [SET_T0]),  # automatic PPS and parameters from the ATR: set all the same, as libccid does
        (T0_ATR, 0x0001_04FE, []),  # the reader negotiates: QEMU's
        (T1_THEN_T0_ATR, 0x0001_0230, [PPS, SET_T0]),
        (T1_THEN_T0_ATR, 0x0001_00B2, [SET_T0]),  # the reader does the PPS that the parameters call for
    ],
)
def test_t0_is_agreed_on_by_pps_and_set_parameters_where_the_reader_leaves_it_to_us(
    atr: bytes, features: int, sent: list[str]
) -> None:
    reader = TpduReader(atr)
    card = opened(ScriptedLink(reader), features=features, protocols=3)
    assert reader.sent == sent
    assert card.shape == T0_SHAPE


def test_t0_is_agreed_on_again_after_each_power_cycle() -> None:
    reader = TpduReader(T0_ATR)
    card = opened(ScriptedLink(reader), features=T0_READER, protocols=3)
    card.reset()
    assert [sent for sent in reader.sent if sent.startswith("61")] == [SET_T0, SET_T0]


@pytest.mark.parametrize("atr", [T1_ATR, T1_FIXED_ATR])
def test_card_that_speaks_only_t1_is_unsupported_in_a_tpdu_reader_and_says_what_to_do(atr: bytes) -> None:
    reader = TpduReader(atr)
    with pytest.raises(Unsupported, match="reader that exchanges APDUs") as caught:
        opened(ScriptedLink(reader), features=T0_READER, protocols=3)
    assert caught.value.reason == "card_t1"
    assert reader.sent == []


def test_card_that_refuses_the_pps_is_a_protocol_error_after_a_second_attempt() -> None:
    reader = TpduReader(T1_THEN_T0_ATR, pps_answer=bytes.fromhex("FF01FE"))
    with pytest.raises(ProtocolError, match="agree to T=0"):
        opened(ScriptedLink(reader), features=T0_READER, protocols=3)
    assert reader.sent.count(PPS) == 2


@pytest.mark.parametrize("error_code", [0x00, 0x07, 0x7F])
def test_reader_whose_parameters_can_not_be_changed_is_used_as_it_is(error_code: int) -> None:
    card = opened(ScriptedLink(TpduReader(T0_ATR, parameters_error=error_code)), features=T0_READER, protocols=1)
    assert card.transmit(bytes.fromhex("00A4040000")) == b"\x90\x00"


def test_reader_that_fails_at_setting_parameters_is_a_card_failure() -> None:
    with pytest.raises(CardFailure) as caught:
        opened(ScriptedLink(TpduReader(T0_ATR, parameters_error=0xFB)), features=T0_READER, protocols=1)
    assert caught.value.error_code == 0xFB


@pytest.mark.parametrize(
    ("features", "message_size_max", "shape"),
    [
        (0x0001_0230, 271, CommandShape(ApduForm.T0_TPDU, 255, 256)),
        (0x0001_0230, 263, CommandShape(ApduForm.T0_TPDU, 247, 256)),  # SCR331 and its kin
        (0x0002_0842, 240, CommandShape(ApduForm.SHORT, 224, 228)),  # Bluink
        (0x0002_0842, 271, SHORT_SHAPE),
        (0x0004_0840, 64, SHORT_SHAPE),  # Gnuk: blocks are chained
    ],
)
def test_commands_fit_the_messages_of_the_reader(features: int, message_size_max: int, shape: CommandShape) -> None:
    link = ScriptedLink(TpduReader(T0_ATR))
    card = opened(link, features=features, protocols=3, message_size_max=message_size_max)
    assert card.shape == shape
