"""Commands in batches answer as the same commands one by one do: answers, events and numbers.

Beside ledger and model a second ledger gets the same operations, neighbours of one instant in one batch. A command about a session
that its own batch opens begins a new one, since its id is not known before.
"""

from __future__ import annotations

import secrets
from random import Random

import pytest

from broker._ledger import LIMITS, Batch
from broker.model.answers import Answer
from broker.model.events import Event
from broker.model.words import Status
from tests.ledger.chooser import Chooser
from tests.ledger.episodes import KINDS, make_episode, within_one_run
from tests.ledger.lockstep import Lockstep, differences
from tests.ledger.operations import Operation, Settings
from tests.ledger.sides import LedgerSide, Result

OPERATION_COUNT = 1_500
IN_BATCHES = ("open", "renew", "acquire", "release", "close")


class BatchSide(LedgerSide):
    """A ledger that gets in batches what clients ask."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._batch = Batch(LIMITS["BATCH_MAX"])
        self._waiting: list[tuple[Operation, Answer]] = []
        self.batch_size_max = 0

    def take(self, operation: Operation, expected: Result) -> None:
        """Any operation but draining and reading, which flush first."""
        if self._waiting and self._must_flush_before(operation):
            self.flush()
        if isinstance(expected, Answer):
            self._waiting.append((operation, expected))
            self._add(operation)
        else:
            assert self.apply(operation) == expected

    def _must_flush_before(self, operation: Operation) -> bool:
        is_opened_here = any(operation.opened_by == each.number for each, _ in self._waiting)
        is_later = operation.now_ns != self._waiting[0][0].now_ns
        is_full = len(self._waiting) == self._batch.count_max
        return operation.name not in IN_BATCHES or is_opened_here or is_later or is_full

    def _add(self, operation: Operation) -> None:
        add = getattr(self._batch, f"add_{operation.name}")
        if operation.name == "open":
            add(self.ledger, **operation.arguments)
        else:
            add(self.ledger, self.session_of(operation)[0], **operation.arguments)

    def flush(self) -> None:
        if not self._waiting:
            return
        self.ledger.execute(self._waiting[0][0].now_ns, self._batch)
        assert list(self._batch.statuses()) == [expected.status for _, expected in self._waiting]
        for index, (operation, expected) in enumerate(self._waiting):
            assert self.noted(operation, self._batch.answer(self.ledger, index)) == expected, str(operation)
        self.batch_size_max = max(self.batch_size_max, len(self._waiting))
        self._batch.clear()
        self._waiting.clear()


def _drained(pair: Lockstep, operation: Operation) -> list[Event]:
    """What a drain takes from the model."""
    before = pair.model.log.events
    pair.step(operation)
    return before[: len(before) - len(pair.model.log.events)]


@pytest.mark.parametrize("kind_name", KINDS)
def test_a_batch_answers_as_its_commands_one_by_one(kind_name: str) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = Random(seed)
    episode = within_one_run(make_episode(rng, kind_name))
    pair, side = Lockstep(episode.settings), BatchSide(episode.settings)
    chooser = Chooser(rng, episode, pair.model)
    for _ in range(OPERATION_COUNT):
        operation = chooser.next()
        if operation.name == "drain":
            side.flush()
            assert side.drain(operation.arguments["size_max"]) == _drained(pair, operation)
        elif operation.name != "read":
            result = pair.step(operation)
            side.take(operation, result)
            if isinstance(result, Answer):
                chooser.saw(operation, result)
    side.flush()
    assert not list(differences(pair.model_side.readings(operation.now_ns), side.readings(operation.now_ns)))
    assert side.batch_size_max > 1


def test_a_batch_tells_the_session_ids_of_its_grants_and_zeros_elsewhere() -> None:
    side = BatchSide(make_episode(Random(1), "everyday").settings)
    ledger = side.ledger
    start_ns = make_episode(Random(1), "everyday").settings.arguments["start_ns"]
    ledger.prove_source(start_ns, 0, 0, 5, start_ns + 1_000, start_ns + 1_000)
    product = ledger.pools()[0].product
    batch = Batch(2)
    for name in (product, "ghost"):
        batch.add_open(
            ledger, request_id=bytes(16), user=name.encode(), host=b"desk", products=[(name, False)]
        )
    ledger.execute(start_ns, batch)
    granted, denied = batch.answer(ledger, 0), batch.answer(ledger, 1)
    assert (granted.status, denied.status) == (Status.GRANTED, Status.DENIED)
    assert batch.session_ids() == granted.session_id + bytes(32)
