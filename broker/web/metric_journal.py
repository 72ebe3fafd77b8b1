"""The metrics of durability, as pure functions from its view to families of samples: the log, its commits, snapshots, recovery.

With durability "none" there is no journal and these families are absent: a zero would look like a log that is well. The rules of
`metric_families.py` hold here too. What each alert on them means: deploy/prometheus/runbook.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from broker.history.writer import HistoryCounters
from broker.model.durability import DurabilityView
from broker.model.journal import SYNC_BUCKET_BOUNDS_NS, JournalCounters

_STANDING: tuple[tuple[str, str, Callable[[DurabilityView], float]], ...] = (
    ("usher_journal_writable", "0 while the log can be read but not written: nobody new gets in.", lambda now: now.is_writable),
    ("usher_journal_failed", "1 when the disk has refused the log and the broker is about to end.", lambda now: now.is_failed),
    ("usher_journal_learning", "1 while no new charge is taken after an unclean end (relaxed).", lambda now: now.is_learning),
    ("usher_journal_log_limit_bytes", "How large the log may become (journal.log_size_max).", lambda now: now.log_size_max),
    ("usher_journal_ballast_bytes", "Of the file that is given back when the disk is full.", lambda now: now.ballast_size),
    ("usher_last_run_clean", "1 if the run before this one ended in order, or there was none.", lambda now: now.recovery.was_clean),
    ("usher_recovered_sessions", "Sessions that this run began with.", lambda now: now.recovery.sessions),
    ("usher_recovery_seconds", "How long replaying snapshot and log took at the start.", lambda now: now.recovery.duration_ns / 1e9),
    ("usher_snapshot_bytes", "Of the newest snapshot.", lambda now: now.snapshot.size),
    ("usher_snapshot_behind_bytes", "Log behind the newest snapshot: what a start replays.", lambda now: now.snapshot.behind_size),
    ("usher_snapshot_after_bytes", "How much log makes a new snapshot (journal.snapshot_after_size).", lambda now: now.snapshot_after_size),
)
_NOW: tuple[tuple[str, str, Callable[[JournalCounters], float]], ...] = (
    ("usher_journal_position", "Log position up to which all is on the disk.", lambda now: now.committed),
    ("usher_journal_segments", "Files of the log.", lambda now: now.segment_count),
    ("usher_journal_log_bytes", "Of all files of the log, as they stand on the disk.", lambda now: now.log_size),
    ("usher_journal_largest_group_bytes", "The most events committed at once.", lambda now: now.largest_group_size),
    ("usher_journal_spare_missing", "1 while there is no room for the next file of the log.", lambda now: now.spare_errno != 0),
)
_TOTALS: tuple[tuple[str, str, Callable[[JournalCounters], float]], ...] = (
    ("usher_journal_groups", "Groups of events committed.", lambda now: now.groups),
    ("usher_journal_event_bytes", "Of events committed.", lambda now: now.event_size),
    ("usher_journal_written_bytes", "Written to the log, headers included.", lambda now: now.written_size),
    ("usher_journal_segments_begun", "Files of the log begun.", lambda now: now.rolls),
    ("usher_journal_segments_late", "Files of the log for which commits had to wait.", lambda now: now.rolls_without_spare),
    ("usher_journal_segments_retired", "Files of the log removed, as snapshots and history need them no more.", lambda now: now.retired),
)


def journal_families(now: DurabilityView) -> Iterator[Metric]:
    """Everything about durability; nothing with mode "none"."""
    if now.mode == "none":
        return
    for name, documentation, value in _STANDING:
        yield GaugeMetricFamily(name, documentation, value=float(value(now)))
    yield from _snapshots(now)
    if now.counters is not None:
        yield from _log(now.counters)


_HISTORY_TOTALS: tuple[tuple[str, str, Callable[[HistoryCounters], float]], ...] = (
    ("usher_history_events", "Events written into the history.", lambda now: now.events),
    ("usher_history_gap_bytes", "Events that the log had let go before the history read them.", lambda now: now.gap_size),
    ("usher_history_failures", "Times that the history could not be gone on with.", lambda now: now.failures),
)


def history_families(now: HistoryCounters) -> Iterator[Metric]:
    """How far the history is behind the log."""
    yield GaugeMetricFamily("usher_history_behind_bytes", "Committed events that are not in the history yet.", value=now.behind_size)
    for name, documentation, value in _HISTORY_TOTALS:
        yield CounterMetricFamily(name, documentation, value=value(now))


def _snapshots(now: DurabilityView) -> Iterator[Metric]:
    made = CounterMetricFamily("usher_snapshots", "Snapshots tried in this run.", labels=["outcome"])
    made.add_metric(["ok"], now.snapshot.written_count)
    made.add_metric(["failed"], now.snapshot.failed_count)
    yield made
    newest = GaugeMetricFamily("usher_snapshot_timestamp_seconds", "When the newest snapshot was made, Unix time.")
    if now.snapshot.unix_ns:  # a broker too young for one has none, which is not one of 1970
        newest.add_metric([], now.snapshot.unix_ns / 1e9)
    yield newest


def _log(now: JournalCounters) -> Iterator[Metric]:
    for name, documentation, value in _NOW:
        yield GaugeMetricFamily(name, documentation, value=float(value(now)))
    for name, documentation, value in _TOTALS:
        yield CounterMetricFamily(name, documentation, value=value(now))
    yield _syncs(now)


def _syncs(now: JournalCounters) -> Metric:
    family = HistogramMetricFamily("usher_journal_sync_seconds", "How long the disk took to make a group durable.")
    names = [*map(floatToGoString, (bound / 1e9 for bound in SYNC_BUCKET_BOUNDS_NS)), "+Inf"]
    family.add_metric([], list(zip(names, accumulate(now.sync_bucket_counts), strict=True)), sum_value=now.sync_ns / 1e9)
    return family
