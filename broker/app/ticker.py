"""The thread that keeps the ledger's time: it calls `advance` when something is due, and at least ten times a second.

The least rate is what makes a stopped process visible: a gap of over a second between calls moves all deadlines
(semantics rule 20). A native, non-daemon thread with all signals blocked, joined at the end (design 12). If it fails, nothing would expire any
more, so that the broker must stop: `on_failure` is called, once, in this thread.

What is due while the event ring is full stays due, and `advance` says that there is nothing to do. Then the thread waits for a
moment, lest it takes the processor and the ledger's mutex from those who drain the ring.

Beside the native data plane there is none: its first loop keeps the time.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Protocol

PAUSE_NS_MAX = 100_000_000
BLOCKED_PAUSE_NS = 5_000_000
"""What is due finds no room in the event ring, which is drained every 50 ms or sooner."""


class Advancing(Protocol):
    """What the ticker needs of a ledger."""

    def advance(self, now_ns: int) -> bool:
        """Does what is due; whether more is due at once."""

    def next_due_ns(self, now_ns: int) -> int:
        """When it next has something to do."""


class Waker:
    """Who is told that something may be due in the ledger: the ticker, or the native data plane. Until then nobody is."""

    def __init__(self) -> None:
        self._wake: Callable[[], None] = lambda: None

    def lead_to(self, wake: Callable[[], None]) -> None:
        """Whom to wake from now on. At the start, before anybody calls."""
        self._wake = wake

    def __call__(self) -> None:
        """Wakes; from any thread."""
        self._wake()


class Ticker:
    """Drives one ledger. `start` and `stop` belong to one thread; `wake` may be called from any."""

    def __init__(
        self, ledger: Advancing, clock_ns: Callable[[], int], on_failure: Callable[[BaseException], None]
    ) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._on_failure = on_failure
        self._woken = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="usher-ticker", daemon=False)

    def start(self) -> None:
        """Begins to tick."""
        self._thread.start()

    def wake(self) -> None:
        """Makes it look at once: something may be due that was not."""
        self._woken.set()

    def stop(self) -> None:
        """Ends the thread and waits for it. Calling it again, or before `start`, does nothing."""
        self._is_stopping = True
        self._woken.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._is_stopping:
                self._woken.clear()
                self._tick()
        except BaseException as error:
            self._on_failure(error)

    def _tick(self) -> None:
        now_ns = self._clock_ns()
        if self._ledger.advance(now_ns):
            return
        pause_ns = self._ledger.next_due_ns(now_ns) - now_ns
        if pause_ns <= 0:
            pause_ns = BLOCKED_PAUSE_NS
        self._woken.wait(min(pause_ns, PAUSE_NS_MAX) / 1e9)
