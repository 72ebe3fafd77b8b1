"""The thread that waits for the committer's failure, says so, and ends the process: nothing may be answered any more.

Why at once, and not by the table of shutdown: after a failed write or sync nobody knows what is on the disk (fsync gives each error once, and may
drop the pages). Answers that are held never leave; each moment more only lets clients wait. What the log holds is found out by the next
start, which reads it. A native, non-daemon thread with all signals blocked; `stop` joins it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Callable
from typing import Protocol

from broker.app.logs import facts
from broker.exit_codes import ExitCode
from broker.model.journal import JournalFailure

log = logging.getLogger("broker.app")


class Failing(Protocol):
    """The part of `broker._journal.Journal` that is watched."""

    @property
    def failure_fd(self) -> int: ...
    @property
    def failure(self) -> JournalFailure | None: ...


def end_process() -> None:
    """Leaves without looking back, once the last line of the log is out."""
    logging.shutdown()
    os._exit(ExitCode.JOURNAL_FAILED)


class JournalWatch:
    """Watches one journal. `on_failure` is called in the watching thread before the end, and must not wait for anything."""

    def __init__(self, journal: Failing, on_failure: Callable[[], None], end: Callable[[], None] = end_process) -> None:
        self._journal = journal
        self._on_failure = on_failure
        self._end = end
        self._stopping_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="usher-journal-watch", daemon=False)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it; the journal may then be closed."""
        os.eventfd_write(self._stopping_fd, 1)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._stopping_fd)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        waiting = select.poll()
        waiting.register(self._journal.failure_fd, select.POLLIN)
        waiting.register(self._stopping_fd, select.POLLIN)
        waiting.poll()
        if self._journal.failure is not None:
            self._fail(self._journal.failure)

    def _fail(self, failure: JournalFailure) -> None:
        try:
            self._on_failure()
            log.critical(
                "the disk refused the log: the broker ends at once. Nothing acknowledged is lost; start it again when the disk is well",
                extra=facts(failed=failure.step.name.lower(), cause=os.strerror(failure.errno), committed=failure.position),
            )
        finally:
            self._end()
