"""A history that cannot be told from the log's first event: it goes on from a snapshot, and is then as good as one that saw everything."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest

from broker.history.projector import Projector
from broker.history.rebuild import rebuild
from broker.history.snapshot import state_behind
from broker.history.store import HistoryStore
from tests.history.recount import positions, recount, tables_of
from tests.history.stories import BROKER_ID, MINUTE_NS, Log, random_commands


def silent(*_: int) -> None:
    """Hears of progress."""


def log_with_snapshot(tmp_path: Path, seed: int) -> tuple[Log, Path, int]:
    """A log whose beginning is retired, its whole history, and where its snapshot is."""
    log = Log(tmp_path / "log")
    data = random_commands(seed, 4000, 3)
    log.add(data)
    rebuild(tmp_path / "whole.db", log.directory, BROKER_ID, silent)
    snapshot = log.write_snapshot(data[: next(at for at in command_ends(data) if at > len(data) // 2)])
    while len(sorted(log.directory.glob("*.log"))) > 1 and second(log) <= snapshot:
        log.forget_oldest()
    assert 0 < log.first <= snapshot
    return log, tmp_path / "whole.db", snapshot


def command_ends(data: bytes) -> list[int]:
    """Where commands end: behind an event with this flag."""
    starts = [*positions(data), len(data)]
    return [end for start, end in itertools.pairwise(starts) if data[start + 7] & 1]


def second(log: Log) -> int:
    """Where the second segment begins."""
    return int(sorted(log.directory.glob("*.log"))[1].name[:16], 16)


def present(database: Path) -> tuple[object, ...]:
    """Who is there, and what is charged."""
    tables = tables_of(database)
    sessions = [row[:7] for row in tables["sessions"] if row[8] is None]
    leases = [row[:2] for row in tables["leases"] if row[7] is None]
    return sessions, leases, [row[:7] for row in tables["pools"]], tables["products"]


@pytest.mark.parametrize("seed", [48, 49])
def test_a_snapshot_says_what_an_independent_count_of_the_log_before_it_says(tmp_path: Path, seed: int) -> None:
    log = Log(tmp_path / "log")
    data = random_commands(seed, 3000, 2)
    log.add(data)
    ends = command_ends(data)
    for snapshot in ends[len(ends) // 4 :: len(ends) // 5]:
        log.write_snapshot(data[:snapshot])
        state = state_behind(log.directory, BROKER_ID, snapshot, snapshot)
        assert state is not None
        count = recount(data[:snapshot])
        charged = {pool: steps[-1][1] for pool, steps in count.seats.items() if pool >= 0}
        assert {pool: seats for pool, seats in charged.items() if seats} == state.seats_used
        assert charged[1] >= 2  # each charge of this pool is two seats
        assert sorted(row[:7] for row in state.sessions) == sorted(row[:7] for row in count.sessions.values() if row[8] is None)
        held = [lease[:3] for leases in count.leases.values() for lease in leases if lease[6] is None]
        assert sorted(map(list, state.leases)) == sorted(held)
        assert (state.generation, state.is_running) == (len(count.runs), count.is_running)


@pytest.mark.parametrize("seed", [41, 42, 43])
def test_begun_at_a_snapshot_it_knows_who_is_there_and_what_is_charged(tmp_path: Path, seed: int) -> None:
    log, whole, snapshot = log_with_snapshot(tmp_path, seed)
    rebuild(tmp_path / "late.db", log.directory, BROKER_ID, silent)
    assert present(tmp_path / "late.db") == present(whole)
    tables, expected = tables_of(tmp_path / "late.db"), tables_of(whole)
    assert [row[0] for row in tables["events"]] == [row[0] for row in expected["events"] if row[0] >= snapshot]
    clear = tables["events"][0][1] // MINUTE_NS + 3  # by then the clock has been looked at
    assert [row for row in tables["usage"] if row[0] >= clear] == [row for row in expected["usage"] if row[0] >= clear]
    assert tables["gaps"] == []
    assert tables["runs"][-1][:3] == expected["runs"][-1][:3]


@pytest.mark.parametrize("seed", [44, 45])
def test_behind_a_gap_it_ends_who_is_gone_and_goes_on_as_if_it_had_seen_all(tmp_path: Path, seed: int) -> None:
    log, whole, snapshot = log_with_snapshot(tmp_path, seed)
    early = Log(tmp_path / "early.log")
    data = random_commands(seed, 4000, 3)
    stopped = next(at for at in positions(data) if at > len(data) // 5)
    early.add(data[:stopped])
    database = tmp_path / "late.db"
    with contextlib.closing(HistoryStore(database, BROKER_ID)) as store:
        for _ in Projector(store, early.directory, BROKER_ID, lambda: stopped).steps():
            pass
    with contextlib.closing(HistoryStore(database, BROKER_ID)) as store:
        projector = Projector(store, log.directory, BROKER_ID, lambda: log.committed)
        for _ in projector.steps():
            pass
    assert (projector.gap_count, projector.gap_size) == (1, snapshot - stopped)
    assert present(database) == present(whole)
    gone = [row for row in tables_of(database)["sessions"] if row[8] is not None and row[9] == 0]
    ended = recount(data).sessions
    assert gone, "of somebody the end fell into the gap"
    assert all(ended[row[0]][8] is not None for row in gone)


def test_without_any_snapshot_what_is_charged_counts_from_nothing_and_never_below(tmp_path: Path) -> None:
    log, whole, _ = log_with_snapshot(tmp_path, 46)
    for path in log.directory.glob("*.snap"):
        path.unlink()
    rebuild(tmp_path / "late.db", log.directory, BROKER_ID, silent)
    pools, expected = ({row[0]: row[4] for row in tables_of(path)["pools"]} for path in (tmp_path / "late.db", whole))
    assert all(0 <= pools[pool] <= expected[pool] for pool in pools)


def test_a_damaged_snapshot_is_passed_over(tmp_path: Path) -> None:
    log, whole, _ = log_with_snapshot(tmp_path, 47)
    data = random_commands(47, 4000, 3)
    later = next(at for at in command_ends(data) if at > len(data) * 3 // 4)
    (snapshot,) = log.directory.glob("*.snap")
    log.write_snapshot(data[:later])
    content = bytearray(snapshot.read_bytes())
    content[len(content) // 2] ^= 1
    snapshot.write_bytes(content)
    rebuild(tmp_path / "late.db", log.directory, BROKER_ID, silent)
    assert present(tmp_path / "late.db") == present(whole)
    assert tables_of(tmp_path / "late.db")["events"][0][0] >= later
