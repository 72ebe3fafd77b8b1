"""The committer at work on real files: in a thread of its own, without the GIL, for a queue and for a ledger."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker._journal import EventQueue, Journal, read_log
from broker._ledger import Ledger
from broker.errors import AlreadyRunning, DataDirectoryError
from broker.model.events import decode_events
from broker.model.journal import JournalStep, LogStop
from broker.model.terms import PoolTerms
from broker.model.words import EventKind
from tests.journal.material import (
    BROKER_ID,
    GROUP_SIZE,
    SEGMENT_SIZE,
    STREAM,
    begun,
    commit_all,
    events_from,
    opened,
    read_all,
    recovered,
)

FOREVER = 2**62
FLAGS_AT, LAST_OF_COMMAND = 7, 1
WAIT_S = 20


@contextlib.contextmanager
def running(journal: Journal) -> Iterator[int]:
    """The committer in its thread; gives an eventfd that it writes to. Joined at the end."""
    told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    journal.watch(told)
    thread = threading.Thread(target=journal.run, name="committer")
    thread.start()
    try:
        yield told
    finally:
        journal.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        journal.unwatch(told)
        journal.close()
        os.close(told)


def wait_until_committed(journal: Journal, position: int, told: int) -> None:
    """Waits to be told."""
    while journal.committed < position:
        assert journal.failure is None
        assert select.select([told], [], [], WAIT_S)[0], "nobody was told"
        os.eventfd_read(told)


def make_ledger(is_lossy: bool = False) -> Ledger:
    """With many seats of one product."""
    ledger = Ledger(broker_id=BROKER_ID, secret=b"s" * 16, generation=1, start_ns=1, event_ring_size=131072, is_lossy=is_lossy)
    ledger.prove_source(1, 0, ledger.declare_pool("crm", PoolTerms(), False), 100_000, FOREVER, FOREVER)
    return ledger


def open_session(ledger: Ledger, number: int) -> int:
    """The status."""
    answer = ledger.open(
        2, request_id=number.to_bytes(16, "big"), user=b"user %d" % number, host=b"h" * (1 + number * 7 % 90), products=[("crm", False)]
    )
    return int(answer.status)


def test_a_thread_commits_what_is_put_and_tells(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    with running(journal) as told:
        for _ in range(40):
            assert queue.put(events_from(queue.position, 5))
            journal.wake()
            wait_until_committed(journal, queue.position, told)
        counters = journal.counters()
        assert counters.groups == counters.syncs == sum(counters.sync_bucket_counts)
        assert counters.event_size == queue.position == counters.committed
    events, end = read_all(str(tmp_path / "log"))
    assert (events, end.stop) == (STREAM[: queue.position], LogStop.END)


def test_stop_commits_all_that_was_put_before_it(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    with running(journal):
        for _ in range(100):
            assert queue.put(events_from(queue.position, 10))
    assert journal.committed == queue.position
    assert queue.free_size == 1 << 20
    assert read_all(str(tmp_path / "log"))[0] == STREAM[: queue.position]


def test_it_commits_while_python_holds_the_gil(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    with running(journal) as told:
        os.eventfd_read(told)
        assert queue.put(events_from(0, 50))
        journal.wake()
        waited = (ctypes.c_int * 2)(told, select.POLLIN)  # a pollfd
        holding = ctypes.PyDLL(None)  # calls without letting the GIL go
        assert holding.poll(waited, 1, WAIT_S * 1000) == 1
        wait_until_committed(journal, queue.position, told)


def test_groups_are_bounded_and_hold_whole_events(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    queue.put(STREAM[: len(events_from(0, 400))])
    commit_all(journal)
    assert journal.counters().groups > 10
    assert GROUP_SIZE - 700 < journal.counters().largest_group_size <= GROUP_SIZE
    for position, events in read_log(tmp_path / "log", broker_id=BROKER_ID):
        assert STREAM[position : position + len(events)] == events
        assert list(decode_sizes(events))[-1] == len(events)


def last_start(events: bytes) -> int:
    """Where the last event begins."""
    return [0, *decode_sizes(events)][-2]


def decode_sizes(events: bytes) -> Iterator[int]:
    position = 0
    while position < len(events):
        position += int.from_bytes(events[position : position + 4], "little")
        yield position


def test_a_delay_of_syncs_is_part_of_each(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log", sync_delay_ns=2_000_000)
    for _ in range(3):
        queue.put(events_from(queue.position, 1))
        commit_all(journal)
    counters = journal.counters()
    assert counters.syncs == 3
    assert counters.sync_ns >= 3 * 2_000_000


def test_the_next_segment_is_ready_before_it_is_needed(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    while journal.counters().rolls < 5:
        assert queue.put(events_from(queue.position, 5))
        commit_all(journal)
    assert journal.counters().rolls_without_spare == 1  # the very first
    assert (tmp_path / "log" / "spare").stat().st_size == SEGMENT_SIZE
    assert journal.counters().log_size == 5 * SEGMENT_SIZE


def test_segments_that_a_snapshot_holds_are_removed_and_no_others(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    while journal.counters().rolls < 6:
        assert queue.put(events_from(queue.position, 5))
        commit_all(journal)
    names = sorted(path.name for path in (tmp_path / "log").glob("*.log"))
    snapshot = int(names[3][:16], 16) + 64
    snapshot = next(at for at in decode_sizes(STREAM) if at >= snapshot)
    journal.retire(snapshot)
    commit_all(journal)
    assert sorted(path.name for path in (tmp_path / "log").glob("*.log")) == names[3:]
    assert (journal.counters().retired, journal.counters().segment_count) == (3, 3)
    assert read_all(str(tmp_path / "log"), position=snapshot)[0] == STREAM[snapshot : queue.position]
    assert read_all(str(tmp_path / "log"), position=0)[1].stop is LogStop.GAP
    journal.close()
    assert recovered(opened(tmp_path / "log", 2), snapshot) == STREAM[snapshot : queue.position]


def test_the_log_can_be_followed_while_it_grows(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    position = 0
    with running(journal) as told:
        while journal.counters().rolls < 5:
            assert queue.put(events_from(queue.position, 9))
            journal.wake()
            wait_until_committed(journal, queue.position, told)
            events, end = read_all(str(tmp_path / "log"), position=position, until=journal.committed)
            assert end.stop is LogStop.END
            assert events == STREAM[position : end.position]
            position = end.position
        assert position == queue.position


def test_all_events_of_a_ledger_are_logged_though_its_ring_is_small(tmp_path: Path) -> None:
    ledger = make_ledger()
    journal = opened(tmp_path / "log", group_size_max=16384, segment_size=65536)
    recovered(journal)
    journal.begin(ledger)
    count = 2000
    with running(journal) as told:
        for number in range(count):
            while open_session(ledger, number) == 12:  # EVENTS_FULL: the ring waits for the disk
                journal.wake()
                select.select([told], [], [], WAIT_S)
                os.eventfd_read(told)
        journal.wake()
    assert journal.failure is None
    events = [event for _, part in read_log(tmp_path / "log", broker_id=BROKER_ID) for event in decode_events(part)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    for _, part in read_log(tmp_path / "log", broker_id=BROKER_ID):
        assert part[last_start(part) + FLAGS_AT] & LAST_OF_COMMAND, "a block ends within a command"
    opened_users = [event.user for event in events if event.kind is EventKind.SESSION_OPENED]
    assert opened_users == [b"user %d" % number for number in range(count)]
    assert journal.committed > 131072


def test_a_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    ends: list[int] = []
    for generation in (1, 2, 3):
        ledger = make_ledger()
        journal = opened(tmp_path / "log", generation, group_size_max=16384, segment_size=65536)
        before = len(recovered(journal))
        journal.begin(ledger)
        assert open_session(ledger, generation) == 1
        commit_all(journal)
        assert journal.base == before == (ends[-1] if ends else 0)
        ends.append(journal.committed)
        journal.close()
    events = [event for _, part in read_log(tmp_path / "log", broker_id=BROKER_ID) for event in decode_events(part)]
    assert [event.user for event in events if event.kind is EventKind.SESSION_OPENED] == [b"user 1", b"user 2", b"user 3"]


def test_events_that_were_overwritten_before_they_were_read_stop_it(tmp_path: Path) -> None:
    ledger = make_ledger(is_lossy=True)
    journal = opened(tmp_path / "log", group_size_max=16384, segment_size=65536)
    recovered(journal)
    journal.begin(ledger)
    open_session(ledger, 0)
    commit_all(journal)
    committed = journal.committed
    for number in range(1, 2000):
        open_session(ledger, number)
    commit_all(journal)
    assert journal.failure is not None
    assert journal.failure.step is JournalStep.SOURCE
    assert journal.committed == committed


class PortOfJournal(ctypes.Structure):
    """JournalPort, as other compiled modules see it."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("committer", ctypes.c_void_p),
        ("wake", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("watch", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)),
        ("unwatch", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)),
    )


