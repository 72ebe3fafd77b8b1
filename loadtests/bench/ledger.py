"""The ledger alone, one thread: what an operation costs and what a session takes, at a thousand and at a million.

Two ledgers of the default bounds stand in one process, one with 1,000 sessions, one with 1,000,000, and are measured in
turn, round by round, so that the machine's moods hit both. A session has a user of 10, a host of 12 and an app of 8
bytes and leases of two products; ids are drawn uniformly. An operation goes from the bytes of a request to the answer: its id or
request is hashed, the mutex is taken, the seat rules run, the session id is signed. CPU time of the thread is measured around
`Ledger.execute` of batches of 250, so Python's making of the batches is left out. Every status is checked.

Renew: random sessions. Close and open: 250 random sessions are closed, and as many opened in their place. Forget: after
each round the request window passes, and `advance` clears what was remembered of the sessions that were closed in it. The ratio is
the median over the rounds of (million / thousand); the figures in brackets are the quartiles.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from broker._ledger import LIMITS, Batch, Ledger
from broker.model.terms import PoolTerms
from broker.model.words import Status
from loadtests.bench.processors import anonymous_size

BATCH = 250
SMALL = 1_000
LARGE = 1_000_000
BATCHES_OF_ROUND = 8
PRODUCTS = (("platform", False), ("crm", False))
FAR_NS = 2**60
TTL_NS = LIMITS["TTL_MAX_NS"]
"""So long that nobody expires while the windows of the rounds pass."""
OPERATIONS = ("open", "renew", "close", "forget")
WINDOW_NS = LIMITS["REQUEST_WINDOW_DEFAULT_NS"]
RATIO_BAR = 1.3
SIZE_BAR = 400


@dataclass
class Population:
    """One ledger that holds a constant number of sessions, and the time that each operation on it took."""

    count: int
    costs_ns: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in OPERATIONS})

    def __post_init__(self) -> None:
        self.random = random.Random(self.count)
        self.now_ns = 1
        self.user_number = 0
        # Touched before the memory is measured: the ids are the clients', not the ledger's.
        self.ids = bytearray(b"\x01") * (self.count * LIMITS["SESSION_ID_SIZE"])
        self.batch = Batch(BATCH)
        before = anonymous_size()
        self.ledger = self._ledger()
        for start in range(0, self.count, BATCH):
            self._open(range(start, min(start + BATCH, self.count)))
        self.session_size = (anonymous_size() - before) / self.count

    def _ledger(self) -> Ledger:
        ledger = Ledger(broker_id=b"bench---", secret=bytes(16), generation=1, start_ns=0, stall_ns=0, ttl_ns=TTL_NS)
        for source, (product, _) in enumerate(PRODUCTS):
            pool = ledger.declare_pool(product, PoolTerms(), True)
            seats = LIMITS["SEATS_OF_SOURCE_MAX"]
            ledger.prove_source(0, 2 * source, pool, seats, FAR_NS, FAR_NS)
            ledger.prove_source(0, 2 * source + 1, pool, seats, FAR_NS, FAR_NS)
        return ledger

    def round(self) -> None:
        """Each operation, some batches of it."""
        renew = close = opened = 0
        for _ in range(BATCHES_OF_ROUND):
            renew += self._renew(BATCH)
            places = self.random.sample(range(self.count), BATCH)
            close += self._close(places)
            opened += self._open(places)
        for name, total in (("renew", renew), ("close", close), ("open", opened), ("forget", self._forget())):
            self.costs_ns[name].append(total / (BATCHES_OF_ROUND * BATCH))

    def _open(self, places: range | list[int]) -> int:
        self.batch.clear()
        for place in places:
            self.user_number += 1
            self.batch.add_open(
                self.ledger,
                request_id=self.random.randbytes(LIMITS["REQUEST_ID_SIZE"]),
                user=b"user%06d" % (self.user_number % 1_000_000),
                host=b"workplace%03d" % (place % 1000),
                app=b"crm/8.3 ",
                products=PRODUCTS,
            )
        spent = self._execute(Status.GRANTED)
        size = LIMITS["SESSION_ID_SIZE"]
        made = self.batch.session_ids()
        for index, place in enumerate(places):
            self.ids[place * size : (place + 1) * size] = made[index * size : (index + 1) * size]
        return spent

    def _renew(self, count: int) -> int:
        self.batch.clear()
        for _ in range(count):
            self.batch.add_renew(self.ledger, self.session_id(self.random.randrange(self.count)), 1)
        return self._execute(Status.RENEWED)

    def _close(self, places: list[int]) -> int:
        self.batch.clear()
        for place in places:
            self.batch.add_close(self.ledger, self.session_id(place), self.random.randbytes(LIMITS["REQUEST_ID_SIZE"]))
        return self._execute(Status.CLOSED)

    def _forget(self) -> int:
        """CPU nanoseconds that `advance` takes for the sessions closed in this round."""
        self.now_ns += WINDOW_NS
        begin = time.thread_time_ns()
        while self.ledger.advance(self.now_ns):
            pass
        spent = time.thread_time_ns() - begin
        remembered = self.ledger.counters().request_count
        if remembered != self.count:
            raise RuntimeError(f"{remembered} requests are remembered; there are {self.count} sessions")
        return spent

    def session_id(self, place: int) -> bytes:
        """Of the session that stands there now."""
        size = LIMITS["SESSION_ID_SIZE"]
        return bytes(self.ids[place * size : (place + 1) * size])

    def _execute(self, expected: Status) -> int:
        """CPU nanoseconds of the thread; time then moves on, and what was remembered long ago is forgotten."""
        begin = time.thread_time_ns()
        self.ledger.execute(self.now_ns, self.batch)
        spent = time.thread_time_ns() - begin
        statuses = self.batch.statuses()
        if statuses != bytes([expected]) * len(statuses):
            raise RuntimeError(f"not every command ended as {expected.name}: {statuses.hex()}")
        self.ledger.drain_events(LIMITS["EVENT_RING_DEFAULT"])
        self.now_ns += 1000
        return spent


def results(small: Population, large: Population) -> list[dict[str, Any]]:
    """One row an operation and size, and the ratio of the two."""
    rows: list[dict[str, Any]] = []
    for name in OPERATIONS:
        pairs = list(zip(small.costs_ns[name], large.costs_ns[name], strict=True))
        ratios = statistics.quantiles([big / little for little, big in pairs], n=4)
        for population in (small, large):
            low, median, high = statistics.quantiles(population.costs_ns[name], n=4)
            rows.append(
                {
                    "name": f"ledger_{name}_{population.count}",
                    "requests_per_s": round(1e9 / median),
                    "cpu_us": round(median / 1000, 4),
                    "cpu_us_quartiles": [round(low / 1000, 4), round(high / 1000, 4)],
                    "session_size": round(population.session_size),
                    "ratio": round(ratios[1], 3),
                    "ratio_quartiles": [round(ratios[0], 3), round(ratios[2], 3)],
                }
            )
    return rows


def lines(rows: list[dict[str, Any]], small: Population, large: Population) -> list[str]:
    """The table, with the bars."""
    text = [f"{'operation':10}{f'{small.count:,} sessions':>22}{f'{large.count:,} sessions':>24}   ratio (bar {RATIO_BAR})"]
    for name in OPERATIONS:
        little, big = (next(row for row in rows if row["name"] == f"ledger_{name}_{n}") for n in (small.count, large.count))
        quartiles = "{} to {}".format(*big["ratio_quartiles"])
        text.append(
            f"{name:10}{little['cpu_us'] * 1000:9.0f} ns {little['requests_per_s']:>9,}/s"
            f"{big['cpu_us'] * 1000:11.0f} ns {big['requests_per_s']:>9,}/s   {big['ratio']} ({quartiles})"
        )
    text.append(
        f"memory: {large.session_size:.0f} bytes a session at {large.count:,} (bar {SIZE_BAR});"
        f" {small.session_size * small.count / 2**20:.0f} MiB in all at {small.count:,}"
    )
    return text


def measure_ledger(*, is_short: bool, say: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows for the file, and the table. Short: few rounds and few sessions, to see that it runs."""
    say("filling the ledgers")
    small = Population(SMALL)
    large = Population(LARGE // 100 if is_short else LARGE)
    rounds = 3 if is_short else 60
    for number in range(rounds):
        small.round()
        large.round()
        say(f"round {number + 1} of {rounds}")
    rows = results(small, large)
    return rows, lines(rows, small, large)


def renew_hold_ns(session_count: int, *, batch_size: int = 32, batch_count: int = 256) -> float:
    """Nanoseconds that a Renew takes in `Ledger.execute`, in batches as small as a listener's, made beforehand."""
    population = Population(session_count)
    batches = [Batch(batch_size) for _ in range(batch_count)]
    for batch in batches:
        for _ in range(batch_size):
            batch.add_renew(population.ledger, population.session_id(population.random.randrange(session_count)), 1)
    begin = time.thread_time_ns()
    for batch in batches:
        population.ledger.execute(population.now_ns, batch)
    spent = time.thread_time_ns() - begin
    if any(batch.statuses() != bytes([Status.RENEWED]) * batch_size for batch in batches):
        raise RuntimeError("not every Renew was answered")
    return spent / (batch_size * batch_count)
