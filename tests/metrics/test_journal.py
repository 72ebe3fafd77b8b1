"""The metrics of durability: every reading where it belongs, and none of it where nothing is journaled."""

from dataclasses import replace

import pytest

from broker.model.durability import DurabilityView, SnapshotView
from broker.model.journal import SYNC_BUCKET_BOUNDS_NS
from tests.metrics.readings import HISTORY, JOURNALED, Bench


def shown(view: DurabilityView = JOURNALED) -> Bench:
    return Bench(journaled=view)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("usher_journal_writable", 1),
        ("usher_journal_failed", 0),
        ("usher_journal_learning", 1),
        ("usher_journal_log_limit_bytes", 1 << 32),
        ("usher_journal_ballast_bytes", 1 << 26),
        ("usher_last_run_clean", 0),
        ("usher_recovered_sessions", 3),
        ("usher_recovery_seconds", 0.25),
        ("usher_snapshot_bytes", 8_192),
        ("usher_snapshot_behind_bytes", 512),
        ("usher_snapshot_after_bytes", 1 << 26),
        ("usher_snapshot_timestamp_seconds", 1_790_000_100),
        ("usher_journal_position", 70_000),
        ("usher_journal_segments", 2),
        ("usher_journal_log_bytes", 2 << 24),
        ("usher_journal_largest_group_bytes", 1_280),
        ("usher_journal_spare_missing", 0),
        ("usher_journal_groups_total", 10),
        ("usher_journal_event_bytes_total", 6_400),
        ("usher_journal_written_bytes_total", 6_560),
        ("usher_journal_segments_begun_total", 3),
        ("usher_journal_segments_late_total", 1),
        ("usher_journal_segments_retired_total", 2),
    ],
)
def test_reading_is_exposed_as_it_is(name: str, value: float) -> None:
    assert shown().value(name) == value


def test_snapshots_are_counted_by_what_became_of_them() -> None:
    assert shown().value("usher_snapshots_total", outcome="ok") == 2
    assert shown().value("usher_snapshots_total", outcome="failed") == 1


def test_sync_times_are_a_cumulative_histogram_in_seconds() -> None:
    bench = shown()
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in bench.families()
        for sample in family.samples
        if sample.name == "usher_journal_sync_seconds_bucket"
    ]
    assert [bound for bound, _ in buckets] == [*(bound / 1e9 for bound in SYNC_BUCKET_BOUNDS_NS), float("inf")]
    assert [count for _, count in buckets][:6] == [0, 4, 9, 9, 10, 10]
    assert bench.value("usher_journal_sync_seconds_count") == 10
    assert bench.value("usher_journal_sync_seconds_sum") == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("usher_history_behind_bytes", 10_000),
        ("usher_history_events_total", 900),
        ("usher_history_gap_bytes_total", 640),
        ("usher_history_failures_total", 2),
    ],
)
def test_history_shows_how_far_behind_it_is(name: str, value: float) -> None:
    assert Bench(journaled=JOURNALED, history=HISTORY).value(name) == value
    assert Bench(journaled=JOURNALED).value(name) is None


def test_full_disk_shows_before_it_is_fatal() -> None:
    assert JOURNALED.counters is not None
    full = replace(JOURNALED, counters=replace(JOURNALED.counters, spare_errno=28))
    assert shown(full).value("usher_journal_spare_missing") == 1


def test_renew_only_shows_in_a_gauge_of_its_own() -> None:
    assert shown(replace(JOURNALED, is_writable=False, counters=None)).value("usher_journal_writable") == 0


def test_broker_too_young_for_a_snapshot_has_no_time_of_one() -> None:
    young = replace(JOURNALED, snapshot=SnapshotView())
    assert shown(young).value("usher_snapshot_timestamp_seconds") is None
    assert shown(young).value("usher_snapshot_bytes") == 0


def test_without_a_journal_there_is_none_of_it() -> None:
    names = set(shown(DurabilityView("none")).series())
    assert not {name for name in names if "journal" in name or "snapshot" in name or "recover" in name}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"is_learning": False}, "fine"),
        ({}, "learning"),
        ({"is_writable": False}, "renew_only"),
        ({"is_failed": True, "is_writable": False}, "failed"),
    ],
)
def test_worst_of_what_stands_in_the_way_is_the_word_for_it(changes: dict[str, bool], word: str) -> None:
    assert replace(JOURNALED, **changes).status == word  # type: ignore[arg-type]
