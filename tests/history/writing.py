"""A process that projects a log until it is killed, for the tests of crashes.

    python -m tests.history.writing LOG DATABASE COMMITTED

Writes small stretches as fast as it can, with a line after each; ends when all is projected.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from broker.history.projector import Projector
from broker.history.store import HistoryStore
from tests.history.stories import BROKER_ID


def main(log: Path, database: Path, committed: int) -> None:
    """Projects all."""
    with contextlib.closing(HistoryStore(database, BROKER_ID)) as store:
        projector = Projector(store, log, BROKER_ID, lambda: committed)
        for _ in projector.steps(10):
            print("written up to", projector.state.position, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