def test_compiled_modules_are_told_positions_of_the_source_by_their_own_memory(tmp_path: Path) -> None:
    begun(tmp_path / "log")[0].close()
    first, queue = begun(tmp_path / "log", 2)
    queue.put(events_from(0, 4))
    commit_all(first)
    first.close()
    journal = opened(tmp_path / "log", 3)
    recovered(journal)
    queue = EventQueue(1 << 16)
    journal.begin(queue)
    assert journal.base > 0
    capsule = journal.port()
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    address = get_pointer(capsule, b"broker._journal.port")
    port = PortOfJournal.from_address(address)
    assert port.version == 1
    committed = ctypes.c_uint64(0)
    told = os.eventfd(0, os.EFD_NONBLOCK)
    descriptors = (ctypes.c_int * 1)(told)
    assert port.watch(address, ctypes.addressof(committed), descriptors, 1)
    os.eventfd_read(told)
    queue.put(events_from(0, 4))
    commit_all(journal)
    assert committed.value == queue.position == journal.committed - journal.base
    assert os.eventfd_read(told) == 1
    port.unwatch(address, ctypes.addressof(committed))
    queue.put(events_from(queue.position, 4))
    commit_all(journal)
    assert committed.value < queue.position
    with pytest.raises(BlockingIOError):
        os.eventfd_read(told)
    os.close(told)


