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


DESCRIPTORS_BESIDE = 1_500
"""Open files that are no connections of client apps: HTTP's and the admins' connections, USB, logs, libraries."""


def descriptors_short_of(connections_max: int) -> int:
    """How many more files this process would have to be allowed to open for so many connections; 0: none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 0
    return max(0, connections_max + DESCRIPTORS_BESIDE - soft)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Threads that begin inside inherit the mask, so that signals reach the main thread alone (design 12)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
