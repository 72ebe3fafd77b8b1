"""Power lost at any operation of the disk, syncs that fail, disks that are full or slow: nothing is lost.

What was told as committed is there again, and nothing is there that was never written. The stream of events is known in advance, so each recovery is compared byte for byte.

USHER_JOURNAL_SEEDS is how many courses are run; one course is one seed (`course`), which its failure prints.
"""

from __future__ import annotations

import errno
import os
import random

import pytest

from broker._journal import EventQueue, Journal, SimulatedDisk
from broker.model.journal import JournalStep, LogStop
from tests.journal.material import (
    BOUNDARIES,
    STREAM,
    begun,
    commit_all,
    events_from,
    opened,
    read_all,
    recovered,
    segments,
)

SEEDS = int(os.environ.get("USHER_JOURNAL_SEEDS", "400"))
STARTS = 6


class Course:
    """One broker's life on one disk, over several starts; `acknowledged` is what its clients were told."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(seed, writes_short=self.chance.random() < 0.5)
        self.acknowledged = 0
        self.snapshot = 0
        self.generation = 0

    def run(self) -> None:
        """Lives and crashes; at last a life without faults must find everything."""
        for _ in range(STARTS):
            self._choose_a_fault()
            self._live(is_patient=False)
        self._live(is_patient=True)

    def _choose_a_fault(self) -> None:
        kind = self.chance.randrange(5)
        if kind == 0:
            self.disk.fail("sync", errno.EIO, after=self.chance.randrange(12))
        elif kind == 1:
            self.disk.fail("write", errno.EIO, after=self.chance.randrange(12))
        elif kind == 2:
            self.disk.fail("allocate", errno.ENOSPC, after=self.chance.randrange(3), is_lasting=True)
        else:
            self.disk.power_off_after(self.chance.randrange(1, 90))

    def _live(self, *, is_patient: bool) -> None:
        self.generation += 1
        try:
            journal = opened(self.disk, self.generation, salt_seed=self.seed)
        except OSError:
            assert not is_patient
            self.disk.crash()
            return
        try:
            self._serve(journal)
        except OSError:
            assert not is_patient
        self._end(journal)

    def _serve(self, journal: Journal) -> None:
        found = recovered(journal, self.snapshot)
        end = self.snapshot + len(found)
        assert found == STREAM[self.snapshot : end], self.seed
        assert end >= self.acknowledged, (self.seed, "lost", end, self.acknowledged)
        queue = EventQueue(1 << 16)
        journal.begin(queue)
        self.acknowledged = max(self.acknowledged, end)  # recovered sessions are served: their clients are told
        for _ in range(self.chance.randrange(5, 25)):
            if journal.failure or self.disk.is_off:
                break
            assert queue.put(events_from(end + queue.position, self.chance.randrange(1, 12)))
            self._work(journal)

    def _work(self, journal: Journal) -> None:
        """Some rounds; what is committed is told, and now and then a snapshot lets old segments go."""
        for _ in range(self.chance.randrange(1, 4)):
            journal.step()
        assert journal.committed >= self.acknowledged
        self.acknowledged = journal.committed
        if self.chance.random() < 0.1 and journal.failure is None:
            self.snapshot = self.acknowledged
            journal.retire(self.snapshot)

    def _end(self, journal: Journal) -> None:
        """The process ends; mostly the machine too."""
        journal.close()
        if self.disk.is_off or self.chance.random() < 0.6:
            self.disk.crash()
        else:
            self.disk.mend()


@pytest.mark.parametrize("part", range(4))
def test_nothing_acknowledged_is_lost_over_many_lives(part: int) -> None:
    for seed in range(part, SEEDS, 4):
        Course(seed).run()


def test_one_seed_gives_one_course() -> None:
    def digest(seed: int) -> list[bytes]:
        course = Course(seed)
        course.run()
        return [course.disk.read(name) for name in course.disk.names()]

    assert digest(17) == digest(17)
    assert digest(17) != digest(18)


def test_power_lost_at_each_operation_in_turn_loses_nothing() -> None:
    """From the first operation of the first start to the last one of the second; each crash with three outcomes."""
    for at in range(1, 90):
        for outcome in range(3):
            disk = SimulatedDisk(1000 * at + outcome)
            acknowledged = 0
            disk.power_off_after(at)
            for generation in (1, 2):
                try:
                    journal, queue = begun(disk, generation)
                    start = journal.committed
                    for _ in range(6):
                        queue.put(events_from(start + queue.position, 9))
                        commit_all(journal)
                        acknowledged = max(acknowledged, journal.committed)
                    journal.close()
                except OSError:
                    pass
                if disk.is_off:
                    disk.crash()
            disk.crash()
            events, end = read_all(disk)
            assert events == STREAM[: end.position]
            assert end.is_good
            assert end.position >= acknowledged, (at, outcome)


def test_a_failed_sync_is_the_last_thing_that_happens() -> None:
    disk = SimulatedDisk(3)
    journal, queue = begun(disk)
    queue.put(events_from(0, 5))
    commit_all(journal)
    committed = journal.committed
    disk.fail("sync", errno.EIO)
    queue.put(events_from(committed, 5))
    commit_all(journal)
    failure = journal.failure
    assert failure is not None
    assert (failure.step, failure.errno, failure.position) == (JournalStep.SYNC, errno.EIO, committed)
    assert os.eventfd_read(journal.failure_fd) == 1
    operations = disk.operations
    assert not journal.step()
    assert journal.run() == failure
    assert disk.operations == operations
    assert journal.committed == committed
    assert queue.free_size < (1 << 20)  # the room of what is not committed is not given back


def test_what_a_failed_sync_left_in_memory_only_is_made_durable_before_it_is_believed() -> None:
    """The trap: after a failed sync the bytes read well, and the next sync says that all is well, but they are not on the disk."""
    survivors = 0
    for seed in range(40):
        disk = SimulatedDisk(seed)
        journal, queue = begun(disk)
        disk.fail("sync", errno.EIO)
        queue.put(events_from(0, 20))
        commit_all(journal)
        assert journal.committed == 0
        journal.close()
        journal, queue = begun(disk, 2)
        believed = journal.committed
        survivors += believed > 0
        disk.crash()
        assert read_all(disk)[1].position == believed
    assert survivors == 40


@pytest.mark.parametrize(("operation", "step"), [("write", JournalStep.WRITE), ("allocate", None)])
def test_a_full_disk_stops_the_committer_and_loses_nothing(operation: str, step: JournalStep | None) -> None:
    disk = SimulatedDisk(9)
    journal, queue = begun(disk)
    disk.fail(operation, errno.ENOSPC, is_lasting=True)
    while journal.failure is None:
        assert queue.put(events_from(queue.position, 3))
        commit_all(journal)
    assert journal.failure.errno == errno.ENOSPC
    assert journal.failure.step is (step or JournalStep.SEGMENT)
    events, end = read_all(disk, until=journal.committed)
    assert end.stop is LogStop.END
    assert events == STREAM[: journal.committed]


def test_a_disk_that_fills_up_is_told_a_segment_ahead_and_served_until_then() -> None:
    disk = SimulatedDisk(9, size_max=40_000)
    journal, queue = begun(disk)
    commit_all(journal)
    assert journal.counters().spare_errno == 0
    while journal.counters().spare_errno == 0:
        assert queue.put(events_from(queue.position, 3))
        commit_all(journal)
    assert journal.failure is None
    assert journal.counters().spare_errno == errno.ENOSPC
    assert queue.put(events_from(queue.position, 3))
    commit_all(journal)
    assert journal.committed == queue.position
    disk.size_max = 10**6
    disk.slow("sync", 10**9)
    queue.put(events_from(queue.position, 1))
    commit_all(journal)
    assert journal.counters().spare_errno == 0


def test_slow_syncs_are_counted_in_their_bucket() -> None:
    disk = SimulatedDisk(1)
    journal, queue = begun(disk)
    disk.slow("sync", 4_000_000)
    for _ in range(5):
        queue.put(events_from(queue.position, 1))
        journal.step()
    counters = journal.counters()
    assert (counters.syncs, counters.sync_ns) == (5, 20_000_000)
    assert [index for index, count in enumerate(counters.sync_bucket_counts) if count] == [8]  # 2.048 to 4.096 ms


def test_a_crash_between_segments_leaves_a_log_that_can_be_begun() -> None:
    for at in range(1, 40):
        disk = SimulatedDisk(at)
        journal, queue = begun(disk)
        while len(segments(disk)) < 2:
            queue.put(events_from(queue.position, 6))
            if journal.committed > 9000:
                disk.power_off_after(at)
            journal.step()
            if journal.failure:
                break
        committed = journal.committed
        disk.crash()
        journal, queue = begun(disk, 2)
        assert journal.committed >= committed
        assert queue.put(events_from(journal.committed, 4))
        commit_all(journal)
        assert journal.failure is None


def test_lock_of_a_simulated_disk_ends_with_a_crash() -> None:
    disk = SimulatedDisk(1)
    first = begun(disk)[0]
    with pytest.raises(Exception, match="another broker"):
        opened(disk, 2)
    disk.crash()
    assert opened(disk, 2)
    assert first.committed == BOUNDARIES[0]
