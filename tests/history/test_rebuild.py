"""A history made anew: what the log holds is projected, what is older is kept, and being interrupted changes nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from broker.history.carry import carry_over, old_database
from broker.history.errors import HistoryBusy, HistoryError, HistoryMissing
from broker.history.lock import WriterLock
from broker.history.projector import Projector
from broker.history.rebuild import begin_anew, rebuild, request_rebuild
from broker.history.retention import Retention, retire
from broker.history.schema import database_files, open_to_read
from broker.history.store import HistoryStore
from tests.history.recount import recount, tables_of, told_positions
from tests.history.stories import BROKER_ID, MINUTE_NS, NOON_NS, SECOND_NS, Log, Story, random_commands

DAY_NS = 86_400 * SECOND_NS


def is_near(one: Any, other: Any) -> bool:
    """Whether two values are equal, or instants that are some seconds apart."""
    is_instant = isinstance(one, int) and isinstance(other, int) and one > NOON_NS
    return abs(one - other) < 5 * SECOND_NS if is_instant else bool(one == other)


def silent(*_: int) -> None:
    """Hears of progress."""


def made(tmp_path: Path, seed: int, commands: int = 3000) -> tuple[Log, Path, bytes]:
    """A log and its history."""
    log = Log(tmp_path / "log")
    data = random_commands(seed, commands)
    log.add(data)
    rebuild(tmp_path / "history.db", log.directory, BROKER_ID, silent)
    return log, tmp_path / "history.db", data


def test_made_anew_twice_it_is_the_same(tmp_path: Path) -> None:
    log, database, _ = made(tmp_path, 31)
    before = tables_of(database)
    rebuild(database, log.directory, BROKER_ID, silent)
    assert tables_of(database) == before
    assert not old_database(database).exists()


def test_what_is_older_than_the_log_is_kept(tmp_path: Path) -> None:
    log, database, data = made(tmp_path, 32)
    before = tables_of(database)
    begins = log.forget_oldest(2)
    rebuild(database, log.directory, BROKER_ID, silent)
    after = tables_of(database)
    assert begins > 0
    assert after["gaps"] == []
    for table in ("events", "sessions", "leases", "capacity", "products"):
        # Until the first mark of the clock behind the log's beginning instants are as far off as the clock had drifted in that minute.
        for row, row_before in zip(after[table], before[table], strict=True):
            assert all(map(is_near, row, row_before)), (table, row, row_before)
    edge = next(row[1] for row in reversed(before["events"]) if row[0] < begins) // MINUTE_NS
    for table in ("usage", "counts", "minutes"):
        assert [row for row in after[table] if row[0] < edge] == [row for row in before[table] if row[0] < edge], table
    assert [row for row in after["counts"] if row[0] > edge + 1] == [row for row in before["counts"] if row[0] > edge + 1]
    assert len(recount(data).sessions) == len(after["sessions"])


def test_discarding_what_is_older_leaves_what_the_log_holds(tmp_path: Path) -> None:
    log, database, data = made(tmp_path, 33)
    begins = log.forget_oldest(2)
    rebuild(database, log.directory, BROKER_ID, silent, keeps_old=False)
    assert [row[0] for row in tables_of(database)["events"]] == [at for at in told_positions(data) if at >= begins]


@pytest.mark.parametrize("stage", ["set aside", "opened", "carried", "half projected"])
def test_interrupted_at_any_stage_it_ends_the_same_when_begun_again(tmp_path: Path, stage: str) -> None:
    log, database, _ = made(tmp_path, 34)
    log.forget_oldest(2)
    begin_anew(database)
    if stage != "set aside":
        with contextlib.closing(HistoryStore(database, BROKER_ID)) as store:
            projector = Projector(store, log.directory, BROKER_ID, lambda: log.committed)
            if stage in ("carried", "half projected"):
                carry_over(store, projector)
            if stage == "half projected":
                steps = projector.steps(100)
                assert sum(next(steps) for _ in range(3)) >= 300
    rebuild(database, log.directory, BROKER_ID, silent)
    interrupted = tables_of(database)
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "history.db"
    rebuild(other, log.directory, BROKER_ID, silent)
    log_start = log.first
    for table in ("events", "sessions", "leases"):
        at = 0 if table == "events" else 10 if table == "sessions" else 2
        assert [row[at] for row in interrupted[table] if row[at] >= log_start] == [row[at] for row in tables_of(other)[table]]
    assert interrupted["events"][0][0] == 0


def test_progress_is_told_from_where_the_log_begins_to_where_it_ends(tmp_path: Path) -> None:
    log, database, data = made(tmp_path, 35)
    begins = log.forget_oldest(1)
    told: list[tuple[int, int, int]] = []
    rebuild(database, log.directory, BROKER_ID, lambda *where: told.append(where))
    assert told[-1] == (len(data), begins, len(data))
    assert [where[0] for where in told] == sorted(where[0] for where in told)


def test_while_another_process_writes_nothing_is_touched(tmp_path: Path) -> None:
    log, database, _ = made(tmp_path, 36, 300)
    before = tables_of(database)
    lock = WriterLock(database)
    with pytest.raises(HistoryBusy, match=r"process \d+ writes this history"):
        rebuild(database, log.directory, BROKER_ID, silent)
    lock.close()
    assert tables_of(database) == before


def test_what_is_no_history_is_said_to_a_reader(tmp_path: Path) -> None:
    with pytest.raises(HistoryMissing, match="there is no history"):
        open_to_read(tmp_path / "none.db")
    (tmp_path / "torn.db").write_bytes(b"x" * 8192)
    with pytest.raises(HistoryError, match=r"cannot be read.*usher history rebuild"):
        open_to_read(tmp_path / "torn.db")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for somebody else")
def test_what_root_makes_belongs_to_the_owner_of_the_data_directory(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.add(random_commands(37, 100))
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, 12346)
    database = tmp_path / "data" / "history" / "history.db"
    rebuild(database, log.directory, BROKER_ID, silent)
    request_rebuild(database)
    made_files = [database.parent, *database.parent.iterdir()]
    assert {path.name for path in made_files} >= {"history", "history.db", "history.lock", "history.rebuild"}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made_files} == {(12345, 12346)}
    assert {path.stat().st_mode & 0o077 for path in made_files} == {0}


# --- retention ------------------------------------------------------------------------------------------------------------


def days_of_use(days: int) -> bytes:
    """A session, a denial and a change of capacity each day; another session stays open from the first day on."""
    story = Story()
    story.run(1, NOON_NS)
    story.declare(0, "crm", 0)
    story.open(999)
    for day in range(days):
        story.open(2 * day + 1000)
        story.lease(2 * day + 1000, 2 * day + 1001)
        story.capacity(day)
        story.pass_s(30)
        story.deny()
        story.free(2 * day + 1000, 2 * day + 1001)
        story.end(2 * day + 1000)
        story.pass_s(86_370)
    return story.data


def retired(tmp_path: Path, retention: Retention) -> dict[str, list[tuple[object, ...]]]:
    """What is left of twenty days."""
    log = Log(tmp_path / "log")
    log.add(days_of_use(20))
    rebuild(tmp_path / "history.db", log.directory, BROKER_ID, silent)
    with contextlib.closing(HistoryStore(tmp_path / "history.db", BROKER_ID)) as store:
        for _ in retire(store.connection, retention, store.fold().state.now_ns):
            pass
    return tables_of(tmp_path / "history.db")


def test_old_events_go_before_old_sessions_and_these_before_sums(tmp_path: Path) -> None:
    kept = retired(tmp_path, Retention(days=10, event_days=2, session_days=5))
    # As of the last event, which is half a minute into the twentieth day.
    assert len({row[1] for row in kept["events"] if row[2] == 5}) == 3
    assert len(kept["sessions"]) == 1 + 6
    assert {row[0] for row in kept["leases"]} == {row[0] for row in kept["sessions"]} - {(1 << 40) + 999}
    assert len({row[0] for row in kept["usage"]}) == len(kept["capacity"]) == 11
    assert len({row[0] for row in kept["minutes"]}) == 11


def test_rows_are_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    whole = retired(tmp_path, Retention())
    (tmp_path / "again").mkdir()
    kept = retired(tmp_path / "again", Retention(events_max=50, sessions_max=7))
    assert kept["events"] == whole["events"][-50:]
    assert [row for row in kept["sessions"] if row[8] is not None] == whole["sessions"][-7:]
    assert kept["usage"] == whole["usage"]


def test_a_session_that_is_still_open_is_never_too_old(tmp_path: Path) -> None:
    kept = retired(tmp_path, Retention(session_days=1, sessions_max=1))
    assert ((1 << 40) + 999, None) in [(row[0], row[8]) for row in kept["sessions"]]


def test_files_of_a_history_are_its_database_and_two_beside_it(tmp_path: Path) -> None:
    assert [path.name for path in database_files(tmp_path / "history.db")] == ["history.db", "history.db-wal", "history.db-shm"]
