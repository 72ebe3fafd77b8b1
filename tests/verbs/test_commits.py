"""Who waits for the disk: let go when it is written, in order, and not before."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker._journal import EventQueue, Journal
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.commits import OPEN_GATE, AtOnce, Commits, CommitWaiters, Gate
from broker.verbs.errors import VerbError

WAIT_S = 20
EVENT = (64).to_bytes(4, "little") + bytes(60)
NOT_FOUND = VerbError("NOT_FOUND", "SESSION_NOT_FOUND", "gone")
INVALID = VerbError("INVALID_ARGUMENT", "INVALID_FIELD", "wrong")


class Log:
    """A log whose disk is the test. Its positions are `base` ahead of the ledger's."""

    def __init__(self, base: int = 0) -> None:
        self.base = base % 2**64
        self.committed = 0 if base < 0 else base
        self.wakes = 0
        self.watching: list[int] = []

    def wake(self) -> None:
        self.wakes += 1

    def watch(self, descriptor: int) -> None:
        self.watching.append(descriptor)
        os.eventfd_write(descriptor, 1)

    def unwatch(self, descriptor: int) -> None:
        self.watching.remove(descriptor)

    def commit(self, position: int) -> None:
        """Up to this position of the ledger."""
        self.committed = (position + self.base) % 2**64
        for descriptor in self.watching:
            os.eventfd_write(descriptor, 1)


class Ledger:
    """One that is only a position."""

    position = 0


@pytest.fixture(params=[0, 4096, -640], ids=["same-positions", "log-ahead", "ledger-ahead"])
async def log(request: pytest.FixtureRequest) -> Log:
    return Log(request.param)


@pytest.fixture
async def waiters(log: Log) -> AsyncIterator[CommitWaiters]:
    log.commit(0 if log.base < 2**63 else 640)
    made = CommitWaiters(log)
    made.start()
    yield made
    made.close()


async def turns(count: int = 20) -> None:
    """Lets everybody else go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_waits_is_let_go_in_the_order_of_positions(log: Log, waiters: CommitWaiters) -> None:
    order: list[int] = []

    async def wait(position: int) -> None:
        await waiters.wait(position)
        order.append(position)

    tasks = [asyncio.create_task(wait(position)) for position in (1000, 900, 1100, 1000, 2000)]
    await turns()
    assert order == []
    assert waiters.waiting_count == 5
    log.commit(999)
    await turns()
    assert order == [900]
    log.commit(1100)
    await turns()
    assert order == [900, 1000, 1000, 1100]
    log.commit(5000)
    await asyncio.gather(*tasks)
    assert waiters.waiting_count == 0


async def test_what_is_committed_is_not_waited_for_and_what_is_not_wakes_the_committer(log: Log, waiters: CommitWaiters) -> None:
    log.commit(700)
    await waiters.wait(700)
    assert log.wakes == 0
    task = asyncio.create_task(waiters.wait(701))
    await turns()
    assert log.wakes == 1
    log.commit(701)
    await task


async def test_callers_that_have_gone_leave_nothing_behind_while_the_disk_stands_still(log: Log, waiters: CommitWaiters) -> None:
    staying = asyncio.create_task(waiters.wait(1000))
    for _ in range(20):
        gone = [asyncio.create_task(waiters.wait(1000)) for _ in range(100)]
        await turns(2)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert waiters.waiting_count == 1
    assert len(waiters._waiting) < 512
    log.commit(1000)
    await staying


async def test_closing_ends_who_still_waits_and_the_watch(log: Log, waiters: CommitWaiters) -> None:
    task = asyncio.create_task(waiters.wait(1000))
    await turns()
    waiters.close()
    waiters.close()
    assert log.watching == []
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_real_log_lets_go_when_its_committer_has_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, broker_id=b"\x07" * 8, generation=1)
    with suppress(StopIteration):
        next(journal.recover())
    queue = EventQueue(65536)
    journal.begin(queue)
    waiters = CommitWaiters(journal)
    waiters.start()
    try:
        assert queue.put(EVENT * 3)
        tasks = [asyncio.create_task(waiters.wait(size)) for size in (64, 192)]
        await turns()
        assert not any(task.done() for task in tasks)
        assert journal.step()
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*tasks)
    finally:
        waiters.close()
        journal.close()


# --- the gate -----------------------------------------------------------------------------------------------------------


class Stuck:
    """A disk that never writes; counts who asks."""

    def __init__(self) -> None:
        self.positions: list[int] = []

    async def wait(self, position: int) -> None:
        self.positions.append(position)
        await asyncio.Event().wait()


GRANT = sessions_pb2.OpenResponse(grant=types_pb2.Grant())
ENDED = sessions_pb2.OpenResponse(ended=types_pb2.SessionEnded())
DENIAL = sessions_pb2.OpenResponse(denial=types_pb2.Denial())


@pytest.mark.parametrize("answer", [GRANT, ENDED, sessions_pb2.RenewResponse(), sessions_pb2.CloseResponse()], ids=str)
async def test_news_of_a_session_waits_for_all_that_has_happened_by_then(answer: sessions_pb2.OpenResponse) -> None:
    ledger, stuck = Ledger(), Stuck()
    ledger.position = 4711
    gate = Gate(ledger, stuck)
    steps = (gate.pass_answer(answer), gate.pass_error(NOT_FOUND), gate.wait())
    tasks = [asyncio.create_task(step) for step in steps]
    await turns()
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    assert stuck.positions == [4711] * 3


async def test_denials_and_refusals_pass_while_nothing_can_be_written() -> None:
    gate = Gate(Ledger(), Stuck())
    async with asyncio.timeout(WAIT_S):
        await gate.pass_answer(DENIAL)
        await gate.pass_error(INVALID)


@pytest.mark.parametrize("commits", [AtOnce(), None])
async def test_without_strict_durability_nothing_waits(commits: Commits | None) -> None:
    async with asyncio.timeout(WAIT_S):
        for gate in (Gate(Ledger(), commits), OPEN_GATE):
            await gate.pass_answer(GRANT)
            await gate.pass_error(NOT_FOUND)


async def test_relaxed_answers_wake_the_committer() -> None:
    log = Log()
    await Gate(Ledger(), AtOnce(log.wake)).pass_answer(GRANT)
    assert log.wakes == 1
