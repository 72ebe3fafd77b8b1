"""The keyring's memory in the ledger's own log: kept words come back after a replay, and a full log is said, not passed over."""

import pytest

from broker._ledger import Ledger
from broker.app.key_memory import PREFIX, LedgerMemory
from broker.app.ledger_sink import LedgerSink
from broker.keyring import KeyState, MemoryFull
from broker.keyring.memory import NAME_SIZE_MAX, VALUE_SIZE_MAX
from broker.limits import LIMITS
from broker.model.words import EndReason, Status
from tests.keyring.lives import Lives, S
from tests.keyring.test_capacity import a_licence

START_NS = 1_000 * S


def a_ledger(generation: int = 1, **points: int) -> Ledger:
    return Ledger(
        broker_id=b"broker01",
        secret=b"s" * 16,
        generation=generation,
        start_ns=START_NS,
        sessions_max=100,
        stall_ns=0,
        **points,
    )


def replayed(ledger: Ledger, generation: int, now_ns: int) -> Ledger:
    """The next run's ledger, by nothing but the events of the last."""
    after = a_ledger(generation)
    after.replay(ledger.read_events(0, 1 << 22)[0])
    after.resume(now_ns, 0)
    return after


def test_words_come_back_with_the_log_and_those_of_others_are_not_ours() -> None:
    ledger = a_ledger()
    ledger.resume(START_NS, 0)
    memory = LedgerMemory(ledger, lambda: START_NS)
    memory.put(b"key/a", b"1")
    memory.put(b"key/a", b"2")
    memory.put(b"key/b", b"3")
    memory.put(b"key/b", b"")
    ledger.note(START_NS, b"of somebody else", b"4")
    again = LedgerMemory(replayed(ledger, 2, START_NS), lambda: START_NS)
    assert again.all() == {b"key/a": b"2"}


def test_the_longest_word_that_the_keyring_may_write_is_taken() -> None:
    assert len(PREFIX) + NAME_SIZE_MAX <= LIMITS["NOTE_NAME_SIZE_MAX"]
    ledger = a_ledger()
    ledger.resume(START_NS, 0)
    memory = LedgerMemory(ledger, lambda: START_NS)
    memory.put(b"n" * NAME_SIZE_MAX, b"v" * VALUE_SIZE_MAX)
    assert memory.all() == {b"n" * NAME_SIZE_MAX: b"v" * VALUE_SIZE_MAX}


def test_a_log_without_room_is_said_and_keeps_what_was_there() -> None:
    ledger = a_ledger(event_ring_size=1 << 17)
    ledger.resume(START_NS, 0)
    memory = LedgerMemory(ledger, lambda: START_NS)
    memory.put(b"key/a", b"1")

    def fill() -> None:
        for number in range(1 << 17):
            memory.put(b"key/b", b"%01024d" % number)

    with pytest.raises(MemoryFull, match="full"):
        fill()
    assert memory.all()[b"key/a"] == b"1"


def test_recovered_sessions_wait_for_their_key_and_live_on_when_it_answers() -> None:
    """Ledger, memory and engine together: a run that dies, and the next one by nothing but the log."""
    office = Office()
    office.lives.plug("T")
    office.lives.step(0)
    granted = [office.open(number) for number in range(5)]
    office.lives.silent.add("T")
    office.crash()
    office.advance()
    assert office.ledger.pools()[0].deficit == 5
    assert office.ledger.pools()[0].is_starting
    office.lives.wait(3)
    office.advance()
    office.lives.silent.clear()
    office.lives.step(0)
    office.advance()
    assert (office.ledger.pools()[0].capacity, office.ledger.pools()[0].in_use) == (10, 5)
    for session_id in granted:
        answer = office.ledger.renew(office.lives.now_ns, session_id)
        assert (answer.status, answer.leases) == (Status.RENEWED, ())


def test_recovered_sessions_whose_key_is_gone_end_when_the_rest_of_its_grace_is_over() -> None:
    office = Office()
    office.lives.plug("T")
    office.lives.step(0)
    (session_id,) = [office.open(1)]
    office.lives.unplug()
    office.crash()
    assert office.lives.record("T").state is KeyState.LOST
    for _ in range(209):
        office.lives.step(S)
        office.advance()
        assert office.ledger.renew(office.lives.now_ns, session_id).status is Status.RENEWED
    assert office.ledger.pools()[0].in_use == 1
    office.lives.step(S)
    office.advance()
    assert office.ledger.pools()[0].in_use == 0
    (lease,) = office.ledger.renew(office.lives.now_ns, session_id).leases
    assert lease.end_reason is EndReason.KEY_LOST


class Office:
    """A ledger whose log is its memory, and the engine over it; `crash` leaves nothing else."""

    def __init__(self) -> None:
        self.generation = 1
        self.ledger = a_ledger()
        self.ledger.resume(START_NS, 0)
        self.lives = Lives(
            [a_licence("L-1", "T", 10)],
            now_ns=START_NS,
            memory=LedgerMemory(self.ledger, self.clock_ns),
            sink_of=lambda: LedgerSink(self.ledger, self.clock_ns, lambda: None),
        )

    def clock_ns(self) -> int:
        return self.lives.now_ns if hasattr(self, "lives") else START_NS

    def open(self, number: int) -> bytes:
        answer = self.ledger.open(
            self.lives.now_ns,
            request_id=number.to_bytes(16, "big"),
            user=b"user-%d" % number,
            host=b"pc",
            products=[("platform", False)],
        )
        assert answer.status is Status.GRANTED
        return answer.session_id

    def advance(self) -> None:
        while self.ledger.advance(self.lives.now_ns):
            pass

    def crash(self) -> None:
        self.generation += 1
        self.ledger = replayed(self.ledger, self.generation, self.lives.now_ns)
        self.lives.memory = LedgerMemory(self.ledger, self.clock_ns)
        self.lives.begin()
