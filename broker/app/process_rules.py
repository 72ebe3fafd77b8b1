"""What the broker asks of its process before it serves: file descriptors, signals in threads, a trace of fatal signals.

Called in the main thread, before any other thread exists.
"""

from __future__ import annotations

import contextlib
import faulthandler
import resource
import signal
from collections.abc import Callable, Iterator


def prepare_process() -> None:
    """Takes as many descriptors as the machine allows (a connection is one; the usual soft limit is 1,024), and makes a
    fatal signal say where each thread was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    faulthandler.enable()


def behind_traces(install: Callable[[], None]) -> None:
    """Installs another handler of fatal signals so that both speak: Python's trace first, which hands on to the one that it found."""
    faulthandler.disable()
    install()
    faulthandler.enable()


DESCRIPTORS_BESIDE = 256
"""Open files that are no connections of client apps: HTTP, admins, USB, logs, libraries."""


def connections_possible(wanted: int) -> int:
    """How many connections of so many this process has open files for, with some left for everything else; at least one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - DESCRIPTORS_BESIDE))


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Threads that begin inside inherit the mask, so that signals reach the main thread alone (design 12)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
