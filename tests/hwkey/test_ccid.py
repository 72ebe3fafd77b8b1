"""CCID messages in hex, the functional descriptor, and every square of the slot's state table."""

from __future__ import annotations

import itertools

import pytest

from hwkey import CardAbsent, CardFailure, CardMute, CardUnpowered, HwkeyError, ProtocolError, Unsupported
from hwkey.ccid import (
    CcidMessage,
    Chain,
    CommandStatus,
    IccStatus,
    MessageType,
    answer,
    split_message,
    xfr_block,
)
from hwkey.ccid_descriptor import (
    CcidDescriptor,
    ExchangeLevel,
    Refusal,
    decode_descriptor,
    refusal_of_descriptor,
    refusal_of_interface,
)
from hwkey.ccid_slot import (
    EMPTY_READ_COUNT_MAX,
    EXTENSION_COUNT_MAX,
    PART_COUNT_MAX,
    STALE_COUNT_MAX,
    TRANSITIONS,
    CcidSlot,
    Done,
    Event,
    Read,
    Send,
    State,
)

# The functional descriptor of a YubiKey 5 (dump "Yubico YubiKey OTP+FIDO+CCID", dwDefaultClock 4 MHz, 307,200 bps).
YUBIKEY_DESCRIPTOR = bytes.fromhex(
    "3621 0001 00 07 02000000 A00F0000 A00F0000 00 00B00400 00B00400 00 F60B0000"
    "00000000 00000000 FE000400 000C0000 FF FF 0000 00 01"
)


def descriptor(*, features: int = 0x0004_00FE, protocols: int = 2, message_size_max: int = 3072) -> CcidDescriptor:
    return CcidDescriptor(
        slot_count=1,
        voltage_support=7,
        protocols=protocols,
        information_field_size_max=254,
        features=features,
        message_size_max=message_size_max,
        busy_slot_count_max=1,
    )


def parsed(step: object) -> CcidMessage:
    assert isinstance(step, Send)
    split = split_message(step.message, 100_000)
    assert split is not None
    assert split[1] == b""
    return split[0]


def data_block(slot: CcidSlot, data: bytes, chain: int = Chain.WHOLE) -> bytes:
    command = CcidMessage(MessageType.XFR_BLOCK, 0, slot.sequence)
    return answer(MessageType.DATA_BLOCK, command, data=data, last_specific=chain).encode()


@pytest.fixture
def slot() -> CcidSlot:
    return CcidSlot(message_size_max=271, has_chaining=True)


# Messages


def test_power_on_is_encoded_as_in_chapter_6_1_1(slot: CcidSlot) -> None:
    assert slot.power_on(1).message == bytes.fromhex("62 00000000 00 00 01 0000")


def test_select_in_a_block_is_encoded_as_in_chapter_6_1_4() -> None:
    message = xfr_block(0, 7, bytes.fromhex("00A4040009A0000003080000100000"))
    assert message.encode() == bytes.fromhex("6F 0F000000 00 07 00 0000 00A4040009A0000003080000100000")


def test_slot_status_power_off_and_abort_are_ten_bytes_with_growing_sequence(slot: CcidSlot) -> None:
    sent = [slot.slot_status().message, slot.power_off().message, slot.abort().message]
    assert sent == [
        bytes.fromhex("65000000000000000000"),
        bytes.fromhex("63000000000001000000"),
        bytes.fromhex("72000000000002000000"),
    ]


def test_nitrokey_first_part_of_a_chained_answer_is_read() -> None:
    split = split_message(bytes.fromhex("80 36000000 00 05 00 00 01") + bytes(54), 3072)
    assert split is not None
    message, rest = split
    assert (message.chain, len(message.data), message.sequence, rest) == (Chain.BEGINS, 54, 5, b"")


def test_failed_answer_splits_into_its_status_bits() -> None:
    split = split_message(bytes.fromhex("80 00000000 00 01 42 FE 00"), 3072)
    assert split is not None
    message = split[0]
    assert message.icc_status == IccStatus.ABSENT
    assert message.command_status == CommandStatus.FAILED
    assert message.error_code == 0xFE


def test_message_that_is_not_complete_waits_for_more() -> None:
    whole = bytes.fromhex("80 02000000 00 00 00 00 00 9000")
    assert all(split_message(whole[:size], 64) is None for size in range(len(whole)))
    assert split_message(whole + b"\x81", 64) is not None


