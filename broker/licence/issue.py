"""The vendor's side: a vendor key pair, and licences signed with it.

A vendor directory holds two files: `vendor.pem`, the Ed25519 private key (PKCS #8, mode 0600, never to leave the
vendor), and `vendor.jwks.json`, its public JWK Set with name and product ids, which is what a broker's admin adds to the
trust file. The key id is the RFC 7638 thumbprint of the public key (RFC 8037 appendix A.3).
Whatever is issued is read back with the broker's own reader first, so that no vendor can hand out a licence that brokers
will refuse. Wall time and licence ids are arguments. Raises `VendorError`.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from broker.licence.compact import LICENCE_ALGORITHM, seal
from broker.licence.document import read_licence
from broker.licence.errors import TrustFileError, VendorError
from broker.licence.refusal import Refusal
from broker.licence.strict import encode_base64url
from broker.licence.terms import LicenceTerms, terms_claim
from broker.licence.trust import TrustEntry, TrustFile

PRIVATE_FILE: Final = "vendor.pem"
PUBLIC_FILE: Final = "vendor.jwks.json"


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor who can sign. `trust_path` is the file to give to admins; `private_path` is the one to guard."""

    entry: TrustEntry
    private: Ed25519PrivateKey
    private_path: Path
    trust_path: Path

    @property
    def trust(self) -> TrustFile:
        """The trust file that believes this vendor only."""
        return TrustFile((self.entry,))


def create_vendor(directory: Path, name: str, products: Iterable[str], *, is_test: bool = False) -> Vendor:
    """Makes a vendor key pair in a directory, which is created; an existing key pair is never overwritten."""
    private = Ed25519PrivateKey.generate()
    entry_json = _jwk(private.public_key(), name, products, is_test)
    # A name that is no UTF-8 passes here, to be refused by name when the entry is read back below.
    document = (json.dumps({"keys": [entry_json]}, indent=2, ensure_ascii=False) + "\n").encode(
        errors="surrogatepass"
    )
    private_path, trust_path = directory / PRIVATE_FILE, directory / PUBLIC_FILE
    entry = _own_entry(document, str(trust_path))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write_new(private_path, pem, 0o600)
        _write_new(trust_path, document, 0o644)
    except FileExistsError as error:
        raise VendorError(
            f"{error.filename} exists already: a vendor key is never overwritten, because every licence that it signed"
            " would become worthless; choose another directory",
            path=str(error.filename),
        ) from None
    except OSError as error:
        raise VendorError(
            f"{error.filename} cannot be written: {error.strerror}", path=str(error.filename)
        ) from error
    return Vendor(entry, private, private_path, trust_path)


def load_vendor(directory: Path) -> Vendor:
    """The vendor that `create_vendor` made in a directory."""
    private_path, trust_path = directory / PRIVATE_FILE, directory / PUBLIC_FILE
    try:
        private = load_pem_private_key(private_path.read_bytes(), password=None)
        document = trust_path.read_bytes()
    except OSError as error:
        sentence = f"{error.filename} cannot be read: {error.strerror}; make a vendor there first"
        raise VendorError(sentence, path=str(error.filename)) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise VendorError(
            f"{private_path} holds no usable private key: {error}", path=str(private_path)
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise VendorError(
            f"{private_path} is not an Ed25519 key, the only kind that signs licences", path=str(private_path)
        )
    entry = _own_entry(document, str(trust_path))
    if entry.public_raw != _raw(private.public_key()):
        raise VendorError(
            f"{trust_path} does not belong to {private_path}: they are different keys", path=str(trust_path)
        )
    return Vendor(entry, private, private_path, trust_path)


def issue_licence(
    vendor: Vendor,
    *,
    licence_id: str,
    product: str,
    seats: int,
    thumbprint: str,
    issued_unix_s: int,
    not_before_unix_s: int | None = None,
    expires_unix_s: int | None = None,
    customer: str = "",
    terms: LicenceTerms | None = None,
) -> str:
    """A signed licence, bound to the security key with a thumbprint.

    `not_before_unix_s` None: valid from its issue on; `expires_unix_s` None: perpetual. A test vendor's licence is
    marked `env: test` by itself.
    """
    claims: dict[str, Any] = {
        "iss": vendor.entry.vendor,
        "jti": licence_id,
        "iat": issued_unix_s,
        "nbf": issued_unix_s if not_before_unix_s is None else not_before_unix_s,
        "product": product,
        "seats": seats,
        "cnf": {"jkt": thumbprint},
    }
    optional: dict[str, Any] = {
        "exp": expires_unix_s,
        "sub": customer or None,
        "env": "test" if vendor.entry.is_test else None,
        "terms": terms_claim(terms or LicenceTerms()) or None,
    }
    claims |= {name: value for name, value in optional.items() if value is not None}
    document = seal(json.dumps(claims, separators=(",", ":")).encode(), vendor.private, vendor.entry.kid)
    verdict = read_licence(document, vendor.trust)
    if isinstance(verdict, Refusal):
        raise VendorError(f"no broker would accept this licence: {verdict.sentence}")
    return document


def _jwk(public: Ed25519PublicKey, name: str, products: Iterable[str], is_test: bool) -> dict[str, Any]:
    x = encode_base64url(_raw(public))
    required = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": x,
        "kid": encode_base64url(hashlib.sha256(required.encode()).digest()),
        "use": "sig",
        "alg": LICENCE_ALGORITHM,
        "usher_vendor": name,
        "usher_products": sorted(set(products)),
    } | ({"usher_env": "test"} if is_test else {})


def _own_entry(document: bytes, source: str) -> TrustEntry:
    try:
        entries = TrustFile.parse(document, source).entries
    except TrustFileError as error:
        raise VendorError(str(error), path=source) from None
    if len(entries) != 1:
        raise VendorError(f"{source} holds {len(entries)} keys; a vendor's own file holds one", path=source)
    return entries[0]


def _raw(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Writes a file that does not exist yet; `FileExistsError` if it does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
