"""Rounds of kill -9: a broker is started on the same data directory again and again, killed amid load, and judged at each start.

    campaign = Campaign(directory, seed=7)
    for _ in range(200): campaign.round()
    campaign.silence()
    assert not campaign.auditor.faults

One round: start (what was there is recovered) → retry what was not answered → judge every session → load → the end, by one of ENDS in turn.
Where the process dies before all of that is done, the next round judges. The same seed makes the same choices; what the machine's scheduler
does with them is its own. Runs in the caller's thread, with a thread for each holder under load; needs only free ports of 127.0.0.1.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.crash.auditor import NS, Auditor, Login
from tests.crash.clients import EXTRA, Gone, Holder, Line, open_request
from tests.crash.faulty_disk import COMPILER, DiskFault
from tests.crash.serve import PROGRAM
from tests.support.broker_process import RunningBroker, StartingBroker, begin_broker, write_config
from tests.support.waiting import until

TTL_S = 8
GRACE_S = 1
HOLDER_COUNT = 8
LOAD_S_MAX = 0.4
"""Until a kill at any instant."""
STEPS_MAX = 150
"""Of each holder, when a crash point is waited for that does not come."""
STEPS_WAITING_FOR_SNAPSHOT = 600
GROUPS_MAX = 50
"""Groups of the log before a crash point in one of them: so many are always written under load."""
START_S = 120.0
END_S = 30.0
"""Beyond these a broker stands still, on the slowest machine."""
KEYS = (
    {"name": "alpha", "seats": {"platform": 9, EXTRA: 4}},
    {"name": "bravo", "seats": {"platform": 5, EXTRA: 2}},
)
CAPACITY = {"platform": 14, EXTRA: 6}
SETTINGS: dict[str, dict[str, Any]] = {
    "sessions": {"ttl_s": TTL_S, "renew_grace_s": GRACE_S},
    # As small as they may be, so that segments and snapshots come and go.
    "journal": {"segment_size": 1 << 16, "snapshot_after_size": 1 << 16, "ballast_size": 0},
}


@dataclass(frozen=True, slots=True)
class End:
    """A way for a broker to end. `place`: a crash point, `fault`: of its disk; the count of either is drawn.
    `status`: of the process that met it. `is_awaited`: something else ends it, which `Campaign.round` was given."""

    name: str
    place: str = ""
    count_max: int = 1
    steps_max: int = STEPS_MAX
    fault: DiskFault | None = None
    status: int = -9
    is_awaited: bool = False
    count_min: int = 1

    @property
    def comes_by_itself(self) -> bool:
        """The process ends when it gets there, and is not killed by us."""
        return bool(self.place or self.fault or self.is_awaited)


ENDS = (
    End("any_instant"),
    End("before_append", "before_append", GROUPS_MAX),
    End("after_append", "after_append", GROUPS_MAX),
    End("after_sync", "after_sync", GROUPS_MAX),
    End("before_answer", "before_answer", GROUPS_MAX),
    End("mid_snapshot", "mid_snapshot", 6, STEPS_WAITING_FOR_SNAPSHOT),
    End("mid_recovery", "mid_recovery", 6),
    End("mid_start"),
    End("any_instant_again"),
    *([End("power_cut", count_max=GROUPS_MAX, fault=DiskFault("sync", "power"))] if COMPILER else []),
    End("stopped", status=0),
)
"""In this order, over and over. All but the last are kill -9; a cut of power also undoes what was written and not synced."""


NO_END = End("none")


class Campaign:
    """Rounds on one data directory, and the auditor's books over all of them. `sync_delay_ms`: added to each sync of the log.
    `answers_early`: the planted error, answers that do not wait for the log. `journal`: laid over that section of the configuration."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        data_plane: str = "native",
        sync_delay_ms: int = 0,
        answers_early: bool = False,
        journal: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.auditor = Auditor(CAPACITY, TTL_S * NS)
        self.ends: Counter[str] = Counter()
        self.longest_start_ns = 0
        self._choice = random.Random(seed)
        self.holders = [Holder(f"h{number}", self.auditor, random.Random(f"{seed}/{number}")) for number in range(HOLDER_COUNT)]
        self._words = (str(sync_delay_ms), "early" if answers_early else "-")
        self._settings = SETTINGS | {"clients": {"data_plane": data_plane}, "journal": SETTINGS["journal"] | dict(journal or {})}
        self._killed_ns = 0
        self._round_count = 0

    # --- one round ------------------------------------------------------------------------------------

    def round(self, end: End | None = None, beside: Callable[[RunningBroker], None] | None = None) -> None:
        """One life of a broker, up to its end: the given one, or the next in turn. `beside` is called in a thread beside the load."""
        if end is None:
            end = ENDS[self._round_count % len(ENDS)]
            self._round_count += 1
        starting = self._start(end)
        try:
            if end.name == "mid_start":
                self._end_amid_start(starting)
            elif self._await_serving(starting):
                self._life(starting, end, beside)
                self._end_of(starting, end)
            else:
                self.ends[end.name] += 1
        finally:
            self._bury(starting, end.status)
        self.auditor.judge_holds(time.monotonic_ns())
        self.auditor.forget_before(self._killed_ns - 90 * NS)

    def silence(self) -> None:
        """Everybody falls silent on a broker that goes on; then every seat must be free, and can be given to somebody else."""
        with self.serving() as broker:
            for holder in self.holders:
                holder.fall_silent()
            broker.await_proven()
            until(lambda: not broker.sessions(), "nobody left after everybody fell silent", within_s=4 * (TTL_S + GRACE_S))
            self.auditor.judge_silence(broker.products(), broker.sessions())
            with line_to(broker, self.auditor) as line:
                self._fill(line)
            self.auditor.judge_products(broker.products(), broker.sessions())

    @contextmanager
    def serving(self) -> Iterator[RunningBroker]:
        """A broker as it is, killed behind the block."""
        starting = self._start(NO_END)
        try:
            yield starting.serving()
        finally:
            self._bury(starting)

    # --- start and judgement -----------------------------------------------------------------------------

    def _start(self, end: End) -> StartingBroker:
        config = write_config(self.directory, self._settings, KEYS)
        count = self._choice.randint(end.count_min, end.count_max)
        place = f"{end.place}:{count}" if end.place else "-"
        surroundings = end.fault.surroundings(count, self._choice.getrandbits(31)) if end.fault else {}
        started_ns = time.monotonic_ns()
        starting = begin_broker(self.directory, config, program=(*PROGRAM, place, *self._words), environment=surroundings)
        if self._killed_ns:
            self.auditor.restarted(self._killed_ns, started_ns)
        return starting

    def _await_serving(self, starting: StartingBroker) -> bool:
        """Whether it came to serve; otherwise it has ended on the way, as it should or `_bury` says so."""
        begin_ns = time.monotonic_ns()
        if starting.await_news(START_S):
            self.longest_start_ns = max(self.longest_start_ns, time.monotonic_ns() - begin_ns)
            return True
        self._await_end(starting)
        return False

    def _life(self, starting: StartingBroker, end: End, beside: Callable[[RunningBroker], None] | None) -> None:
        broker = starting.serving()
        try:
            with line_to(broker, self.auditor) as line:
                self._judge(broker, line)
        except (Gone, grpc.RpcError, AssertionError):
            if not end.comes_by_itself:
                raise
            self._await_end(starting)
            return
        self._load(broker, end, [] if beside is None else [threading.Thread(target=beside, args=(broker,), name="beside")])

    def _judge(self, broker: RunningBroker, line: Line) -> None:
        """All that the broker must know again, before anybody does anything new."""
        for holder in self.holders:
            holder.settle(line)
        for holder in self.holders:
            holder.renew_all(line)
        sessions = broker.sessions()
        self.auditor.judge_sessions(sessions, time.monotonic_ns())
        self.auditor.judge_products(broker.products(), sessions)
        for holder in self.holders:
            holder.ask_about_ended(line, 1)
        broker.await_proven()
        self.auditor.count("rounds_judged")

    def _fill(self, line: Line) -> None:
        """As many logins as there are seats are granted, and one more is denied."""
        for product, capacity in CAPACITY.items():
            answers = []
            for number in range(capacity + 1):
                login = Login(f"last-{product}-{number}", self._choice.randbytes(16), (product,))
                answer = line.call("Open", open_request(login))
                answers.append(None if answer is None else answer.WhichOneof("result"))
            if answers != ["grant"] * capacity + ["denial"]:
                self.auditor.fault("stranded", f"{capacity} seats of {product} were free, and were answered with {answers}")

    # --- load and end -----------------------------------------------------------------------------------

    def _load(self, broker: RunningBroker, end: End, threads: list[threading.Thread]) -> None:
        """Every holder at work beside these threads, until the broker is gone."""
        with lines_to(broker, self.auditor) as lines:
            threads += [
                threading.Thread(target=holder.run, args=(line, end.steps_max), name=holder.name)
                for holder, line in zip(self.holders, lines, strict=True)
            ]
            for thread in threads:
                thread.start()
            if not end.comes_by_itself:
                threads[0].join(self._choice.uniform(0.02, LOAD_S_MAX))
                broker.stop() if end.name == "stopped" else broker.kill()
            for thread in threads:
                thread.join()

    def _end_amid_start(self, starting: StartingBroker) -> None:
        """The kill comes at any instant of a start, of which most is Python's own imports."""
        starting.await_news(self._choice.uniform(0.3, 1.3) * max(self.longest_start_ns, NS) / NS)
        starting.process.kill()
        starting.process.wait(END_S)
        self.ends["mid_start"] += 1

    def _end_of(self, starting: StartingBroker, end: End) -> None:
        """Counts how it ended: a crash point that was not reached is a kill by us."""
        if any(holder.is_waiting for holder in self.holders):
            self._await_end(starting)  # answers stay away a moment before the process is gone
        is_alive = starting.process.poll() is None
        self.ends["not_reached" if is_alive else end.name.removesuffix("_again")] += 1

    def _await_end(self, starting: StartingBroker) -> None:
        """Waits for a process that should end by itself. One that stands still says in its log where, by a fatal signal."""
        try:
            starting.process.wait(END_S)
        except subprocess.TimeoutExpired:
            fields = Path(f"/proc/{starting.process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            self.auditor.fault("wrong", f"the broker neither serves nor ends; it has used {ticks / os.sysconf('SC_CLK_TCK'):.1f} s of processor")
            starting.process.send_signal(signal.SIGABRT)

    def _bury(self, starting: StartingBroker, status_due: int = -9) -> None:
        is_ours = starting.process.poll() is None
        if is_ours:
            starting.process.kill()
        status = starting.process.wait(END_S)
        if not is_ours and status != status_due:
            self.auditor.fault("wrong", f"the broker ended with status {status} instead of {status_due}, see {starting.log_path}")
        self._killed_ns = time.monotonic_ns()


@contextmanager
def line_to(broker: RunningBroker, auditor: Auditor) -> Iterator[Line]:
    """One channel of its own."""
    with grpc.insecure_channel(broker.clients, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Line(channel, auditor)


@contextmanager
def lines_to(broker: RunningBroker, auditor: Auditor) -> Iterator[list[Line]]:
    """A line for each holder, two on each channel."""
    channels = [grpc.insecure_channel(broker.clients, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(HOLDER_COUNT // 2)]
    try:
        yield [Line(channels[number // 2], auditor) for number in range(HOLDER_COUNT)]
    finally:
        for channel in channels:
            channel.close()
