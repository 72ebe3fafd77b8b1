"""How the broker ends: a table of named steps, each bounded in time, each tried whatever became of those before.

    health says stopping → listeners take nothing new → calls under way end → keyring → ticker → last events → run file

A step that fails or takes too long is logged and does not keep the rest from being done. Runs in the event loop.
Blocking steps get a thread of their own and not one of the loop's executor: asyncio waits for those at its end, however long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.app.logs import facts

log = logging.getLogger("broker.app")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is called, what it does, how long it may take."""

    name: str
    do: Callable[[], Awaitable[None]]
    limit_s: float


async def shut_down(steps: Sequence[Step]) -> tuple[str, ...]:
    """Takes the steps in order; the names of those that failed."""
    failed = []
    for step in steps:
        log.debug("stopping", extra=facts(step=step.name))
        try:
            async with asyncio.timeout(step.limit_s):
                await step.do()
        except Exception as error:
            failed.append(step.name)
            log.error("a step of the shutdown failed", extra=facts(step=step.name, cause=repr(error)))
    return tuple(failed)


def in_thread(do: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """A step that blocks, such as joining a thread. Given up, it goes on in a daemon thread that keeps no process."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        threading.Thread(target=_do_and_tell, args=(do, loop, done), name="usher-stopping", daemon=True).start()
        await done

    return run


def _do_and_tell(do: Callable[[], None], loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    error: Exception | None = None
    try:
        do()
    except Exception as raised:
        error = raised

    def tell() -> None:
        if done.cancelled():
            return  # given up
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(tell)


def at_once(do: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """A step that does not block."""

    async def run() -> None:
        do()

    return run
