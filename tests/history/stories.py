"""Logs for the history's tests: told event by event, or left behind by a real ledger under random commands, through real journal files."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from broker._journal import EventQueue, Journal, SnapshotWriter
from broker._ledger import Ledger
from broker.model.terms import PoolTerms
from broker.model.words import EventKind, LicenceModel, Sharing

BROKER_ID = b"historic"
SEGMENT_SIZE = 65536
FOREVER = 2**62
SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
NOON_NS = 1_800_000_000 * SECOND_NS // MINUTE_NS * MINUTE_NS
HEADER = struct.Struct("<IHBBQqQQiiiiQ")
FENCE = 1 << 40


class Story:
    """Events told one by one. Times are ledger times in ns."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.now_ns = 1000
        self._sequence = 0

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    def tell(
        self, kind: int, *, reason: int = 0, fence: int = 0, charge: int = 0, pool: int = -1, product: int = -1, seats: int = 0,
        deficit: int = 0, detail: int = 0, body: bytes = b"",
    ) -> None:  # fmt: skip
        """Any event."""
        self._sequence += 1
        body += bytes(-len(body) % 8)
        header = HEADER.pack(
            64 + len(body), kind, reason, 1, self._sequence, self.now_ns, fence, charge, pool, product, seats, deficit, detail
        )
        self.parts.append(header + body)

    def pass_s(self, seconds: float) -> None:
        """Ledger time goes on."""
        self.now_ns += round(seconds * SECOND_NS)

    def run(self, generation: int, wall_ns: int) -> None:
        """A broker starts."""
        self.tell(17, seats=generation, detail=wall_ns)

    def stop(self) -> None:
        """It ends by itself."""
        self.tell(18)

    def mark(self, wall_ns: int) -> None:
        """The wall clock is looked at."""
        self.tell(16, detail=wall_ns)

    def declare(self, product: int, name: str, pool: int, weight: int = 1) -> None:
        """A product and its pool."""
        self.tell(13, product=product, seats=len(name.encode()), body=name.encode())
        terms = struct.pack("<BBBxIqq", LicenceModel.CONCURRENT, Sharing.USER, 1, 4, 0, 0)
        self.tell(14, pool=pool, product=product, seats=weight, body=terms)

    def open(self, fence: int, user: str = "ann", host: str = "pc", app: str = "crm") -> None:
        """A session."""
        texts = [text.encode() for text in (user, host, app, "", "", "")]
        sizes = bytes(len(text) for text in texts)
        self.tell(EventKind.SESSION_OPENED, fence=FENCE + fence, deficit=7, body=sizes + bytes(34) + b"".join(texts))

    def end(self, fence: int, reason: int = 1) -> None:
        """Of a session."""
        self.tell(EventKind.SESSION_ENDED, fence=FENCE + fence, reason=reason, deficit=7)

    def lease(self, fence: int, charge: int, pool: int = 0, product: int = 0, seats: int = 1) -> None:
        """A lease on a charge; with no seats it joins one."""
        self.tell(EventKind.LEASE_STARTED, fence=FENCE + fence, charge=FENCE + charge, pool=pool, product=product, seats=seats, deficit=7)

    def free(self, fence: int, charge: int, pool: int = 0, product: int = 0, seats: int = 1, reason: int = 1) -> None:
        """The lease and its charge end."""
        self.tell(EventKind.LEASE_ENDED, fence=FENCE + fence, charge=FENCE + charge, pool=pool, product=product, reason=reason, deficit=7)
        self.tell(EventKind.CHARGE_FREED, charge=FENCE + charge, pool=pool, product=product, seats=seats, reason=reason)

    def deny(self, product: int = 0, count: int = 1, reason: int = 1) -> None:
        """A denial, or so many."""
        self.tell(EventKind.DENIED, product=product, seats=count, reason=reason)

    def capacity(self, seats: int, pool: int = 0, product: int = 0, deficit: int = 0) -> None:
        """Of a pool."""
        self.tell(EventKind.CAPACITY_CHANGED, pool=pool, product=product, seats=seats, deficit=deficit)


