"""Refusals: why a licence document does not count, as values.

A refusal is a normal answer about a document that somebody else wrote, so it is returned and shown to the admin, never
raised to a caller. Inside this package the parsers raise `Refused`, which `document.examine` turns into a value.
Sentences are for people: they name the licence and say what to do; whatever they quote from a document is cut short and
stripped of control characters, since it may be hostile to a terminal.
"""

from dataclasses import dataclass
from enum import StrEnum

_QUOTE_LENGTH_MAX = 60


class RefusalReason(StrEnum):
    """What is wrong with a document. The values are stable: they are metric labels and appear in JSON."""

    # The container (RFC 7515, RFC 8725).
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    MALFORMED = "malformed"
    HEADER_JWK = "header_jwk"
    HEADER_JKU = "header_jku"
    HEADER_X5U = "header_x5u"
    HEADER_X5C = "header_x5c"
    HEADER_CRIT = "header_crit"
    HEADER_UNKNOWN = "header_unknown"
    WRONG_TYPE = "wrong_type"
    WRONG_ALGORITHM = "wrong_algorithm"
    # Whom we believe.
    KID_MISSING = "kid_missing"
    KID_UNKNOWN = "kid_unknown"
    WRONG_SIGNATURE = "wrong_signature"
    WRONG_VENDOR = "wrong_vendor"
    PRODUCT_NOT_ALLOWED = "product_not_allowed"
    TEST_KEY_FOR_PRODUCTION = "test_key_for_production"
    PRODUCTION_KEY_FOR_TEST = "production_key_for_test"
    # What it says (RFC 7519).
    CLAIM_MISSING = "claim_missing"
    CLAIM_WRONG = "claim_wrong"
    CLAIM_UNKNOWN = "claim_unknown"
    SEATS_OUT_OF_RANGE = "seats_out_of_range"
    BINDING_WRONG = "binding_wrong"
    MACHINE_BINDING_UNSUPPORTED = "machine_binding_unsupported"
    TERM_WRONG = "term_wrong"
    TERM_UNKNOWN = "term_unknown"
    TERM_UNSUPPORTED = "term_unsupported"
    MODEL_UNSUPPORTED = "model_unsupported"
    # When, and beside which others.
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    ID_CONFLICT = "id_conflict"
    COPY = "copy"
    WRONG_KEY = "wrong_key"
    REVOKED = "revoked"
    # Of revocation lists.
    LIST_OUTDATED = "list_outdated"
    LIST_CONFLICT = "list_conflict"
    LIST_MISSING = "list_missing"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One document that does not count.

    `licence_id`, `vendor` and `product` are filled in only when the vendor's signature held, and else empty: nobody
    has said them. `file` is the name inside the licence folder, empty for a document that came from elsewhere.
    """

    reason: RefusalReason
    sentence: str
    file: str = ""
    licence_id: str = ""
    vendor: str = ""
    product: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.sentence}" if self.file else self.sentence


class Refused(Exception):
    """Carries a refusal from a parser to `document.examine`; leaves this package never."""

    def __init__(self, reason: RefusalReason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


def quoted(value: object) -> str:
    """A value from a document, safe to print: escaped, and cut to 60 characters."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else f'"{value}"'
    return text if len(text) <= _QUOTE_LENGTH_MAX else text[:_QUOTE_LENGTH_MAX] + "…"
