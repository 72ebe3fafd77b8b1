"""Many threads on one compiled ledger: one request takes one seat, and the books agree after a mixed load.

The threads let the interpreter's lock go inside the ledger, so they do meet at its mutex. What is checked holds for any order in
which they come: exactly-once, and what the pools say against what the sessions say and what the log says.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from threading import Barrier, Thread
from typing import Any

from broker.model.answers import Answer
from broker.model.events import Event
from broker.model.words import EndReason, LeaseState, Sharing, Status
from tests.ledger.audit import LogAuditor
from tests.ledger.scene import SECOND_NS, START_S, Scene, compiled_ledger

THREAD_COUNT = 8
ROUND_COUNT = 400


def together(work: Callable[[int], None], thread_count: int = THREAD_COUNT) -> None:
    """The same work in all threads, begun at one moment. Raises what one of them raised."""
    barrier, errors = Barrier(thread_count), list[BaseException]()

    def begin(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=begin, args=(number,)) for number in range(thread_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_one_request_id_sent_a_thousand_times_by_eight_threads_takes_one_seat() -> None:
    scene = Scene(compiled_ledger)
    scene.prove(100, scene.pool())
    answers: list[Answer] = []
    request_id = scene.request_id()
    together(lambda _: answers.extend([scene.open("ann", request_id=request_id) for _ in range(125)]))
    assert len(answers) == 1_000
    assert {answer.session_id for answer in answers} == {answers[0].session_id}
    assert sum(not answer.is_replayed for answer in answers) == 1
    assert scene.seats_in_use() == 1


def test_sixteen_logins_for_fifteen_seats_from_eight_threads_leave_one_outside() -> None:
    scene = Scene(compiled_ledger)
    scene.prove(15, scene.pool())
    answers: list[Answer] = []
    together(lambda number: answers.extend([scene.open(f"user{number}-{each}") for each in range(2)]))
    assert sorted(answer.status for answer in answers) == [Status.GRANTED] * 15 + [Status.DENIED]


def test_one_session_closed_by_eight_threads_ends_once() -> None:
    scene = Scene(compiled_ledger)
    scene.prove(1, scene.pool())
    session = scene.open("ann")
    answers: list[Answer] = []
    together(lambda _: answers.append(scene.close(session)))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(Status.CLOSED), statuses.count(Status.NOT_FOUND)) == (1, THREAD_COUNT - 1)
    assert scene.ends() == [EndReason.CLOSED]


class MixedLoad:
    """Six threads of clients, one that does what is due and drains, one that proves and loses keys."""

    def __init__(self) -> None:
        self.scene = Scene(compiled_ledger, ttl_ns=SECOND_NS, renew_grace_ns=0, request_window_ns=SECOND_NS)
        self.scene.prove(20, self.scene.pool(sharing=Sharing.USER, share_max=3), source=0)
        self.scene.prove(20, self.scene.pool("crm", linger_ns=SECOND_NS // 5), source=1)
        self.events: list[Event] = []
        self._ticks = count(1)
        self._ledger = self.scene.core

    def now_ns(self) -> int:
        """A millisecond later at each call, whoever calls; threads may overtake each other on the way in."""
        return START_S * SECOND_NS + next(self._ticks) * 1_000_000

    def work(self, number: int) -> None:
        rng = Random(number)
        if number == 0:
            self._tick()
        elif number == 1:
            self._lose_and_prove(rng)
        else:
            self._be_clients(rng)

    def _tick(self) -> None:
        for _ in range(ROUND_COUNT):
            self._ledger.advance(self.now_ns())
            self.events += self.scene.events()

    def _lose_and_prove(self, rng: Random) -> None:
        for _ in range(ROUND_COUNT):
            now_ns, source = self.now_ns(), rng.randrange(2)
            if rng.random() < 0.3:
                self._ledger.lose_source(
                    now_ns, source, now_ns + rng.randrange(SECOND_NS), EndReason.KEY_LOST
                )
            else:
                until_ns = now_ns + rng.randrange(SECOND_NS, 4 * SECOND_NS)
                self._ledger.prove_source(
                    now_ns, source, source, rng.randint(5, 20), until_ns, until_ns + SECOND_NS
                )

    def _be_clients(self, rng: Random) -> None:
        mine: list[Answer] = []
        for _ in range(ROUND_COUNT):
            if not mine or rng.random() < 0.4:
                mine += self._open(rng)
            else:
                self._use(rng, mine)

    def _open(self, rng: Random) -> list[Answer]:
        answer = self._ledger.open(
            self.now_ns(),
            request_id=rng.randbytes(16),
            user=b"user%d" % rng.randrange(12),
            host=b"desk",
            instance_id=rng.choice([b"", b"one"]),
            products=[("platform", False), ("crm", True)],
            priority=rng.randrange(8),
        )
        return [answer] if answer.status is Status.GRANTED else []

    def _use(self, rng: Random, mine: list[Answer]) -> None:
        session_id = rng.choice(mine).session_id
        verbs: list[Callable[[], Any]] = [
            lambda: self._ledger.renew(self.now_ns(), session_id, 0),
            lambda: self._ledger.acquire(self.now_ns(), session_id, rng.randbytes(16), [("crm", False)]),
            lambda: self._ledger.release(self.now_ns(), session_id, rng.randbytes(16), "crm"),
            lambda: self._ledger.close(self.now_ns(), session_id, rng.randbytes(16)),
        ]
        rng.choice(verbs)()

    def finish(self) -> None:
        """All that is due by now; and the rest of the log."""
        self.scene.now_s = self.now_ns() / SECOND_NS
        self.scene.advance()
        self.events += self.scene.events()


def test_after_a_mixed_load_of_eight_threads_pools_sessions_and_log_agree() -> None:
    load = MixedLoad()
    together(load.work)
    load.finish()
    auditor = LogAuditor()
    auditor.saw(load.events, has_all=True)
    counters = load.scene.core.counters()
    assert counters.opened_total > 50
    assert counters.event_total == len(load.events)
    _hold_pools_against_sessions(load.scene)


def _hold_pools_against_sessions(scene: Scene) -> None:
    sessions, next_cursor = scene.core.sessions(scene.now_ns)
    assert next_cursor == 0
    leases = [
        lease for session in sessions for lease in session.leases if lease.state is not LeaseState.ENDED
    ]
    for number, pool in enumerate(scene.core.pools()):
        on_pool = [lease for lease in leases if lease.pool == number]
        assert pool.lease_count == len(on_pool)
        assert pool.charge_count - pool.lingering_count == len({lease.fence for lease in on_pool})
        assert pool.in_use == pool.charge_count * pool.terms.weight
        assert pool.deficit == max(0, pool.in_use - pool.capacity)
    assert scene.core.counters().session_count == len(sessions)
