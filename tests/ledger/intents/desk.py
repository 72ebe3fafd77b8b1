"""The desk at which intents become operations: numbers, the clock's hand, who opened what, who asked what.

The model is read, never changed. All choices come from one `random.Random`; times are nanoseconds in raw time.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from broker.model.answers import Answer, DenialView
from broker.model.words import Status
from tests.ledger.episodes import Episode
from tests.ledger.operations import NOBODY, Operation
from tests.model.ledger_model import LedgerModel
from tests.model.records import Holder, Session

HISTORY_COUNT = 40

Items = list[tuple[str, bool]]


class Desk:
    """What all intents of one episode share."""

    def __init__(self, rng: Random, episode: Episode, model: LedgerModel) -> None:
        self.rng = rng
        self.episode = episode
        self.model = model
        self.now_ns = episode.settings.arguments["start_ns"]
        self.coming: deque[Operation] = deque()
        self.plans: deque[str] = deque()
        """Intents to be followed next, each with the state that it then finds."""
        self.asked: dict[bytes, Operation] = {}
        """By request_id: the first operation that had it."""
        self.openers: dict[int, Operation] = {}
        """By fence: the Open."""
        self._past_openers: deque[int] = deque([NOBODY], maxlen=HISTORY_COUNT)
        self._number = 0

    def put(
        self, name: str, arguments: dict[str, Any], opened_by: int = NOBODY, is_forged: bool = False
    ) -> None:
        operation = Operation(self._number, name, self.now_ns, arguments, opened_by, is_forged)
        self.coming.append(operation)
        self._number += 1
        if "request_id" in arguments:
            self.asked.setdefault(arguments["request_id"], operation)

    def saw(self, operation: Operation, answer: Answer) -> None:
        """What came of an Open."""
        if answer.status is Status.GRANTED and not answer.is_replayed:
            self.openers[answer.fence] = operation
            self._past_openers.append(operation.number)

    @property
    def raw_ns(self) -> int:
        """The instant that the ledger will see: never before the last."""
        return max(self.now_ns, self.model.clock.raw_ns)

    # --- whom and what ---------------------------------------------------------------------------------------
    def opener_of(self, session: Session) -> int:
        return self.openers[session.fence].number

    def live_session(self) -> Session | None:
        """Some session that has not ended, though perhaps its deadline has passed."""
        return self.rng.choice(list(self.model.live.values())) if self.model.live else None

    def somebody(self) -> tuple[int, Session | None]:
        """A session that lives, by the Open that opened it; now and then one that does not."""
        session = self.live_session()
        if session is None or self.rng.random() < 0.08:
            return self.rng.choice(self._past_openers), None
        return self.opener_of(session), session

    def request_id(self) -> bytes:
        return self.rng.randbytes(16)

    def holder(self) -> Holder:
        rng, episode = self.rng, self.episode
        return Holder(
            user=rng.choice(episode.users),
            host=rng.choice(episode.hosts),
            app=rng.choice(episode.apps),
            label=rng.choice(episode.labels),
            instance_id=rng.choice(episode.instance_ids),
            identity=rng.choice(episode.identities),
        )

    def products(self, *, least: int = 1, besides: Session | None = None) -> Items:
        """Some products, at least one of them required; mostly such as the session does not hold."""
        rng, episode = self.rng, self.episode
        declared, ghost = episode.products[:-1], episode.products[-1]
        if besides is not None and rng.random() < 0.6:
            held = [lease.pool.product.name for lease in besides.active_leases()]
            declared = tuple(name for name in declared if name not in held) or declared
        count = min(rng.randint(least, max(least, episode.item_count_max)), len(declared))
        names = rng.sample(declared, count)
        if rng.random() < 0.06:
            names[rng.randrange(count)] = ghost
        items = [(name, rng.random() < episode.optional_share) for name in names]
        if all(is_optional for _, is_optional in items):
            items[0] = (names[0], False)
        return items

    def split_products(self, session: Session) -> tuple[list[str], list[str]]:
        """Those that it would be given now, and those that it would be denied."""
        given: list[str] = []
        denied: list[str] = []
        for name in self.episode.products:
            is_denied = isinstance(self.model.charges.decide(name, session, None), DenialView)
            (denied if is_denied else given).append(name)
        return given, denied

    def partly(self, session: Session) -> Items:
        """One product that it would be given, and as options those that it would be denied."""
        given, denied = self.split_products(session)
        if not given:
            return self.products()
        chosen = self.rng.sample(denied, min(3, len(denied)))
        return [(self.rng.choice(given), False), *((name, True) for name in chosen)]


def nobody(holder: Holder) -> Session:
    """A session that does not exist yet, to ask what it would be given."""
    return Session(0, holder, 0, 0, 0, 0)
