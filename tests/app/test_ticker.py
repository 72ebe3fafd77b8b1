"""The ledger's clock thread, over a ledger that only records."""

import signal
import threading
import time

import pytest

from broker.app.ticker import BLOCKED_PAUSE_NS, PAUSE_NS_MAX, Ticker

WAIT_S = 10.0


class RecordingLedger:
    """Says when it was called; `due_in_ns` is how far off the next work is, `more` how often there is more at once."""

    def __init__(self, *, due_in_ns: int = 10**12, more: int = 0) -> None:
        self.due_in_ns = due_in_ns
        self.more = more
        self.advances: list[int] = []
        self.masks: list[set[int]] = []
        self.changed = threading.Condition()

    def advance(self, now_ns: int) -> bool:
        with self.changed:
            self.advances.append(now_ns)
            self.masks.append({int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())})
            self.changed.notify_all()
        self.more -= 1
        return self.more >= 0

    def next_due_ns(self, now_ns: int) -> int:
        return now_ns + self.due_in_ns

    def await_advances(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.advances) >= count, WAIT_S)


class FailingLedger(RecordingLedger):
    """Breaks at the third call."""

    def advance(self, now_ns: int) -> bool:
        super().advance(now_ns)
        if len(self.advances) == 3:
            raise RuntimeError("a defect")
        return True


def unexpected(error: BaseException) -> None:
    raise AssertionError(error)


def test_ledger_is_advanced_ten_times_a_second_even_with_nothing_due() -> None:
    ledger = RecordingLedger()
    ticker = Ticker(ledger, time.monotonic_ns, unexpected)
    ticker.start()
    ledger.await_advances(4)
    ticker.stop()
    assert ledger.advances == sorted(ledger.advances)
    assert PAUSE_NS_MAX <= 500_000_000  # else a gap between two ticks could look like a stopped process (semantics 20)


def test_ticker_goes_on_at_once_while_more_is_due() -> None:
    now_ns = [0]
    ledger = RecordingLedger(more=1000)
    ticker = Ticker(ledger, lambda: now_ns[0], unexpected)
    ticker.start()
    ledger.await_advances(1000)
    ticker.stop()


class BlockedLedger(RecordingLedger):
    """Its event ring is full: something is due, and nothing can be done. The clock thread is stopped after some calls."""

    def __init__(self, stop_after: int) -> None:
        super().__init__(due_in_ns=0)
        self.stop_after = stop_after
        self.ticker: Ticker | None = None

    def next_due_ns(self, now_ns: int) -> int:
        assert self.ticker is not None
        if len(self.advances) == self.stop_after:
            self.ticker._is_stopping = True
        return now_ns


def test_ticker_pauses_when_what_is_due_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = BlockedLedger(stop_after=3)
    ticker = ledger.ticker = Ticker(ledger, lambda: 0, unexpected)
    pauses: list[float | None] = []
    monkeypatch.setattr(ticker._woken, "wait", pauses.append)
    ticker.start()
    ledger.await_advances(3)
    ticker.stop()
    assert pauses == [BLOCKED_PAUSE_NS / 1e9] * 3


def test_wake_makes_the_ticker_look_before_its_time() -> None:
    ledger = RecordingLedger()
    stopped_clock = Ticker(ledger, lambda: 0, unexpected)
    stopped_clock.start()
    for count in range(1, 50):
        ledger.await_advances(count)
        stopped_clock.wake()
    stopped_clock.stop()


def test_thread_of_the_ticker_takes_no_signal() -> None:
    ledger = RecordingLedger()
    ticker = Ticker(ledger, time.monotonic_ns, unexpected)
    ticker.start()
    ledger.await_advances(1)
    ticker.stop()
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} <= ledger.masks[0]


def test_stop_joins_the_thread_and_may_come_twice_or_too_early() -> None:
    ledger = RecordingLedger()
    ticker = Ticker(ledger, time.monotonic_ns, unexpected)
    ticker.stop()
    other = Ticker(ledger, time.monotonic_ns, unexpected)
    other.start()
    ledger.await_advances(1)
    other.stop()
    other.stop()
    assert "usher-ticker" not in {thread.name for thread in threading.enumerate()}


def test_defect_in_the_ledger_ends_the_ticker_and_is_told_once() -> None:
    told: list[BaseException] = []
    heard = threading.Event()

    def tell(error: BaseException) -> None:
        told.append(error)
        heard.set()

    ledger = FailingLedger()
    ticker = Ticker(ledger, time.monotonic_ns, tell)
    ticker.start()
    assert heard.wait(WAIT_S)
    ticker.stop()
    assert [str(error) for error in told] == ["a defect"]
    assert len(ledger.advances) == 3
