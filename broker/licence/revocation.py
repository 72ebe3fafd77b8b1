"""Revocation lists: which of its licences a vendor has taken back (`semantics.md` 32).

A list is a JWT of its own type, signed as a licence is. It is whole: the list with the highest number stands for all that
a vendor revokes, and lower ones mean nothing any more; so a licence comes back when a higher list does not name it. What
was seen once is not forgotten by taking the file away: `Revocations` keeps the highest list of each vendor, and whoever
reads the folder passes it on. Over a restart, its number (`RevocationFloor`) and the licences that it was met to revoke are
remembered, not the list: until one of that number or a higher one lies in the folder again, those stay revoked and lower lists
are refused. Of two different lists with one number both are obeyed, because each was signed, and the
fault is told. A test vendor's list touches test licences only, whatever name it signs under: its key is not guarded like
a real one. A list has no expiry: an old one must go on counting on a broker that is never given a newer one. Pure.

    header   typ "usher-revocations+jwt" · alg "EdDSA" · kid
    claims   iss vendor · iat · number · revoked [licence id ...] · [env "test"]
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.licence import bounds
from broker.licence.compact import REVOCATION_LIST, check_signature, open_envelope
from broker.licence.document import Licence, day
from broker.licence.refusal import Refusal, RefusalReason, Refused, quoted
from broker.licence.strict import parse_object, whole_field
from broker.licence.trust import TrustEntry, TrustFile

_CLAIMS: Final = ("iss", "iat", "number", "revoked")


@dataclass(frozen=True, slots=True)
class RevocationList:
    """An authentic list. `digest` (hex SHA-256 of the signed claims) names its body; `file` where it was found."""

    vendor: str
    is_test: bool
    number: int
    revoked: frozenset[str]
    issued_unix_s: int
    digest: str
    file: str = ""

    @property
    def scope(self) -> tuple[str, bool]:
        """Whose licences it speaks of."""
        return self.vendor, self.is_test


@dataclass(frozen=True, slots=True)
class RevocationFloor:
    """The number of the highest list of a vendor that was ever seen, and when that was issued."""

    vendor: str
    is_test: bool
    number: int
    issued_unix_s: int

    @property
    def scope(self) -> tuple[str, bool]:
        """Whose licences it is about."""
        return self.vendor, self.is_test


@dataclass(frozen=True, slots=True)
class Revocations:
    """The highest list of each vendor ever seen; more than one only if a vendor gave one number to two lists. `floors` and
    `met`, digests of revoked licences, are what an earlier run remembers of lists that need not lie here any more."""

    lists: tuple[RevocationList, ...] = ()
    floors: tuple[RevocationFloor, ...] = ()
    met: frozenset[str] = frozenset()

    def naming(self, licence: Licence) -> RevocationList | RevocationFloor | None:
        """What revokes a licence: a list, or what is remembered of one that is not here."""
        scope = (licence.vendor, licence.is_test)
        peers = [one for one in self.lists if one.scope == scope]
        if not peers and licence.digest in self.met:
            return next((floor for floor in self.floors if floor.scope == scope), None)
        return next((one for one in peers if licence.licence_id in one.revoked), None)

    def joined(self, found: Iterable[RevocationList]) -> "Revocations":
        """After more lists were seen."""
        known = {one.digest: one for one in (*self.lists, *found)}
        floors = {one.scope: one for one in self.floors}
        for one in known.values():
            if one.scope not in floors or floors[one.scope].number < one.number:
                floors[one.scope] = RevocationFloor(one.vendor, one.is_test, one.number, one.issued_unix_s)
        kept = (one for one in known.values() if one.number == floors[one.scope].number)
        return Revocations(
            tuple(sorted(kept, key=lambda one: (one.scope, one.digest))),
            tuple(floors[scope] for scope in sorted(floors)),
            self.met,
        )

    def complaint(self, found: RevocationList) -> Refusal | None:
        """What an admin should know about a list that was joined."""
        (highest,) = (floor.number for floor in self.floors if floor.scope == found.scope)
        if found.number < highest:
            sentence = (
                f"revocation list {found.number} of {found.vendor} is older than list {highest}, which was seen and"
                " counts; keep that one in the folder and remove this one"
            )
            return Refusal(RefusalReason.LIST_OUTDATED, sentence, found.file, vendor=found.vendor)
        peers = [one for one in self.lists if one.scope == found.scope]
        if len(peers) > 1:
            sentence = (
                f"{found.vendor} has given the number {found.number} to different revocation lists; both are obeyed; ask the"
                " vendor for one with a higher number"
            )
            return Refusal(RefusalReason.LIST_CONFLICT, sentence, found.file, vendor=found.vendor)
        return None

    def missing(self) -> list[Refusal]:
        """The lists that were seen in an earlier run and of which neither themselves nor higher ones are here now."""
        here = {one.scope for one in self.lists}
        return [_missing(floor) for floor in self.floors if floor.scope not in here]


def _missing(floor: RevocationFloor) -> Refusal:
    sentence = (
        f"revocation list {floor.number} of {floor.vendor} was seen here and is gone; put it, or a later one, back into the"
        " licence folder: until then only the licences that it was met to revoke stay revoked"
    )
    return Refusal(RefusalReason.LIST_MISSING, sentence, vendor=floor.vendor)


def refused_as_revoked(licence: Licence, by: RevocationList | RevocationFloor) -> Refusal:
    """The refusal of a licence that a list names."""
    sentence = (
        f"licence {licence.licence_id} was revoked by {licence.vendor} (list {by.number} of {day(by.issued_unix_s)}) and"
        f" counts no more; ask {licence.vendor}"
    )
    return Refusal(
        RefusalReason.REVOKED, sentence, licence.file, licence.licence_id, licence.vendor, licence.product
    )


def read_revocations(document: bytes | str, trust: TrustFile) -> RevocationList | Refusal:
    """The revocation list in a document. Never raises, whatever the document."""
    try:
        envelope = open_envelope(document, REVOCATION_LIST)
        entry = trust.entry(envelope.kid)
        if entry is None:
            raise Refused(
                RefusalReason.KID_UNKNOWN,
                f"it is signed by the vendor key {envelope.kid}, which is not in the trust file; if you trust that"
                " vendor, add its public JWKS",
            )
        check_signature(envelope, entry.public)
        return _read_claims(envelope.payload, entry)
    except Refused as refused:
        return Refusal(refused.reason, refused.sentence)


def _read_claims(payload: bytes, entry: TrustEntry) -> RevocationList:
    try:
        claims = parse_object(payload)
    except ValueError as error:
        raise Refused(RefusalReason.MALFORMED, f"its claims are no list: the text {error}; ask the vendor") from None
    _check_names(claims)
    if claims["iss"] != entry.vendor:
        raise Refused(
            RefusalReason.WRONG_VENDOR,
            f"it says that it comes from {quoted(claims['iss'])}, but the key {entry.kid} belongs to {entry.vendor}",
        )
    if claims.get("env", "") != ("test" if entry.is_test else ""):
        reason = RefusalReason.TEST_KEY_FOR_PRODUCTION if entry.is_test else RefusalReason.PRODUCTION_KEY_FOR_TEST
        raise Refused(reason, f'its claim "env" does not fit the key {entry.kid}: test keys say "test", others nothing')
    return RevocationList(
        vendor=entry.vendor,
        is_test=entry.is_test,
        number=_whole(claims, "number", 1, bounds.REVOCATION_NUMBER_MAX),
        revoked=_revoked(claims["revoked"]),
        issued_unix_s=_whole(claims, "iat", 0, bounds.UNIX_S_MAX),
        digest=hashlib.sha256(payload).hexdigest(),
    )


def _check_names(claims: Mapping[str, Any]) -> None:
    for name in claims:
        if name not in (*_CLAIMS, "env"):
            raise Refused(
                RefusalReason.CLAIM_UNKNOWN, f"its claim {quoted(name)} is unknown here; upgrade the broker or ask the vendor"
            )
    for name in _CLAIMS:
        if name not in claims:
            raise Refused(RefusalReason.CLAIM_MISSING, f'it has no claim "{name}"; ask the vendor')


def _whole(claims: Mapping[str, Any], name: str, least: int, most: int) -> int:
    try:
        return whole_field(claims, name, least, most)
    except ValueError as error:
        complaint = f'its claim "{name}" ({quoted(claims[name])}) {error}; ask the vendor'
        raise Refused(RefusalReason.CLAIM_WRONG, complaint) from None


def _revoked(value: object) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > bounds.REVOKED_COUNT_MAX:
        raise Refused(
            RefusalReason.CLAIM_WRONG,
            f'its claim "revoked" is not a list of at most {bounds.REVOKED_COUNT_MAX} licence ids; ask the vendor',
        )
    for one in value:
        if not isinstance(one, str) or not bounds.LICENCE_ID_PATTERN.fullmatch(one):
            raise Refused(
                RefusalReason.CLAIM_WRONG,
                f'its claim "revoked" names {quoted(one)}, which is no licence id; ask the vendor',
            )
    return frozenset(value)
