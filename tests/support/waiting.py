"""Waiting for a condition that another process brings about and nobody announces.

Polls, because the condition lies behind a network call; a test that can await an event itself does so.
"""

import threading
import time
from collections.abc import Callable

POLL_INTERVAL_S = 0.02


def until(condition: Callable[[], bool], what: str, *, within_s: float = 30.0) -> None:
    """Returns when the condition holds; AssertionError that says `what` was awaited if it never does."""
    deadline_s = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {what}"
        pause.wait(POLL_INTERVAL_S)
