"""Random and mutated bytes into every parser: a value or a typed error comes out, nothing else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwkey import HwkeyError, SigningAlgorithm, public_key_of
from hwkey.apdu import (
    EXTENDED_SHAPE,
    SHORT_SHAPE,
    T0_SHAPE,
    Command,
    CommandShape,
    Response,
    decode_command,
    decode_response,
    exchange_over,
)
from hwkey.atr import decode_atr
from hwkey.ccid import CcidMessage, MessageType, answer, split_message
from hwkey.ccid_descriptor import decode_descriptor, refusal_of_descriptor
from hwkey.ccid_slot import CcidSlot, Done, State
from hwkey.emulated import PROFILES, EmulatedToken
from hwkey.emulated.applet import PivApplet
from hwkey.emulated.reader import EmulatedReader
from hwkey.piv import PivApplication, decode_certificate_object, decode_signature
from hwkey.tlv import Tlv, decode, encode

octets = st.binary(max_size=400)
tags = st.one_of(st.sampled_from([0x53, 0x70, 0x71, 0x7C, 0x81, 0x82, 0xFE, 0x5FC101]), st.integers(1, 0x1E))
TOKENS = {name: EmulatedToken.create(serial="fuzz", profile=name) for name in PROFILES}


class FuzzedCard:
    """Answers with what the fuzzer gave, then with 9000."""

    atr = b""

    def __init__(self, answers: list[bytes], shape: CommandShape) -> None:
        self.answers = answers
        self.shape = shape

    def transmit(self, command: bytes) -> bytes:
        return self.answers.pop(0) if self.answers else b"\x90\x00"

    def reset(self) -> None:
        self.answers.clear()

    def close(self) -> None:
        self.answers.clear()


@given(octets)
def test_tlv_decoder_gives_objects_or_a_typed_error(data: bytes) -> None:
    with suppress(HwkeyError):
        decode(data)


@given(st.lists(st.tuples(tags, octets)))
def test_encoded_tlvs_are_decoded_again(items: list[tuple[int, bytes]]) -> None:
    encoded = b"".join(encode(tag, value) for tag, value in items)
    assert decode(encoded) == [Tlv(tag, value) for tag, value in items]


@given(octets)
def test_apdu_decoders_give_a_value_or_a_typed_error(data: bytes) -> None:
    for decoder in (decode_command, decode_response, decode_atr):
        with suppress(HwkeyError):
            decoder(data)


@given(st.builds(Command, *[st.integers(0, 255)] * 4, st.binary(max_size=255), st.integers(0, 256)))
def test_every_short_command_is_read_back(command: Command) -> None:
    assert decode_command(command.encode_short()) == command


@given(st.builds(Command, *[st.integers(0, 255)] * 4, st.binary(max_size=700), st.integers(0, 65_536)))
def test_every_extended_command_is_read_back(command: Command) -> None:
    assert decode_command(command.encode_extended()) == command


@given(octets)
def test_descriptor_decoder_gives_a_value_or_a_typed_error(data: bytes) -> None:
    with suppress(HwkeyError):
        refusal_of_descriptor(decode_descriptor(data))


@given(st.binary(min_size=52, max_size=52))
def test_any_descriptor_of_the_right_shape_is_classified(body: bytes) -> None:
    refusal_of_descriptor(decode_descriptor(b"\x36\x21" + body))


@given(octets, st.integers(0, 300))
def test_message_splitter_gives_a_message_nothing_or_a_typed_error(data: bytes, size_max: int) -> None:
    with suppress(HwkeyError):
        split = split_message(data, size_max)
        assert split is None or split[0].encode() + split[1] == data


# Answers that get past the header, so that the machine behind it is reached.
likely_answers = st.builds(
    lambda kind, sequence, specific, data: CcidMessage(kind, 0, sequence, specific, data).encode(),
    st.sampled_from([0x80, 0x80, 0x80, 0x81, 0x82]),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.builds(lambda status, chain: bytes([status, 1, chain]), st.sampled_from([0, 0, 0, 0x80, 0x41]), st.sampled_from([0, 1, 2, 3, 0x10])),
    st.binary(max_size=20),
)


@given(st.lists(st.one_of(octets, likely_answers)), st.sampled_from(["power", "status", "short", "long"]), st.booleans())
def test_slot_ends_done_reads_on_or_raises_and_is_idle_after_an_error(
    reads: list[bytes], command: str, has_chaining: bool
) -> None:
    slot = CcidSlot(message_size_max=64, has_chaining=has_chaining)
    try:
        if command == "power":
            slot.power_on(0)
        elif command == "status":
            slot.slot_status()
        else:
            slot.transfer(bytes(200 if command == "long" else 5))
        for data in reads:
            if isinstance(slot.receive(data), Done):
                return
    except HwkeyError:
        assert slot.state is State.IDLE


@given(octets)
def test_piv_decoders_give_bytes_or_a_typed_error(data: bytes) -> None:
    for decoder in (decode_certificate_object, decode_signature):
        for candidate in (data, encode(0x53, data), encode(0x7C, data)):
            with suppress(HwkeyError):
                assert decoder(candidate)


@given(st.lists(st.tuples(tags, octets), max_size=4))
def test_piv_decoders_survive_well_formed_objects_of_any_content(items: list[tuple[int, bytes]]) -> None:
    body = b"".join(encode(tag, value) for tag, value in items)
    for decoder, tag in ((decode_certificate_object, 0x53), (decode_signature, 0x7C)):
        with suppress(HwkeyError):
            assert decoder(encode(tag, body))


@given(st.lists(st.one_of(octets, octets.map(lambda data: data + b"\x90\x00"), octets.map(lambda data: data + b"\x61\x00"))), st.sampled_from([SHORT_SHAPE, EXTENDED_SHAPE, T0_SHAPE]))
def test_piv_over_a_lying_card_gives_a_value_or_a_typed_error(answers: list[bytes], shape: CommandShape) -> None:
    piv = PivApplication(exchange_over(FuzzedCard(answers, shape)))
    for call in (piv.select, piv.read_certificate, lambda: piv.sign(SigningAlgorithm.RSA2048, bytes(32))):
        with suppress(HwkeyError):
            call()


@pytest.mark.filterwarnings("ignore")  # the library deprecates some of what a mutation says
@given(st.data())
def test_mutated_certificate_gives_a_public_key_or_a_typed_error(data: st.DataObject) -> None:
    certificate = bytearray(TOKENS["yubikey5-like"].certificate_der)
    for _ in range(data.draw(st.integers(1, 4))):
        certificate[data.draw(st.integers(0, len(certificate) - 1))] = data.draw(st.integers(0, 255))
    with suppress(HwkeyError):
        public_key_of(bytes(certificate))


@given(st.sampled_from(sorted(PROFILES)), st.lists(octets))
def test_applet_answers_anything_with_a_status_word(profile: str, commands: list[bytes]) -> None:
    token = TOKENS[profile]
    applet = PivApplet(token.profile, token.certificate_der, token, token.faults)
    applet.exchange(bytes.fromhex("00A404000BA00000030800001000010000"))
    for command in commands:
        assert isinstance(decode_response(applet.exchange(command)), Response)


@given(st.sampled_from(sorted(PROFILES)), st.lists(st.binary(max_size=64)))
def test_reader_takes_any_packets_and_sends_only_packets(profile: str, packets: list[bytes]) -> None:
    token = TOKENS[profile]
    reader = EmulatedReader(token.profile, PivApplet(token.profile, token.certificate_der, token, token.faults), token.faults)
    for packet in packets:
        reader.receive(packet)
    assert all(len(packet.data) <= 64 for packet in reader.packets)


@given(st.integers(0, 255), octets)
def test_answers_of_the_reader_side_are_read_by_the_driver_side(sequence: int, data: bytes) -> None:
    sent = answer(MessageType.DATA_BLOCK, CcidMessage(MessageType.XFR_BLOCK, 0, sequence), data=data)
    assert split_message(sent.encode(), 400) == (sent, b"")
