"""What is told of licences' periods ahead of time: each licence is named as its end comes nearer, and once when it is over.

A licence passes stages that only go up: so many warnings [30, 7 and 1 days before its end], then ended. Each stage is told
once; at the start of a broker the one in which a licence is then. One that was not valid yet is told when it begins.
Wall time in seconds since 1970. Pure but for what was told; the keyring calls it under its lock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from broker.licence import Licence, Period, day

_NEVER: Final = 2**62
_DAY_S: Final = 86_400


class NoticeKind(Enum):
    """What is told."""

    BEGUN = auto()
    ENDS_SOON = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class PeriodNotice:
    """One licence of which something is to be told now; `left_s` is what is left of it."""

    kind: NoticeKind
    licence: Licence
    left_s: int = 0


class PeriodNotices:
    """What was told of each licence, by its digest."""

    def __init__(self, warnings_s: Sequence[int]) -> None:
        self._warnings_s = tuple(sorted(warnings_s, reverse=True))
        self._stages: dict[str, int] = {}
        self._unbegun: set[str] = set()
        self._stands_until_unix_s = 0

    def forget_others(self, licences: Iterable[Licence]) -> None:
        """Other licences lie in the folder now."""
        digests = {licence.digest for licence in licences}
        self._stages = {digest: stage for digest, stage in self._stages.items() if digest in digests}
        self._unbegun &= digests
        self._stands_until_unix_s = 0

    def due(self, licences: Iterable[Licence], now_unix_s: int) -> list[PeriodNotice]:
        """What is to be told now and was not. Costs a comparison while nothing can be."""
        if now_unix_s < self._stands_until_unix_s:
            return []
        notices: list[PeriodNotice] = []
        edges: list[int] = []
        for licence in licences:
            notices += self._of(licence, now_unix_s)
            edges += [edge for edge in self._edges(licence) if edge > now_unix_s]
        self._stands_until_unix_s = min(edges, default=_NEVER)
        return notices

    def _of(self, licence: Licence, now_unix_s: int) -> list[PeriodNotice]:
        if licence.period_at(now_unix_s) is Period.NOT_YET_VALID:
            self._unbegun.add(licence.digest)
            return []
        notices: list[PeriodNotice] = []
        if licence.digest in self._unbegun:
            self._unbegun.remove(licence.digest)
            notices.append(PeriodNotice(NoticeKind.BEGUN, licence))
        stage = sum(edge <= now_unix_s for edge in self._edges(licence)[1:])
        if stage > self._stages.get(licence.digest, 0) and licence.expires_unix_s is not None:
            left_s = licence.expires_unix_s - now_unix_s
            kind = NoticeKind.ENDS_SOON if left_s > 0 else NoticeKind.ENDED
            notices.append(PeriodNotice(kind, licence, max(0, left_s)))
        self._stages[licence.digest] = stage
        return notices

    def _edges(self, licence: Licence) -> list[int]:
        """Where stages begin: its beginning, each warning, its end."""
        if licence.expires_unix_s is None:
            return [licence.not_before_unix_s]
        warnings = [licence.expires_unix_s - before_s for before_s in self._warnings_s]
        return [licence.not_before_unix_s, *warnings, licence.expires_unix_s]


def ends_soon_sentence(licence: Licence, expires_unix_s: int, now_unix_s: int) -> str:
    """What an admin should do about a licence that still counts."""
    return f"ends on {day(expires_unix_s)}, in {left_in_words(expires_unix_s - now_unix_s)}; get a new one from {licence.vendor}"


def left_in_words(left_s: int) -> str:
    """A span as people plan by it: days from two on, else hours, at least one."""
    if left_s >= 2 * _DAY_S:
        return f"{left_s // _DAY_S} days"
    hours = max(1, left_s // 3_600)
    return "1 hour" if hours == 1 else f"{hours} hours"
