"""The signed envelope of a licence: a JWS in compact form (RFC 7515) with a header that leaves no choices.

The header holds exactly `typ`, `alg` and `kid`. A document must never bring the key that it is checked with, nor an
address to fetch one from, nor rules that we do not know (RFC 8725 sections 3.1, 3.10, 3.11): each of those has its own
refusal. The signature is checked by pyjwt over cryptography, and only after the header was found to be ours.
Pure; one document a call, from any thread.
"""

from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from broker.licence import bounds
from broker.licence.refusal import RefusalReason, Refused, quoted
from broker.licence.strict import decode_base64url, parse_object

LICENCE_TYPE: Final = "usher-licence+jwt"
LICENCE_ALGORITHM: Final = "EdDSA"

_FORBIDDEN: Final = (
    ("jwk", RefusalReason.HEADER_JWK, "brings its own verification key (jwk)"),
    ("jku", RefusalReason.HEADER_JKU, "names an address to fetch its verification key from (jku)"),
    ("x5u", RefusalReason.HEADER_X5U, "names an address to fetch its certificate from (x5u)"),
    ("x5c", RefusalReason.HEADER_X5C, "brings its own certificate (x5c)"),
    ("crit", RefusalReason.HEADER_CRIT, "demands extensions that this broker does not know (crit)"),
)
_KNOWN: Final = frozenset({"typ", "alg", "kid"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """A licence as it came, its header found to be ours, its signature not yet checked."""

    text: str
    kid: str
    payload: bytes


def open_envelope(document: bytes | str) -> Envelope:
    """Takes a document apart and checks its header; raises `Refused`."""
    text = _text(document)
    parts = text.split(".")
    if len(parts) != 3:
        raise _malformed(f"has {len(parts)} dot-separated parts instead of 3")
    header = _header(parts[0])
    for name, reason, complaint in _FORBIDDEN:
        if name in header:
            raise Refused(
                reason, f"its header {complaint}, which is never accepted; ask the vendor for another file"
            )
    _check_words(header)
    payload = _decoded(parts[1], "payload")
    _decoded(parts[2], "signature")
    return Envelope(text, _kid(header), payload)


def check_signature(envelope: Envelope, public: Ed25519PublicKey) -> None:
    """Raises `Refused` unless the vendor's key signed exactly these bytes."""
    try:
        PyJWS(algorithms=[LICENCE_ALGORITHM]).decode(
            envelope.text, key=public, algorithms=[LICENCE_ALGORITHM]
        )
    except PyJWTError:
        raise Refused(
            RefusalReason.WRONG_SIGNATURE,
            f"its signature does not match the trusted vendor key {envelope.kid}: the file was altered or damaged;"
            " copy it again from the vendor's original",
        ) from None


def seal(payload: bytes, private: Ed25519PrivateKey, kid: str) -> str:
    """Signs a payload into a document that `open_envelope` takes."""
    return PyJWS(algorithms=[LICENCE_ALGORITHM]).encode(
        payload, key=private, algorithm=LICENCE_ALGORITHM, headers={"typ": LICENCE_TYPE, "kid": kid}
    )


def _text(document: bytes | str) -> str:
    if len(document) > bounds.DOCUMENT_SIZE_MAX:
        raise Refused(
            RefusalReason.TOO_LARGE,
            f"it is larger than {bounds.DOCUMENT_SIZE_MAX // 1024} KiB, which no licence is; remove the file",
        )
    # Editors and shells add a line end; it is outside of what is signed.
    stripped = document.strip()
    text = stripped if isinstance(stripped, str) else stripped.decode("ascii", errors="replace")
    if not text.isascii() or not text:
        raise _malformed("is empty" if not text else "holds characters that no JWT has")
    return text


def _header(part: str) -> dict[str, Any]:
    data = _decoded(part, "header")
    try:
        return parse_object(data)
    except ValueError as error:
        raise _malformed(f"has a header that {error}") from None


def _decoded(part: str, which: str) -> bytes:
    try:
        return decode_base64url(part)
    except ValueError as error:
        raise _malformed(f"has a {which} that {error}") from None


def _check_words(header: dict[str, Any]) -> None:
    for name in header:
        if name not in _KNOWN:
            raise Refused(
                RefusalReason.HEADER_UNKNOWN,
                f"its header holds {quoted(name)}; a licence's header is typ, alg and kid only; ask the vendor",
            )
    if header.get("typ") != LICENCE_TYPE:
        raise Refused(
            RefusalReason.WRONG_TYPE,
            f'its type is {quoted(header.get("typ"))} and not "{LICENCE_TYPE}": it is a JWT, but no licence; remove it',
        )
    if header.get("alg") != LICENCE_ALGORITHM:
        raise Refused(
            RefusalReason.WRONG_ALGORITHM,
            f"its algorithm is {quoted(header.get('alg'))}; only EdDSA with an Ed25519 key is accepted; ask the vendor",
        )


def _kid(header: dict[str, Any]) -> str:
    kid = header.get("kid")
    if not isinstance(kid, str) or not bounds.KID_PATTERN.fullmatch(kid):
        raise Refused(
            RefusalReason.KID_MISSING,
            "its header does not say which vendor key signed it (kid); ask the vendor",
        )
    return kid


def _malformed(complaint: str) -> Refused:
    return Refused(
        RefusalReason.MALFORMED, f"the file is not a licence: it {complaint}; copy it again or remove it"
    )
