"""The keyring's capacity as the real ledger sees it."""

from broker._ledger import Ledger
from broker.app.ledger_sink import LedgerSink
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, Status

S = 1_000_000_000


class Bench:
    """A ledger, its sink, a clock that the test moves, and how often the ticker was woken."""

    def __init__(self) -> None:
        self.now_ns = 1000 * S
        self.wake_count = 0
        self.ledger = Ledger(
            broker_id=b"broker01", secret=b"s" * 16, generation=1, start_ns=self.now_ns, sessions_max=100, stall_ns=0
        )
        self.sink = LedgerSink(self.ledger, lambda: self.now_ns, self._wake)
        self.pool = self.sink.declare_pool("platform", PoolTerms(), True)

    def _wake(self) -> None:
        self.wake_count += 1

    def prove(self, source: int, seats: int, *, for_s: int = 90, grace_s: int = 300) -> None:
        until_ns = self.now_ns + for_s * S
        self.sink.prove_source(source, self.pool, seats, until_ns, until_ns + grace_s * S)

    @property
    def capacity(self) -> int:
        self.ledger.advance(self.now_ns)
        return self.ledger.pools()[0].capacity

    @property
    def grace_seats(self) -> int:
        return self.ledger.pools()[0].grace_seats

    def open(self, number: int) -> Status:
        request_id = number.to_bytes(16, "big")
        user = b"user-%d" % number
        return self.ledger.open(
            self.now_ns, request_id=request_id, user=user, host=b"pc", products=[("platform", False)]
        ).status


def test_equal_terms_are_one_pool_and_sources_add_up() -> None:
    bench = Bench()
    assert bench.sink.declare_pool("platform", PoolTerms(), True) == bench.pool
    bench.prove(0, 5)
    bench.prove(1, 10)
    assert bench.capacity == 15


def test_emulated_seats_are_a_pool_of_their_own() -> None:
    bench = Bench()
    assert bench.sink.declare_pool("platform", PoolTerms(), False) != bench.pool


def test_starting_pool_denies_until_its_keys_were_tried() -> None:
    bench = Bench()
    bench.sink.set_starting(bench.pool, True)
    assert bench.ledger.pools()[0].is_starting
    bench.sink.set_starting(bench.pool, False)
    assert not bench.ledger.pools()[0].is_starting


def test_lost_source_gives_grace_and_wakes_the_ticker() -> None:
    bench = Bench()
    bench.prove(0, 5)
    before = bench.wake_count
    bench.sink.lose_source(0, bench.now_ns + 300 * S, EndReason.KEY_LOST)
    assert bench.wake_count > before
    assert (bench.capacity, bench.grace_seats) == (0, 5)


def test_source_of_an_earlier_run_gives_grace_and_no_seat() -> None:
    bench = Bench()
    bench.sink.lapse_source(0, bench.pool, 5, bench.now_ns + 100 * S, EndReason.KEY_LOST)
    assert bench.open(1) is Status.DENIED
    assert (bench.capacity, bench.grace_seats) == (0, 5)
    bench.prove(0, 5)
    assert (bench.capacity, bench.grace_seats) == (5, 0)


def test_source_of_an_earlier_run_without_grace_ends_with_its_own_cause() -> None:
    bench = Bench()
    bench.prove(1, 1)
    assert bench.open(1) is Status.GRANTED
    bench.sink.lose_source(1, bench.now_ns + S, EndReason.KEY_LOST)
    bench.now_ns += S
    bench.sink.lapse_source(0, bench.pool, 5, bench.now_ns, EndReason.LICENCE_ENDED)
    assert (bench.capacity, bench.grace_seats) == (0, 0)
    (session,) = bench.ledger.sessions(bench.now_ns)[0]
    assert [lease.end_reason for lease in session.leases] == [EndReason.LICENCE_ENDED]


def test_proof_that_is_not_renewed_ends_by_itself() -> None:
    bench = Bench()
    bench.prove(0, 5, for_s=90)
    bench.now_ns += 91 * S
    assert (bench.capacity, bench.grace_seats) == (0, 5)


def test_removed_source_leaves_neither_seats_nor_grace() -> None:
    bench = Bench()
    bench.prove(0, 5)
    bench.sink.lose_source(0, bench.now_ns + 300 * S, EndReason.KEY_LOST)
    bench.sink.remove_source(0)
    assert (bench.capacity, bench.grace_seats) == (0, 0)
    bench.prove(0, 7)
    assert bench.capacity == 7


def test_seats_of_a_lost_key_are_not_given_again() -> None:
    bench = Bench()
    bench.prove(0, 2)
    assert bench.open(1) is Status.GRANTED
    bench.sink.lose_source(0, bench.now_ns + 300 * S, EndReason.KEY_LOST)
    assert bench.open(2) is Status.DENIED
    assert bench.ledger.pools()[0].deficit == 1