class Log:
    """A log that stories are added to, by one journal or one after the other."""

    def __init__(self, directory: Path, *, generation: int = 0, **settings: int) -> None:
        self.directory = directory
        self.committed = 0
        self._generation = generation
        self._settings = {"segment_size": SEGMENT_SIZE, "group_size_max": 16384} | settings

    def add(self, data: bytes) -> None:
        """Commits whole events."""
        self._generation += 1
        journal = Journal(self.directory, broker_id=BROKER_ID, generation=self._generation, **self._settings)
        for _ in journal.recover(self.first):
            pass
        queue = EventQueue(max(1 << 20, len(data)))
        journal.begin(queue)
        assert queue.put(data)
        while journal.step():
            pass
        self.committed = journal.committed
        journal.close()

    @property
    def first(self) -> int:
        """Its first position."""
        names = sorted(self.directory.glob("*.log"))
        return int(names[0].name[:16], 16) if names else 0

    def write_snapshot(self, past: bytes) -> int:
        """A snapshot behind these events, which are the log's first ones; its position."""
        shadow = Ledger(broker_id=BROKER_ID, secret=b"s" * 16, generation=2**23 - 1, start_ns=0)
        shadow.replay(past)
        writer = SnapshotWriter(self.directory, broker_id=BROKER_ID, generation=self._generation, position=len(past))
        cursor = -1
        while cursor:
            records, cursor = shadow.dump(max(cursor, 0), 1 << 20)
            writer.write(records)
        writer.commit()
        return len(past)

    def forget_oldest(self, count: int = 1) -> int:
        """Retires so many segments; the first position that is left."""
        for path in sorted(self.directory.glob("*.log"))[:count]:
            path.unlink()
        return self.first


def random_commands(seed: int, count: int, runs: int = 1, users: int = 12) -> bytes:
    """The events of a real ledger under so many random commands, some minutes long, and of its next lives after stops and crashes."""
    chance = random.Random(seed)
    past = b""
    wall_ns = NOON_NS + chance.randrange(MINUTE_NS)
    for generation in range(1, runs + 1):
        run = _Run(chance, generation, past, wall_ns, users)
        for number in range(count // runs):
            run.command(generation << 32 | number)
        if chance.random() < 0.5:
            run.ledger.end_run(run.now_ns)
        past += run.drained()
        wall_ns = run.wall_ns + chance.randrange(1, 200 * SECOND_NS)
    return past


class _Run:
    """One life of a ledger."""

    def __init__(self, chance: random.Random, generation: int, past: bytes, wall_ns: int, users: int) -> None:
        self.chance, self.users = chance, users
        self.now_ns = chance.randrange(1, 10**15)
        self.wall_ns = wall_ns
        self.ledger = Ledger(
            broker_id=BROKER_ID, secret=b"s" * 16, generation=generation, start_ns=self.now_ns, event_ring_size=1 << 24, ttl_ns=30 * SECOND_NS
        )
        self.ledger.replay(past)
        self.ledger.resume(self.now_ns, wall_ns)
        self.marked_ns = self.now_ns
        shared = PoolTerms(sharing=Sharing.USER, share_max=3, linger_ns=5 * SECOND_NS, weight=2)
        self.pools = {
            "platform": self.ledger.declare_pool("platform", PoolTerms(), False),
            "crm": self.ledger.declare_pool("crm", shared, True),
        }
        self.open_ids: list[bytes] = []
        self.parts: list[bytes] = []

    def drained(self) -> bytes:
        """All its events."""
        while data := self.ledger.drain_block()[0]:
            self.parts.append(data)
        return b"".join(self.parts)

    def command(self, number: int) -> None:
        """Anything."""
        chance, ledger = self.chance, self.ledger
        passed_ns = int(chance.expovariate(1 / 200_000_000))
        self.now_ns += passed_ns
        self.wall_ns += passed_ns
        now_ns, request_id = self.now_ns, number.to_bytes(16, "big")
        if now_ns - self.marked_ns > MINUTE_NS:
            self.wall_ns += chance.randrange(-SECOND_NS, SECOND_NS)
            self.marked_ns = now_ns
            ledger.mark_wall(now_ns, self.wall_ns)
        draw = chance.random()
        if draw < 0.4:
            products = chance.choice(([("platform", False)], [("platform", False), ("crm", True)], [("crm", False)], [("fax", False)]))
            user = b"user %d" % chance.randrange(self.users)
            answer = ledger.open(now_ns, request_id=request_id, user=user, host=b"host", products=products)
            if answer.status == 1:
                self.open_ids.append(answer.session_id)
        elif draw < 0.6 and self.open_ids:
            ledger.close(now_ns, self.open_ids.pop(chance.randrange(len(self.open_ids))), request_id)
        elif draw < 0.75 and self.open_ids:
            ledger.renew(now_ns, chance.choice(self.open_ids))
        elif draw < 0.85 and self.open_ids:
            ledger.acquire(now_ns, chance.choice(self.open_ids), request_id, [(chance.choice(list(self.pools)), False)])
        elif draw < 0.92 and self.open_ids:
            ledger.release(now_ns, chance.choice(self.open_ids), request_id, chance.choice(list(self.pools)))
        elif draw < 0.96:
            source = chance.randrange(4)
            pool = self.pools[("platform", "crm")[source % 2]]
            ledger.prove_source(now_ns, source, pool, chance.randrange(1, 12), now_ns + 40 * SECOND_NS, now_ns + 45 * SECOND_NS)
        ledger.advance(now_ns)
        self.parts.append(ledger.drain_block()[0])
