"""APDU encodings case by case (ISO/IEC 7816-4 5.1), and each processor against a scripted card."""

from __future__ import annotations

import pytest

from hwkey import ProtocolError, StatusWordError
from hwkey.apdu import (
    EXTENDED_SHAPE,
    GATHER_ROUND_COUNT_MAX,
    SHORT_SHAPE,
    T0_SHAPE,
    ApduForm,
    Command,
    CommandChaining,
    CommandShape,
    ExtendedEncoding,
    Response,
    ResponseGathering,
    ShortEncoding,
    decode_command,
    decode_response,
    exchange_over,
)

SHORT_CASES = [
    ("1", Command(0x00, 0x44, 0, 0), "00440000"),
    ("2S", Command(0x00, 0xC0, 0, 0, expected_size_max=16), "00C0000010"),
    ("2S, 256", Command(0x00, 0xC0, 0, 0, expected_size_max=256), "00C0000000"),
    ("3S", Command(0x00, 0x20, 0, 0x80, b"1234"), "002000800431323334"),
    # SELECT and GET DATA as printed in NIST SP 800-73-4 part 2.
    ("4S", Command(0x00, 0xA4, 4, 0, bytes.fromhex("A000000308000010000100"), 256), "00A404000BA00000030800001000010000"),
    ("4S", Command(0x00, 0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC101"), 256), "00CB3FFF055C035FC10100"),
]
EXTENDED_CASES = [
    ("1", Command(0x00, 0x44, 0, 0), "00440000"),
    ("2E", Command(0x00, 0xC0, 0, 0, expected_size_max=256), "00C00000000100"),
    ("2E, 65536", Command(0x00, 0xC0, 0, 0, expected_size_max=65_536), "00C00000000000"),
    ("3E", Command(0x00, 0xDB, 0x3F, 0xFF, b"\xaa\xbb"), "00DB3FFF000002AABB"),
    ("4E", Command(0x00, 0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC101"), 65_536), "00CB3FFF0000055C035FC1010000"),
]


class ScriptedCard:
    """Gives prepared answers and keeps what it was sent."""

    atr = b""

    def __init__(self, *answers: str, shape: CommandShape = SHORT_SHAPE) -> None:
        self.answers = [bytes.fromhex(answer) for answer in answers]
        self.sent: list[str] = []
        self.shape = shape

    def transmit(self, command: bytes) -> bytes:
        self.sent.append(command.hex().upper())
        return self.answers.pop(0)

    def reset(self) -> None:
        raise AssertionError("a processor never resets the card")

    def close(self) -> None:
        raise AssertionError("a processor never closes the card")


@pytest.mark.parametrize(("case", "command", "encoded"), SHORT_CASES)
def test_short_cases_are_encoded_and_read_back(case: str, command: Command, encoded: str) -> None:
    assert command.encode_short().hex().upper() == encoded
    assert decode_command(bytes.fromhex(encoded)) == command


@pytest.mark.parametrize(("case", "command", "encoded"), EXTENDED_CASES)
def test_extended_cases_are_encoded_and_read_back(case: str, command: Command, encoded: str) -> None:
    assert command.encode_extended().hex().upper() == encoded
    assert decode_command(bytes.fromhex(encoded)) == command


def test_short_encoding_asks_for_256_when_more_is_wanted() -> None:
    assert Command(0, 0xCB, 0, 0, expected_size_max=65_536).encode_short().hex() == "00cb000000"


def test_short_encoding_refuses_256_bytes_of_data() -> None:
    with pytest.raises(ValueError, match="do not fit a short APDU"):
        Command(0, 0x87, 0, 0, bytes(256)).encode_short()


@pytest.mark.parametrize("broken", ["", "00", "00A404", "00A4040005AABB", "00A40400020102030405", "00A404000000", "00A40400000000AA", "00A404000000050102"])
def test_command_that_is_none_of_the_seven_forms_is_refused(broken: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_command(bytes.fromhex(broken))
    assert caught.value.layer == "apdu"


@pytest.mark.parametrize("block", [b"", b"\x90"])
def test_empty_or_one_byte_block_is_an_error_and_not_status_0000(block: bytes) -> None:
    with pytest.raises(ProtocolError, match="no status word"):
        decode_response(block)


def test_status_word_other_than_9000_carries_instruction_and_status() -> None:
    with pytest.raises(StatusWordError) as caught:
        Response(b"", 0x6982).expect_ok(0x87)
    assert (caught.value.instruction, caught.value.status_word) == (0x87, 0x6982)


def test_61xx_is_gathered_with_get_response_until_9000() -> None:
    card = ScriptedCard("AABB6102", "CCDD6101", "EE9000")
    response = ResponseGathering(ShortEncoding(card)).exchange(Command(0, 0xCB, 0x3F, 0xFF, b"\x5c\x00", 256))
    assert response == Response(bytes.fromhex("AABBCCDDEE"), 0x9000)
    assert card.sent[1:] == ["00C0000002", "00C0000001"]


def test_get_response_keeps_the_class_without_its_chaining_bit() -> None:
    card = ScriptedCard("6101", "AA9000")
    ResponseGathering(ShortEncoding(card)).exchange(Command(0x1C, 0xCB, 0, 0))
    assert card.sent[1] == "0CC0000001"


def test_6cxx_repeats_the_command_with_the_right_size() -> None:
    card = ScriptedCard("6C03", "AABBCC9000")
    response = ResponseGathering(ShortEncoding(card)).exchange(Command(0, 0xCB, 0, 0, b"\x01", 256))
    assert response.data == bytes.fromhex("AABBCC")
    assert card.sent == ["00CB0000010100", "00CB0000010103"]


def test_card_that_says_61xx_for_ever_is_given_up() -> None:
    card = ScriptedCard(*["6101"] * (GATHER_ROUND_COUNT_MAX + 1))
    with pytest.raises(ProtocolError, match="parts"):
        ResponseGathering(ShortEncoding(card)).exchange(Command(0, 0xCB, 0, 0, expected_size_max=256))


def test_card_that_sends_over_64_kib_is_given_up() -> None:
    card = ScriptedCard(*["00" * 256 + "6100"] * 300)
    with pytest.raises(ProtocolError, match="over 65536 bytes"):
        ResponseGathering(ShortEncoding(card)).exchange(Command(0, 0xCB, 0, 0, expected_size_max=256))


def test_long_data_is_chained_with_the_class_bit_on_all_parts_but_the_last() -> None:
    card = ScriptedCard("9000", "9000", "AA9000")
    command = Command(0, 0x87, 7, 0x9E, bytes(range(256)) * 2, 256)
    assert CommandChaining(ShortEncoding(card)).exchange(command) == Response(b"\xaa", 0x9000)
    assert [sent[:10] for sent in card.sent] == ["1087079EFF", "1087079EFF", "0087079E02"]
    assert card.sent[2].endswith("FEFF00")


def test_chain_that_the_card_refuses_stops_there() -> None:
    card = ScriptedCard("6884")
    assert CommandChaining(ShortEncoding(card)).exchange(Command(0, 0x87, 0, 0, bytes(300))).status_word == 0x6884
    assert len(card.sent) == 1


def test_extended_encoding_keeps_to_the_short_form_where_it_suffices() -> None:
    card = ScriptedCard("9000", "9000")
    ExtendedEncoding(card).exchange(Command(0, 0xA4, 4, 0, b"\xa0", 256))
    ExtendedEncoding(card).exchange(Command(0, 0xCB, 0x3F, 0xFF, b"\x5c", 65_536))
    assert card.sent == ["00A4040001A000", "00CB3FFF0000015C0000"]


def test_card_without_extended_apdu_is_sent_chains_and_one_with_it_is_not() -> None:
    plain, extended = ScriptedCard("9000", "9000"), ScriptedCard("9000", shape=EXTENDED_SHAPE)
    for card in (plain, extended):
        exchange_over(card).exchange(Command(0, 0x87, 7, 0x9E, bytes(260), 65_536))
    assert (len(plain.sent), len(extended.sent)) == (2, 1)


# T=0 (ISO/IEC 7816-3 12.2)

T0_CASES = [
    ("1", Command(0x00, 0x44, 0, 0), "0044000000"),
    ("2", Command(0x00, 0xC0, 0, 0, expected_size_max=16), "00C0000010"),
    ("2, 256", Command(0x00, 0xC0, 0, 0, expected_size_max=256), "00C0000000"),
    ("3", Command(0x00, 0x20, 0, 0x80, b"1234"), "002000800431323334"),
    ("4: its Le stays behind", Command(0x00, 0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC101"), 256), "00CB3FFF055C035FC101"),
]


@pytest.mark.parametrize(("case", "command", "encoded"), T0_CASES)
def test_t0_cases_are_encoded_as_five_bytes_and_the_data(case: str, command: Command, encoded: str) -> None:
    assert command.encode_t0().hex().upper() == encoded


def test_t0_encoding_refuses_256_bytes_of_data() -> None:
    with pytest.raises(ValueError, match="do not fit a TPDU"):
        Command(0, 0x87, 0, 0, bytes(256)).encode_t0()


def test_case_4_over_t0_is_fetched_by_get_response_of_the_size_that_61xx_names() -> None:
    card = ScriptedCard("6100", "AA" * 256 + "6102", "BBCC9000", shape=T0_SHAPE)
    command = Command(0, 0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC101"), 65_536)
    response = exchange_over(card).exchange(command)
    assert response == Response(b"\xaa" * 256 + b"\xbb\xcc", 0x9000)
    assert card.sent == ["00CB3FFF055C035FC101", "00C0000000", "00C0000002"]


def test_get_response_over_t0_is_repeated_with_the_size_that_6cxx_names() -> None:
    card = ScriptedCard("6100", "6C03", "AABBCC9000", shape=T0_SHAPE)
    assert exchange_over(card).exchange(Command(0, 0xA4, 4, 0, b"\xa0", 256)).data == bytes.fromhex("AABBCC")
    assert card.sent == ["00A4040001A0", "00C0000000", "00C0000003"]


def test_card_that_says_6cxx_twice_is_not_asked_a_third_time() -> None:
    card = ScriptedCard("6C03", "6C04", shape=T0_SHAPE)
    assert exchange_over(card).exchange(Command(0, 0xB0, 0, 0, expected_size_max=256)).status_word == 0x6C04
    assert card.sent == ["00B0000000", "00B0000003"]


def test_rsa_challenge_over_t0_is_two_chained_commands() -> None:
    card = ScriptedCard("9000", "6101", "EE9000", shape=T0_SHAPE)
    assert exchange_over(card).exchange(Command(0, 0x87, 7, 0x9E, bytes(266), 65_536)).data == b"\xee"
    assert [sent[:10] for sent in card.sent] == ["1087079EFF", "0087079E0B", "00C0000001"]
    assert len(card.sent[1]) == 2 * (5 + 11)


def test_reader_of_small_messages_is_given_commands_that_fit_and_asked_for_what_fits() -> None:
    card = ScriptedCard("9000", "9000", "9000", shape=CommandShape(ApduForm.SHORT, data_size_max=48, expected_size_max=52))
    exchange_over(card).exchange(Command(0, 0x87, 0x11, 0x9E, bytes(100), 65_536))
    assert [len(sent) // 2 for sent in card.sent] == [5 + 48, 5 + 48, 5 + 4 + 1]
    assert card.sent[-1].endswith("34")
