"""The licence document: a vendor-signed right to seats of a product, bound to a security key (`semantics.md` 32-33).

A licence is a JWT (RFC 7519) whose `cnf.jkt` (RFC 7800, RFC 9449) is the RFC 7638 thumbprint of the key's public key.
Everything in it is either understood or a reason to refuse. Two questions are kept apart: `read_licence` asks whether
the document is a right at all, which no clock changes; `Licence.period_at` asks whether it is its time. `verify` asks
both. Wall time is an argument, in whole seconds since 1970 (UTC); not-before is included, expiry is excluded (RFC 7519
sections 4.1.4-5). Pure: any thread.

    header   typ "usher-licence+jwt" · alg "EdDSA" · kid
    claims   iss vendor · jti licence id · iat · nbf · [exp] · product · seats · cnf {jkt} · [sub customer]
             [env "test"] · [terms {...}, see terms.py] · [machine {...}: Basic, not yet supported]
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from broker.licence import bounds
from broker.licence.compact import Envelope, check_signature, open_envelope
from broker.licence.refusal import Refusal, RefusalReason, Refused, quoted
from broker.licence.strict import decode_base64url, display_field, parse_object, text_field, whole_field
from broker.licence.terms import LicenceTerms, parse_terms
from broker.licence.trust import TrustEntry, TrustFile

_REQUIRED: Final = ("jti", "iss", "iat", "nbf", "product", "seats")
_CLAIMS: Final = frozenset({*_REQUIRED, "exp", "cnf", "sub", "env", "terms", "machine"})


class Period(StrEnum):
    """Where an instant lies to a licence's period."""

    NOT_YET_VALID = "not_yet_valid"
    VALID = "valid"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Licence:
    """An authentic licence. `digest` (hex SHA-256 of the signed claims) names its body; `file` where it was found."""

    licence_id: str
    vendor: str
    product: str
    seats: int
    thumbprint: str
    issued_unix_s: int
    not_before_unix_s: int
    expires_unix_s: int | None
    is_test: bool
    customer: str
    terms: LicenceTerms
    kid: str
    digest: str
    file: str = ""
    is_carried: bool = False  # it lies on its key

    def period_at(self, now_unix_s: int) -> Period:
        """Whether the licence is valid at an instant of wall time."""
        if now_unix_s < self.not_before_unix_s:
            return Period.NOT_YET_VALID
        if self.expires_unix_s is not None and now_unix_s >= self.expires_unix_s:
            return Period.EXPIRED
        return Period.VALID


@dataclass(frozen=True, slots=True)
class Authorship:
    """Who signed which body under which id: what one document has to do with another, even if it is refused."""

    vendor: str
    licence_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Examination:
    """The verdict on a document; with `authorship` if a trusted vendor signed it and it has an id."""

    verdict: Licence | Refusal
    authorship: Authorship | None


def verify(document: bytes | str, trust: TrustFile, now_unix_s: int) -> Licence | Refusal:
    """The licence in a document, if a trusted vendor signed it, we can honour it, and now is in its period."""
    verdict = read_licence(document, trust)
    return verdict if isinstance(verdict, Refusal) else in_period(verdict, now_unix_s)


def read_licence(document: bytes | str, trust: TrustFile) -> Licence | Refusal:
    """The licence in a document, whatever its period. Never raises, whatever the document."""
    return examine(document, trust).verdict


def in_period(licence: Licence, now_unix_s: int) -> Licence | Refusal:
    """The licence, or the refusal that now is not in its period."""
    period = licence.period_at(now_unix_s)
    if period is Period.VALID:
        return licence
    return Refusal(
        RefusalReason(period.value),
        period_sentence(licence, period),
        licence.file,
        licence.licence_id,
        licence.vendor,
        licence.product,
    )


