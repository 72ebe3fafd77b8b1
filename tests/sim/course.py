"""What a seed decides before anything happens: how large the world is, how bad its network, its disk and its people are.

All times are short beside the real ones, and in their proportions: a session's ttl is some seconds, key grace some tens of seconds,
so that a course of a minute sees sessions expire, keys return, and their grace end.

    long     a minute among up to seven holders, three keys, three products
    brief    some seconds among few, in which people and fate do everything `pace` times as fast: a fifth of the cost, and most of what can meet

Every `LONG_EACH`th seed is long, all others are brief: errors need more courses rather than longer ones, and some need long ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from broker.licence import Licence, LicenceTerms
from broker.model.terms import PoolTerms
from broker.model.words import Sharing
from tests.sim.agenda import MS, S

BROKER_ID = b"simulate"
PRODUCTS = ("platform", "crm", "fax")
UNIX_S = 1_800_000_000
"""Wall time when a world begins."""
LONG_EACH = 16
BRIEF_PACE = 4


class Scale(Enum):
    """How large a course is."""

    LONG = "long"
    BRIEF = "brief"


@dataclass(frozen=True, slots=True)
class Course:
    """One seed's choices. Probabilities are from 0 to 1."""

    seed: int
    scale: Scale
    pace: int
    """How many times as fast as in a long course people and fate act."""
    mood: str
    """Which faults it is most about: mixed, crashes, keys."""
    durability: str
    """strict, relaxed or none."""
    licences: tuple[Licence, ...]
    thumbprints: tuple[str, ...]
    holder_count: int
    instance_share: float
    """Of holders who name their instance."""
    ttl_ns: int
    renew_grace_ns: int
    request_window_ns: int
    proof_ttl_ns: int
    grace_ns: int
    grace_refill_ns: int
    loss: float
    duplicate: float
    delay_ns_max: int
    sync_ns_max: int
    patience_ns: int
    """How long a holder waits for an answer before it asks again."""
    fault_interval_ns: int
    """Between two strokes of fate, on average."""
    snapshot_interval_ns: int
    duration_ns: int
    """Of the part with faults."""
    calm_ns: int
    """In which everybody who wants in is answered."""
    settling_ns: int
    """Beyond what the rules allow, until a seat is free."""
    coming_ns: int
    """In which new holders are answered."""
    scan_interval_ns: int
    """Of the bus of keys."""

    @property
    def products(self) -> tuple[str, ...]:
        """What there is, and one product that nobody has a licence for."""
        return tuple(dict.fromkeys(licence.product for licence in self.licences))


def ledger_settings(course: Course) -> dict[str, Any]:
    """What every ledger of the course is made with, but for its generation and start."""
    return {
        "broker_id": BROKER_ID,
        "secret": course.seed.to_bytes(16, "little"),
        "ttl_ns": course.ttl_ns,
        "renew_grace_ns": course.renew_grace_ns,
        "request_window_ns": course.request_window_ns,
        "denial_window_ns": 1 * S,
        "stall_ns": 1 * S,
        "sessions_max": 256,
        "leases_max": 1024,
        "charges_max": 512,
        "requests_max": 1024,
        "denials_max": 256,
        "text_size_max": 65536,
        "event_ring_size": 131072,
    }


def scale_of(seed: int) -> Scale:
    """A seed's own."""
    return Scale.BRIEF if seed % LONG_EACH else Scale.LONG


def course_of(seed: int, scale: Scale | None = None) -> Course:
    """The same for the same seed (and scale, if it is not to be the seed's own), in every process."""
    chance = Random(seed)
    return (_long if (scale or scale_of(seed)) is Scale.LONG else _brief)(seed, chance)


def _long(seed: int, chance: Random) -> Course:
    mood = chance.choices(("mixed", "crashes", "keys"), (50, 30, 20))[0]
    ttl_ns = chance.randrange(3, 9) * S
    durability = chance.choices(("strict", "relaxed", "none"), (86, 10, 4))[0]
    thumbprints = tuple(f"key{number}" for number in range(chance.choice((1, 2, 2, 3))))
    proof_ttl_ns = chance.randrange(6, 12) * S
    return Course(
        seed=seed,
        scale=Scale.LONG,
        pace=1,
        mood=mood,
        durability=durability,
        licences=_licences(chance, thumbprints),
        thumbprints=thumbprints,
        holder_count=chance.randrange(2, 8),
        instance_share=chance.choice((0.0, 0.5, 1.0)),
        ttl_ns=ttl_ns,
        renew_grace_ns=chance.randrange(1, 4) * S,
        request_window_ns=chance.randrange(20, 40) * S,
        proof_ttl_ns=proof_ttl_ns,
        grace_ns=10 * S if mood == "keys" else chance.choice((4, 10, 20)) * S,
        grace_refill_ns=chance.choice((40, 120)) * S,
        loss=0.0 if mood == "keys" else chance.choice((0.0, 0.02, 0.1, 0.3)),
        duplicate=chance.choice((0.0, 0.02, 0.1)),
        delay_ns_max=chance.choice((2, 20, 600)) * MS,
        sync_ns_max=chance.choice((1, 5, 200) if durability == "strict" else (5, 3000)) * MS,
        patience_ns=chance.choice((300, 1000)) * MS,
        fault_interval_ns=chance.choice({"mixed": (3, 6, 15), "crashes": (3, 6), "keys": (8,)}[mood]) * S,
        snapshot_interval_ns=chance.choice((3, 10, 1000)) * S,
        duration_ns=45 * S if mood == "keys" else chance.choice((15, 25, 45)) * S,
        calm_ns=6 * S,
        settling_ns=3 * S,
        coming_ns=1 * S,
        scan_interval_ns=800 * MS,
    )


