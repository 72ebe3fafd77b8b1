"""What answers wait for: that the events behind them are on the disk (semantics rule 25).

A transport asks its Gate between a verb and its answer: what tells of a session waits until all events of the ledger up to that
instant are committed; denials and refusals leave at once. Positions are bytes of the ledger's event stream since its start, as
`Ledger.position` counts them. Who waits is let go in the order of positions, by one reader of one eventfd. If the log fails nobody
is let go any more: the process ends, and no answer is better than one that a power cut takes back.

Event loop's thread only. Waiters are calls under way, so that the transport's bounds are theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
from collections.abc import Callable
from itertools import count
from typing import Protocol

from google.protobuf.message import Message

from broker.verbs.errors import VerbError
from broker.verbs.stats import DENIED, outcome_of_answer

_POSITIONS = 2**64
_SWEEP_COUNT_MIN = 256


class Commits(Protocol):
    """How far the disk is."""

    async def wait(self, position: int) -> None:
        """Returns when all events before this position may be told."""


class Positioned(Protocol):
    """The part of the ledger that a gate asks."""

    @property
    def position(self) -> int:
        """Behind the newest event."""


class CommittedLog(Protocol):
    """The part of `broker._journal.Journal` that is awaited."""

    @property
    def committed(self) -> int:
        """Log position."""

    @property
    def base(self) -> int:
        """What log positions are ahead of the ledger's, modulo 2**64."""

    def wake(self) -> None:
        """Events were written."""

    def watch(self, descriptor: int) -> None:
        """An eventfd that is written to after each commit, and at once."""

    def unwatch(self, descriptor: int) -> None:
        """No more."""


class AtOnce:
    """Nobody waits (durability relaxed, or none). `wake`: what makes the committer look, if there is one."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake

    async def wait(self, _position: int) -> None:
        """Lets go at once."""
        self._wake()


class CommitWaiters:
    """Who waits for the log (durability strict). `start` in the running event loop; `close` before the log is closed."""

    def __init__(self, log: CommittedLog) -> None:
        self._log = log
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap by position, then by who came first. Those who have gone stand in it until the next sweep."""
        self._sweep_count = _SWEEP_COUNT_MIN
        self._descriptor = -1

    def __repr__(self) -> str:
        return f"<CommitWaiters: {len(self._waiting)} waiting, {self._committed()} committed>"

    def start(self) -> None:
        """Is told of commits from now on. ValueError if the log has as many watchers as it may."""
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._descriptor, self._told)
        self._log.watch(self._descriptor)

    def close(self) -> None:
        """Is told no more; who still waits is cancelled. Doing it again changes nothing."""
        if self._descriptor < 0:
            return
        self._log.unwatch(self._descriptor)
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        for _, _, waiter in self._waiting:
            waiter.cancel()
        self._waiting.clear()

    @property
    def waiting_count(self) -> int:
        """Calls that wait."""
        return sum(not waiter.done() for _, _, waiter in self._waiting)

    async def wait(self, position: int) -> None:
        """Returns when all events before this position are on the disk."""
        if self._committed() >= position:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position, next(self._order), waiter))
        self._log.wake()
        if len(self._waiting) >= self._sweep_count:
            self._sweep()
        await waiter

    def _sweep(self) -> None:
        """While the disk stands still, callers that have gone must not heap up."""
        self._waiting = [one for one in self._waiting if not one[2].done()]
        heapq.heapify(self._waiting)
        self._sweep_count = max(2 * len(self._waiting), _SWEEP_COUNT_MIN)

    def _committed(self) -> int:
        return (self._log.committed - self._log.base) % _POSITIONS

    def _told(self) -> None:
        with contextlib.suppress(BlockingIOError):  # told and read already
            os.eventfd_read(self._descriptor)
        committed = self._committed()
        while self._waiting and self._waiting[0][0] <= committed:
            waiter = heapq.heappop(self._waiting)[2]
            if not waiter.done():
                waiter.set_result(None)


class Gate:
    """What stands between the verbs and a transport. Made without arguments it holds nothing."""

    def __init__(self, ledger: Positioned | None = None, commits: Commits | None = None) -> None:
        self._ledger = ledger
        self._commits = commits

    async def wait(self) -> None:
        """Returns when all that has happened in the ledger by now may be told."""
        if self._ledger is not None and self._commits is not None:
            await self._commits.wait(self._ledger.position)

    async def pass_answer(self, answer: Message) -> None:
        """Holds an answer back, unless it is a denial."""
        if outcome_of_answer(answer) != DENIED:
            await self.wait()

    async def pass_error(self, error: VerbError) -> None:
        """Holds back that a session is over; all other errors have changed nothing, and tell of none."""
        if error.status == "NOT_FOUND":
            await self.wait()


OPEN_GATE = Gate()
"""Holds nothing."""
