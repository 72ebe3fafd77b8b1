"""The thread that runs an app's notice callbacks, in order, so that a slow callback never delays a renewal.

Started with the first notice that has a callback to run; daemon, because an app that ends without closing must end.
Bounded: when a callback is stuck the oldest notices are dropped and counted in the log, for `session.leases` always tells
the newest state. Callbacks may call the session, also close it. Their exceptions are logged, not raised.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from broker.client.values import Notice

NOTICE_COUNT_MAX = 1_000

NoticeCallback = Callable[[Notice], object]

_log = logging.getLogger("broker.client")


class Courier:
    """Delivers notices of one client. Any thread may call it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[tuple[NoticeCallback, Notice]] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def send(self, callbacks: list[NoticeCallback], notice: Notice) -> None:
        """Queues a notice for callbacks."""
        with self._condition:
            if self._is_closed or not callbacks:
                return
            self._waiting.extend((callback, notice) for callback in callbacks)
            self._drop_oldest()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="usher-client-notices", daemon=True)
                self._thread.start()
            self._condition.notify()

    def close(self) -> None:
        """Delivers what is queued, in the background, and ends."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()

    def _drop_oldest(self) -> None:
        excess_count = len(self._waiting) - NOTICE_COUNT_MAX
        if excess_count > 0:
            _log.warning("%d notices dropped: a callback does not return", excess_count)
            for _ in range(excess_count):
                self._waiting.popleft()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            callback, notice = item
            try:
                callback(notice)
            except Exception:
                _log.exception("a notice callback failed on %s of session %s", notice.kind, notice.public_id)

    def _next(self) -> tuple[NoticeCallback, Notice] | None:
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._is_closed)
            return self._waiting.popleft() if self._waiting else None
