"""The writer's thread: it follows, it survives what goes wrong, and it says what it could not see."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from broker.history.lock import WriterLock
from broker.history.queries import Span, events, sessions, usage
from broker.history.rebuild import is_rebuild_requested, is_written_by_another, rebuild, request_rebuild
from broker.history.schema import open_to_read
from broker.history.writer import HistoryWriter
from tests.history.recount import positions, tables_of, told_positions
from tests.history.stories import BROKER_ID, NOON_NS, SECOND_NS, Log, Story, random_commands
from tests.support.waiting import until

WAIT_S = 20


@contextlib.contextmanager
def following(log: Log, database: Path, **settings: Any) -> Iterator[HistoryWriter]:
    """A writer at work; stopped at the end."""
    settings = {"interval_s": 0.01} | settings
    writer = HistoryWriter(log.directory, database, BROKER_ID, lambda: log.committed, **settings)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


def split(data: bytes, parts: int) -> list[bytes]:
    """At boundaries of events."""
    starts = list(positions(data))
    cuts = [starts[len(starts) * index // parts] for index in range(parts)] + [len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(cuts)]


def anew(tmp_path: Path, log: Log) -> Path:
    """The same history, made at once."""
    rebuild(tmp_path / "anew.db", log.directory, BROKER_ID, lambda *_: None)
    return tmp_path / "anew.db"


def test_what_was_followed_live_equals_what_is_made_anew(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    with following(log, tmp_path / "history.db") as writer:
        for part in split(random_commands(21, 2500), 8):
            log.add(part)
            assert writer.wait_for(log.committed, WAIT_S)
        counters = writer.counters()
    assert (counters.behind_size, counters.failures, counters.gaps, counters.rebuilds) == (0, 0, 0, 0)
    assert counters.transactions >= 8
    assert tables_of(tmp_path / "history.db") == tables_of(anew(tmp_path, log))


def test_what_is_committed_before_the_stop_is_projected_before_the_thread_ends(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    with following(log, tmp_path / "history.db", interval_s=3600) as writer:
        assert writer.wait_for(0, WAIT_S)
        log.add(random_commands(22, 300))
    assert writer.position == log.committed


def test_another_writer_is_waited_for_and_named(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.add(random_commands(23, 200))
    lock = WriterLock(tmp_path / "history.db")
    assert is_written_by_another(tmp_path / "history.db", log.directory)
    writer = HistoryWriter(log.directory, tmp_path / "history.db", BROKER_ID, lambda: log.committed, retry_s=0.01)
    writer.start()
    until(lambda: writer.counters().failures > 0, "it has tried")
    assert "writes this history" in writer.counters().failure
    lock.close()
    assert writer.wait_for(log.committed, WAIT_S)
    writer.stop()
    assert writer.counters().failure == ""


def broken(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)


def foreign(path: Path) -> None:
    apsw.Connection(str(path)).execute("CREATE TABLE t(x)")


def of_another_version(path: Path) -> None:
    log = Log(path.parent / "other.log")
    log.add(random_commands(1, 50))
    rebuild(path, log.directory, BROKER_ID, lambda *_: None)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    connection.close()


def of_another_broker(path: Path) -> None:
    log = Log(path.parent / "other.log")
    log.add(random_commands(1, 50))
    rebuild(path, log.directory, BROKER_ID, lambda *_: None)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE meta SET value = '0102030405060708' WHERE name = 'broker_id'")
    connection.close()


def of_another_log(path: Path) -> None:
    log = Log(path.parent / "other.log")
    log.add(random_commands(2, 50))
    rebuild(path, log.directory, BROKER_ID, lambda *_: None)


def of_a_longer_log(path: Path) -> None:
    log = Log(path.parent / "other.log")
    log.add(random_commands(24, 900))
    rebuild(path, log.directory, BROKER_ID, lambda *_: None)


@pytest.mark.parametrize("damage", [broken, foreign, of_another_version, of_another_broker, of_another_log, of_a_longer_log])
def test_a_database_that_cannot_be_gone_on_with_is_made_anew(tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(tmp_path / "log")
    log.add(random_commands(24, 300))
    damage(tmp_path / "history.db")
    with caplog.at_level(logging.WARNING), following(log, tmp_path / "history.db") as writer:
        assert writer.wait_for(log.committed, WAIT_S)
    assert writer.counters().rebuilds == 1
    assert "made anew" in caplog.text
    assert tables_of(tmp_path / "history.db") == tables_of(anew(tmp_path, log))


def test_a_log_of_the_same_sizes_and_other_events_is_told_apart(tmp_path: Path) -> None:
    twins = []
    for user in ("ann", "bob"):
        story = Story()
        story.run(1, NOON_NS)
        for number in range(30):
            story.open(number, user=user)
            story.pass_s(1 if user == "ann" else 2)
        log = Log(tmp_path / user)
        log.add(story.data)
        twins.append(log)
    rebuild(tmp_path / "history.db", twins[0].directory, BROKER_ID, lambda *_: None)
    with following(twins[1], tmp_path / "history.db") as writer:
        assert writer.wait_for(twins[1].committed, WAIT_S)
        until(lambda: writer.counters().rebuilds == 1, "the other log is noticed")
        assert writer.wait_for(twins[1].committed, WAIT_S)
    assert {row[1] for row in tables_of(tmp_path / "history.db", "sessions")["sessions"]} == {"bob"}


def test_a_place_that_cannot_be_written_harms_nobody_and_is_tried_again(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "history").write_text("a file where the folder should be")
    writer = HistoryWriter(log.directory, tmp_path / "history" / "history.db", BROKER_ID, lambda: log.committed, interval_s=0.01, retry_s=0.01)
    writer.start()
    log.add(random_commands(25, 200))
    until(lambda: writer.counters().failures >= 3, "it has tried again and again")
    (tmp_path / "history").unlink()
    assert writer.wait_for(log.committed, WAIT_S)
    writer.stop()
    assert writer.counters().failure == ""


def test_events_that_were_retired_before_they_were_read_are_a_gap_and_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(tmp_path / "log")
    first, second = split(random_commands(26, 3000), 2)
    log.add(first[: list(positions(first))[500]])
    with following(log, tmp_path / "history.db") as writer:
        assert writer.wait_for(log.committed, WAIT_S)
    stopped_at = log.committed
    log.add(first[stopped_at:] + second)
    begins = log.forget_oldest(3)
    assert begins > stopped_at
    with caplog.at_level(logging.WARNING), following(log, tmp_path / "history.db") as writer:
        assert writer.wait_for(log.committed, WAIT_S)
    assert (writer.counters().gaps, writer.counters().gap_size) == (1, begins - stopped_at)
    assert "no longer had" in caplog.text
    tables = tables_of(tmp_path / "history.db", "gaps", "events")
    assert [row[:2] for row in tables["gaps"]] == [(stopped_at, begins)]
    assert [row[0] for row in tables["events"]] == [at for at in told_positions(first + second) if not stopped_at <= at < begins]


def test_a_running_writer_makes_it_anew_when_asked_from_outside(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.add(random_commands(27, 500))
    with following(log, tmp_path / "history.db") as writer:
        assert writer.wait_for(log.committed, WAIT_S)
        request_rebuild(tmp_path / "history.db")
        until(lambda: writer.counters().rebuilds == 1 and not is_rebuild_requested(tmp_path / "history.db"), "it has begun")
        assert writer.wait_for(log.committed, WAIT_S)
    assert tables_of(tmp_path / "history.db") == tables_of(anew(tmp_path, log))


def test_a_long_query_sees_one_moment_and_holds_no_writer_up(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    first, second = split(random_commands(28, 3000), 2)
    log.add(first)
    with following(log, tmp_path / "history.db") as writer:
        assert writer.wait_for(log.committed, WAIT_S)
        connection = open_to_read(tmp_path / "history.db")
        rows = events(connection, Span(), 10**9)
        seen = [next(rows) for _ in range(10)]
        log.add(second)
        assert writer.wait_for(log.committed, WAIT_S)
        seen += list(rows)
        connection.close()
    assert [event.position for event in reversed(seen)] == told_positions(first)


def test_readers_need_no_writer_and_no_right_to_write(tmp_path: Path) -> None:
    story = Story()
    story.run(1, NOON_NS)
    story.declare(0, "crm", 0)
    story.open(1)
    story.lease(1, 2)
    story.pass_s(30)
    story.free(1, 2)
    story.end(1)
    log = Log(tmp_path / "log")
    log.add(story.data)
    database = anew(tmp_path, log)
    assert not is_written_by_another(database, log.directory)
    connection = open_to_read(database)
    (session,) = sessions(connection, Span(user="ann", product="crm", since_ns=NOON_NS + 10 * SECOND_NS), 10)
    assert (session.public_id, session.reason, session.products) == ("1.1", "closed", ("crm",))
    (use,) = usage(connection, Span())
    assert (use.product, use.seats_peak, use.seats_mean, use.lease_count) == ("crm", 1, 0.5, 1)
    connection.close()
