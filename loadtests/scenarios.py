"""The load scenarios: what each asks, with whom, for how long, against which keys. Values only.

Fleets are sized to the question: too few seats where denials belong to it, plenty where they would be a fault. Key "alpha" is
the one that is pulled. `seconds_short` is for the time table of a push.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Scenario:
    """One locust run; `name` is its file in locustfiles/ too."""

    name: str
    question: str
    user_count: int
    spawn_per_s: int
    seconds: int
    seconds_short: int
    fleet: Sequence[Mapping[str, Any]]
    pulls_alpha: bool = False
    expects_denials: bool = False
    """A run without a denial has not asked its question."""


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        "login_rush",
        "How long does a login take when everybody comes at once, and some find no seat?",
        user_count=120,
        spawn_per_s=120,
        seconds=20,
        seconds_short=6,
        fleet=(
            {"name": "alpha", "seats": {"platform": 3}},
            {"name": "bravo", "seats": {"platform": 5, "crm": 6}},
        ),
        expects_denials=True,
    ),
    Scenario(
        "steady_renew",
        "Does every renewal of a working day come through?",
        user_count=100,
        spawn_per_s=50,
        seconds=20,
        seconds_short=6,
        fleet=({"name": "alpha", "seats": {"platform": 50}}, {"name": "bravo", "seats": {"platform": 50}}),
    ),
    Scenario(
        "mixed_bundles",
        "Are bundles whole, retries the same session, and crashed apps no second seat?",
        user_count=50,
        spawn_per_s=25,
        seconds=20,
        seconds_short=6,
        fleet=(
            {"name": "alpha", "seats": {"platform": 10}},
            {"name": "bravo", "seats": {"platform": 10, "crm": 5, "telephony": 2}},
        ),
        expects_denials=True,
    ),
    Scenario(
        "key_pulled",
        "Who is let in, and who goes on working, while a key comes and goes?",
        user_count=60,
        spawn_per_s=30,
        seconds=20,
        seconds_short=8,
        fleet=({"name": "alpha", "seats": {"platform": 20}}, {"name": "bravo", "seats": {"platform": 25}}),
        pulls_alpha=True,
        expects_denials=True,
    ),
)
"""In the order in which they run."""

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

CEILING = Scenario(
    "ceiling",
    "How fast is one process of locust against a server that does nothing?",
    user_count=20,
    spawn_per_s=20,
    seconds=8,
    seconds_short=4,
    fleet=(),
)
