"""The task that runs an app's notice callbacks for an asyncio client, in order: courier.py with a task for its thread.

Callbacks may be plain functions or coroutine functions. Bounded as there: the oldest notices are dropped and said in the log.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque

from broker.client.courier import NOTICE_COUNT_MAX, NoticeCallback
from broker.client.values import Notice

_log = logging.getLogger("broker.client")


class AsyncCourier:
    """Delivers notices of one client, in the client's loop."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[NoticeCallback, Notice]] = deque(maxlen=NOTICE_COUNT_MAX)
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def send(self, callbacks: list[NoticeCallback], notice: Notice) -> None:
        """Queues a notice for callbacks."""
        if self._is_closed or not callbacks:
            return
        if len(self._waiting) + len(callbacks) > NOTICE_COUNT_MAX:
            _log.warning("notices dropped: a callback does not return")
        self._waiting.extend((callback, notice) for callback in callbacks)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="usher-client-notices")

    def close(self) -> None:
        """Takes nothing more; what is queued is still delivered."""
        self._is_closed = True

    async def _run(self) -> None:
        while self._waiting:
            callback, notice = self._waiting.popleft()
            try:
                result = callback(notice)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                _log.exception("a notice callback failed on %s of session %s", notice.kind, notice.public_id)
