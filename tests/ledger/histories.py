"""Logs of random ledgers, for whoever replays them: one episode's commands, and all events that they made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from broker.model.answers import Answer
from tests.ledger.chooser import Chooser
from tests.ledger.episodes import make_episode
from tests.ledger.lockstep import Lockstep
from tests.ledger.operations import Settings
from tests.ledger.sides import BROKER_ID, SECRET, LedgerSide, ledger_class

RING_SIZE = 1 << 24
"""Holds an episode, so that nobody needs to drain it."""
GENERATION_LAST = 1_000


@dataclass(frozen=True, slots=True)
class History:
    """What a ledger was made with, how it is, and all events that led there."""

    settings: Settings
    ledger: Any
    events: bytes

    def new(self, generation: int = GENERATION_LAST, **more: int) -> Any:
        """Another ledger in which nothing has happened, of a later start."""
        arguments = self.settings.arguments | {"event_ring_size": 1 << 20} | more
        return ledger_class()(broker_id=BROKER_ID, secret=SECRET, generation=generation, **arguments)

    def replayed(self, *parts: bytes, **more: int) -> Any:
        ledger = self.new(**more)
        for part in parts:
            ledger.replay(part)
        return ledger


def history_of(seed: str, kind: str, operation_count: int) -> History:
    """An episode in which the process is never gone. The events end with a mark of the time, which brings the log to the ledger's."""
    rng = Random(seed)
    episode = make_episode(rng, kind)
    settings = Settings(episode.settings.arguments | {"event_ring_size": RING_SIZE}, episode.settings.pools)
    weights = {name: weight for name, weight in episode.weights.items() if name not in ("restart", "drain")}
    side = LedgerSide(settings)
    pair = Lockstep(settings, lambda _settings: side)
    chooser = Chooser(rng, replace(episode, settings=settings, weights=weights), pair.model)
    for _ in range(operation_count):
        operation = chooser.next()
        result = pair.step(operation)
        if isinstance(result, Answer):
            chooser.saw(operation, result)
    side.ledger.mark_wall(pair.model.clock.raw_ns, 2**60)
    events, _, lost_size = side.ledger.read_events(0, RING_SIZE)
    assert lost_size == 0
    return History(settings, side.ledger, events)
