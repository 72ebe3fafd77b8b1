"""Capacity decisions: which licences give seats now, and what has to be told to the ledger for that.

`decide` compares what should count (licences in their period whose key is proven) with what was last told, and returns
the difference as commands. It is level-triggered: it does not matter which event it is called after, or whether one was
missed. Proofs come before losses, so that a licence that replaces another in one reload leaves no gap between them; only
for a series of which one key a host counts does the smaller key lose first, since the two never count together.
Every loss has the grace of the key behind it (`grace.py`), whatever its cause: `semantics.md` 7-9. Pure; any thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.licence import Licence, LicenceTerms, Period, Stacking
from broker.model.terms import PoolTerms
from broker.model.words import EndReason

_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class PoolIdentity:
    """What makes licences one pool."""

    product: str
    terms: PoolTerms
    is_emulated: bool


def pool_of(licence: Licence) -> PoolIdentity:
    """The pool that a licence's seats belong to."""
    return PoolIdentity(licence.product, licence.terms.pool, licence.is_test)


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """What a key is good for: its last proof's end (0: none), the end of its grace, why it would be lost, and whether it
    is an emulated one."""

    proven_until_ns: int
    grace_until_ns: int
    loss_cause: EndReason = EndReason.KEY_LOST
    is_emulated: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """What the ledger was last told about a licence."""

    licence: Licence
    proven_until_ns: int
    grace_until_ns: int
    is_lost: bool = False
    cause: EndReason = EndReason.NONE  # of its loss


@dataclass(frozen=True, slots=True)
class ProveSource:
    """The licence gives its seats until `proven_until_ns`."""

    licence: Licence
    proven_until_ns: int
    grace_until_ns: int


@dataclass(frozen=True, slots=True)
class LoseSource:
    """The licence gives nothing from now; charges may stay until `grace_until_ns`."""

    licence: Licence
    grace_until_ns: int
    cause: EndReason


@dataclass(frozen=True, slots=True)
class RemoveSource:
    """The grace of a lost licence is over."""

    licence: Licence


Command = ProveSource | LoseSource | RemoveSource


@dataclass(frozen=True, slots=True)
class Decision:
    """The commands, in order; by a licence's digest the thumbprint of the key that displaces it in its series; and until
    when the decision stands if nothing happens, by either clock."""

    commands: tuple[Command, ...]
    set_aside: Mapping[str, str]
    stands_until_ns: int
    stands_until_unix_s: int


def decide(
    now_ns: int,
    now_unix_s: int,
    licences: Iterable[Licence],
    standings: Mapping[str, KeyStanding],
    given: Mapping[str, Given],
    revoked: frozenset[str] = frozenset(),
) -> Decision:
    """What to tell the ledger now. `standings` is by thumbprint, `given` by a licence's digest; `revoked` are digests."""
    accepted = {licence.digest: licence for licence in licences}
    live = {
        digest: licence
        for digest, licence in accepted.items()
        if licence.period_at(now_unix_s) is Period.VALID
        and _stands_behind(standings.get(licence.thumbprint), licence, now_ns)
    }
    set_aside = _displaced(live, given)
    wanted = {digest: licence for digest, licence in live.items() if digest not in set_aside}
    proofs = _proofs(wanted, standings, given)
    losses = _losses(now_ns, now_unix_s, wanted, accepted, standings, given, revoked)
    early = [loss for loss in losses if loss.licence.terms.stacking is Stacking.ONE_PER_HOST]
    late = [loss for loss in losses if loss.licence.terms.stacking is not Stacking.ONE_PER_HOST]
    removals = [
        RemoveSource(one.licence) for one in given.values() if one.is_lost and one.grace_until_ns <= now_ns
    ]
    removals = [one for one in removals if one.licence.digest not in wanted]
    return Decision(
        (*early, *proofs, *late, *removals),
        set_aside,
        _next_instant(now_ns, standings, given, losses),
        _next_period(now_unix_s, accepted.values()),
    )


def may_stand_behind(licence: Licence, is_emulated_key: bool) -> bool:
    """Whether a licence may be proven by such a key. An emulated key is a file that anybody can copy: no right of use may
    hang on it, only what says EMULATED itself (`semantics.md` 33)."""
    return licence.is_test or not is_emulated_key


def _stands_behind(standing: KeyStanding | None, licence: Licence, now_ns: int) -> bool:
    return standing is not None and _is_live(standing, now_ns) and may_stand_behind(licence, standing.is_emulated)


