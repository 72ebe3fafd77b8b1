"""Who a security key is: the public key of its 9E certificate, named by its RFC 7638 thumbprint.

The thumbprint (base64url of a SHA-256, 43 characters) is what a licence's `cnf.jkt` holds and what the broker
keys everything by. The signing algorithm is a property of the public key, never of what a device or a caller
says (`semantics.md` 30). Sources: RFC 7638 (thumbprint), RFC 7518 section 6 (EC, RSA), RFC 8037 (OKP).
Pure; any thread.
"""

from __future__ import annotations

import base64
import hashlib
import json
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hwkey.errors import NotAPivKey, Unsupported

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

THUMBPRINT_SIZE = 32
THUMBPRINT_LENGTH = 43
RSA_MODULUS_SIZE = 256


class SigningAlgorithm(Enum):
    """The algorithms of a 9E key that are accepted."""

    P256 = "P-256"
    P384 = "P-384"
    RSA2048 = "RSA-2048"
    ED25519 = "Ed25519"


_CURVE_ALGORITHMS = {"secp256r1": SigningAlgorithm.P256, "secp384r1": SigningAlgorithm.P384}


def algorithm_of(public_key: PublicKey) -> SigningAlgorithm:
    """The one algorithm that this public key signs with; raises Unsupported."""
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return SigningAlgorithm.ED25519
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size == 8 * RSA_MODULUS_SIZE:
        return SigningAlgorithm.RSA2048
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in _CURVE_ALGORITHMS:
        return _CURVE_ALGORITHMS[public_key.curve.name]
    raise Unsupported(
        reason="algorithm",
        detail="its 9E key is of an algorithm other than P-256, P-384, RSA-2048 and Ed25519",
    )


def public_key_of(certificate_der: bytes) -> PublicKey:
    """The accepted public key inside a DER certificate; raises NotAPivKey or Unsupported."""
    try:
        public_key = x509.load_der_x509_certificate(certificate_der).public_key()
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise NotAPivKey(f"its 9E certificate can not be read: {error}") from error
    except UnsupportedAlgorithm as error:
        raise Unsupported(reason="algorithm", detail=f"its 9E certificate: {error}") from error
    if not isinstance(public_key, PublicKey):
        raise Unsupported(reason="algorithm", detail="its 9E certificate holds a key that is not for signing")
    algorithm_of(public_key)
    return public_key


def jwk_of(public_key: PublicKey) -> dict[str, str]:
    """The required members of the public key's JWK, and no others."""
    if isinstance(public_key, rsa.RSAPublicKey):
        numbers = public_key.public_numbers()
        return {"e": _base64url_uint(numbers.e), "kty": "RSA", "n": _base64url_uint(numbers.n)}
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        raw = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"crv": "Ed25519", "kty": "OKP", "x": base64url(raw)}
    size = (public_key.curve.key_size + 7) // 8
    point = public_key.public_numbers()
    x, y = (base64url(coordinate.to_bytes(size, "big")) for coordinate in (point.x, point.y))
    return {"crv": algorithm_of(public_key).value, "kty": "EC", "x": x, "y": y}


def thumbprint_of(public_key: PublicKey) -> str:
    """RFC 7638 thumbprint with SHA-256 as 43 characters of base64url without padding; raises Unsupported."""
    canonical = json.dumps(jwk_of(public_key), separators=(",", ":"), sort_keys=True)
    return base64url(hashlib.sha256(canonical.encode()).digest())


def thumbprint_bytes(thumbprint: str) -> bytes:
    """The 32 bytes that a thumbprint stands for; ValueError unless it is its one canonical spelling."""
    try:
        raw = base64.urlsafe_b64decode(thumbprint + "=")
    except ValueError as error:
        raise ValueError("a thumbprint is 43 characters of base64url") from error
    if len(raw) != THUMBPRINT_SIZE or base64url(raw) != thumbprint:
        raise ValueError("a thumbprint is 43 characters of base64url")
    return raw


def base64url(raw: bytes) -> str:
    """base64url without padding (RFC 7515 appendix C)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _base64url_uint(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8 or 1, "big"))
