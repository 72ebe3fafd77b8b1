"""A broker whose disk takes longer: so many nanoseconds are added to each sync of its log.

    python -m loadtests.bench.slow_disk 4000000 serve --config FILE      as `usher`, behind it

There is no setting for that: the journal has the parameter for tests and benches, and it is put in here. The product holds nothing of this.
"""

from __future__ import annotations

import dataclasses
import sys

from broker.app import foundation
from broker.app.config import Config
from broker.cli.main import main
from broker.journal.settings import JournalSettings


def slow(delay_ns: int) -> None:
    """Every journal of this process from now on."""
    usual = foundation.journal_settings

    def slowed(config: Config, accepts_restored: bool) -> JournalSettings:
        return dataclasses.replace(usual(config, accepts_restored), sync_delay_ns=delay_ns)

    foundation.journal_settings = slowed


if __name__ == "__main__":
    slow(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
