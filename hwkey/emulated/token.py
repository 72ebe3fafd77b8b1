"""An emulated security key's identity: its private key, certificate, profile and serial, in memory and on disk.

On disk a token is a directory, so that its identity survives restarts and a licence stays bound to it:

    private.pem        PKCS 8, unencrypted, mode 0600
    certificate.der    the 9E certificate; self-signed unless a vendor has put another in its place
    token.json         {"serial": "...", "profile": "...", "algorithm": "..."}

The certificate's subject says EMULATED; no production trust file holds the vendor of such keys. Values after
construction, except for the fault script, which is thread-safe.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID

from hwkey.emulated.faults import FaultScript
from hwkey.emulated.profile import PROFILES, Profile
from hwkey.errors import HwkeyError, TokenStoreError
from hwkey.identity import (
    RSA_MODULUS_SIZE,
    PublicKey,
    SigningAlgorithm,
    algorithm_of,
    public_key_of,
    thumbprint_of,
)
from hwkey.piv import ALGORITHM_IDS, HASH_SIZES

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

PRIVATE_FILE, CERTIFICATE_FILE, TOKEN_FILE = "private.pem", "certificate.der", "token.json"
SERIAL_LENGTH_MAX = 64
# RFC 5280 4.1.2.5: a certificate without a meaningful end. A token has no clock and its maker needs none.
NOT_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class EmulatedToken:
    """One token; make it with `create` or `load`. `serial` is for display, as on a real key."""

    serial: str
    profile: Profile
    private_key: PrivateKey = field(repr=False)
    certificate_der: bytes = field(repr=False)
    faults: FaultScript = field(default_factory=FaultScript, compare=False, repr=False)

    @classmethod
    def create(
        cls,
        *,
        serial: str,
        profile: str = "yubikey5-like",
        algorithm: SigningAlgorithm = SigningAlgorithm.P256,
    ) -> EmulatedToken:
        """A new token with a fresh private key; ValueError for an unknown profile or an unusable serial."""
        if profile not in PROFILES:
            raise ValueError(f"no profile {profile!r}; there are {', '.join(sorted(PROFILES))}")
        if not 0 < len(serial) <= SERIAL_LENGTH_MAX or not serial.isprintable():
            raise ValueError(f"a serial is 1 to {SERIAL_LENGTH_MAX} printable characters")
        private_key = _generate(algorithm)
        certificate_der = _self_signed(private_key, serial)
        return cls(serial, PROFILES[profile], private_key, certificate_der, _script_of(PROFILES[profile], serial))

    @classmethod
    def load(cls, directory: Path) -> EmulatedToken:
        """Read a token back; raises TokenStoreError that names the file at fault."""
        described = _read_description(directory / TOKEN_FILE)
        private_key = _read_private_key(directory / PRIVATE_FILE)
        certificate_der = _read(directory / CERTIFICATE_FILE)
        try:
            is_matching = thumbprint_of(public_key_of(certificate_der)) == thumbprint_of(private_key.public_key())
        except HwkeyError as error:
            raise TokenStoreError(path=str(directory / CERTIFICATE_FILE), detail=str(error)) from error
        if not is_matching:
            raise TokenStoreError(path=str(directory / CERTIFICATE_FILE), detail="it is of another private key")
        serial, profile = described["serial"], PROFILES[described["profile"]]
        return cls(serial, profile, private_key, certificate_der, _script_of(profile, serial))

    def save(self, directory: Path) -> None:
        """Write the token into a directory, making it; raises TokenStoreError."""
        described = {"serial": self.serial, "profile": self.profile.name, "algorithm": self.algorithm.value}
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_private(directory / PRIVATE_FILE, _pem_of(self.private_key))
            (directory / CERTIFICATE_FILE).write_bytes(self.certificate_der)
            _write_last(directory / TOKEN_FILE, json.dumps(described, indent=2) + "\n")
        except OSError as error:
            raise TokenStoreError(path=str(directory), detail=error.strerror or str(error)) from error

    @property
    def public_key(self) -> PublicKey:
        """The public half of the 9E key."""
        return self.private_key.public_key()

    @property
    def algorithm(self) -> SigningAlgorithm:
        """The algorithm of the 9E key."""
        return algorithm_of(self.public_key)

    @property
    def thumbprint(self) -> str:
        """Its identity, as the driver will find it: what a licence is bound to."""
        return thumbprint_of(self.public_key)

    def clone(self, *, serial: str) -> EmulatedToken:
        """Another token with the same private key and certificate: what a broker must find out."""
        return replace(self, serial=serial, faults=_script_of(self.profile, serial))

    @property
    def algorithm_id(self) -> int:
        """PIV algorithm identifier of the 9E key (`applet.CardSigner`)."""
        return ALGORITHM_IDS[self.algorithm]

    def sign_raw(self, challenge: bytes) -> bytes:
        """Sign as a card does: over the value given, without hashing it. ValueError when its size is wrong."""
        return _sign_raw(self.private_key, challenge)

    def sign_raw_by_another(self, challenge: bytes) -> bytes:
        """Sign with a private key that is not this token's, of the same algorithm."""
        return _sign_raw(_strangers_key(self.algorithm), challenge)