def test_watchers_are_bounded(tmp_path: Path) -> None:
    journal, _ = begun(tmp_path / "log")
    told = os.eventfd(0, os.EFD_NONBLOCK)
    for _ in range(16):
        journal.watch(told)
    with pytest.raises(ValueError, match="16 are watching"):
        journal.watch(told)
    os.close(told)


def test_a_second_journal_of_the_directory_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    journal, _ = begun(tmp_path / "log")
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}") as refusal:
        opened(tmp_path / "log", 2)
    assert refusal.value.pid == os.getpid()
    journal.close()
    opened(tmp_path / "log", 2).close()


def test_begin_comes_once_and_after_all_was_read(tmp_path: Path) -> None:
    begun(tmp_path / "log")[0].close()
    journal = opened(tmp_path / "log", 2)
    with pytest.raises(RuntimeError, match="before begin"):
        journal.begin(EventQueue(GROUP_SIZE))
    with pytest.raises(RuntimeError, match="not begun"):
        journal.run()
    journal.recover()
    with pytest.raises(RuntimeError, match="to its end"):
        journal.begin(EventQueue(GROUP_SIZE))
    recovered(journal)
    journal.begin(EventQueue(GROUP_SIZE))
    with pytest.raises(RuntimeError, match="begin was called"):
        journal.begin(EventQueue(GROUP_SIZE))
    with pytest.raises(RuntimeError, match="before begin"):
        journal.recover()
    journal.close()
    with pytest.raises(RuntimeError, match="closed"):
        journal.step()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataDirectoryError, match="file: the log directory cannot be used"):
        opened(tmp_path / "file")


def test_the_directory_is_its_owners_only_and_nothing_in_it_is_read_by_others(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    queue.put(events_from(0, 1))
    commit_all(journal)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "log").iterdir()} == {0o600}


def test_a_queue_takes_whole_events_only_and_no_more_than_it_has_room_for() -> None:
    queue = EventQueue(GROUP_SIZE)
    with pytest.raises(ValueError, match="not whole events"):
        queue.put(events_from(0, 2)[:-8])
    while queue.put(events_from(queue.position, 1)):
        pass
    assert queue.free_size < 700


def test_syncs_take_time_that_is_counted(tmp_path: Path) -> None:
    journal, queue = begun(tmp_path / "log")
    before = time.monotonic_ns()
    queue.put(events_from(0, 1))
    journal.step()
    counters = journal.counters()
    assert 0 < counters.sync_ns <= time.monotonic_ns() - before
