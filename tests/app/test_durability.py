"""Durability over a log that is real, and a committer that is not run: what starts, what is looked after, what is shown, what ends."""

import dataclasses
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.app import durability, foundation
from broker.app.config import BrokerSection, Config, JournalSection
from broker.app.data_directory import opened
from broker.app.durability import Durability
from broker.app.foundation import Foundation, founded
from broker.errors import DataDirectoryError
from broker.journal.store import JournalStore
from broker.model.events import EventsFull, decode_events
from broker.model.words import EventKind
from broker.verbs.commits import OPEN_GATE

SIZES = {"segment_size": 1 << 16, "snapshot_after_size": 1 << 16, "ballast_size": 0}


def config(path: Path, **entries: Any) -> Config:
    return dataclasses.replace(Config(), broker=BrokerSection(data_dir=path), journal=JournalSection(**(SIZES | entries)))


@contextmanager
def ground(path: Path, **entries: Any) -> Iterator[tuple[Durability, Foundation]]:
    """One life on a data directory; the committer is not started unless the test does it."""
    settings = config(path, **entries)
    with opened(path, make_room=lambda: False) as directory, founded(settings, directory) as found:
        yield Durability(settings, directory, found), found


def live(path: Path, **entries: Any) -> None:
    """A life that ends in order."""
    with ground(path, **entries) as (kept, _):
        kept.start(lambda: None)
        kept.follow()
        kept.close_gate()
        kept.stop()


def die(kept: Durability, found: Foundation) -> None:
    """Starts and is gone: as far as its log is concerned."""
    kept.start(lambda: None)
    kept.follow()
    kept.close_gate()
    running = kept._running
    assert running is not None
    assert running._compactor is not None
    running._compactor.stop()
    running.store.stop()
    if running.history is not None:
        running.history.stop()
    assert running._watch is not None
    running._watch.stop()


def refused_log(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """The log cannot be begun: an errno for each time that it is tried, then it can."""
    left = list(numbers)
    begin = JournalStore.begin

    def failing(self: JournalStore, ledger: Any) -> None:
        if left:
            raise OSError(left.pop(0), "refused")
        begin(self, ledger)

    monkeypatch.setattr(JournalStore, "begin", failing)


async def test_life_that_ended_in_order_is_known_as_one(tmp_path: Path) -> None:
    with ground(tmp_path) as (first, found):
        assert found.facts.was_clean  # there was none before
        first.start(lambda: None)
        first.close_gate()
        first.stop()
    with ground(tmp_path) as (second, found):
        assert found.facts.was_clean
        assert found.learns_until_ns == 0
        assert second.view().status == "fine"
        die(second, found)
    with ground(tmp_path) as (_, found):
        assert not found.facts.was_clean


async def test_relaxed_broker_learns_only_after_an_end_out_of_order(tmp_path: Path) -> None:
    with ground(tmp_path, durability="relaxed") as (kept, found):
        assert (kept.is_holding, found.learns_until_ns) == (False, 0)
        kept.start(lambda: None)
        kept.stop()
    with ground(tmp_path, durability="relaxed") as (kept, found):
        assert found.learns_until_ns == 0
        die(kept, found)  # at once: that it had begun is on the disk before anybody is served
    with ground(tmp_path, durability="relaxed") as (kept, found):
        assert found.learns_until_ns > 0
        assert kept.view().status == "learning"


async def test_broker_that_keeps_nothing_has_nothing_to_run_or_to_show(tmp_path: Path) -> None:
    with ground(tmp_path, durability="none") as (kept, found):
        kept.start(lambda: None)
        kept.do_chores(lambda: 1)
        kept.close_gate()
        kept.stop()
        assert (kept.gate, kept.port, kept.is_holding, kept.committed(), kept.history()) == (OPEN_GATE, None, False, None, None)
        assert kept.events is found.ledger
        assert (kept.view().mode, kept.view().counters) == ("none", None)
    assert not (tmp_path / "journal").exists()


async def test_each_minute_the_wall_clock_goes_into_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ground(tmp_path) as (kept, found):
        now_ns = foundation.clock_ns()
        monkeypatch.setattr(durability, "clock_ns", lambda: now_ns + durability.MINUTE_NS - 1)
        kept._minute_ns = now_ns
        before = found.ledger.position
        kept.do_chores(lambda: 10**18)
        assert found.ledger.position == before
        monkeypatch.setattr(durability, "clock_ns", lambda: now_ns + durability.MINUTE_NS)
        kept.do_chores(lambda: 10**18)
        kept.do_chores(lambda: 10**18)
        kinds = [event.kind for event in decode_events(found.ledger.read_events(before)[0])]
        assert kinds == [EventKind.WALL_CLOCK]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG])
async def test_log_that_cannot_be_begun_leaves_a_broker_that_only_renews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    live(tmp_path)
    refused_log(monkeypatch, number, number)
    with ground(tmp_path) as (kept, found):
        assert kept.view().status == "renew_only"
        assert (kept.gate, kept.port, kept.committed()) == (OPEN_GATE, None, None)
        kept._minute_ns -= durability.MINUTE_NS
        caplog.clear()
        kept.do_chores(lambda: 1)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert found.kept is not None
        assert not found.kept.store.is_begun
        kept.start(lambda: None)
        kept.stop()


async def test_full_disk_gets_the_ballast_back_and_serves_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live(tmp_path, ballast_size=1 << 16)
    assert (tmp_path / "journal" / "ballast").exists()
    refused_log(monkeypatch, errno.ENOSPC)
    with ground(tmp_path, ballast_size=1 << 16) as (kept, _):
        assert kept.view().is_writable


async def test_full_disk_without_ballast_is_not_tried_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live(tmp_path)
    refused_log(monkeypatch, errno.ENOSPC)
    with ground(tmp_path) as (kept, _):
        assert not kept.view().is_writable


async def test_disk_with_a_fault_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live(tmp_path)
    refused_log(monkeypatch, errno.EIO)
    with pytest.raises(DataDirectoryError, match="the disk of the log has a fault: refused"), ground(tmp_path):
        pass
    live(tmp_path)  # and the lock is free


async def test_committer_that_does_not_answer_is_a_step_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ground(tmp_path) as (kept, found):
        kept.start(lambda: None)
        assert found.kept is not None
        stop = found.kept.store.stop
        monkeypatch.setattr(found.kept.store, "stop", lambda _wait_s: False)
        with pytest.raises(RuntimeError, match="not on the disk"):
            kept.stop()
        assert stop()
        kept._running._watch.stop()  # type: ignore[union-attr]


class FullRing:
    """A ledger whose events find no room any more."""

    def end_run(self, _now_ns: int) -> None:
        raise EventsFull


async def test_run_whose_end_finds_no_room_is_committed_all_the_same_and_not_taken_for_a_clean_one(tmp_path: Path) -> None:
    with ground(tmp_path) as (first, found):
        first.start(lambda: None)
        found.ledger.note(foundation.clock_ns(), b"test", b"kept")
        first.close_gate()
        running = first._running
        assert running is not None
        running._ledger = FullRing()  # type: ignore[assignment]
        first.stop()
    with ground(tmp_path) as (_, found):
        assert found.ledger.notes()[b"test"] == b"kept"
        assert not found.facts.was_clean
