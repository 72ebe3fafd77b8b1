"""`usher serve` whose log dies at a named place, or syncs slowly: `python -m tests.crash.serve PLACE SYNC_DELAY_MS EARLY serve --config ...`.

PLACE is one of the log's crash points with a count ("after_sync:3", ext/journal/crash.pxi), or "-". EARLY is "-", or "early" for a planted
error: answers leave before the log has them. All else is the broker as it is.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from broker.app import foundation
from broker.app.config import Config
from broker.app.durability import Durability
from broker.cli.main import main
from broker.journal.settings import JournalSettings

PROGRAM = ("-m", "tests.crash.serve")
"""Before the three words and `serve`."""


def plant(place: str, sync_delay_ms: int) -> None:
    """Puts the settings of a test in the place of those that the configuration gives."""
    configured = foundation.journal_settings

    def planted(config: Config, accepts_restored: bool) -> JournalSettings:
        crash_point = None if place == "-" else place
        return replace(configured(config, accepts_restored), crash_point=crash_point, sync_delay_ns=sync_delay_ms * 1_000_000)

    foundation.journal_settings = planted


def answer_early() -> None:
    """Plants the error that a strict broker must not have."""
    Durability.is_holding = property(lambda durability: False)  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    plant(sys.argv[1], int(sys.argv[2]))
    if sys.argv[3] == "early":
        answer_early()
    del sys.argv[1:4]
    sys.exit(main())
