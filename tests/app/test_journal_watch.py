"""The end after a failed write: said once, health first, and the process gone whatever else goes wrong."""

import errno
import logging
import os
import threading

import pytest

from broker.app.journal_watch import JournalWatch
from broker.model.journal import JournalFailure, JournalStep


class BrokenJournal:
    def __init__(self) -> None:
        self.failure_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.failure: JournalFailure | None = None

    def fail(self) -> None:
        self.failure = JournalFailure(JournalStep.SYNC, errno.EIO, 4_096)
        os.eventfd_write(self.failure_fd, 1)


class Course:
    """What happened, in order; `end` stands for the end of the process."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.said: list[str] = []
        self.ended = threading.Event()
        self._trouble = trouble

    def on_failure(self) -> None:
        self.said.append("health")
        if self._trouble:
            raise self._trouble

    def end(self) -> None:
        self.said.append("end")
        self.ended.set()


def test_failed_sync_is_said_and_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    journal, course = BrokenJournal(), Course()
    watch = JournalWatch(journal, course.on_failure, course.end)
    watch.start()
    journal.fail()
    assert course.ended.wait(10)
    watch.stop()
    assert course.said == ["health", "end"]
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert record.facts == {"failed": "sync", "cause": os.strerror(errno.EIO), "committed": 4_096}  # type: ignore[attr-defined]


def test_process_ends_even_if_saying_so_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    journal, course = BrokenJournal(), Course(RuntimeError("no health"))
    watch = JournalWatch(journal, course.on_failure, course.end)
    watch.start()
    journal.fail()
    assert course.ended.wait(10)
    watch.stop()
    assert course.said == ["health", "end"]
    assert len(raised) == 1


def test_orderly_stop_ends_the_watch_and_not_the_process() -> None:
    course = Course()
    watch = JournalWatch(BrokenJournal(), course.on_failure, course.end)
    watch.start()
    watch.stop()
    assert course.said == []


def test_watch_that_never_began_can_be_stopped() -> None:
    JournalWatch(BrokenJournal(), lambda: None, lambda: None).stop()
