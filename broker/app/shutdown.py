"""How the broker ends: a table of named steps, each bounded in time, each tried whatever became of those before.

    health says stopping → listeners take nothing new → calls under way end → keyring → ticker → last events → run file

A step that fails or takes too long is logged and does not keep the rest from being done. Runs in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
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
    """A step that blocks, such as joining a thread."""

    async def run() -> None:
        await asyncio.to_thread(do)

    return run


def at_once(do: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """A step that does not block."""

    async def run() -> None:
        do()

    return run
