"""Seeds that once failed, by name: each is run with the tests for ever.

A seed names a course only as long as worlds are made in the same way. Who changes that finds a seed for a scenario anew (plant the error again, and
look), or says here that its error has a test of its own now.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenario:
    """One seed, and what it found."""

    name: str
    seed: int


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("a renewal is the first thing that a broker does after it was stopped, before any charge that has to go is gone", 1245),
)