def _script_of(profile: Profile, serial: str) -> FaultScript:
    """The serial is the seed: a flaky token has the same troubles each time."""
    return FaultScript(flaky_per_mille=profile.flaky_per_mille, seed=serial)


@functools.cache
def _strangers_key(algorithm: SigningAlgorithm) -> PrivateKey:
    """Kept, because an RSA key takes long to make and any stranger's will do."""
    return _generate(algorithm)


def _generate(algorithm: SigningAlgorithm) -> PrivateKey:
    if algorithm is SigningAlgorithm.P256:
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm is SigningAlgorithm.P384:
        return ec.generate_private_key(ec.SECP384R1())
    if algorithm is SigningAlgorithm.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=8 * RSA_MODULUS_SIZE)


def _self_signed(private_key: PrivateKey, serial: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"EMULATED seat key {serial}"[:64])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )
    digest = None if isinstance(private_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(private_key, digest).public_bytes(serialization.Encoding.DER)


def _sign_raw(private_key: PrivateKey, challenge: bytes) -> bytes:
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key.sign(challenge)
    if isinstance(private_key, rsa.RSAPrivateKey):
        return _rsa_raw(private_key, challenge)
    size = HASH_SIZES[algorithm_of(private_key.public_key())]
    if len(challenge) != size:
        raise ValueError(f"a hash value of {len(challenge)} bytes, {size} are wanted")
    hash_algorithm = hashes.SHA256() if size == 32 else hashes.SHA384()
    return private_key.sign(challenge, ec.ECDSA(Prehashed(hash_algorithm)))


def _rsa_raw(private_key: rsa.RSAPrivateKey, challenge: bytes) -> bytes:
    """The bare RSA operation, which libraries rightly hide: the card's host does the padding (SP 800-73-4)."""
    private = private_key.private_numbers()
    modulus = private.public_numbers.n
    number = int.from_bytes(challenge, "big")
    if len(challenge) != RSA_MODULUS_SIZE or number >= modulus:
        raise ValueError("an RSA challenge has the size of the modulus and is below it")
    # Chinese remainders (RFC 8017 5.1.2): four times faster than one power.
    by_p, by_q = pow(number, private.dmp1, private.p), pow(number, private.dmq1, private.q)
    signature = by_q + private.q * ((by_p - by_q) * private.iqmp % private.p)
    return signature.to_bytes(RSA_MODULUS_SIZE, "big")


def _pem_of(private_key: PrivateKey) -> bytes:
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, data: bytes) -> None:
    """Readable by its owner from its first instant on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _write_last(path: Path, text: str) -> None:
    """Appears whole and after the other files: another process takes its name for a finished token."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenStoreError(path=str(path), detail=error.strerror or str(error)) from error


def _read_description(path: Path) -> dict[str, str]:
    try:
        described = json.loads(_read(path))
        found = {name: described[name] for name in ("serial", "profile")}
    except (ValueError, KeyError, TypeError) as error:
        raise TokenStoreError(path=str(path), detail=f"not a description of a token: {error}") from error
    if not all(isinstance(value, str) for value in found.values()) or found["profile"] not in PROFILES:
        raise TokenStoreError(path=str(path), detail=f"no profile {found['profile']!r}")
    return found


def _read_private_key(path: Path) -> PrivateKey:
    try:
        private_key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise TokenStoreError(path=str(path), detail=f"not a private key: {error}") from error
    if not isinstance(private_key, PrivateKey):
        raise TokenStoreError(path=str(path), detail="a private key that is not for signing with 9E")
    return private_key
