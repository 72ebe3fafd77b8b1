"""A process that keeps the tests' stream in a store, with snapshots, and says how far it is committed, until it dies at its crash point.

    python -m tests.journal.keeper DIRECTORY GENERATION CRASH_POINT

Prints `recovered N` once it serves, then `committed N` after each commit.
"""

from __future__ import annotations

import os
import select
import sys

from tests.journal.lives import Life
from tests.journal.material import STREAM, events_from

EVENTS_AT_ONCE = 9
SNAPSHOT_EVERY = 6
WRITTEN_SIZE = 60_000


def main(directory: str, generation: int, crash_point: str) -> None:
    """Commits, and now and then compacts, until so much is written."""
    life = Life(directory, generation, crash_point=crash_point)
    assert life.ledger.events == STREAM[: life.report.position], "this is not what was written"
    print("recovered", life.report.position, flush=True)
    told = os.eventfd(0)
    life.store.journal.watch(told)
    life.store.start()
    for number in range(1, 10_000):
        assert life.queue.put(events_from(life.base + life.queue.position, EVENTS_AT_ONCE))
        life.store.journal.wake()
        select.select([told], [], [])
        os.eventfd_read(told)
        print("committed", life.store.committed, flush=True)
        if number % SNAPSHOT_EVERY == 0:
            life.compactor.compact()
        if life.queue.position > WRITTEN_SIZE:
            break
    life.end()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
