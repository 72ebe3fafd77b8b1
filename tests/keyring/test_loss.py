"""What sessions see when a key is pulled: the engine's decisions on the real ledger, under a clock of the test's own."""

from dataclasses import dataclass, field

import pytest

from broker._ledger import Ledger
from broker.app.ledger_sink import LedgerSink
from broker.model.answers import Answer
from broker.model.events import decode_events
from broker.model.words import DenialReason, EndReason, EventKind, LeaseState, Status

from .lives import Lives, S
from .test_capacity import a_licence

START_NS = 1_000 * S


@dataclass
class Office:
    """Two keys of ten seats each, and sessions that are renewed every second."""

    ledger: Ledger = field(init=False)
    lives: Lives = field(init=False)
    sessions: list[bytes] = field(default_factory=list)
    versions: dict[bytes, int] = field(default_factory=dict)
    ended: dict[int, list[tuple[int, EndReason]]] = field(default_factory=dict)  # by second, whose lease and why

    def __post_init__(self) -> None:
        self.ledger = Ledger(
            broker_id=b"broker01", secret=b"s" * 16, generation=1, start_ns=START_NS, sessions_max=100, stall_ns=0
        )
        licences = [a_licence("L-1", "T", 10), a_licence("L-2", "U", 10)]
        self.lives = Lives(
            licences, now_ns=START_NS, sink_of=lambda: LedgerSink(self.ledger, self.clock_ns, lambda: None)
        )
        self.lives.plug("T", "1")
        self.lives.plug("U", "2")
        self.lives.step(0)

    def clock_ns(self) -> int:
        # The engine's first words to the ledger come while the bench is being made.
        return self.lives.now_ns if hasattr(self, "lives") else START_NS

    def open(self, number: int) -> Answer:
        request_id, user = number.to_bytes(16, "big"), b"user-%d" % number
        products = [("platform", False)]
        return self.ledger.open(self.lives.now_ns, request_id=request_id, user=user, host=b"pc", products=products)

    def fill(self, count: int) -> None:
        for number in range(count):
            answer = self.open(number)
            assert answer.status is Status.GRANTED
            self.sessions.append(answer.session_id)

    def renew(self, session_id: bytes) -> Answer:
        answer = self.ledger.renew(self.lives.now_ns, session_id, self.versions.get(session_id, 0))
        assert answer.status is Status.RENEWED
        self.versions[session_id] = answer.change_version
        return answer

    def wait(self, wait_s: int) -> set[int]:
        """Seconds pass, everybody renews; who was told anything."""
        told = set()
        for _ in range(wait_s):
            self.lives.step(S)
            while self.ledger.advance(self.lives.now_ns):
                pass
            for number, session_id in enumerate(self.sessions):
                leases = self.renew(session_id).leases
                told |= {number} if leases else set()
                for lease in leases:
                    if lease.state is LeaseState.ENDED:
                        self.ended.setdefault(self.lives.now_ns, []).append((number, lease.end_reason))
        return told


@pytest.mark.parametrize("place", ["1", "2"])
def test_while_the_seats_of_the_other_key_are_enough_nobody_notices(place: str) -> None:
    office = Office()
    office.fill(10)
    office.lives.unplug(place)
    assert office.wait(400) == set()
    assert office.open(99).status is Status.DENIED
    assert office.ledger.pools()[0].in_use == 10


@pytest.mark.parametrize("place", ["1", "2"])
def test_the_newest_over_what_is_left_are_told_and_then_end_with_their_key(place: str) -> None:
    office = Office()
    office.fill(15)
    office.lives.wait(20)
    office.lives.unplug(place)
    last_proof_ns = office.lives.record("T" if place == "1" else "U").last_proof_ns
    assert last_proof_ns is not None
    newest = {10, 11, 12, 13, 14}
    assert office.wait(1) == newest, "told at once, and nobody else"
    denial = office.open(99).denial
    assert denial is not None
    assert denial.reason is DenialReason.DEFICIT
    left_s = (last_proof_ns + 300 * S - office.lives.now_ns) // S
    assert office.wait(left_s - 1) == newest
    assert office.ended == {}, "for as long as grace is left"
    assert office.wait(60) <= newest
    ((end_ns, ends),) = office.ended.items()
    assert end_ns - last_proof_ns == 300 * S
    assert {number for number, _ in ends} == newest
    assert {reason for _, reason in ends} == {EndReason.KEY_LOST}
    assert office.ledger.pools()[0].in_use == 10, "ten live on"


def test_the_newest_end_first() -> None:
    office = Office()
    office.fill(15)
    office.lives.unplug("1")
    office.wait(1)
    position = office.ledger.position
    office.wait(310)
    events = decode_events(office.ledger.read_events(position, 1 << 20)[0])
    fences = [event.fence for event in events if event.kind is EventKind.LEASE_ENDED]
    assert fences == sorted(fences, reverse=True)
    assert len(fences) == 5


def test_a_key_that_returns_in_grace_heals_and_nobody_ends() -> None:
    office = Office()
    office.fill(15)
    office.lives.unplug("1")
    office.wait(200)
    office.lives.plug("T", "1")
    office.wait(2)
    assert office.wait(400) == set()
    assert office.ended == {}
    assert office.ledger.pools()[0].deficit == 0
    assert office.open(99).status is Status.GRANTED
