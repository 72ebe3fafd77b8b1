"""The signed envelope of a licence or a revocation list: a JWS in compact form (RFC 7515) with a header that leaves no choices.

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

LICENCE_ALGORITHM: Final = "EdDSA"
LICENCE_SUFFIX: Final = ".jwt"
REVOCATION_LIST_SUFFIX: Final = ".revocations"


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """What a document is to be: its `typ`, what people call it, and how large it may be."""

    type: str
    noun: str
    size_max: int


# The types are fixed and differ, so that what was signed as one can never be read as the other (RFC 8725 section 3.11).
LICENCE: Final = DocumentKind("usher-licence+jwt", "licence", bounds.DOCUMENT_SIZE_MAX)
REVOCATION_LIST: Final = DocumentKind("usher-revocations+jwt", "revocation list", bounds.REVOCATION_LIST_SIZE_MAX)

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
    """A document as it came, its header found to be ours, its signature not yet checked."""

    text: str
    kid: str
    payload: bytes


def open_envelope(document: bytes | str, kind: DocumentKind = LICENCE) -> Envelope:
    """Takes a document apart and checks that its header is one of such a kind; raises `Refused`."""
    text = _text(document, kind)
    parts = text.split(".")
    if len(parts) != 3:
        raise _malformed(kind, f"has {len(parts)} dot-separated parts instead of 3")
    header = _header(parts[0], kind)
    for name, reason, complaint in _FORBIDDEN:
        if name in header:
            raise Refused(
                reason, f"its header {complaint}, which is never accepted; ask the vendor for another file"
            )
    _check_words(header, kind)
    payload = _decoded(parts[1], "payload", kind)
    _decoded(parts[2], "signature", kind)
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


def seal(payload: bytes, private: Ed25519PrivateKey, kid: str, kind: DocumentKind = LICENCE) -> str:
    """Signs a payload into a document that `open_envelope` takes."""
    return PyJWS(algorithms=[LICENCE_ALGORITHM]).encode(
        payload, key=private, algorithm=LICENCE_ALGORITHM, headers={"typ": kind.type, "kid": kid}
    )


def _text(document: bytes | str, kind: DocumentKind) -> str:
    if len(document) > kind.size_max:
        raise Refused(
            RefusalReason.TOO_LARGE,
            f"it is larger than {kind.size_max // 1024} KiB, which no {kind.noun} is; remove the file",
        )
    # Editors and shells add a line end; it is outside of what is signed.
    stripped = document.strip()
    text = stripped if isinstance(stripped, str) else stripped.decode("ascii", errors="replace")
    if not text.isascii() or not text:
        raise _malformed(kind, "is empty" if not text else "holds characters that no JWT has")
    return text


def _header(part: str, kind: DocumentKind) -> dict[str, Any]:
    data = _decoded(part, "header", kind)
    try:
        return parse_object(data)
    except ValueError as error:
        raise _malformed(kind, f"has a header that {error}") from None


def _decoded(part: str, which: str, kind: DocumentKind) -> bytes:
    try:
        return decode_base64url(part)
    except ValueError as error:
        raise _malformed(kind, f"has a {which} that {error}") from None


def _check_words(header: dict[str, Any], kind: DocumentKind) -> None:
    for name in header:
        if name not in _KNOWN:
            raise Refused(
                RefusalReason.HEADER_UNKNOWN,
                f"its header holds {quoted(name)}; a {kind.noun}'s header is typ, alg and kid only; ask the vendor",
            )
    if header.get("typ") != kind.type:
        raise Refused(RefusalReason.WRONG_TYPE, _type_sentence(header.get("typ"), kind))
    if header.get("alg") != LICENCE_ALGORITHM:
        raise Refused(
            RefusalReason.WRONG_ALGORITHM,
            f"its algorithm is {quoted(header.get('alg'))}; only EdDSA with an Ed25519 key is accepted; ask the vendor",
        )


def _type_sentence(found: object, kind: DocumentKind) -> str:
    for other, suffix in ((LICENCE, LICENCE_SUFFIX), (REVOCATION_LIST, REVOCATION_LIST_SUFFIX)):
        if found == other.type:
            return f"it is a {other.noun} under the name of a {kind.noun}; call it *{suffix}"
    return f'its type is {quoted(found)} and not "{kind.type}": it is a JWT, but no {kind.noun}; remove it'


def _kid(header: dict[str, Any]) -> str:
    kid = header.get("kid")
    if not isinstance(kid, str) or not bounds.KID_PATTERN.fullmatch(kid):
        raise Refused(
            RefusalReason.KID_MISSING,
            "its header does not say which vendor key signed it (kid); ask the vendor",
        )
    return kid


def _malformed(kind: DocumentKind, complaint: str) -> Refused:
    return Refused(
        RefusalReason.MALFORMED, f"the file is not a {kind.noun}: it {complaint}; copy it again or remove it"
    )
