"""The vendor's side of licences on a key: the 9E certificate that carries them.

The certificate is signed with the vendor's own key, has the security key's public key as its subject and no meaningful end
(RFC 5280 section 4.1.2.5): the licences in it have periods of their own. It is made from the key's public key, or from its
present certificate, whose licences it keeps. Raises `VendorError`.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key, load_pem_public_key
from cryptography.x509.oid import NameOID

from broker.licence import bounds
from broker.licence.errors import VendorError
from broker.licence.folder import judge
from broker.licence.issue import Vendor
from broker.licence.on_key import carried_documents, licence_extension
from broker.licence.refusal import RefusalReason

_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)

KeyOfToken = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class TokenFile:
    """What a file says of a security key: its public key, and the licences on it if it is a certificate."""

    public: KeyOfToken
    documents: tuple[str, ...] = ()


def read_token_file(data: bytes, source: str) -> TokenFile:
    """A public key or certificate, PEM or DER, as the tools of token makers write them. `source` names it in sentences."""
    is_certificate, public, der = False, None, data
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            der = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
            is_certificate = True
        elif b"-----BEGIN" in data:
            public = load_pem_public_key(data)
        else:
            is_certificate = _is_certificate(data)
            public = None if is_certificate else load_der_public_key(data)
        if is_certificate:
            public = x509.load_der_x509_certificate(der).public_key()
            documents = tuple(one.decode("ascii") for one in carried_documents(der))
        else:
            documents = ()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise VendorError(
            f"{source} is neither a public key nor a certificate of a security key: {error}", path=source
        ) from None
    if not isinstance(public, KeyOfToken):
        raise VendorError(f"{source} holds a key that cannot sign a proof", path=source)
    return TokenFile(public, documents)


def issue_certificate(
    vendor: Vendor, public: KeyOfToken, documents: Sequence[str], issued_unix_s: int
) -> x509.Certificate:
    """The 9E certificate of the key with a public key, carrying licence documents."""
    if len(documents) > bounds.CARRIED_COUNT_MAX:
        raise VendorError(f"a key carries at most {bounds.CARRIED_COUNT_MAX} licences; give the others as files")
    _check_together(vendor, documents)
    # Emulated keys and what test vendors sign must say so wherever they are looked at.
    subject = "EMULATED seat key" if vendor.entry.is_test else "Seat key"
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(vendor.entry.vendor))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(issued_unix_s, datetime.UTC))
        .not_valid_after(_END)
        .add_extension(licence_extension(documents), critical=False)
        .sign(vendor.private, None)
    )
    size = len(certificate.public_bytes(Encoding.DER))
    if size > bounds.CERTIFICATE_SIZE_MAX:
        raise VendorError(
            f"the certificate would have {size} bytes, and tokens take at most {bounds.CERTIFICATE_SIZE_MAX}: give some of its"
            f" {len(documents)} licences as files, or start from the public key to leave the old ones out"
        )
    return certificate


def _check_together(vendor: Vendor, documents: Sequence[str]) -> None:
    """That no licence of the vendor on the key hinders another; what others signed is not for this vendor to judge."""
    reading = judge([(f"licence {n}", one.encode()) for n, one in enumerate(documents, 1)], vendor.trust)
    for refusal in reading.refused:
        if refusal.reason in (RefusalReason.ID_CONFLICT, RefusalReason.COPY):
            raise VendorError(f"no broker would accept what this key would carry: {refusal.sentence}")


def _is_certificate(data: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        return False
    return True


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
