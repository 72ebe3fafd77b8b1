"""What a security key signs to prove its presence, and how that signature is checked.

The rule is `semantics.md` 30; the variable parts carry a length so that no two inputs give one message:

    message = "usher-proof-v1"                      14 bytes of ASCII
            | purpose size (1) | purpose            1 to 255 bytes of UTF-8
            | broker id size (1) | broker id        1 to 255 bytes of UTF-8
            | nonce                                 32 bytes, fresh, used once
            | thumbprint                            32 bytes: the SHA-256 itself, not its base64url
    digest  = SHA-256(message)

    P-256, P-384   ECDSA over the digest (as it is; for P-384 its 32 bytes count as the hash value), DER signature
    RSA-2048       RSASSA-PKCS1-v1_5 with the DigestInfo of SHA-256
    Ed25519        PureEdDSA whose message is the 32 bytes of the digest

9E signs any hash it is given, so this module is the only place that makes one; no caller hands in a digest.
Pure; any thread. Freshness of nonces and the lifetime of a proof are the keyring's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from hwkey.errors import ProofRejected
from hwkey.identity import PublicKey, SigningAlgorithm, algorithm_of, thumbprint_bytes, thumbprint_of

CONTEXT = b"usher-proof-v1"
NONCE_SIZE = 32
PART_SIZE_MAX = 255
DIGEST_SIZE = 32

_SHA256_PREHASHED = Prehashed(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Challenge:
    """All that goes into the signed message. ValueError when a part has a wrong size."""

    purpose: str
    broker_id: str
    nonce: bytes
    thumbprint: str

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce is {NONCE_SIZE} bytes, not {len(self.nonce)}")
        thumbprint_bytes(self.thumbprint)
        for name, part in (("purpose", self.purpose), ("broker_id", self.broker_id)):
            if not 1 <= len(part.encode()) <= PART_SIZE_MAX:
                raise ValueError(f"{name} is 1 to {PART_SIZE_MAX} bytes of UTF-8")

    @property
    def message(self) -> bytes:
        """The message of the head comment."""
        parts = b"".join(_sized(part.encode()) for part in (self.purpose, self.broker_id))
        return CONTEXT + parts + self.nonce + thumbprint_bytes(self.thumbprint)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the message, 32 bytes: what the device is given."""
        return hashlib.sha256(self.message).digest()


@dataclass(frozen=True, slots=True)
class Proof:
    """A verified answer: `signature` by the key of `challenge.thumbprint` over `challenge.digest`."""

    challenge: Challenge
    algorithm: SigningAlgorithm
    signature: bytes


def verify_signature(challenge: Challenge, signature: bytes, public_key: PublicKey) -> Proof:
    """Check a signature and make it a Proof; raises ProofRejected.

    The public key must be the one that the challenge names, and its own algorithm is the only one tried.
    """
    if thumbprint_of(public_key) != challenge.thumbprint:
        raise ProofRejected(thumbprint=challenge.thumbprint, detail="the challenge names another public key")
    try:
        _verify(public_key, signature, challenge.digest)
    except InvalidSignature as error:
        raise ProofRejected(thumbprint=challenge.thumbprint, detail="the signature is not of this key") from error
    return Proof(challenge, algorithm_of(public_key), signature)


def _verify(public_key: PublicKey, signature: bytes, digest: bytes) -> None:
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        public_key.verify(signature, digest, ec.ECDSA(_SHA256_PREHASHED))
    elif isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, digest, padding.PKCS1v15(), _SHA256_PREHASHED)
    else:
        public_key.verify(signature, digest)


def _sized(part: bytes) -> bytes:
    return bytes([len(part)]) + part
