"""PIV commands in hex, the certificate object in its forms, and the applet id's order."""

from __future__ import annotations

import gzip

import pytest

from hwkey import NotAPivKey, ProtocolError, SigningAlgorithm, StatusWordError
from hwkey.apdu import Command, Response
from hwkey.piv import (
    CERTIFICATE_SIZE_MAX,
    PivApplication,
    challenge_for,
    decode_certificate_object,
    decode_signature,
)
from hwkey.tlv import encode

DIGEST = bytes(range(32))


class ScriptedExchange:
    """Gives prepared responses and keeps the commands."""

    def __init__(self, *responses: Response) -> None:
        self.responses = list(responses)
        self.commands: list[Command] = []

    def exchange(self, command: Command) -> Response:
        self.commands.append(command)
        return self.responses.pop(0)


def certificate_object(*items: tuple[int, bytes]) -> bytes:
    return encode(0x53, b"".join(encode(tag, value) for tag, value in items))


def test_select_tries_the_full_id_first_and_then_the_prefix() -> None:
    exchange = ScriptedExchange(Response(b"", 0x6A82), Response(b"", 0x9000))
    PivApplication(exchange).select()
    assert [command.data.hex() for command in exchange.commands] == ["a000000308000010000100", "a000000308"]


def test_select_stops_at_the_full_id_when_it_is_taken() -> None:
    exchange = ScriptedExchange(Response(b"", 0x9000))
    PivApplication(exchange).select()
    assert len(exchange.commands) == 1


def test_card_that_knows_neither_id_is_no_piv_key() -> None:
    with pytest.raises(NotAPivKey, match="no PIV applet"):
        PivApplication(ScriptedExchange(*[Response(b"", 0x6A82)] * 2)).select()


def test_certificate_is_asked_for_by_its_object_id() -> None:
    exchange = ScriptedExchange(Response(certificate_object((0x70, b"CERT"), (0x71, b"\x00"), (0xFE, b"")), 0x9000))
    assert PivApplication(exchange).read_certificate() == b"CERT"
    assert exchange.commands[0].header.hex() == "00cb3fff"
    assert exchange.commands[0].data.hex() == "5c035fc101"


def test_empty_slot_is_no_piv_key_and_another_refusal_is_told_as_it_is() -> None:
    with pytest.raises(NotAPivKey, match="no certificate"):
        PivApplication(ScriptedExchange(Response(b"", 0x6A82))).read_certificate()
    with pytest.raises(StatusWordError):
        PivApplication(ScriptedExchange(Response(b"", 0x6982))).read_certificate()


def test_compressed_certificate_is_inflated() -> None:
    assert decode_certificate_object(certificate_object((0x70, gzip.compress(b"CERT" * 99)), (0x71, b"\x01"))) == b"CERT" * 99


def test_certificate_object_without_a_certificate_is_no_piv_key() -> None:
    for empty in (certificate_object(), certificate_object((0x70, b""))):
        with pytest.raises(NotAPivKey):
            decode_certificate_object(empty)


@pytest.mark.parametrize(
    "compressed",
    [b"not gzip", gzip.compress(b"CERT")[:-9], gzip.compress(bytes(CERTIFICATE_SIZE_MAX + 1))],
    ids=["garbage", "cut short", "a bomb"],
)
def test_broken_compression_is_a_protocol_error_of_bounded_size(compressed: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_certificate_object(certificate_object((0x70, compressed), (0x71, b"\x01")))


def test_general_authenticate_on_9e_is_built_as_in_sp_800_73() -> None:
    exchange = ScriptedExchange(Response(bytes.fromhex("7C0482023000"), 0x9000))
    assert PivApplication(exchange).sign(SigningAlgorithm.P256, DIGEST) == bytes.fromhex("3000")
    command = exchange.commands[0]
    assert command.header.hex() == "0087119e"
    assert command.data == bytes.fromhex("7C2482008120") + DIGEST


@pytest.mark.parametrize(
    ("algorithm", "identifier"),
    [
        (SigningAlgorithm.RSA2048, 0x07),
        (SigningAlgorithm.P256, 0x11),
        (SigningAlgorithm.P384, 0x14),
        (SigningAlgorithm.ED25519, 0xE0),
    ],
)
def test_algorithm_identifiers_are_those_of_sp_800_78(algorithm: SigningAlgorithm, identifier: int) -> None:
    exchange = ScriptedExchange(Response(bytes.fromhex("7C03820155"), 0x9000))
    PivApplication(exchange).sign(algorithm, DIGEST)
    assert exchange.commands[0].p1 == identifier


def test_rsa_challenge_is_emsa_pkcs1_v1_5_of_the_digest() -> None:
    padded = challenge_for(SigningAlgorithm.RSA2048, DIGEST)
    assert len(padded) == 256
    assert padded == b"\x00\x01" + b"\xff" * 202 + b"\x00" + bytes.fromhex("3031300d060960864801650304020105000420") + DIGEST


def test_digest_for_p384_is_filled_up_to_the_curve_with_leading_zeros() -> None:
    assert challenge_for(SigningAlgorithm.P384, DIGEST) == bytes(16) + DIGEST
    assert challenge_for(SigningAlgorithm.ED25519, DIGEST) == DIGEST


@pytest.mark.parametrize("broken", ["", "7C00", "7C028200", "530482023000", "7C0481023000"])
def test_answer_without_a_signature_is_a_protocol_error(broken: str) -> None:
    with pytest.raises(ProtocolError):
        decode_signature(bytes.fromhex(broken))
