"""The fleet of emulated keys as a configuration describes it: names, what they behave like, the licences bound to them.

    [emulation]
    keys = [
        { name = "alpha", seats = { platform = 5 } },
        { name = "bravo", profile = "nitrokey3-like", licences = [{ product = "crm", seats = 10, terms = { sharing = "user" } }] },
    ]

`terms` are written as in a licence (docs/LICENSING). Values and their reader; no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.app.config_values import WrongValue
from broker.licence import bounds
from broker.licence.refusal import Refused
from broker.licence.terms import LicenceTerms, parse_terms
from hwkey.emulated.profile import PROFILES
from hwkey.identity import SigningAlgorithm

KEYS_MAX = 200
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
PROFILE_NAMES = tuple(sorted(PROFILES, reverse=True))
ALGORITHMS = tuple(algorithm.value for algorithm in SigningAlgorithm)
PLAIN_TERMS = LicenceTerms()
REMEDY = 'write it as { name = "alpha", seats = { platform = 5 } }'


@dataclass(frozen=True, slots=True)
class EmulatedLicence:
    """One licence to issue for an emulated key."""

    product: str
    seats: int
    terms: LicenceTerms = PLAIN_TERMS


@dataclass(frozen=True, slots=True)
class EmulatedKeySettings:
    """One emulated key."""

    name: str
    licences: tuple[EmulatedLicence, ...] = ()
    profile: str = PROFILE_NAMES[0]
    algorithm: str = ALGORITHMS[0]
    plugged: bool = True


DEMO_FLEET = (
    EmulatedKeySettings("alpha", (EmulatedLicence("platform", 5),)),
    EmulatedKeySettings("bravo", (EmulatedLicence("platform", 10),), profile="nitrokey3-like", algorithm="Ed25519"),
    EmulatedKeySettings("charlie", (EmulatedLicence("crm", 10), EmulatedLicence("telephony", 5))),
)


def read_emulated_keys(value: object, base: Path) -> tuple[EmulatedKeySettings, ...]:
    """The fleet in a list of tables; `WrongValue` for the first wrong one."""
    if not isinstance(value, list) or len(value) > KEYS_MAX:
        raise WrongValue(f"is not a list of at most {KEYS_MAX} keys", REMEDY)
    keys = tuple(_settings(one) for one in value)
    names = [one.name for one in keys]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise WrongValue(f'two keys are called "{twice}"', "give each its own name")
    return keys


def _settings(members: object) -> EmulatedKeySettings:
    if not isinstance(members, dict):
        raise WrongValue(f"{members!r} is not a table", REMEDY)
    _check_known(members, ("name", "profile", "algorithm", "plugged", "seats", "licences"))
    name = members.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise WrongValue(f"{name!r} is not a name", "write small letters, digits and hyphens, at most 32")
    return EmulatedKeySettings(
        name,
        _licences(name, members),
        _word(name, members, "profile", PROFILE_NAMES),
        _word(name, members, "algorithm", ALGORITHMS),
        _flag(name, members),
    )


def _licences(name: str, members: dict[str, Any]) -> tuple[EmulatedLicence, ...]:
    seats, licences = members.get("seats", {}), members.get("licences", [])
    if not isinstance(seats, dict) or not isinstance(licences, list):
        raise WrongValue(f'key "{name}": seats is not a table, or licences is not a list', REMEDY)
    packs = [{"product": product, "seats": count} for product, count in seats.items()]
    return tuple(_licence(name, one) for one in packs + licences)


def _licence(name: str, members: object) -> EmulatedLicence:
    if not isinstance(members, dict):
        raise WrongValue(f'key "{name}": {members!r} is not a licence', 'write { product = "crm", seats = 10 }')
    _check_known(members, ("product", "seats", "terms"))
    product, seats, terms = members.get("product"), members.get("seats"), members.get("terms", {})
    if not isinstance(product, str) or not bounds.PRODUCT_PATTERN.fullmatch(product):
        raise WrongValue(f'key "{name}": {product!r} is not a product id', 'write one such as "platform"')
    if isinstance(seats, bool) or not isinstance(seats, int) or not bounds.SEATS_MIN <= seats <= bounds.SEATS_MAX:
        raise WrongValue(f'key "{name}": {seats!r} are no seats of {product}', f"write {bounds.SEATS_MIN} to {bounds.SEATS_MAX}")
    if not isinstance(terms, dict):
        raise WrongValue(f'key "{name}": terms of {product} are not a table', 'write { sharing = "user" }')
    try:
        return EmulatedLicence(product, seats, parse_terms(terms, product))
    except Refused as refused:
        raise WrongValue(f'key "{name}": licence of {product}: {refused}', "see docs/LICENSING for the terms") from None


def _word(name: str, members: dict[str, Any], member: str, words: tuple[str, ...]) -> str:
    word = members.get(member, words[0])
    if word not in words:
        raise WrongValue(f'key "{name}": {member} {word!r} is unknown', "write one of " + ", ".join(words))
    return str(word)


def _flag(name: str, members: dict[str, Any]) -> bool:
    flag = members.get("plugged", True)
    if not isinstance(flag, bool):
        raise WrongValue(f'key "{name}": plugged {flag!r} is not true or false', "write true or false")
    return flag


def _check_known(members: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := next((member for member in members if member not in known), None):
        raise WrongValue(f'"{unknown}" is unknown there', "known are " + ", ".join(known))
