"""What the bench says of a process's time and memory, against children that say themselves what they took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtests.bench.processors import (
    anonymous_size,
    busy_share,
    machine,
    places,
    process_cpu_ns,
    processor_ticks,
    running_on,
)

CHILD = """
import sys, threading, time

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

for line in sys.stdin:
    word, _, value = line.partition(" ")
    if word == "burn":
        burn(float(value))
    elif word == "thread":
        thread = threading.Thread(target=burn, args=(float(value),))
        thread.start()
        thread.join()
    elif word == "allocate":
        kept = bytearray(b"x") * int(value)
    print(time.process_time(), flush=True)
"""


class Child:
    """A child that does as it is told, and answers with the processor time that it has taken by its own clock."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def do(self, words: str) -> float:
        """Seconds by the child's clock."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def child() -> Iterator[Child]:
    """Runs until the block ends."""
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Child(process)
        assert process.stdin is not None
        process.stdin.close()


def test_processor_time_is_what_the_process_itself_counts() -> None:
    with child() as one:
        own_s = one.do("burn 0.2")
        ours_s = process_cpu_ns(one.pid) / 1e9
    # Between its answer and our look it can only have waited for the next line.
    assert own_s <= ours_s < own_s + 0.1


def test_processor_time_of_threads_that_have_ended_counts() -> None:
    with child() as one:
        one.do("rest")
        before_ns = process_cpu_ns(one.pid)
        one.do("thread 0.2")
        assert process_cpu_ns(one.pid) - before_ns >= 0.2e9


def test_twice_the_work_takes_more_processor_time_and_waiting_takes_none() -> None:
    with child() as busy, child() as idle:
        idle.do("rest")
        idle_before, begin = process_cpu_ns(idle.pid), process_cpu_ns(busy.pid)
        busy.do("burn 0.1")
        middle = process_cpu_ns(busy.pid)
        busy.do("burn 0.2")
        end = process_cpu_ns(busy.pid)
        idle_spent = process_cpu_ns(idle.pid) - idle_before
    assert end - middle > (middle - begin) * 1.5
    assert idle_spent < (middle - begin) / 4


def test_processor_time_of_a_process_that_is_gone_is_an_error() -> None:
    with child() as one:
        pid = one.pid
    with pytest.raises(OSError, match="Invalid argument"):
        process_cpu_ns(pid)


def test_memory_of_a_process_grows_by_what_it_takes() -> None:
    with child() as one:
        one.do("rest")
        before = anonymous_size(one.pid)
        one.do(f"allocate {64 * 2**20}")
        assert 64 * 2**20 <= anonymous_size(one.pid) - before < 80 * 2**20


def test_children_inherit_their_processor_and_we_keep_ours() -> None:
    before = os.sched_getaffinity(0)
    chosen = min(before)
    with running_on(chosen), child() as one:
        one.do("rest")
        assert os.sched_getaffinity(one.pid) == {chosen}
    assert os.sched_getaffinity(0) == before


def test_server_and_client_have_a_processor_each_where_there_are_two() -> None:
    found = places()
    assert (found.server is None) == (len(os.sched_getaffinity(0)) < 2)
    assert found.server is None or found.server != found.client
    assert machine()["places"] == found.text


def test_a_machine_at_work_is_busy_and_its_share_is_a_part_of_the_whole() -> None:
    before = processor_ticks()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after = processor_ticks()
    assert after[0] - before[0] >= 0.05 * os.sysconf("SC_CLK_TCK")
    assert 0.0 <= busy_share(0.05) <= 1.0
