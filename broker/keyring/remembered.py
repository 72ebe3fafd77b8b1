"""What is remembered over a restart, and its text form: keys, licences that gave seats, revocations.

    key/<thumbprint>          {"v":1,"stand":"stood","left_ms":..,"age_ms":..,"awaited_ms":..,"code":..,"sentence":..}
    licence/<digest>          {"v":1,"id":..,"vendor":..,"product":..,"seats":..,"key":..,"terms":{..},..,"ended":..}
    revocations/<digest>      {"v":1,"vendor":..,"test":..,"number":..,"issued":..}      the highest list of a vendor that was seen
    revoked/<digest>          {"v":1}                                                    a licence that was met and revoked

JSON in UTF-8, whole milliseconds. What cannot be read is never kinder than nothing would be: a key whose memory is broken has
an empty budget, a licence whose memory is broken gives no grace. Every text was checked when it came in, and is bounded
by the document format, so that a value fits `memory.VALUE_SIZE_MAX`. Pure; any thread.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from broker.keyring.grace import BudgetMemory
from broker.keyring.memory import VALUE_SIZE_MAX
from broker.licence import Licence, RevocationFloor, parse_terms, terms_claim
from broker.licence.refusal import Refused
from broker.model.words import EndReason

OF_KEY, OF_LICENCE, OF_REVOCATIONS, OF_REVOKED = b"key/", b"licence/", b"revocations/", b"revoked/"
VERSION: Final = 1
SENTENCE_LENGTH_MAX: Final = 160
# Of each kind, so that together with the control plane's own words they fit the ledger's bound on notes.
KEY_COUNT_MAX: Final = 2_048
LICENCE_COUNT_MAX: Final = 4_096
REVOCATION_COUNT_MAX: Final = 512
REVOKED_COUNT_MAX: Final = 1_024
_MS: Final = 1_000_000
_Value = TypeVar("_Value")


class Stand(StrEnum):
    """Where a key stood."""

    STOOD = "stood"  # proven, or awaited since a start
    LOST = "lost"
    DISABLED = "disabled"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class KeyMemory:
    """One key. `code` and `sentence` say why it does not stand."""

    stand: Stand
    budget: BudgetMemory
    code: str = ""
    sentence: str = ""
    is_emulated: bool = False


# What is believed of a key whose memory cannot be read: it had grace, and has spent it.
SPENT: Final = KeyMemory(Stand.LOST, BudgetMemory(0, 0, None), "memory_broken", "what was remembered of it cannot be read")


@dataclass(frozen=True, slots=True)
class LicenceMemory:
    """A licence that the ledger was told of. `ended`: why it gives no seats though its key may stand; its grace ends with the run."""

    licence: Licence
    ended: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """All of it. `broken` names what could not be read."""

    keys: Mapping[str, KeyMemory]
    licences: Mapping[str, LicenceMemory]
    floors: tuple[RevocationFloor, ...]
    revoked: frozenset[str]
    broken: tuple[str, ...]


def read_remembered(kept: Mapping[bytes, bytes]) -> Remembered:
    """What a memory holds of the keyring; names of others are passed by."""
    keys: dict[str, KeyMemory] = {}
    licences: dict[str, LicenceMemory] = {}
    floors: list[RevocationFloor] = []
    revoked: set[str] = set()
    broken: list[str] = []
    for name, value in sorted(kept.items()):
        kind, slash, rest = name.partition(b"/")
        subject = rest.decode("ascii", "replace")
        match kind + slash:
            case b"key/":
                keys[subject] = _or(SPENT, _read_key, subject, value, broken)
            case b"licence/":
                if found := _or(None, _read_licence, subject, value, broken):
                    licences[subject] = found
            case b"revocations/":
                if floor := _or(None, _read_floor, subject, value, broken):
                    floors.append(floor)
            case b"revoked/":
                revoked.add(subject)
    return Remembered(keys, licences, tuple(floors), frozenset(revoked), tuple(broken))


def _or(
    otherwise: _Value, read: Callable[[str, Mapping[str, Any]], _Value], subject: str, value: bytes, broken: list[str]
) -> _Value:
    try:
        members = json.loads(value)
        if not isinstance(members, dict) or members.get("v") != VERSION:
            raise ValueError("another version")
        return read(subject, members)
    except (ValueError, KeyError, TypeError, AttributeError, Refused):
        broken.append(f"{read.__name__.removeprefix('_read_')} {subject}")
        return otherwise


# --- keys -------------------------------------------------------------------------------------------------------------


def key_name(thumbprint: str) -> bytes:
    """Under which a key is kept."""
    return OF_KEY + thumbprint.encode("ascii")


def key_text(memory: KeyMemory) -> bytes:
    """Rounded against the key: what it has left down, ages up."""
    budget = memory.budget
    members: dict[str, Any] = {
        "stand": memory.stand.value,
        "left_ms": budget.left_ns // _MS,
        "age_ms": None if budget.proof_age_ns is None else -(-budget.proof_age_ns // _MS),
        "awaited_ms": None if budget.awaited_ns is None else -(-budget.awaited_ns // _MS),
        "code": memory.code,
        "sentence": memory.sentence[:SENTENCE_LENGTH_MAX],
        "emulated": memory.is_emulated,
    }
    return _text(members)


def _read_key(_: str, members: Mapping[str, Any]) -> KeyMemory:
    budget = BudgetMemory(
        _whole(members["left_ms"]) * _MS, _span_ns(members["age_ms"]), _span_ns(members["awaited_ms"])
    )
    return KeyMemory(
        Stand(members["stand"]), budget, str(members["code"]), str(members["sentence"]), bool(members["emulated"])
    )


def _span_ns(value: object) -> int | None:
    return None if value is None else _whole(value) * _MS


def _whole(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("no whole number")
    return value


# --- licences ---------------------------------------------------------------------------------------------------------


def licence_name(digest: str) -> bytes:
    """Under which a licence is kept."""
    return OF_LICENCE + digest.encode("ascii")


def licence_text(memory: LicenceMemory) -> bytes:
    """What is needed to give its charges their grace, and to know it again; the document itself stays where it lies."""
    licence = memory.licence
    members: dict[str, Any] = {
        "id": licence.licence_id,
        "vendor": licence.vendor,
        "product": licence.product,
        "seats": licence.seats,
        "key": licence.thumbprint,
        "issued": licence.issued_unix_s,
        "from": licence.not_before_unix_s,
        "until": licence.expires_unix_s,
        "test": licence.is_test,
        "terms": terms_claim(licence.terms),
        "carried": licence.is_carried,
        "ended": None if memory.ended is None else memory.ended.name.lower(),
    }
    return _text(members)


def _read_licence(digest: str, members: Mapping[str, Any]) -> LicenceMemory:
    product = str(members["product"])
    licence = Licence(
        licence_id=str(members["id"]),
        vendor=str(members["vendor"]),
        product=product,
        seats=_whole(members["seats"]),
        thumbprint=str(members["key"]),
        issued_unix_s=_whole(members["issued"]),
        not_before_unix_s=_whole(members["from"]),
        expires_unix_s=None if members["until"] is None else _whole(members["until"]),
        is_test=bool(members["test"]),
        customer="",
        terms=parse_terms(members["terms"], product),
        kid="",
        digest=digest,
        file="on its key" if members["carried"] else "",
        is_carried=bool(members["carried"]),
    )
    ended = members["ended"]
    return LicenceMemory(licence, None if ended is None else EndReason[str(ended).upper()])


# --- revocations --------------------------------------------------------------------------------------------------------


def floor_name(floor: RevocationFloor) -> bytes:
    """Under which a vendor's highest list is kept: a vendor's name may be longer than a name of the memory."""
    scope = json.dumps([floor.vendor, floor.is_test]).encode()
    return OF_REVOCATIONS + hashlib.sha256(scope).hexdigest().encode("ascii")


def floor_text(floor: RevocationFloor) -> bytes:
    """The number that no list of the vendor may go below any more."""
    return _text(
        {"vendor": floor.vendor, "test": floor.is_test, "number": floor.number, "issued": floor.issued_unix_s}
    )


def _read_floor(_: str, members: Mapping[str, Any]) -> RevocationFloor:
    return RevocationFloor(
        str(members["vendor"]), bool(members["test"]), _whole(members["number"]), _whole(members["issued"])
    )


def revoked_name(digest: str) -> bytes:
    """Under which a licence is kept that was met and revoked."""
    return OF_REVOKED + digest.encode("ascii")


def revoked_text() -> bytes:
    """All is in the name."""
    return _text({})


def _text(members: Mapping[str, Any]) -> bytes:
    text = json.dumps({"v": VERSION, **members}, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(text) <= VALUE_SIZE_MAX, text
    return text
