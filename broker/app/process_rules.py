"""What the broker asks of its process before it serves: file descriptors, signals in threads, a trace of fatal signals.

Called in the main thread, before any other thread exists.
"""

from __future__ import annotations

import contextlib
import faulthandler
import resource
import signal
from collections.abc import Iterator


def prepare_process() -> None:
    """Takes as many descriptors as the machine allows (a connection is one; the usual soft limit is 1,024), and makes a
    fatal signal say where each thread was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    faulthandler.enable()


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Threads that begin inside inherit the mask, so that signals reach the main thread alone (design 12)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
