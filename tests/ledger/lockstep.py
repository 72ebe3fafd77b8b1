"""The lockstep of ledger and model: one seeded sequence of operations on both, every answer and event compared.

A run is many short episodes, each a new ledger in a world of its own; the seed of the run gives the seed of each. After
every operation the answers are compared and the auditors asked; events when they are drained; all numbers and sessions
every so often and at the end. The first difference stops the run with the seed, the episode and its last operations.

    python -m tests.ledger --seed N --operations M                replays a run
    python -m tests.ledger --seed N --episode K --kind NAME       replays one of its episodes
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from random import Random
from typing import Any

from broker.model.answers import Answer
from tests.ledger.audit import Accusation, ClientAuditor, LogAuditor
from tests.ledger.chooser import Chooser
from tests.ledger.episodes import Episode, kind_names, make_episode
from tests.ledger.operations import Operation, Settings
from tests.ledger.outcomes import Pair, Snapshot, pairs_of
from tests.ledger.sides import LedgerSide, ModelSide, Readings, Result, Side

READ_EVERY = 199
TOLD_OPERATION_COUNT = 12
MakeSide = Callable[[Settings], Side]


class Difference(AssertionError):
    """Ledger and model do not agree, or an auditor accuses."""


@dataclass(slots=True)
class Tally:
    """What a run has met."""

    operation_count: int = 0
    episode_count: int = 0
    pairs: Counter[Pair] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.operation_count += other.operation_count
        self.episode_count += other.episode_count
        self.pairs.update(other.pairs)


class Lockstep:
    """Both sides of one episode, and what has come of it so far."""

    def __init__(self, settings: Settings, make_ledger: MakeSide = LedgerSide) -> None:
        self.settings = settings
        self._ledger = make_ledger(settings)
        self.model_side = ModelSide(settings)
        self.model = self.model_side.model
        self._client_auditor = ClientAuditor(settings)
        self._log_auditor = LogAuditor()
        self._snapshot = Snapshot.of(self.model)
        self.tally = Tally()

    def step(self, operation: Operation) -> Result:
        """One operation on both sides. Raises Difference."""
        expected, got = self._do(operation)
        if expected != got:
            raise Difference(f"{operation.name} answered\n  {got}\nand not, as the model does,\n  {expected}")
        self._audit(operation, expected)
        after = Snapshot.of(self.model)
        self.tally.pairs.update(pairs_of(operation, expected, self._snapshot, after, self.model))
        self.tally.operation_count += 1
        self._snapshot = after
        return expected

    def _do(self, operation: Operation) -> tuple[Result, Result]:
        if operation.name == "drain":
            self.drain(operation.arguments["size_max"])
            return None, None
        if operation.name == "read":
            self.read(operation.now_ns)
            return None, None
        if operation.name == "restart":
            self.restart(operation)
            return None, None
        got = self._ledger.apply(operation)
        return self.model_side.apply(operation), got

    def _audit(self, operation: Operation, result: Result) -> None:
        try:
            self._client_auditor.saw(operation, result)
        except Accusation as accusation:
            raise Difference(f"the auditor of the clients: {accusation}") from accusation

    def drain(self, size_max: int) -> None:
        """Takes events from both and compares them."""
        has_all = self.model.log.dropped_total == 0
        expected = self.model_side.drain(size_max)
        got = self._ledger.drain(size_max)
        if expected != got:
            raise Difference(f"events differ: {_first_difference(expected, got)}")
        if self.settings.arguments.get("is_lossy"):
            return  # what is left of a story is nothing to audit
        try:
            self._log_auditor.saw(got, has_all)
        except Accusation as accusation:
            raise Difference(f"the auditor of the log: {accusation}") from accusation

    def restart(self, operation: Operation) -> None:
        """Both go on from their events alone, and are then as like as before."""
        self.drain(self.settings.arguments["event_ring_size"])
        self._ledger.restart(operation)
        self.model_side.restart(operation)
        self._client_auditor.saw(operation, None)
        self.read(operation.now_ns)

    def read(self, now_ns: int) -> None:
        """Compares all products, pools, counters and sessions, and when something is next due."""
        self._client_auditor.pass_time(now_ns)
        expected, got = self.model_side.readings(now_ns), self._ledger.readings(now_ns)
        for line in differences(expected, got):
            raise Difference(line)
        next_ns, next_ns_max = self._ledger.next_due_ns(now_ns), self.model_side.next_due_ns(now_ns)
        if next_ns > next_ns_max:
            raise Difference(f"next due at {next_ns}, too late for what is due at {next_ns_max}")

    def finish(self, now_ns: int) -> None:
        self.drain(self.settings.arguments["event_ring_size"])
        self.read(now_ns)
        self.tally.episode_count += 1


def _first_difference(expected: Sequence[Any], got: Sequence[Any]) -> str:
    for index, (mine, theirs) in enumerate(zip(expected, got, strict=False)):
        if mine != theirs:
            return f"number {index} is\n  {theirs}\nand not, as the model has it,\n  {mine}"
    longer, who = (expected, "the model") if len(expected) > len(got) else (got, "the ledger")
    return f"only {who} has\n  {longer[min(len(expected), len(got))]}"


def differences(expected: Readings, got: Readings) -> Iterator[str]:
    """In words, what the second one has otherwise of what the first one names."""
    for sort, mine in expected.items():
        theirs = got[sort]
        if len(mine) != len(theirs):
            yield f"{len(theirs)} {sort} and not {len(mine)}"
        for my_view, their_view in zip(mine, theirs, strict=False):
            for name, value in my_view.items():
                other = their_view[name] if isinstance(their_view, dict) else getattr(their_view, name)
                if other != value:
                    yield f"{sort}: {name} is\n  {other}\nand not, as the model has it,\n  {value}\nin {my_view}"


# --- runs ------------------------------------------------------------------------------------------------------
class Failure(Exception):
    """A difference, and where it was."""

    def __init__(
        self, seed: int, index: int, episode: Episode, operations: list[Operation], what: str
    ) -> None:
        super().__init__(seed, index, episode, operations, what)
        self.episode = episode
        self.operations = operations
        last = "\n".join(f"  {operation}" for operation in operations[-TOLD_OPERATION_COUNT:])
        self._told = (
            f"seed {seed}, episode {index} ({episode.name}), after {len(operations)} operations, the last being\n"
            f"{last}\n{what}\n"
            f"replay: python -m tests.ledger --seed {seed} --episode {index} --kind {episode.name} --shrink"
        )

    def __str__(self) -> str:
        return self._told


def run_episode(seed: int, index: int, kind_name: str, make_ledger: MakeSide = LedgerSide) -> Tally:
    """One episode. Raises Failure."""
    rng = Random(f"{seed}/{index}")  # its own, so that one can be replayed without those before it
    episode = make_episode(rng, kind_name)
    done: list[Operation] = []
    try:
        pair = Lockstep(episode.settings, make_ledger)
        chooser = Chooser(rng, episode, pair.model)
        for number in range(episode.operation_count):
            operation = chooser.next()
            done.append(operation)
            result = pair.step(operation)
            if isinstance(result, Answer):
                chooser.saw(operation, result)
            if number % READ_EVERY == 0:
                pair.read(operation.now_ns)
        pair.finish(done[-1].now_ns)
    except (AssertionError, ValueError) as difference:
        raise Failure(seed, index, episode, done, str(difference)) from difference
    return pair.tally


def run(seed: int, operation_count: int, make_ledger: MakeSide = LedgerSide, only: str | None = None) -> Tally:
    """Episodes of all kinds, by their shares, or of one kind only, until so many operations are done. Raises Failure."""
    tally = Tally()
    for index, kind_name in enumerate(kind_names() if only is None else repeat(only)):
        tally.add(run_episode(seed, index, kind_name, make_ledger))
        if tally.operation_count >= operation_count:
            break
    return tally
