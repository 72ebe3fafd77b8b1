"""SIGHUP: the broker reads its trust files, licences and certificates again, as `usher reload` has it do, and goes on whatever comes of it.

One reload runs at a time; signals that come meanwhile together make one more. Event loop's thread; the reading is done in a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from broker.app.logs import facts
from broker.errors import ConfigError

log = logging.getLogger("broker.app")


class ReloadSignal:
    """Makes reloads of signals. `reload` says what changed, a line each, or raises ConfigError."""

    def __init__(self, reload: Callable[[], Sequence[str]]) -> None:
        self._reload = reload
        self._is_wanted = False
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        """A signal has come."""
        self._is_wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="usher-reload")

    async def settled(self) -> None:
        """Waits until nothing is wanted any more."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._is_wanted:
            self._is_wanted = False
            try:
                changes = await asyncio.to_thread(self._reload)
            except ConfigError as error:
                log.error("reload refused, nothing has changed", extra=facts(cause=str(error)))
            except Exception:
                log.exception("reload failed")
            else:
                log.info("reloaded", extra=facts(changes=list(changes)))
