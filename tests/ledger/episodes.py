"""The episodes of a lockstep run: small worlds, each made to meet some of the ledger's rules often.

An episode is one ledger from its making to its end: settings, names, how time moves, and how often which intent is chosen.
Everything is drawn from one `random.Random`, so that the seed is the episode. Names and counts are few on purpose: only
then do sharing, instance take-over, retries, expiry and deficits meet each other. Durations in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from broker.model.terms import PoolTerms
from broker.model.words import LicenceModel, Sharing
from tests.ledger.operations import PoolDeclaration, Settings

SECOND_NS = 1_000_000_000
START_NS = 1_000 * SECOND_NS
RING_SIZE_MIN = 1 << 17
RING_SIZE_AMPLE = 1 << 22

# How often each intent of the chooser is chosen, against the others.
EVERYDAY = {
    "open": 13,
    "open_partly": 2,
    "reopen": 7,
    "open_wrong": 4,
    "renew": 8,
    "renew_forged": 0.5,
    "renew_told": 2,
    "acquire": 10,
    "acquire_partly": 3,
    "acquire_wrong": 0.7,
    "release": 7,
    "close": 5,
    "revoke": 2,
    "late": 4,
    "again": 9,
    "again_inside": 4,
    "changed": 1,
    "changed_inside": 2,
    "advance": 14,
    "prove": 5,
    "lose": 2,
    "siege": 0.7,
    "gather": 0.4,
    "heal_some": 0.3,
    "leave_key_grace": 1,
    "ask_in_key_grace": 1,
    "set_starting": 1,
    "declare": 0.3,
    "drain_broker": 0.35,
    "restart": 0.35,
    "read_only": 0.35,
    "learn": 0.7,
    "write_down": 0.5,
    "drain": 5,
    "read": 0.5,
}


@dataclass(frozen=True, slots=True)
class Episode:
    """What the chooser needs to know of its world."""

    name: str
    settings: Settings
    weights: dict[str, float]
    operation_count: int
    users: tuple[bytes, ...] = (b"ann", b"bob", b"eve")
    hosts: tuple[bytes, ...] = (b"desk", b"hall")
    apps: tuple[bytes, ...] = (b"", b"crm.exe")
    labels: tuple[bytes, ...] = (b"", b"", b"tty1")
    identities: tuple[bytes, ...] = (b"", b"", b"cn=site")
    instance_ids: tuple[bytes, ...] = (b"", b"", b"i1", b"i2")
    products: tuple[str, ...] = ()
    """Declared or not: the last one never is."""
    item_count_max: int = 3
    optional_share: float = 0.35
    source_count: int = 6
    seats_max: int = 5
    proof_ns_max: int = 15 * SECOND_NS
    step_ns_max: int = 120_000_000
    still_share: float = 0.45
    jump_share: float = 0.04
    drain_size_max: int = RING_SIZE_AMPLE
    is_stocked: bool = True
    """All sources are proven at the start."""


# --- settings ------------------------------------------------------------------------------------------------
def _arguments(rng: Random, **fixed: int) -> dict[str, int]:
    ttl_ns = rng.choice((SECOND_NS, 2 * SECOND_NS, 3 * SECOND_NS, 3_000_400_000))
    arguments = {
        "start_ns": START_NS,
        "ttl_ns": ttl_ns,
        "renew_grace_ns": rng.choice((0, 300_000_000, SECOND_NS)),
        "request_window_ns": rng.choice((SECOND_NS, 2 * SECOND_NS, 4 * SECOND_NS)),
        "denial_window_ns": rng.choice((300_000_000, SECOND_NS, 2 * SECOND_NS)),
        "stall_ns": rng.choice((0, 0, SECOND_NS, 3 * SECOND_NS)),
        "sessions_max": 2_000,
        "leases_max": 20_000,
        "charges_max": 20_000,
        "requests_max": 20_000,
        "denials_max": 20_000,
        "event_ring_size": RING_SIZE_AMPLE,
    }
    return arguments | fixed


def random_terms(rng: Random) -> PoolTerms:
    return PoolTerms(
        model=rng.choice(list(LicenceModel)),
        sharing=rng.choice(list(Sharing)),
        share_max=rng.choice((0, 0, 1, 2, 3)),
        weight=rng.choice((1, 1, 1, 2, 3)),
        linger_ns=rng.choice((0, 0, 300_000_000, SECOND_NS)),
        min_hold_ns=rng.choice((0, 0, 500_000_000, 2 * SECOND_NS)),
    )


def _pools(
    rng: Random, products: tuple[str, ...], per_product: tuple[int, ...]
) -> tuple[PoolDeclaration, ...]:
    return tuple(
        PoolDeclaration(product, random_terms(rng), rng.random() < 0.2)
        for product in products
        for _ in range(rng.choice(per_product))
    )


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"product-{number}" for number in range(count))


# --- the kinds -----------------------------------------------------------------------------------------------
def _everyday(rng: Random, operation_count: int) -> Episode:
    names = _names(rng.randint(2, 4))
    settings = Settings(_arguments(rng), _pools(rng, names, (1, 1, 2, 3)))
    return Episode(
        "everyday",
        settings,
        EVERYDAY,
        operation_count,
        products=(*names, "ghost"),
        seats_max=rng.randint(1, 6),
    )


def _tight(bound: str, bound_max: int, more: dict[str, float], rng: Random, operation_count: int) -> Episode:
    """One bound within reach, and often what runs into it."""
    episode = _everyday(rng, operation_count)
    arguments = episode.settings.arguments | {bound: rng.randint(2, bound_max)}
    settings = replace(episode.settings, arguments=arguments)
    weights = EVERYDAY | more
    return replace(episode, settings=settings, weights=weights, seats_max=8, step_ns_max=60_000_000)


def _keys(rng: Random, operation_count: int) -> Episode:
    """Sources come, go, move and lapse; many charges of many priorities stand on them."""
    names = _names(rng.choice((1, 2, 2, 3)))
    settings = Settings(_arguments(rng, ttl_ns=3 * SECOND_NS), _pools(rng, names, (1, 1, 2)))
    weights = EVERYDAY | {
        "open": 26,
        "prove": 8,
        "lose": 6,
        "advance": 18,
        "renew": 14,
        "acquire": 12,
        "siege": 4,
        "gather": 2.2,
        "renew_told": 4,
    }
    return Episode(
        "keys",
        settings,
        weights,
        operation_count,
        users=(b"ann", b"bob", b"eve", b"dan", b"kim", b"zoe"),
        products=(*names, "ghost"),
        source_count=rng.randint(2, 6),
        seats_max=12,
        proof_ns_max=rng.choice((4, 8)) * SECOND_NS,
        step_ns_max=60_000_000,
    )


def _full_ring(rng: Random, operation_count: int) -> Episode:
    """The smallest ring, seldom drained, then drained a little."""
    names = _names(rng.randint(2, 4))
    settings = Settings(
        _arguments(rng, event_ring_size=RING_SIZE_MIN, request_window_ns=SECOND_NS),
        _pools(rng, names, (1, 2)),
    )
    weights = EVERYDAY | {
        "drain": 2,
        "restart": 0.03,
        "late": 12,
        "open_wrong": 0.5,
        "prove": 14,
        "lose": 8,
        "release": 12,
        "close": 8,
        "revoke": 4,
    }
    return Episode(
        "full_ring",
        settings,
        weights,
        operation_count,
        products=(*names, "ghost"),
        item_count_max=4,
        seats_max=12,
        drain_size_max=2_048,
    )


def _starved_ring(rng: Random, operation_count: int) -> Episode:
    """Nothing is drained while keys come and go, until even the reserve is used up."""
    names = _names(2)
    settings = Settings(_arguments(rng, event_ring_size=RING_SIZE_MIN), _pools(rng, names, (1, 2)))
    weights = {
        "prove": 40,
        "lose": 20,
        "open": 14,
        "acquire": 4,
        "advance": 16,
        "late": 15,
        "release": 5,
        "close": 2,
        "revoke": 3,
        "write_down": 9,
        "drain": 0.01,
    }
    return Episode(
        "starved_ring",
        settings,
        weights,
        operation_count,
        products=(*names, "ghost"),
        drain_size_max=8_192,
        source_count=4,
        proof_ns_max=SECOND_NS // 5,
        still_share=0.3,
    )


def _storm(rng: Random, operation_count: int) -> Episode:
    """More denials in a second than are told singly."""
    names = _names(rng.randint(1, 2))
    arguments = _arguments(rng, stall_ns=0, ttl_ns=20 * SECOND_NS, denial_window_ns=60 * SECOND_NS)
    return Episode(
        "storm",
        Settings(arguments, _pools(rng, names, (0, 1, 1))),
        EVERYDAY | {"denial_storm": 400, "quiet": 170, "advance": 25},
        operation_count,
        products=(*names, "ghost"),
        seats_max=2,
        item_count_max=2,
        proof_ns_max=100 * SECOND_NS,
        still_share=0.8,
    )


def _wide(rng: Random, operation_count: int) -> Episode:
    """Bundles as large as they may be, and more that is due than one advance does."""
    names = _names(rng.randint(18, 22))
    pools = tuple(PoolDeclaration(name, _wide_terms(rng), False) for name in names)
    arguments = _arguments(rng, ttl_ns=3 * SECOND_NS, stall_ns=0, request_window_ns=SECOND_NS)
    weights = EVERYDAY | {"acquire": 5, "acquire_many": 48, "prove_all": 2, "lose_all": 0.7, "crowd": 0.7}
    return Episode(
        "wide",
        Settings(arguments, pools),
        weights,
        operation_count,
        products=(*names, "ghost"),
        item_count_max=16,
        optional_share=0.7,
        source_count=len(names),
        seats_max=90,
        proof_ns_max=60 * SECOND_NS,
        step_ns_max=30_000_000,
        jump_share=0.01,
    )


def _wide_terms(rng: Random) -> PoolTerms:
    """Mostly a charge for each session, and all of them linger."""
    sharing = rng.choice((Sharing.SESSION, Sharing.SESSION, Sharing.SESSION, Sharing.USER))
    linger_ns = rng.choice((SECOND_NS, 2 * SECOND_NS))
    return replace(random_terms(rng), sharing=sharing, linger_ns=linger_ns, share_max=0)


@dataclass(frozen=True, slots=True)
class _Kind:
    """`share` of the operations of a run, in episodes of `operation_count`."""

    make: Callable[[Random, int], Episode]
    share: float
    operation_count: int


KINDS = {
    "everyday": _Kind(_everyday, 0.135, 2_000),
    "tight_sessions": _Kind(partial(_tight, "sessions_max", 4, {}), 0.035, 1_000),
    "tight_leases": _Kind(partial(_tight, "leases_max", 6, {"acquire": 30}), 0.06, 1_000),
    "tight_charges": _Kind(partial(_tight, "charges_max", 6, {"acquire": 20}), 0.04, 1_000),
    "tight_requests": _Kind(partial(_tight, "requests_max", 10, {"release": 40}), 0.05, 1_000),
    "tight_denials": _Kind(partial(_tight, "denials_max", 4, {"release": 20}), 0.02, 1_000),
    "keys": _Kind(_keys, 0.23, 2_000),
    "full_ring": _Kind(_full_ring, 0.08, 4_000),
    "starved_ring": _Kind(_starved_ring, 0.05, 6_000),
    "storm": _Kind(_storm, 0.26, 6_000),
    "wide": _Kind(_wide, 0.05, 1_500),
}


def make_episode(rng: Random, name: str) -> Episode:
    kind = KINDS[name]
    return replace(kind.make(rng, kind.operation_count), name=name)


def within_one_run(episode: Episode) -> Episode:
    """The same without restarts."""
    return replace(episode, weights={name: weight for name, weight in episode.weights.items() if name != "restart"})


def kind_names() -> Iterator[str]:
    """The kinds of a run's episodes, endlessly: always the one that is most behind its share."""
    done = dict.fromkeys(KINDS, 0.0)
    while True:
        name = min(done, key=lambda each: (done[each] + KINDS[each].operation_count / 2) / KINDS[each].share)
        yield name
        done[name] += KINDS[name].operation_count
