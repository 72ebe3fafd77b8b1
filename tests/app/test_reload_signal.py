"""SIGHUP as reloads: one at a time, and a wrong file stops nothing."""

import asyncio
import logging
import threading

import pytest

from broker.app.reload_signal import ReloadSignal
from broker.errors import ConfigError, ConfigFault


async def test_signals_during_a_reload_together_make_one_more() -> None:
    begun, may_end = threading.Event(), threading.Event()
    count = 0

    def reload() -> list[str]:
        nonlocal count
        count += 1
        begun.set()
        assert may_end.wait(10)
        return []

    signals = ReloadSignal(reload)
    signals.request()
    task = signals._task
    signals.request()  # the first has not begun: still one
    assert await asyncio.to_thread(begun.wait, 10)
    for _ in range(5):
        signals.request()
    may_end.set()
    await signals.settled()
    assert count == 2
    assert signals._task is task


async def test_wrong_files_are_logged_and_the_next_reload_works(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Exception | list[str]] = [
        ConfigError((ConfigFault("usher.toml", "licences.trust", "is wrong", "correct it"),)),
        RuntimeError("a defect"),
        ["new: L-1"],
    ]

    def reload() -> list[str]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    signals = ReloadSignal(reload)
    with caplog.at_level(logging.INFO, "broker.app"):
        for _ in range(3):
            signals.request()
            await signals.settled()
    assert [record.message for record in caplog.records] == [
        "reload refused, nothing has changed",
        "reload failed",
        "reloaded",
    ]