def _brief(seed: int, chance: Random) -> Course:
    mood = chance.choices(("mixed", "crashes", "keys"), (50, 35, 15))[0]
    durability = chance.choices(("strict", "relaxed", "none"), (86, 11, 3))[0]
    thumbprints = tuple(f"key{number}" for number in range(chance.choice((1, 1, 2))))
    return Course(
        seed=seed,
        scale=Scale.BRIEF,
        pace=BRIEF_PACE,
        mood=mood,
        durability=durability,
        licences=_licences(chance, thumbprints, BRIEF_PACE),
        thumbprints=thumbprints,
        holder_count=chance.randrange(2, 5),
        instance_share=chance.choice((0.0, 0.5, 1.0)),
        ttl_ns=chance.randrange(4, 9) * 250 * MS,
        renew_grace_ns=chance.randrange(1, 4) * 250 * MS,
        request_window_ns=chance.randrange(5, 10) * S,
        proof_ttl_ns=chance.randrange(4, 8) * 500 * MS,
        grace_ns=4 * S if mood == "keys" else chance.choice((1, 2, 5)) * S,
        grace_refill_ns=chance.choice((10, 40)) * S,
        loss=0.0 if mood == "keys" else chance.choice((0.0, 0.02, 0.1, 0.3)),
        duplicate=chance.choice((0.0, 0.02, 0.1)),
        delay_ns_max=chance.choice((2, 20, 200)) * MS,
        sync_ns_max=chance.choice((1, 5, 200) if durability == "strict" else (5, 1500)) * MS,
        patience_ns=chance.choice((100, 300)) * MS,
        fault_interval_ns=chance.choice({"mixed": (600, 1200, 2500), "crashes": (600, 1200), "keys": (1500,)}[mood]) * MS,
        snapshot_interval_ns=chance.choice((1, 3, 1000)) * S,
        duration_ns=10 * S if mood == "keys" else chance.choice((2, 3, 5)) * S,
        calm_ns=3 * S,
        settling_ns=1200 * MS,
        coming_ns=400 * MS,
        scan_interval_ns=1500 * MS,
    )


def _licences(chance: Random, thumbprints: tuple[str, ...], pace: int = 1) -> tuple[Licence, ...]:
    """One product or more on each key; the keys of a product mostly with equal terms, so that they are summed."""
    usual = {product: _terms(chance, pace) for product in PRODUCTS}
    licences: list[Licence] = []
    for thumbprint in thumbprints:
        for product in chance.sample(PRODUCTS, chance.choice((1, 1, 2))):
            terms = usual[product] if chance.random() < 0.8 else _terms(chance, pace)
            licences.append(_licence(len(licences), thumbprint, product, chance.randrange(1, 4), terms))
    return tuple(licences)


def _terms(chance: Random, pace: int) -> PoolTerms:
    return PoolTerms(
        sharing=chance.choice((Sharing.SESSION, Sharing.SESSION, Sharing.USER, Sharing.HOST, Sharing.USER_HOST)),
        share_max=chance.choice((0, 0, 2)),
        weight=chance.choice((1, 1, 1, 2)),
        linger_ns=chance.choice((0, 0, 2 * S)) // pace,
        min_hold_ns=chance.choice((0, 0, 5 * S)) // pace,
    )


def _licence(number: int, thumbprint: str, product: str, seats: int, terms: PoolTerms) -> Licence:
    return Licence(
        licence_id=f"L{number}",
        vendor="Acme",
        product=product,
        seats=seats * terms.weight,
        thumbprint=thumbprint,
        issued_unix_s=UNIX_S - 1000,
        not_before_unix_s=UNIX_S - 1000,
        expires_unix_s=None,
        is_test=True,
        customer="",
        terms=LicenceTerms(pool=terms),
        kid="k",
        digest=f"digest{number}",
    )
