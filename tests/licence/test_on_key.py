"""Licences on the key itself: the certificate that carries them, and what hostile certificates come to."""

import datetime
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from broker.licence import (
    Refusal,
    RefusalReason,
    TrustFile,
    Vendor,
    VendorError,
    examine_carried,
    inspect_licence,
    issue_certificate,
    read_token_file,
)
from broker.licence.bounds import CERTIFICATE_SIZE_SURE
from broker.licence.certificate import KeyOfToken
from broker.licence.document import Licence
from broker.licence.folder import FolderContent
from broker.licence.on_key import EXTENSION_ID, carried_documents, licence_extension
from hwkey import public_key_of, thumbprint_of

from .conftest import NOW_UNIX_S

Make = Callable[..., str]

KEYS: dict[str, KeyOfToken] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()).public_key(),
    "P-384": ec.generate_private_key(ec.SECP384R1()).public_key(),
    "RSA-2048": rsa.generate_private_key(65537, 2048).public_key(),
    "Ed25519": ed25519.Ed25519PrivateKey.generate().public_key(),
}
TOKEN = KEYS["P-256"]
THUMBPRINT = thumbprint_of(TOKEN)


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def raw_certificate(value: bytes | None, oid: x509.ObjectIdentifier = EXTENSION_ID) -> bytes:
    """A certificate that anybody could make, with an extension of any bytes."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    builder = builder.not_valid_after(datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC))
    if value is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return der_of(builder.sign(private, hashes.SHA256()))


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_certificate_carries_what_was_issued_and_is_the_keys(
    algorithm: str, issue: Make, vendor: Vendor, trust: TrustFile
) -> None:
    public = KEYS[algorithm]
    thumbprint = thumbprint_of(public)
    certificate = issue_certificate(vendor, public, [issue(thumbprint=thumbprint)], NOW_UNIX_S)
    assert thumbprint_of(public_key_of(der_of(certificate))) == thumbprint
    vendor.entry.public.verify(certificate.signature, certificate.tbs_certificate_bytes)
    ((source, examination),) = examine_carried(der_of(certificate), thumbprint, trust).examined
    assert isinstance(examination.verdict, Licence)
    assert (examination.verdict.licence_id, examination.verdict.seats) == ("L-1", 10)
    assert source == f"on key {thumbprint[:11]}, 1"


def test_two_licences_fit_every_token_and_too_many_are_refused_at_issue(issue: Make, vendor: Vendor) -> None:
    documents = [issue(thumbprint=THUMBPRINT, licence_id=f"L-{number}") for number in range(17)]
    assert len(der_of(issue_certificate(vendor, TOKEN, documents[:2], NOW_UNIX_S))) <= CERTIFICATE_SIZE_SURE
    with pytest.raises(VendorError, match="as files"):
        issue_certificate(vendor, TOKEN, documents[:10], NOW_UNIX_S)
    with pytest.raises(VendorError, match="at most 16"):
        issue_certificate(vendor, TOKEN, documents, NOW_UNIX_S)


def test_licences_that_hinder_each_other_are_not_written_on_one_key(issue: Make, vendor: Vendor) -> None:
    for second in (issue(thumbprint=THUMBPRINT, seats=20), issue(thumbprint=THUMBPRINT)):
        with pytest.raises(VendorError, match="no broker would accept what this key would carry"):
            issue_certificate(vendor, TOKEN, [issue(thumbprint=THUMBPRINT), second], NOW_UNIX_S)


def test_test_vendors_certificate_says_that_it_is_emulated(issue: Make, test_vendor: Vendor) -> None:
    certificate = issue_certificate(test_vendor, TOKEN, [issue(test_vendor, thumbprint=THUMBPRINT)], NOW_UNIX_S)
    assert "EMULATED" in certificate.subject.rfc4514_string()


def test_licence_of_another_key_is_refused_by_name_and_cannot_push_one_out(
    issue: Make, vendor: Vendor, trust: TrustFile
) -> None:
    other = thumbprint_of(KEYS["Ed25519"])
    stray = issue(thumbprint=other, seats=99)
    certificate = issue_certificate(vendor, TOKEN, [stray], NOW_UNIX_S)
    carried = examine_carried(der_of(certificate), THUMBPRINT, trust)
    genuine = examine_carried(
        der_of(issue_certificate(vendor, KEYS["Ed25519"], [issue(thumbprint=other)], NOW_UNIX_S)), other, trust
    )
    reading = FolderContent().judged([carried, genuine])
    assert [one.seats for one in reading.accepted] == [10]
    assert [(one.reason, one.licence_id) for one in reading.refused] == [(RefusalReason.WRONG_KEY, "L-1")]
    verdict = inspect_licence(stray, trust, NOW_UNIX_S, on_key=THUMBPRINT).verdict
    assert isinstance(verdict, Refusal)
    assert verdict.reason is RefusalReason.WRONG_KEY


def test_licence_on_its_key_and_in_a_file_counts_once(issue: Make, vendor: Vendor, trust: TrustFile) -> None:
    document = issue(thumbprint=THUMBPRINT)
    carried = examine_carried(der_of(issue_certificate(vendor, TOKEN, [document], NOW_UNIX_S)), THUMBPRINT, trust)
    in_file = FolderContent(tuple((f"{name}.jwt", examined) for name, (_, examined) in zip("a", carried.examined, strict=True)))
    reading = in_file.judged([carried])
    assert [one.file for one in reading.accepted] == ["a.jwt"]
    assert [(one.reason, one.file) for one in reading.refused] == [
        (RefusalReason.COPY, f"on key {THUMBPRINT[:11]}, 1")
    ]


def test_certificate_without_the_extension_carries_nothing(trust: TrustFile) -> None:
    for der in (raw_certificate(None), raw_certificate(b"x", x509.ObjectIdentifier("1.2.3.4"))):
        assert carried_documents(der) == ()
        assert examine_carried(der, THUMBPRINT, trust).is_empty


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "is not a sequence"),
        (b"\x30\x00", "holds no licence"),
        (b"\x30", "is not a sequence"),
        (b"\x31\x00", "is not a sequence"),
        (b"\x30\x05\x16\x01a", "is cut short"),
        (b"\x30\x03\x16\x05a", "is cut short"),
        (b"\x30\x03\x16\x01a!", "bytes behind"),
        (b"\x30\x80\x16\x01a\x00\x00", "is not in DER"),
        (b"\x30\x81\x03\x16\x01a", "is not in DER"),
        (b"\x30\x84\xff\xff\xff\xff", "is not in DER"),
        (b"\x30\x82", "is not in DER"),
        (b"\x30\x33" + b"\x16\x01a" * 17, "more than 16"),
        (b"\x30\x03\x0c\x01a", "is not a sequence of strings"),
    ],
)
def test_broken_extension_is_refused_in_words(trust: TrustFile, value: bytes, complaint: str) -> None:
    carried = examine_carried(raw_certificate(value), THUMBPRINT, trust)
    assert carried.examined == ()
    assert carried.refusal is not None
    assert carried.refusal.reason is RefusalReason.MALFORMED
    assert complaint in carried.refusal.sentence
    assert FolderContent().judged([carried]).refused == (carried.refusal,)


def test_hostile_documents_on_a_key_have_the_refusals_of_files(trust: TrustFile) -> None:
    value = licence_extension(["rubbish", "x" * 20_000, "e30.e30.e30"]).value
    carried = examine_carried(raw_certificate(value), THUMBPRINT, trust)
    reading = FolderContent().judged([carried])
    assert [one.reason for one in reading.refused] == [
        RefusalReason.MALFORMED,
        RefusalReason.TOO_LARGE,
        RefusalReason.WRONG_TYPE,
    ]


@given(st.binary(max_size=300))
def test_no_extension_and_no_certificate_raises(data: bytes) -> None:
    genuine = raw_certificate(data)
    for der in (genuine, data, genuine[: len(data)], data + genuine):
        carried = examine_carried(der, THUMBPRINT, TrustFile())
        assert all(isinstance(one.verdict, Refusal) for _, one in carried.examined)


# --- the file that a vendor is given ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_public_key_is_read_as_the_tools_write_it(algorithm: str) -> None:
    for encoding in (Encoding.PEM, Encoding.DER):
        data = KEYS[algorithm].public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        token = read_token_file(data, "public.pem")
        assert (thumbprint_of(token.public), token.documents) == (thumbprint_of(KEYS[algorithm]), ())


def test_certificate_is_read_with_the_licences_on_it(issue: Make, vendor: Vendor) -> None:
    documents = (issue(thumbprint=THUMBPRINT), issue(thumbprint=THUMBPRINT, licence_id="L-2"))
    certificate = issue_certificate(vendor, TOKEN, documents, NOW_UNIX_S)
    for encoding in (Encoding.PEM, Encoding.DER):
        token = read_token_file(certificate.public_bytes(encoding), "certificate.pem")
        assert (thumbprint_of(token.public), token.documents) == (THUMBPRINT, documents)


def test_file_that_is_no_key_is_named(vendor: Vendor) -> None:
    exchange = x25519.X25519PrivateKey.generate().public_key()
    for data, complaint in (
        (b"rubbish", "neither a public key nor a certificate"),
        (b"-----BEGIN CERTIFICATE-----\nrubbish", "neither a public key nor a certificate"),
        (b"-----BEGIN PUBLIC KEY-----\nrubbish", "neither a public key nor a certificate"),
        (vendor.private_path.read_bytes(), "neither a public key nor a certificate"),
        (raw_certificate(b"x"), "neither a public key nor a certificate"),
        (exchange.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "cannot sign"),
    ):
        with pytest.raises(VendorError, match=complaint) as caught:
            read_token_file(data, "some.pem")
        assert caught.value.path == "some.pem"
