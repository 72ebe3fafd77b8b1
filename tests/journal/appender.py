"""A process that appends the tests' stream to a log and says how far it is committed, until it is killed.

    python -m tests.journal.appender DIRECTORY GENERATION

Prints `recovered N` once it serves, then `committed N` after each commit; a log that is not the stream's beginning ends it.
"""

from __future__ import annotations

import os
import select
import sys
import threading

from tests.journal.material import BOUNDARIES, GROUP_SIZE, STREAM, begun, opened, recovered

EVENTS_AT_ONCE = 7


def main(directory: str, generation: int) -> None:
    """Appends until the stream ends."""
    reading = opened(directory, generation)
    found = recovered(reading)
    reading.close()
    assert found == STREAM[: len(found)], "this is not what was written"
    journal, queue = begun(directory, generation, group_size_max=GROUP_SIZE)
    told = os.eventfd(0)
    journal.watch(told)
    print("recovered", len(found), flush=True)
    threading.Thread(target=journal.run).start()
    start = BOUNDARIES.index(len(found))
    for index in range(start, len(BOUNDARIES) - EVENTS_AT_ONCE, EVENTS_AT_ONCE):
        while not queue.put(STREAM[BOUNDARIES[index] : BOUNDARIES[index + EVENTS_AT_ONCE]]):
            select.select([told], [], [])
        journal.wake()
        os.eventfd_read(told)
        print("committed", journal.committed, flush=True)
    journal.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
