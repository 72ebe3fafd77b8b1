"""Crashes of who writes the history: at any statement, and by kill -9: nothing is missing, and nothing is there twice."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from broker.history.projector import Projector
from broker.history.rebuild import rebuild
from broker.history.store import HistoryStore
from tests.history.recount import tables_of
from tests.history.stories import BROKER_ID, Log, random_commands

KILLS = 12


class PowerCut(Exception):
    """Of the test's."""


def a_log(tmp_path: Path, seed: int, commands: int) -> tuple[Log, Path]:
    """A log, and its history as it must be."""
    log = Log(tmp_path / "log")
    log.add(random_commands(seed, commands))
    rebuild(tmp_path / "whole.db", log.directory, BROKER_ID, lambda *_: None)
    return log, tmp_path / "whole.db"


@pytest.mark.parametrize("seed", [11, 12])
def test_a_crash_at_any_statement_of_a_stretch_leaves_all_of_it_or_nothing(tmp_path: Path, seed: int) -> None:
    log, whole = a_log(tmp_path, seed, 1500)
    chance, crashes = random.Random(seed), 0
    while not is_whole(tmp_path / "cut.db", log):
        with contextlib.closing(HistoryStore(tmp_path / "cut.db", BROKER_ID)) as store:
            store.connection.exec_trace = cutting(chance.randrange(1, 80))
            with contextlib.suppress(PowerCut):
                for _ in Projector(store, log.directory, BROKER_ID, lambda: log.committed).steps(chance.randrange(20, 100)):
                    pass
                crashes -= 1
            crashes += 1
    assert crashes > 5
    assert tables_of(tmp_path / "cut.db") == tables_of(whole)


def is_whole(database: Path, log: Log) -> bool:
    """Whether it has come to the log's end."""
    with contextlib.closing(HistoryStore(database, BROKER_ID)) as store:
        return store.fold().state.position == log.committed


def cutting(count: int) -> Any:
    """Lets so many statements run."""
    left = count

    def trace(_cursor: apsw.Cursor, _statement: str, _values: object) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            raise PowerCut
        return True

    return trace


def test_a_disk_that_fills_up_costs_nothing_but_time(tmp_path: Path) -> None:
    log, whole = a_log(tmp_path, 14, 1500)
    with contextlib.closing(HistoryStore(tmp_path / "cut.db", BROKER_ID)) as store:
        store.connection.pragma("max_page_count", 45)
        with pytest.raises(apsw.FullError):
            for _ in Projector(store, log.directory, BROKER_ID, lambda: log.committed).steps(50):
                pass
        position = store.fold().state.position
    assert 0 < position < log.committed
    with contextlib.closing(HistoryStore(tmp_path / "cut.db", BROKER_ID)) as store:
        for _ in Projector(store, log.directory, BROKER_ID, lambda: log.committed).steps(50):
            pass
    assert tables_of(tmp_path / "cut.db") == tables_of(whole)


def test_killed_again_and_again_it_still_projects_everything_exactly_once(tmp_path: Path) -> None:
    log, whole = a_log(tmp_path, 13, 4000)
    chance, kills = random.Random(13), 0
    while True:
        command = [sys.executable, "-m", "tests.history.writing", str(log.directory), str(tmp_path / "cut.db"), str(log.committed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 40) if kills < KILLS else 10**9):
                if not process.stdout.readline():
                    break
            if kills < KILLS:
                process.kill()
            kills += process.wait() < 0
            if process.returncode == 0:
                break
    assert kills == KILLS
    assert is_whole(tmp_path / "cut.db", log)
    assert tables_of(tmp_path / "cut.db") == tables_of(whole)
