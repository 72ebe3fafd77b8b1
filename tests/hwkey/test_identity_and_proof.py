"""Thumbprints against the vectors of the RFCs, and the proof message byte by byte."""

from __future__ import annotations

import base64
import datetime
import hashlib
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from hwkey import (
    Challenge,
    NotAPivKey,
    ProofRejected,
    SigningAlgorithm,
    Unsupported,
    public_key_of,
    thumbprint_of,
    verify_signature,
)
from hwkey.emulated import EmulatedToken
from hwkey.identity import thumbprint_bytes
from hwkey.piv import challenge_for

RFC_7638_MODULUS = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst"
    "n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n9"
    "1CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)


def number(text: str) -> int:
    return int.from_bytes(raw(text), "big")


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def p256(x: str, y: str) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicNumbers(number(x), number(y), ec.SECP256R1()).public_key()


def test_rsa_thumbprint_is_that_of_rfc_7638_section_3_1() -> None:
    public_key = rsa.RSAPublicNumbers(65_537, number(RFC_7638_MODULUS)).public_key()
    assert thumbprint_of(public_key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_ec_thumbprint_is_that_of_the_dpop_key_in_rfc_9449_section_6_1() -> None:
    public_key = p256("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA")
    assert thumbprint_of(public_key) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_ec_thumbprint_of_the_key_in_rfc_7517_appendix_a_1() -> None:
    public_key = p256("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM")
    assert thumbprint_of(public_key) == "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"


def test_ed25519_thumbprint_is_that_of_rfc_8037_appendix_a_3() -> None:
    public_key = ed25519.Ed25519PublicKey.from_public_bytes(raw("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
    assert thumbprint_of(public_key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_coordinate_with_a_leading_zero_keeps_its_full_size() -> None:
    private = next(
        candidate
        for candidate in (ec.derive_private_key(scalar, ec.SECP256R1()) for scalar in range(1, 5_000))
        if candidate.public_key().public_numbers().x >> 248 == 0
    )
    point = private.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(value.to_bytes(32, "big")).decode().rstrip("=") for value in (point.x, point.y))
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    assert thumbprint_bytes(thumbprint_of(private.public_key())) == hashlib.sha256(canonical.encode()).digest()


@pytest.mark.parametrize("broken", ["", "A" * 42, "A" * 44, "A" * 42 + "B", "*" * 43, "é" * 43])
def test_thumbprint_in_any_but_its_canonical_spelling_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match="43 characters"):
        thumbprint_bytes(broken)


def certificate_of(private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private_key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(1))
    return builder.sign(private_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_algorithms_outside_the_list_are_unsupported() -> None:
    for private_key in (ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65_537, 1024)):
        with pytest.raises(Unsupported) as caught:
            public_key_of(certificate_of(private_key))
        assert caught.value.reason == "algorithm"


@pytest.mark.parametrize("broken", [b"", b"\x30\x00", b"not a certificate"])
def test_certificate_that_can_not_be_read_is_no_piv_key(broken: bytes) -> None:
    with pytest.raises(NotAPivKey):
        public_key_of(broken)


# The proof

THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def challenge(**changes: object) -> Challenge:
    values = {"purpose": "presence", "broker_id": "b1", "nonce": bytes(range(32)), "thumbprint": THUMBPRINT}
    return Challenge(**(values | changes))  # type: ignore[arg-type]


def test_proof_message_is_laid_out_as_the_head_comment_says() -> None:
    assert challenge().message == (
        b"usher-proof-v1" + b"\x08presence" + b"\x02b1" + bytes(range(32)) + raw(THUMBPRINT)
    )
    assert challenge().digest == hashlib.sha256(challenge().message).digest()


def test_digest_of_a_fixed_challenge_never_changes() -> None:
    assert challenge().digest.hex() == "58ae3ab027aa19d6e2ab29872daac519b36ac806038fa57fda891e4133649cf1"


def test_moving_a_character_between_purpose_and_broker_id_changes_the_message() -> None:
    assert challenge(purpose="ab", broker_id="c").message != challenge(purpose="a", broker_id="bc").message


@pytest.mark.parametrize(
    "wrong", [{"nonce": bytes(31)}, {"nonce": bytes(33)}, {"purpose": ""}, {"broker_id": "é" * 128}, {"thumbprint": "x"}]
)
def test_part_of_a_wrong_size_is_our_own_mistake(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each part has its own sentence
        challenge(**wrong)


@pytest.fixture(scope="module", params=list(SigningAlgorithm), ids=lambda algorithm: algorithm.value)
def token(request: pytest.FixtureRequest) -> EmulatedToken:
    return EmulatedToken.create(serial="T1", algorithm=request.param)


def signed(token: EmulatedToken, asked: Challenge) -> bytes:
    return token.sign_raw(challenge_for(token.algorithm, asked.digest))


def test_signature_over_the_challenge_is_a_proof(token: EmulatedToken) -> None:
    asked = challenge(thumbprint=token.thumbprint)
    proof = verify_signature(asked, signed(token, asked), token.public_key)
    assert (proof.challenge, proof.algorithm) == (asked, token.algorithm)


def test_signature_over_any_other_part_is_rejected(token: EmulatedToken) -> None:
    asked = challenge(thumbprint=token.thumbprint)
    for changes in ({"purpose": "other"}, {"broker_id": "b2"}, {"nonce": bytes(32)}):
        with pytest.raises(ProofRejected):
            verify_signature(replace(asked, **changes), signed(token, asked), token.public_key)


def test_flipped_empty_and_long_signatures_are_rejected(token: EmulatedToken) -> None:
    asked = challenge(thumbprint=token.thumbprint)
    sound = signed(token, asked)
    for broken in (b"", sound[:-1], sound + b"\x00", bytes([sound[0] ^ 1]) + sound[1:]):
        with pytest.raises(ProofRejected):
            verify_signature(asked, broken, token.public_key)


def test_signature_of_another_key_is_rejected(token: EmulatedToken) -> None:
    asked = challenge(thumbprint=token.thumbprint)
    forged = token.sign_raw_by_another(challenge_for(token.algorithm, asked.digest))
    with pytest.raises(ProofRejected) as caught:
        verify_signature(asked, forged, token.public_key)
    assert caught.value.thumbprint == token.thumbprint


def test_public_key_other_than_the_one_named_is_rejected_even_with_its_own_signature(token: EmulatedToken) -> None:
    asked = challenge(thumbprint=THUMBPRINT)
    with pytest.raises(ProofRejected, match="another public key"):
        verify_signature(asked, signed(token, asked), token.public_key)
