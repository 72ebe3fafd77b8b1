"""A finding: one thing that was looked at, how bad it is, and what to do about it.

    GOOD      as it should be; said so that an admin sees that it was looked at
    NOTICE    worth knowing; nothing has to be done
    WARNING   works now, and will or may not
    TROUBLE   something does not work

Only the last makes `usher doctor` end with a status of its own. Warnings and troubles have a remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad a finding is; more is worse."""

    GOOD = 0
    NOTICE = 1
    WARNING = 2
    TROUBLE = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is a short constant word for programs, `subject` what it is about: a place, a file, a port."""

    severity: Severity
    check: str
    subject: str
    sentence: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.severity < Severity.WARNING or self.remedy, f"{self.check}: whoever warns says what to do"


def good(check: str, subject: str, sentence: str) -> Finding:
    """As it should be."""
    return Finding(Severity.GOOD, check, subject, sentence)


def notice(check: str, subject: str, sentence: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Severity.NOTICE, check, subject, sentence, remedy)


def warning(check: str, subject: str, sentence: str, remedy: str) -> Finding:
    """Works now, and will or may not."""
    return Finding(Severity.WARNING, check, subject, sentence, remedy)


def trouble(check: str, subject: str, sentence: str, remedy: str) -> Finding:
    """Does not work."""
    return Finding(Severity.TROUBLE, check, subject, sentence, remedy)