def _is_live(standing: KeyStanding | None, now_ns: int) -> bool:
    return standing is not None and standing.proven_until_ns > now_ns


def _proofs(
    wanted: Mapping[str, Licence], standings: Mapping[str, KeyStanding], given: Mapping[str, Given]
) -> list[ProveSource]:
    """A command for each licence whose key has a newer proof than was told."""
    commands = []
    for digest, licence in wanted.items():
        standing = standings[licence.thumbprint]
        told = given.get(digest)
        if told is None or told.is_lost or told.proven_until_ns != standing.proven_until_ns:
            commands.append(ProveSource(licence, standing.proven_until_ns, standing.grace_until_ns))
    return commands


def _losses(
    now_ns: int,
    now_unix_s: int,
    wanted: Mapping[str, Licence],
    accepted: Mapping[str, Licence],
    standings: Mapping[str, KeyStanding],
    given: Mapping[str, Given],
    revoked: frozenset[str],
) -> list[LoseSource]:
    """A command for each licence that was given and no longer counts."""
    commands = []
    for digest, told in given.items():
        if digest in wanted or told.is_lost:
            continue
        standing = standings.get(told.licence.thumbprint)
        cause = loss_cause(
            told.licence,
            standing,
            is_revoked=digest in revoked,
            is_withdrawn=digest not in accepted,
            is_key_live=_is_live(standing, now_ns),
            now_unix_s=now_unix_s,
        )
        commands.append(LoseSource(told.licence, max(now_ns, told.grace_until_ns), cause))
    return commands


def loss_cause(
    licence: Licence,
    standing: KeyStanding | None,
    *,
    is_revoked: bool,
    is_withdrawn: bool,
    is_key_live: bool,
    now_unix_s: int,
) -> EndReason:
    """Why a licence that gave seats gives none now: what is most final comes first."""
    if is_revoked:
        return EndReason.LICENCE_ENDED
    if is_withdrawn:
        return EndReason.POLICY_CHANGED
    if licence.period_at(now_unix_s) is not Period.VALID:
        return EndReason.LICENCE_ENDED
    if is_key_live:
        return EndReason.POLICY_CHANGED
    return standing.loss_cause if standing is not None else EndReason.KEY_LOST


def _displaced(live: Mapping[str, Licence], given: Mapping[str, Given]) -> dict[str, str]:
    """The licences that do not count because another key of their series on this host gives more; and which key."""
    seats: dict[tuple[str, LicenceTerms, bool, str], dict[str, int]] = {}
    counting: set[tuple[tuple[str, LicenceTerms, bool, str], str]] = set()
    for digest, licence in live.items():
        if licence.terms.stacking is Stacking.ONE_PER_HOST:
            keys = seats.setdefault(_series(licence), {})
            keys[licence.thumbprint] = keys.get(licence.thumbprint, 0) + licence.seats
            if digest in given and not given[digest].is_lost:
                counting.add((_series(licence), licence.thumbprint))
    # Between equals the one that counts already stays, so that a second key changes nothing.
    chosen = {
        series: max(keys, key=lambda one: (keys[one], (series, one) in counting, one))
        for series, keys in seats.items()
    }
    return {
        digest: chosen[_series(licence)]
        for digest, licence in live.items()
        if licence.terms.stacking is Stacking.ONE_PER_HOST and chosen[_series(licence)] != licence.thumbprint
    }


def _series(licence: Licence) -> tuple[str, LicenceTerms, bool, str]:
    return licence.product, licence.terms, licence.is_test, licence.vendor


def _next_instant(
    now_ns: int, standings: Mapping[str, KeyStanding], given: Mapping[str, Given], losses: Iterable[LoseSource]
) -> int:
    proofs = (one.proven_until_ns for one in standings.values() if one.proven_until_ns > now_ns)
    graces = (one.grace_until_ns for one in given.values() if one.is_lost and one.grace_until_ns > now_ns)
    begun = (one.grace_until_ns for one in losses if one.grace_until_ns > now_ns)
    return min((*proofs, *graces, *begun), default=_NEVER)


def _next_period(now_unix_s: int, licences: Iterable[Licence]) -> int:
    edges = (
        edge for one in licences for edge in (one.not_before_unix_s, one.expires_unix_s) if edge is not None
    )
    return min((edge for edge in edges if edge > now_unix_s), default=_NEVER)