def test_message_longer_than_the_reader_may_send_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(ProtocolError, match="4294967295"):
        split_message(bytes.fromhex("80 FFFFFFFF 00 00 00 00 00"), 3072)


# Descriptor and classification


def test_yubikey_descriptor_is_read_field_by_field() -> None:
    read = decode_descriptor(YUBIKEY_DESCRIPTOR)
    assert read == CcidDescriptor(
        slot_count=1,
        voltage_support=7,
        protocols=2,
        information_field_size_max=3062,
        features=0x0004_00FE,
        message_size_max=3072,
        busy_slot_count_max=1,
    )
    assert read.level is ExchangeLevel.EXTENDED_APDU
    assert read.power_selects == (0,)
    assert refusal_of_descriptor(read) is None


def test_descriptor_is_found_behind_other_class_descriptors_and_survives_a_round_trip() -> None:
    extra = bytes.fromhex("0921110100012200 01") + descriptor().encode()
    assert decode_descriptor(extra) == descriptor()


@pytest.mark.parametrize("extra", [b"", b"\x00", b"\x36", YUBIKEY_DESCRIPTOR[:53], b"\x00" + YUBIKEY_DESCRIPTOR, b"\x02\x21"])
def test_missing_or_cut_descriptor_is_a_protocol_error(extra: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_descriptor(extra)


@pytest.mark.parametrize(
    ("features", "protocols", "refusal"),
    [
        (0x0004_0840, 2, None),
        (0x0002_04BA, 3, None),
        (0x0001_0030, 1, None),
        (0x0001_0030, 2, Refusal.TPDU_T1),
        (0x0001_0030, 3, None),
        (0x0001_0030, 0, Refusal.TPDU_UNKNOWN),
        (0x0000_0840, 2, Refusal.CHARACTER_LEVEL),
    ],
)
def test_exchange_levels_are_taken_or_refused_by_name(features: int, protocols: int, refusal: Refusal | None) -> None:
    assert refusal_of_descriptor(descriptor(features=features, protocols=protocols)) is refusal


@pytest.mark.parametrize("message_size_max", [0, 14, 65_555, 0xFFFF_FFFF])
def test_absurd_message_sizes_are_refused(message_size_max: int) -> None:
    assert refusal_of_descriptor(descriptor(message_size_max=message_size_max)) is Refusal.MESSAGE_SIZE


@pytest.mark.parametrize(
    ("numbers", "refusal"),
    [
        ((0x0B, 0, 0), None),
        ((0x0B, 0, 1), Refusal.ICCD_PROTOCOL),
        ((0x0B, 0, 2), Refusal.ICCD_PROTOCOL),
        ((0x0B, 92, 0), Refusal.UNKNOWN_SUBCLASS),
        ((0xFF, 0, 0), Refusal.VENDOR_CLASS),
    ],
)
def test_interfaces_are_taken_or_refused_by_name(numbers: tuple[int, int, int], refusal: Refusal | None) -> None:
    assert refusal_of_interface(*numbers) is refusal


def test_reader_without_automatic_voltage_is_offered_its_voltages_in_turn() -> None:
    assert descriptor(features=0x0004_0840).power_selects == (1, 2, 3)


# The slot


def bring_to(slot: CcidSlot, state: State) -> None:
    """Drive a slot into a state through the calls that a driver makes."""
    if state is State.POWERING:
        slot.power_on(0)
    elif state is State.STATUS_ASKED:
        slot.slot_status()
    elif state is State.PARAMETERS_SET:
        slot.set_parameters(0, bytes.fromhex("1100000A00"))
    elif state is State.SENDING:
        slot.transfer(bytes(261 * 3))
    else:
        slot.transfer(b"\x00\xa4\x04\x00")
        if state is State.RECEIVING:
            slot.receive(data_block(slot, b"\x01", Chain.BEGINS))
    assert slot.state is state


def message_of(slot: CcidSlot, event: Event) -> bytes:
    """The answer that means `event` to the slot as it is now."""
    command = CcidMessage(MessageType.XFR_BLOCK, 0, slot.sequence)
    if event is Event.STATUS:
        return answer(MessageType.SLOT_STATUS, command).encode()
    if event is Event.PARAMETERS:
        return answer(MessageType.PARAMETERS, command).encode()
    if event is Event.OTHER:
        return data_block(slot, b"", 0x77)
    if event is Event.WANTS_LAST and slot.state is State.SENDING:
        slot.receive(data_block(slot, b"", Chain.WANTS_MORE))
    chains = {
        Event.BLOCK_WHOLE: Chain.WHOLE,
        Event.BLOCK_BEGINS: Chain.BEGINS,
        Event.BLOCK_CONTINUES: Chain.CONTINUES,
        Event.BLOCK_ENDS: Chain.ENDS,
        Event.WANTS_MORE: Chain.WANTS_MORE,
        Event.WANTS_LAST: Chain.WANTS_MORE,
    }
    return data_block(slot, b"", chains[event])


BUSY_STATES = [state for state in State if state is not State.IDLE]
# While powering, the chain byte has no meaning, so every data block is a whole one.
SQUARES = [
    (state, event)
    for state, event in itertools.product(BUSY_STATES, Event)
    if state is not State.POWERING or event in (Event.BLOCK_WHOLE, Event.STATUS, Event.PARAMETERS)
]


@pytest.mark.parametrize(("state", "event"), SQUARES)
def test_every_square_of_the_table_moves_as_it_says_or_is_a_protocol_error(
    slot: CcidSlot, state: State, event: Event
) -> None:
    bring_to(slot, state)
    message = message_of(slot, event)
    if (state, event) in TRANSITIONS:
        slot.receive(message)
        assert slot.state is TRANSITIONS[state, event][0]
    else:
        with pytest.raises(ProtocolError):
            slot.receive(message)
        assert slot.state is State.IDLE


def test_answer_in_one_block_is_done(slot: CcidSlot) -> None:
    slot.transfer(b"\x00\xa4\x04\x00")
    assert slot.receive(data_block(slot, b"\x90\x00")) == Done(b"\x90\x00", IccStatus.ACTIVE)


def test_chained_answer_is_asked_for_with_empty_blocks_of_level_0010(slot: CcidSlot) -> None:
    slot.transfer(b"\x00\xcb\x3f\xff")
    asked = parsed(slot.receive(data_block(slot, b"ab", Chain.BEGINS)))
    assert (asked.data, asked.level_parameter) == (b"", 0x0010)
    parsed(slot.receive(data_block(slot, b"cd", Chain.CONTINUES)))
    assert slot.receive(data_block(slot, b"\x90\x00", Chain.ENDS)) == Done(b"abcd\x90\x00", IccStatus.ACTIVE)


def test_chained_answer_of_empty_parts_for_ever_is_a_protocol_error(slot: CcidSlot) -> None:
    slot.transfer(b"\x00\xcb\x3f\xff")
    slot.receive(data_block(slot, b"", Chain.BEGINS))
    for _ in range(PART_COUNT_MAX - 1):
        slot.receive(data_block(slot, b"", Chain.CONTINUES))
    with pytest.raises(ProtocolError, match="parts"):
        slot.receive(data_block(slot, b"", Chain.CONTINUES))


def test_set_parameters_is_encoded_as_in_chapter_6_1_7_and_ends_with_the_parameters(slot: CcidSlot) -> None:
    sent = slot.set_parameters(0, bytes.fromhex("1100000A00"))
    assert sent.message == bytes.fromhex("61 05000000 00 00 00 0000 1100000A00")
    done = slot.receive(bytes.fromhex("82 05000000 00 00 00 00 00 1100000A00"))
    assert done == Done(bytes.fromhex("1100000A00"), IccStatus.ACTIVE)


def test_long_command_goes_out_in_chained_blocks(slot: CcidSlot) -> None:
    block = bytes(range(256)) * 3
    sent = [parsed(slot.transfer(block))]
    while sent[-1].level_parameter != Chain.ENDS:
        sent.append(parsed(slot.receive(data_block(slot, b"", Chain.WANTS_MORE))))
    assert [message.level_parameter for message in sent] == [Chain.BEGINS, Chain.CONTINUES, Chain.ENDS]
    assert b"".join(message.data for message in sent) == block


def test_long_command_to_a_reader_without_chaining_is_unsupported() -> None:
    slot = CcidSlot(message_size_max=271, has_chaining=False)
    with pytest.raises(Unsupported):
        slot.transfer(bytes(262))


def test_chain_byte_means_nothing_to_a_reader_without_chaining() -> None:
    slot = CcidSlot(message_size_max=271, has_chaining=False)
    slot.transfer(b"\x00\xa4\x04\x00")
    assert slot.receive(data_block(slot, b"\x90\x00", Chain.BEGINS)) == Done(b"\x90\x00", IccStatus.ACTIVE)


def test_message_may_come_byte_by_byte_with_empty_reads_between(slot: CcidSlot) -> None:
    slot.transfer(b"\x00\xa4\x04\x00")
    message = data_block(slot, b"\x90\x00")
    for index in range(len(message) - 1):
        assert slot.receive(message[index : index + 1]) == Read()
    assert slot.receive(b"") == Read()
    assert slot.receive(message[-1:]) == Done(b"\x90\x00", IccStatus.ACTIVE)


def test_empty_reads_for_ever_are_a_protocol_error(slot: CcidSlot) -> None:
    slot.slot_status()
    for _ in range(EMPTY_READ_COUNT_MAX):
        slot.receive(b"")
    with pytest.raises(ProtocolError, match="empty reads"):
        slot.receive(b"")


def test_stale_answers_are_skipped_up_to_a_bound(slot: CcidSlot) -> None:
    slot.slot_status()
    stale = bytes.fromhex("81 00000000 00 63 00 00 00")
    for _ in range(STALE_COUNT_MAX):
        assert slot.receive(stale) == Read()
    with pytest.raises(ProtocolError, match="stale"):
        slot.receive(stale)


def test_stale_and_right_answer_in_one_read_give_the_right_one(slot: CcidSlot) -> None:
    slot.transfer(b"\x00\xa4\x04\x00")
    stale = bytes.fromhex("80 02000000 00 63 00 00 00 6F00")
    assert slot.receive(stale + data_block(slot, b"\x90\x00")) == Done(b"\x90\x00", IccStatus.ACTIVE)


def test_time_extension_stretches_the_wait_by_its_multiplier(slot: CcidSlot) -> None:
    slot.transfer(b"\x00\x87\x11\x9e")
    assert slot.receive(bytes.fromhex("80 00000000 00 00 80 05 00")) == Read(wait_multiplier=5)
    assert slot.receive(bytes.fromhex("80 00000000 00 00 80 00 00")) == Read(wait_multiplier=1)


def test_time_extensions_for_ever_are_a_protocol_error(slot: CcidSlot) -> None:
    slot.transfer(b"\x00\x87\x11\x9e")
    extension = bytes.fromhex("80 00000000 00 00 80 01 00")
    for _ in range(EXTENSION_COUNT_MAX):
        slot.receive(extension)
    with pytest.raises(ProtocolError, match="time extensions"):
        slot.receive(extension)


@pytest.mark.parametrize(
    ("state", "status", "error", "expected", "words"),
    [
        (State.POWERING, 0x41, 0xFE, CardMute, "does not answer"),
        (State.AWAITING, 0x40, 0xFE, CardMute, "does not answer"),
        (State.AWAITING, 0x41, 0xFE, CardUnpowered, "without power"),
        (State.AWAITING, 0x40, 0xFB, CardFailure, "hardware error"),
        (State.AWAITING, 0x40, 0x05, CardFailure, "no such slot"),
        (State.AWAITING, 0x40, 0x21, CardFailure, "refuses the command"),
        (State.POWERING, 0x42, 0xFE, CardAbsent, "no card"),
        (State.AWAITING, 0x42, 0xFB, CardAbsent, "no card"),
    ],
)
def test_failed_command_tells_what_the_reader_says_of_its_card(
    slot: CcidSlot, state: State, status: int, error: int, expected: type[HwkeyError], words: str
) -> None:
    bring_to(slot, state)
    with pytest.raises(expected, match=words) as caught:
        slot.receive(bytes([0x80, 0, 0, 0, 0, 0, slot.sequence, status, error, 0]))
    assert type(caught.value) is expected
    if isinstance(caught.value, CardFailure):
        assert (caught.value.error_code, caught.value.icc_status) == (error, status & 0b11)


def test_message_of_an_unknown_type_is_a_protocol_error(slot: CcidSlot) -> None:
    slot.slot_status()
    with pytest.raises(ProtocolError, match="type 99"):
        slot.receive(bytes.fromhex("99 00000000 00 00 00 00 00"))


def test_sequence_number_wraps_after_255(slot: CcidSlot) -> None:
    for _ in range(256):
        slot.slot_status()
    assert slot.sequence == 255
    assert parsed(slot.slot_status()).sequence == 0
