"""What a lockstep run does next: random, seeded, and aware of the state, so that every rule is met often.

The model is read (never changed) to choose what is likely to matter: a session that lives, the instant at which something is
due, a product that is held. First the clock's hand moves, then an intent is chosen by the episode's weights and
becomes operations; an intent may plan others to follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from random import Random

from broker.model.answers import Answer
from tests.ledger.episodes import SECOND_NS, Episode
from tests.ledger.intents.clients import ClientIntents
from tests.ledger.intents.desk import Desk
from tests.ledger.intents.keys import KeyIntents
from tests.ledger.intents.passage import PassageIntents
from tests.ledger.intents.retries import RetryIntents
from tests.ledger.intents.runs import RunIntents
from tests.ledger.operations import Operation
from tests.model.ledger_model import LedgerModel


class Chooser:
    """One episode's source of operations."""

    def __init__(self, rng: Random, episode: Episode, model: LedgerModel) -> None:
        self._rng = rng
        self._episode = episode
        self._model = model
        self._desk = desk = Desk(rng, episode, model)
        clients, keys = ClientIntents(desk), KeyIntents(desk)
        self._groups = (clients, RetryIntents(desk), keys, PassageIntents(desk, clients, keys), RunIntents(desk))
        self._intents = [self._intent(name) for name in episode.weights]
        self._weight_sums = list(accumulate(episode.weights.values()))
        if episode.is_stocked:
            keys.prove_all()

    def _intent(self, name: str) -> Callable[[], None]:
        (found,) = (getattr(group, name) for group in self._groups if hasattr(group, name))
        return found  # type: ignore[no-any-return]

    def next(self) -> Operation:
        desk = self._desk
        while not desk.coming:
            if desk.plans:
                self._intent(desk.plans.popleft())()
            else:
                desk.now_ns = self._next_instant_ns()
                (intent,) = self._rng.choices(self._intents, cum_weights=self._weight_sums)
                intent()
        return desk.coming.popleft()

    def saw(self, operation: Operation, answer: Answer) -> None:
        """What came of an Open."""
        self._desk.saw(operation, answer)

    # --- time ------------------------------------------------------------------------------------------------
    def _next_instant_ns(self) -> int:
        rng, share = self._rng, self._rng.random()
        episode, now_ns = self._episode, self._desk.now_ns
        if share < episode.still_share:
            return now_ns
        if share < episode.still_share + episode.jump_share:
            return self._jump_ns()
        stall_ns = self._model.clock.stall_ns
        if share > 0.993 and stall_ns:
            return now_ns + stall_ns + rng.choice((0, 1, rng.randrange(3 * SECOND_NS)))
        if share > 0.98:
            return max(0, now_ns - rng.randrange(SECOND_NS))
        return now_ns + rng.randrange(1, episode.step_ns_max)

    def _jump_ns(self) -> int:
        """To an instant at which something is due, or a nanosecond beside it; without making it a stall."""
        raw_ns, stall_ns = self._model.clock.raw_ns, self._model.clock.stall_ns
        instants = self._instants_ns()
        instant_ns = min(instants) if self._rng.random() < 0.7 else self._rng.choice(instants)
        target_ns = max(raw_ns, instant_ns + self._rng.choice((-1, 0, 0, 1)))
        return min(target_ns, raw_ns + (stall_ns or 2 * SECOND_NS))

    def _instants_ns(self) -> list[int]:
        """The first of each sort, in raw time."""
        model = self._model
        skipped_ns = model.clock.skipped_ns
        ends = [session.deadline_ns for session in model.live.values()]
        lingering = [charge.free_at_ns or 0 for charge in model.charges.lingering()]
        memories = [entry.forget_at_ns or 0 for entry in model.memory.requests_to_forget[:1]]
        denials = [entry.forget_at_ns or 0 for entry in model.memory.denials_to_forget[:1]]
        second_ns = (model.clock.ledger_ns // SECOND_NS + 1) * SECOND_NS
        found = [min(sort) + skipped_ns for sort in (ends, lingering, memories, denials, [second_ns]) if sort]
        sources = model.capacity.sources.values()
        found += [min(source.proven_until_ns for source in sources)] if sources else []
        found += [min(source.grace_until_ns for source in sources)] if sources else []
        return found
