"""Processes that die and disks that fill up, for real: kill -9 while committing, a lock of another process, a small file system."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker._journal import EventQueue
from broker.errors import AlreadyRunning
from broker.model.journal import JournalStep
from tests.journal.lives import Life, Scribe, store_on
from tests.journal.material import STREAM, begun, commit_all, events_from, opened, read_all, recovered

REPOSITORY = Path(__file__).resolve().parents[2]


def appender(directory: Path, generation: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.journal.appender", str(directory), str(generation)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_said_was_committed_is_there(tmp_path: Path) -> None:
    chance = random.Random(4)
    acknowledged = 0
    for generation in range(1, 7):
        with appender(tmp_path / "log", generation) as process:
            assert process.stdout is not None
            word, number = process.stdout.readline().split()
            assert (word, int(number) >= acknowledged) == ("recovered", True)
            for _ in range(chance.randrange(1, 60)):
                process.stdout.readline()
            process.kill()
            lines = [line.split() for line in process.stdout.read().splitlines()]
            acknowledged = max([acknowledged, int(number), *(int(line[1]) for line in lines if len(line) == 2 and line[1])])
            process.wait()
        events, end = read_all(str(tmp_path / "log"))
        assert events == STREAM[: end.position]
        assert end.is_good
        assert end.position >= acknowledged
    assert acknowledged > 10_000


def test_the_lock_of_another_process_is_told_with_its_number_and_ends_with_it(tmp_path: Path) -> None:
    with appender(tmp_path / "log", 1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(AlreadyRunning, match=f"another broker \\(process {process.pid}\\)"):
            opened(tmp_path / "log", 2)
        process.kill()
        process.stdout.read()
        process.wait()
    opened(tmp_path / "log", 2).close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 KiB, for root."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_file_system_stops_it_and_all_that_was_committed_can_be_read(small_disk: Path) -> None:
    journal, queue = begun(small_disk / "log")
    seen_ahead = 0
    while journal.failure is None:
        assert queue.put(events_from(queue.position, 4))
        commit_all(journal)
        seen_ahead = seen_ahead or journal.counters().spare_errno
    assert (journal.failure.step, journal.failure.errno) == (JournalStep.SEGMENT, errno.ENOSPC)
    assert seen_ahead == errno.ENOSPC  # it was known before it was fatal
    committed = journal.committed
    assert committed > 80_000
    journal.close()
    again = opened(small_disk / "log", 2)
    assert recovered(again) == STREAM[:committed]
    with pytest.raises(OSError, match="No space left"):
        again.begin(queue)
    again.close()
    oldest = min((small_disk / "log").glob("*.log"))
    oldest.unlink()  # as if a snapshot held it
    snapshot = int(min((small_disk / "log").glob("*.log")).name[:16], 16)
    again = opened(small_disk / "log", 3)
    assert recovered(again, snapshot) == STREAM[snapshot:committed]
    again.begin(queue)


def test_a_start_on_a_full_file_system_reads_all_and_begins_once_the_ballast_is_gone(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40_000))
    life = Life(small_disk / "log", snapshot_after_size=10**6)
    while life.store.failure is None:
        life.write(2_000)
    assert life.store.failure.errno == errno.ENOSPC
    committed = life.store.committed
    assert life.compactor.facts().position == 0
    life.end()
    store = store_on(small_disk / "log", 2)
    ledger = Scribe()
    assert store.recover(ledger).position == committed
    queue = EventQueue(1 << 16)
    with pytest.raises(OSError, match="No space left"):
        store.begin(queue)
    ballast.unlink()
    store.begin(queue)
    commit_all(store.journal)
    assert ledger.events == STREAM[:committed]
    store.stop()
    store.close()
