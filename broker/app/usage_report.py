"""The usage report of Admin, from the history's database: opened for each report, to read only, in whichever thread asks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from broker.app.config import Config
from broker.app.data_directory import DataDirectory
from broker.history.errors import HistoryError
from broker.history.queries import Span, usage
from broker.history.schema import open_to_read
from broker.verbs.seams import NoHistory, ProductUse, UsageReport


def usage_report(config: Config, directory: DataDirectory) -> UsageReport | None:
    """What answers GetUsageReport; None if this broker writes no history."""
    if not (config.journal.is_kept and config.journal.history_days):
        return None
    database = directory.path / "history" / "history.db"
    return lambda since_ns, until_ns: _report(database, since_ns, until_ns)


def _report(database: Path, since_ns: int, until_ns: int) -> Sequence[ProductUse]:
    try:
        with contextlib.closing(open_to_read(database)) as connection:
            found = usage(connection, Span(since_ns, until_ns))
    except HistoryError as error:
        raise NoHistory(str(error)) from None
    return [ProductUse(one.product, one.seats_peak, one.seats_mean, one.denial_count) for one in found]
