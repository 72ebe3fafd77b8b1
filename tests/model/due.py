"""When something is next due in the ledger model: the instants of everything that waits for its time, in raw nanoseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.model.clock import Clock
from tests.model.memory import Memory
from tests.model.records import DenialCount, Source, SourceState

SECOND_NS = 1_000_000_000


def instants_of_sources(sources: Iterable[Source]) -> Iterator[int]:
    """Theirs are in raw time anyway."""
    for source in sources:
        if source.state is SourceState.PROVEN:
            yield source.proven_until_ns
        elif source.state is SourceState.LAPSED:
            yield source.grace_until_ns


def instants_of_ledger(clock: Clock, ends_ns: Iterable[int], memory: Memory, pending: Iterable[DenialCount]) -> Iterator[int]:
    """`ends_ns`: of sessions and lingers, in ledger time."""
    memories = [*memory.requests_to_forget, *memory.denials_to_forget]
    yield from (instant_ns + clock.skipped_ns for instant_ns in ends_ns)
    yield from ((entry.forget_at_ns or 0) + clock.skipped_ns for entry in memories)
    yield from ((count.second + 1) * SECOND_NS + clock.skipped_ns for count in pending)
