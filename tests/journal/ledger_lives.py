"""A real ledger under random commands over a journal, crash after crash; what must be there again is known from its events alone.

All that the ledger emits is read by a cursor of its own and kept: `stream` is what the log must hold, by log position. What a ledger must be after a
crash at position p is what `stream[:p]` makes of a new one, without snapshots or segments: `expected`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker._journal import LogDisk
from broker._ledger import Ledger
from broker.journal.compaction import Compactor, compact, retire
from broker.journal.settings import JournalSettings
from broker.journal.store import JournalStore
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, Status
from tests.journal.material import BROKER_ID

SETTINGS: dict[str, Any] = {"segment_size": 65536, "group_size_max": 16384, "snapshot_after_size": 40_000, "log_size_max": 2_000_000, "salt_seed": 3}
SECOND_NS = 1_000_000_000
PRODUCTS = ("platform", "crm", "sms")
DUMP_SIZE = 16384


def make_ledger(generation: int = 1, **sizes: Any) -> Ledger:
    """Small, of the tests' broker."""
    defaults: dict[str, Any] = {
        "event_ring_size": 1 << 20, "sessions_max": 4096, "leases_max": 16384, "charges_max": 16384, "requests_max": 8192,
        "denials_max": 256, "text_size_max": 1 << 20,
    }  # fmt: skip
    return Ledger(broker_id=BROKER_ID, secret=b"s" * 16, generation=generation, start_ns=SECOND_NS, **(defaults | sizes))


def dump_of(ledger: Ledger) -> bytes:
    """All state records."""
    parts, cursor = [], 0
    while True:
        part, cursor = ledger.dump(cursor, DUMP_SIZE)
        parts.append(part)
        if cursor == 0:
            return b"".join(parts)


class LedgerLives:
    """One broker over many runs on one place."""

    def __init__(self, place: str | Path | LogDisk, seed: int, **settings: Any) -> None:
        self.place = place
        self.chance = random.Random(seed)
        self.settings = JournalSettings(**(SETTINGS | settings))
        self.stream = b""
        self.told = 0
        """The position up to which clients have had answers."""
        self.generation = 0
        self.now_ns = SECOND_NS
        self.wall_ns = 10**18
        self.acknowledged: dict[bytes, int] = {}
        """Sessions that clients were told of, and the log position behind them."""

    # --- one run ----------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Recovered, compared, resumed, begun."""
        self.generation += 1
        self.store = JournalStore.open(self.place, broker_id=BROKER_ID, generation=self.generation, settings=self.settings)
        self.ledger = make_ledger(self.generation)
        try:
            report = self.store.recover(self.ledger)
            assert self.told <= report.position <= len(self.stream)
            self.stream = self.stream[: report.position]
            assert dump_of(self.ledger) == dump_of(self.expected(report.position))
            self.ledger.resume(self.now_ns, self.wall_ns)
            self._declare()
            self.store.begin(self.ledger)
        except BaseException:
            self.store.journal.close()
            raise
        self.cursor = 0
        self.read()
        self.compactor = Compactor(self.store, self.shadow)
        self.compaction = None

    def shadow(self) -> Ledger:
        return make_ledger(self.generation)

    def expected(self, position: int) -> Ledger:
        """From the events alone."""
        ledger = make_ledger(self.generation)
        ledger.replay(self.stream[:position])
        return ledger

    def _declare(self) -> None:
        for number, product in enumerate(PRODUCTS):
            terms = PoolTerms(share_max=3) if number == 1 else PoolTerms()
            pool = self.ledger.declare_pool(product, terms, False)
            self.ledger.prove_source(self.now_ns, number, pool, 30, self.now_ns + 3600 * SECOND_NS, self.now_ns + 3900 * SECOND_NS)

    def read(self) -> None:
        """What the ledger has emitted since."""
        while True:
            events, self.cursor, lost_size = self.ledger.read_events(self.cursor, 1 << 16)
            assert lost_size == 0
            if not events:
                return
            self.stream += events

    @property
    def position(self) -> int:
        """Behind all that the ledger has emitted."""
        return len(self.stream)

    # --- what happens -----------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """One random command, and time."""
        self.now_ns += self.chance.randrange(SECOND_NS // 4)
        self.wall_ns += SECOND_NS // 8
        chosen: Callable[[], None] = self.chance.choices(
            (self.open, self.close, self.renew, self.acquire, self.release, self.keys, self.note, self.advance),
            (30, 12, 15, 8, 6, 1, 2, 6),
        )[0]
        chosen()
        self.read()

    def _any_session(self) -> bytes | None:
        return self.chance.choice(list(self.acknowledged)) if self.acknowledged else None

    def open(self) -> None:
        answer = self.ledger.open(
            self.now_ns,
            request_id=self.chance.randbytes(16),
            user=b"user %d" % self.chance.randrange(40),
            host=b"host",
            products=[(product, self.chance.random() < 0.3) for product in self.chance.sample(PRODUCTS, self.chance.randrange(1, 4))],
            instance_id=b"place %d" % self.chance.randrange(30) if self.chance.random() < 0.3 else b"",
            priority=self.chance.randrange(3),
        )
        if answer.status is Status.GRANTED:
            self.acknowledged[answer.session_id] = self.ledger.position

    def close(self) -> None:
        session_id = self._any_session()
        if session_id:
            self.ledger.close(self.now_ns, session_id, self.chance.randbytes(16))
            del self.acknowledged[session_id]

    def renew(self) -> None:
        session_id = self._any_session()
        if session_id:
            self.ledger.renew(self.now_ns, session_id, self.chance.randrange(3))

    def acquire(self) -> None:
        session_id = self._any_session()
        if session_id:
            self.ledger.acquire(self.now_ns, session_id, self.chance.randbytes(16), [(self.chance.choice(PRODUCTS), False)])

    def release(self) -> None:
        session_id = self._any_session()
        if session_id:
            self.ledger.release(self.now_ns, session_id, self.chance.randbytes(16), self.chance.choice(PRODUCTS))

    def keys(self) -> None:
        number = self.chance.randrange(len(PRODUCTS))
        if self.chance.random() < 0.5:
            self.ledger.lose_source(self.now_ns, number, self.now_ns + 20 * SECOND_NS, EndReason.KEY_LOST)
        else:
            self._declare()

    def note(self) -> None:
        self.ledger.note(self.now_ns, b"note %d" % self.chance.randrange(5), self.chance.randbytes(self.chance.randrange(40)))

    def advance(self) -> None:
        while self.ledger.advance(self.now_ns):
            pass

    def work(self) -> None:
        """A few rounds of the committer, and now and then a piece of a snapshot."""
        for _ in range(self.chance.randrange(4)):
            self.store.journal.step()
        if self.compaction is None and self.chance.random() < 0.02 and self.compactor.is_due:
            self.compaction = compact(self.store, self.shadow)
        if self.compaction is not None and next(self.compaction, None) is None:
            self.compaction = None
            self.store.write_state()
            retire(self.store, None)
