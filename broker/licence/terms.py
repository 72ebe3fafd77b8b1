"""Licence terms: the vendor's signed rules for the seats of a licence (`semantics.md` 3-4).

What the ledger counts by is `LicenceTerms.pool`, and licences of one product with equal ones are summed into one pool.
The rest is applied outside of the ledger: stacking by the keyring.
A term that we do not know is refused and never ignored: it may be a restriction. A term or model that is known but not
served by this broker yet has a refusal of its own, so that an admin learns to upgrade the broker rather than to ask the
vendor. In a document durations are whole seconds (`_s`); in the values they are nanoseconds (`_ns`). Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from broker.licence import bounds
from broker.licence.refusal import RefusalReason, Refused, quoted
from broker.licence.strict import whole_field
from broker.model.terms import PoolTerms
from broker.model.words import LicenceModel, Sharing

_S: Final = 1_000_000_000
_PLAIN: Final = PoolTerms()


class Stacking(StrEnum):
    """Whether the keys of one host add up, or only the largest counts (`semantics.md` 3)."""

    SUM = "sum"
    ONE_PER_HOST = "one_per_host"


_Word = TypeVar("_Word", LicenceModel, Sharing, Stacking)


@dataclass(frozen=True, slots=True)
class LicenceTerms:
    """What the vendor signed beside the number of seats."""

    pool: PoolTerms = _PLAIN
    stacking: Stacking = Stacking.SUM
    ttl_ns_max: int = 0  # the longest ttl that a session holding the product may have; 0: the broker's own
    requires: tuple[str, ...] = ()  # products that the same session must hold; sorted

    def in_words(self) -> str:
        """The terms for a person: `concurrent, per user, up to 4 sessions a seat`."""
        words = [self.pool.in_words()]
        if self.stacking is Stacking.ONE_PER_HOST:
            words.append("only the largest key of a host counts")
        if self.ttl_ns_max:
            words.append(f"ttl at most {self.ttl_ns_max // _S} s")
        if self.requires:
            words.append(f"needs {', '.join(self.requires)}")
        return ", ".join(words)


# Terms of the format that no part of this broker applies yet. A licence with one is refused: granting its seats
# without the restriction would be more than the vendor signed. Take a name out when its rule is served.
UNSERVED: Final = frozenset({"overdraft", "borrow", "ttl_s_max", "requires"})


def parse_terms(members: Mapping[str, Any], product: str) -> LicenceTerms:
    """The terms in the `terms` object of a licence of `product`, all of which we serve; raises `Refused`."""
    for name in members:
        if name in UNSERVED:
            raise Refused(
                RefusalReason.TERM_UNSUPPORTED,
                f'its term "{name}" is not yet supported by this broker; upgrade it, or ask the vendor for other terms',
            )
    terms = read_terms(members, product)
    if terms.pool.model is not LicenceModel.CONCURRENT:
        raise Refused(
            RefusalReason.MODEL_UNSUPPORTED,
            f'its model "{terms.pool.model.name.lower()}" is not yet supported by this broker; only "concurrent" is',
        )
    return terms


def read_terms(members: Mapping[str, Any], product: str) -> LicenceTerms:
    """The terms in a `terms` object, served or not; raises `Refused` for what is unknown, wrong or contradictory."""
    fields = {name: _field(members, name) for name in members}
    pool = PoolTerms(
        model=fields.get("model", LicenceModel.CONCURRENT),
        sharing=fields.get("sharing", Sharing.SESSION),
        share_max=fields.get("share_max", 0),
        weight=fields.get("weight", 1),
        linger_ns=fields.get("linger_s", 0) * _S,
        min_hold_ns=fields.get("min_hold_s", 0) * _S,
    )
    terms = LicenceTerms(
        pool=pool,
        stacking=fields.get("stacking", Stacking.SUM),
        ttl_ns_max=fields.get("ttl_s_max", 0) * _S,
        requires=fields.get("requires", ()),
    )
    return _consistent(terms, product)


def _field(members: Mapping[str, Any], name: str) -> Any:
    if name not in _READERS:
        raise Refused(
            RefusalReason.TERM_UNKNOWN,
            f"its term {quoted(name)} is unknown here and may be a restriction, so the licence cannot be honoured;"
            " upgrade the broker, or ask the vendor for other terms",
        )
    try:
        return _READERS[name](members, name)
    except ValueError as error:
        complaint = f'its term "{name}" ({quoted(members[name])}) {error}; ask the vendor'
        raise Refused(RefusalReason.TERM_WRONG, complaint) from None


def _consistent(terms: LicenceTerms, product: str) -> LicenceTerms:
    if terms.pool.share_max and terms.pool.sharing is Sharing.SESSION:
        raise Refused(
            RefusalReason.TERM_WRONG,
            'its term "share_max" caps sharing, but "sharing" is per session, which shares nothing; ask the vendor',
        )
    if product in terms.requires:
        raise Refused(
            RefusalReason.TERM_WRONG, f'its term "requires" makes "{product}" need itself; ask the vendor'
        )
    return terms


def terms_claim(terms: LicenceTerms) -> dict[str, Any]:
    """The `terms` object to sign: only what differs from the defaults."""
    pool = terms.pool
    said: dict[str, tuple[bool, Any]] = {
        "model": (pool.model is not LicenceModel.CONCURRENT, pool.model.name.lower()),
        "sharing": (pool.sharing is not Sharing.SESSION, pool.sharing.name.lower()),
        "share_max": (pool.share_max != 0, pool.share_max),
        "weight": (pool.weight != 1, pool.weight),
        "stacking": (terms.stacking is not Stacking.SUM, terms.stacking.value),
        "linger_s": (pool.linger_ns != 0, pool.linger_ns // _S),
        "min_hold_s": (pool.min_hold_ns != 0, pool.min_hold_ns // _S),
        "ttl_s_max": (terms.ttl_ns_max != 0, terms.ttl_ns_max // _S),
        "requires": (bool(terms.requires), list(terms.requires)),
    }
    return {name: value for name, (is_said, value) in said.items() if is_said}


def _word(kind: type[_Word]) -> Callable[[Mapping[str, Any], str], _Word]:
    """Reads the name of a numbered word, in small letters."""
    words = {word.name.lower(): word for word in kind}
    return lambda members, name: _one_of(members[name], words)


def _stacking(members: Mapping[str, Any], name: str) -> Stacking:
    return _one_of(members[name], {word.value: word for word in Stacking})


def _one_of(value: object, words: Mapping[str, _Word]) -> _Word:
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"is none of {', '.join(words)}")
    return words[value]


def _whole(least: int, most: int) -> Callable[[Mapping[str, Any], str], int]:
    return lambda members, name: whole_field(members, name, least, most)


def _products(members: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = members[name]
    if not isinstance(value, list) or not 1 <= len(value) <= bounds.REQUIRES_COUNT_MAX:
        raise ValueError(f"is not a list of 1 to {bounds.REQUIRES_COUNT_MAX} product ids")
    for product in value:
        if not isinstance(product, str) or not bounds.PRODUCT_PATTERN.fullmatch(product):
            raise ValueError(f"names {quoted(product)}, which is no product id")
    if len(set(value)) != len(value):
        raise ValueError("names a product twice")
    return tuple(sorted(value))


_READERS: Final[dict[str, Callable[[Mapping[str, Any], str], Any]]] = {
    "model": _word(LicenceModel),
    "sharing": _word(Sharing),
    "share_max": _whole(1, bounds.SHARE_MAX_MAX),
    "weight": _whole(1, bounds.WEIGHT_MAX),
    "stacking": _stacking,
    "linger_s": _whole(0, bounds.LINGER_S_MAX),
    "min_hold_s": _whole(0, bounds.MIN_HOLD_S_MAX),
    "ttl_s_max": _whole(bounds.TTL_S_MIN, bounds.TTL_S_MAX),
    "requires": _products,
}
