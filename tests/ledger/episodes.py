"""The episodes of a lockstep run: small worlds, each made to meet some of the ledger's rules often.

An episode is one ledger from its making to its end: settings, names, how time moves, and how often which intent is chosen.
Everything is drawn from one `random.Random`, so that the seed is the episode. Names and counts are few on purpose: only
then do sharing, instance take-over, retries, expiry and deficits meet each other. Durations in nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    "open": 20,
    "open_wrong": 3,
    "renew": 9,
    "renew_forged": 0.5,
    "acquire": 10,
    "acquire_wrong": 0.5,
    "release": 7,
    "close": 6,
    "revoke": 2,
    "again": 14,
    "changed": 4,
    "advance": 13,
    "prove": 5,
    "lose": 3,
    "set_starting": 1,
    "declare": 0.2,
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
    labels: tuple[bytes, ...] = (b"", b"tty1")
    identities: tuple[bytes, ...] = (b"", b"", b"cn=site")
    instance_ids: tuple[bytes, ...] = (b"", b"", b"i1", b"i2")
    products: tuple[str, ...] = ()
    """Declared or not: the last one never is."""
    item_count_max: int = 3
    optional_share: float = 0.25
    source_count: int = 6
    seats_max: int = 5
    proof_ns_max: int = 8 * SECOND_NS
    step_ns_max: int = 120_000_000
    still_share: float = 0.45
    jump_share: float = 0.06
    drain_size_max: int = RING_SIZE_AMPLE
    is_stocked: bool = True
    """All sources are proven at the start."""


def make_episode(rng: Random, name: str) -> Episode:
    return _MAKERS[name](rng)


def choose_episode(rng: Random) -> Episode:
    """One of the kinds, by their shares of the run."""
    (name,) = rng.choices(list(SHARES), list(SHARES.values()))
    return make_episode(rng, name)


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
def _everyday(rng: Random) -> Episode:
    names = _names(rng.randint(2, 4))
    settings = Settings(_arguments(rng), _pools(rng, names, (1, 1, 2, 3)))
    return Episode(
        "everyday", settings, EVERYDAY, 2_000, products=(*names, "ghost"), seats_max=rng.randint(1, 6)
    )


def _tight(rng: Random) -> Episode:
    """One bound, sometimes two, within reach."""
    bounds = {
        "sessions_max": rng.randint(3, 8),
        "leases_max": rng.randint(4, 12),
        "charges_max": rng.randint(3, 8),
        "requests_max": rng.randint(6, 20),
        "denials_max": rng.randint(2, 6),
    }
    reached = rng.sample(list(bounds), rng.choice((1, 1, 2)))
    episode = _everyday(rng)
    arguments = episode.settings.arguments | {name: bounds[name] for name in reached}
    settings = replace(episode.settings, arguments=arguments)
    weights = EVERYDAY | {"acquire": 16, "advance": 8}
    return replace(
        episode, name="tight", settings=settings, weights=weights, operation_count=1_000, seats_max=8
    )


def _keys(rng: Random) -> Episode:
    """Sources come, go, move and lapse; charges of many priorities stand on them."""
    names = _names(rng.randint(1, 3))
    settings = Settings(_arguments(rng, ttl_ns=3 * SECOND_NS), _pools(rng, names, (1, 1, 2)))
    weights = EVERYDAY | {
        "open": 26,
        "prove": 8,
        "lose": 9,
        "advance": 18,
        "renew": 14,
        "acquire": 12,
        "close": 8,
    }
    return Episode(
        "keys",
        settings,
        weights,
        2_000,
        users=(b"ann", b"bob", b"eve", b"dan", b"kim", b"zoe"),
        products=(*names, "ghost"),
        source_count=rng.randint(2, 6),
        seats_max=8,
        proof_ns_max=rng.choice((4, 8)) * SECOND_NS,
        step_ns_max=60_000_000,
    )


def _full_ring(rng: Random) -> Episode:
    """The smallest ring, seldom drained, then drained a little."""
    names = _names(rng.randint(2, 4))
    settings = Settings(
        _arguments(rng, event_ring_size=RING_SIZE_MIN, request_window_ns=SECOND_NS),
        _pools(rng, names, (1, 2)),
    )
    weights = EVERYDAY | {
        "drain": 4,
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
        5_000,
        products=(*names, "ghost"),
        item_count_max=4,
        seats_max=12,
        drain_size_max=2_048,
    )


def _starved_ring(rng: Random) -> Episode:
    """Nothing is drained while keys come and go, until even the reserve is used up."""
    names = _names(2)
    settings = Settings(_arguments(rng, event_ring_size=RING_SIZE_MIN), _pools(rng, names, (1, 2)))
    weights = {"prove": 60, "lose": 40, "open": 14, "acquire": 4, "advance": 6, "close": 2, "drain": 0.02}
    return Episode(
        "starved_ring",
        settings,
        weights,
        5_000,
        products=(*names, "ghost"),
        drain_size_max=8_192,
        source_count=4,
        proof_ns_max=SECOND_NS,
        still_share=0.6,
    )


def _storm(rng: Random) -> Episode:
    """More denials in a second than are told singly."""
    names = _names(rng.randint(1, 2))
    settings = Settings(
        _arguments(rng, stall_ns=0, denial_window_ns=rng.choice((1, 3)) * SECOND_NS),
        _pools(rng, names, (0, 1, 1)),
    )
    weights = EVERYDAY | {"denial_storm": 150, "advance": 30, "lose": 10, "prove": 4}
    return Episode(
        "storm",
        settings,
        weights,
        12_000,
        products=(*names, "ghost"),
        seats_max=2,
        item_count_max=2,
        still_share=0.8,
        jump_share=0.1,
        is_stocked=False,
    )


def _wide(rng: Random) -> Episode:
    """Bundles as large as they may be, and more that is due than one advance does."""
    names = _names(rng.randint(18, 22))
    terms = [
        replace(random_terms(rng), linger_ns=rng.choice((SECOND_NS, 2 * SECOND_NS)), share_max=0)
        for _ in names
    ]
    pools = tuple(PoolDeclaration(name, each, False) for name, each in zip(names, terms, strict=True))
    arguments = _arguments(rng, ttl_ns=3 * SECOND_NS, stall_ns=0, request_window_ns=SECOND_NS)
    weights = EVERYDAY | {
        "open": 30,
        "acquire": 8,
        "acquire_many": 20,
        "advance": 14,
        "prove": 10,
        "lose": 4,
        "lose_all": 2,
        "prove_all": 3,
        "silence": 3,
        "open_wrong": 1,
    }
    return Episode(
        "wide",
        Settings(arguments, pools),
        weights,
        1_500,
        products=(*names, "ghost"),
        item_count_max=16,
        optional_share=0.6,
        source_count=len(names),
        seats_max=60,
        proof_ns_max=30 * SECOND_NS,
        step_ns_max=30_000_000,
        instance_ids=(b"", b"", b"", b"i1"),
    )


_MAKERS = {
    "everyday": _everyday,
    "tight": _tight,
    "keys": _keys,
    "full_ring": _full_ring,
    "starved_ring": _starved_ring,
    "storm": _storm,
    "wide": _wide,
}
SHARES: dict[str, float] = {
    "everyday": 0.20,
    "tight": 0.28,
    "keys": 0.14,
    "full_ring": 0.05,
    "starved_ring": 0.01,
    "storm": 0.02,
    "wide": 0.06,
}
"""Shares of the episodes, which are of different lengths."""
assert SHARES.keys() == _MAKERS.keys()
EPISODE_KINDS = tuple(_MAKERS)
