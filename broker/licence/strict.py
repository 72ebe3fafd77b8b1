"""Strict readings of JSON and base64url, and of the typed fields inside an object.

RFC 8259 lets parsers differ on duplicate names, and RFC 4648 on stray bits; two readers of one signed document would
then see two documents. So what parsers may differ on is refused here: duplicate names, fractions and exponents, NaN,
text that is no UTF-8, padding, whitespace and non-zero trailing bits in base64url.
All functions are pure and raise `ValueError` with half a sentence ("is not ...") that the caller completes.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

_DIGIT_COUNT_MAX = 20
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("names a member twice")
    return members


def _small_whole(text: str) -> int:
    # Nothing here needs more than the twelve digits of an instant; long ones cost time to convert.
    if len(text) > _DIGIT_COUNT_MAX:
        raise ValueError("holds a number that is too long")
    return int(text)


def _no_fraction(text: str) -> NoReturn:
    raise ValueError("holds a number that is not whole")


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; `ValueError` when it is anything else."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_small_whole,
            parse_float=_no_fraction,
            parse_constant=_no_fraction,
        )
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at character {error.pos})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def decode_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url (RFC 7515 section 2), only in its one canonical spelling."""
    if not _BASE64URL.fullmatch(text):
        raise ValueError("is not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("is not base64url") from None
    if encode_base64url(data) != text:
        raise ValueError("is not base64url in its canonical form")
    return data


def encode_base64url(data: bytes) -> str:
    """Unpadded base64url (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def text_field(members: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    """The text of a member, which must match the whole pattern."""
    value = members[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"is not of the form {pattern.pattern}")
    return value


def display_field(members: Mapping[str, Any], name: str, length_max: int) -> str:
    """The text of a member that is only for people: printable, 1 to `length_max` characters, no blanks at its ends."""
    value = members[name]
    if not isinstance(value, str) or not 1 <= len(value) <= length_max:
        raise ValueError(f"is not text of 1 to {length_max} characters")
    if not value.isprintable() or value != value.strip():
        raise ValueError("holds control characters or blanks at its ends")
    return value


def whole_field(members: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """The whole number of a member, both bounds included."""
    value = members[name]
    # bool is an int to Python; `true` is not a number of seats.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"is not a whole number from {least} to {most}")
    return value