def period_sentence(licence: Licence, period: Period) -> str:
    """What an admin should know about a licence outside of its period."""
    if period is Period.NOT_YET_VALID:
        return f"licence {licence.licence_id} counts from {day(licence.not_before_unix_s)} on; nothing is to be done"
    if period is Period.EXPIRED and licence.expires_unix_s is not None:
        ended = day(licence.expires_unix_s)
        return f"licence {licence.licence_id} ended on {ended}; get a new one from {licence.vendor}"
    return f"licence {licence.licence_id} is in its period"


def day(unix_s: int) -> str:
    """An instant for people: `2026-03-01 00:00:00 UTC`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def examine(document: bytes | str, trust: TrustFile) -> Examination:
    """The verdict on a document without regard to time, and whose it is."""
    authorship: Authorship | None = None
    product = ""
    try:
        envelope = open_envelope(document)
        entry = _entry(envelope, trust)
        check_signature(envelope, entry.public)
        claims = _claims(envelope.payload)
        authorship = _authorship(claims, entry, envelope)
        product = _product(claims, entry)
        return Examination(_licence(claims, entry, authorship, product), authorship)
    except Refused as refused:
        licence_id = authorship.licence_id if authorship else ""
        sentence = f"licence {licence_id}: {refused.sentence}" if licence_id else refused.sentence
        vendor = authorship.vendor if authorship else ""
        return Examination(Refusal(refused.reason, sentence, "", licence_id, vendor, product), authorship)


def _entry(envelope: Envelope, trust: TrustFile) -> TrustEntry:
    entry = trust.entry(envelope.kid)
    if entry is None:
        raise Refused(
            RefusalReason.KID_UNKNOWN,
            f"it is signed by the vendor key {envelope.kid}, which is not in the trust file; if you trust that vendor,"
            " add its public JWKS",
        )
    return entry


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = parse_object(payload)
    except ValueError as error:
        raise Refused(
            RefusalReason.MALFORMED, f"its claims are no licence: the text {error}; ask the vendor"
        ) from None
    for name in claims:
        if name not in _CLAIMS:
            raise Refused(
                RefusalReason.CLAIM_UNKNOWN,
                f"its claim {quoted(name)} is unknown here and may be a restriction; upgrade the broker or ask the vendor",
            )
    for name in _REQUIRED:
        if name not in claims:
            raise Refused(RefusalReason.CLAIM_MISSING, f'it has no claim "{name}"; ask the vendor')
    return claims


def _authorship(claims: Mapping[str, Any], entry: TrustEntry, envelope: Envelope) -> Authorship:
    licence_id = _text(claims, "jti", bounds.LICENCE_ID_PATTERN)
    if claims["iss"] != entry.vendor:
        raise Refused(
            RefusalReason.WRONG_VENDOR,
            f"it says that it comes from {quoted(claims['iss'])}, but the key {entry.kid} belongs to {entry.vendor};"
            " ask the vendor, or correct usher_vendor in the trust file",
        )
    return Authorship(entry.vendor, licence_id, hashlib.sha256(envelope.payload).hexdigest())


def _product(claims: Mapping[str, Any], entry: TrustEntry) -> str:
    product = _text(claims, "product", bounds.PRODUCT_PATTERN)
    _check_environment(claims, entry)
    if product not in entry.products:
        raise Refused(
            RefusalReason.PRODUCT_NOT_ALLOWED,
            f'{entry.vendor} may not license "{product}" here: the trust entry {entry.kid} lists'
            f" {', '.join(sorted(entry.products))}; extend usher_products if it should",
        )
    return product


def _check_environment(claims: Mapping[str, Any], entry: TrustEntry) -> None:
    if claims.get("env", "test") != "test":
        raise Refused(
            RefusalReason.CLAIM_WRONG,
            f'its claim "env" is {quoted(claims["env"])}, not "test"; ask the vendor',
        )
    if entry.is_test and "env" not in claims:
        raise Refused(
            RefusalReason.TEST_KEY_FOR_PRODUCTION,
            f'the key {entry.kid} is a test vendor\'s and may sign only licences with env "test"; get a real licence',
        )
    if not entry.is_test and "env" in claims:
        raise Refused(
            RefusalReason.PRODUCTION_KEY_FOR_TEST,
            f"it is a test licence, but the trust entry {entry.kid} is for production; sign it with a test vendor's key",
        )


def _licence(claims: Mapping[str, Any], entry: TrustEntry, authorship: Authorship, product: str) -> Licence:
    seats = _seats(claims)
    thumbprint = _bound_thumbprint(claims)
    not_before, expires = _period(claims)
    return Licence(
        licence_id=authorship.licence_id,
        vendor=authorship.vendor,
        product=product,
        seats=seats,
        thumbprint=thumbprint,
        issued_unix_s=_instant(claims, "iat"),
        not_before_unix_s=not_before,
        expires_unix_s=expires,
        is_test=entry.is_test,
        customer=_customer(claims),
        terms=parse_terms(_member_object(claims, "terms"), product),
        kid=entry.kid,
        digest=authorship.digest,
    )


def _seats(claims: Mapping[str, Any]) -> int:
    try:
        return whole_field(claims, "seats", bounds.SEATS_MIN, bounds.SEATS_MAX)
    except ValueError as error:
        complaint = f'its claim "seats" ({quoted(claims["seats"])}) {error}; ask the vendor'
        raise Refused(RefusalReason.SEATS_OUT_OF_RANGE, complaint) from None


def _bound_thumbprint(claims: Mapping[str, Any]) -> str:
    """The thumbprint in `cnf.jkt`, the only binding that we can check."""
    if "machine" in claims:
        _member_object(claims, "machine")
        raise Refused(
            RefusalReason.MACHINE_BINDING_UNSUPPORTED,
            "it is bound to a computer (a Basic edition), which this broker does not yet support; use a licence that is"
            " bound to a security key",
        )
    if "cnf" not in claims:
        raise Refused(
            RefusalReason.CLAIM_MISSING, "it is bound to no security key (claim cnf); ask the vendor"
        )
    confirmation = _member_object(claims, "cnf")
    thumbprint = confirmation.get("jkt")
    if set(confirmation) != {"jkt"} or not _is_thumbprint(thumbprint):
        raise Refused(
            RefusalReason.BINDING_WRONG,
            f"its claim cnf ({quoted(confirmation)}) is not one thumbprint jkt of a security key; ask the vendor",
        )
    return str(thumbprint)


def _is_thumbprint(value: object) -> bool:
    if not isinstance(value, str) or not bounds.THUMBPRINT_PATTERN.fullmatch(value):
        return False
    try:
        return len(decode_base64url(value)) == 32
    except ValueError:
        return False


def _period(claims: Mapping[str, Any]) -> tuple[int, int | None]:
    not_before = _instant(claims, "nbf")
    expires = _instant(claims, "exp") if "exp" in claims else None
    if expires is not None and expires <= not_before:
        raise Refused(RefusalReason.CLAIM_WRONG, "it ends before it begins (exp, nbf); ask the vendor")
    return not_before, expires


def _customer(claims: Mapping[str, Any]) -> str:
    if "sub" not in claims:
        return ""
    try:
        return display_field(claims, "sub", bounds.CUSTOMER_LENGTH_MAX)
    except ValueError as error:
        raise _wrong(claims, "sub", error) from None


def _instant(claims: Mapping[str, Any], name: str) -> int:
    try:
        return whole_field(claims, name, 0, bounds.UNIX_S_MAX)
    except ValueError as error:
        raise _wrong(claims, name, error) from None


def _text(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    try:
        return text_field(claims, name, pattern)
    except ValueError as error:
        raise _wrong(claims, name, error) from None


def _member_object(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = claims.get(name, {})
    if not isinstance(value, dict):
        raise _wrong(claims, name, ValueError("is not an object"))
    return value


def _wrong(claims: Mapping[str, Any], name: str, error: ValueError) -> Refused:
    return Refused(
        RefusalReason.CLAIM_WRONG, f'its claim "{name}" ({quoted(claims[name])}) {error}; ask the vendor'
    )
