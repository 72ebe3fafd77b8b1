"""One KeepAlive stream without its transport: requests in, answers and notices out.

Each request is checked whole before anything of it is done. Its renewals are answered in their order; a long answer is
cut into several messages, so that none passes 64 KiB. Each session that a renewal found open is watched from then on,
until it ends, is forgotten, or the stream closes. The end of a stream ends no session.

Nothing here can be lost for good: a notice carries the change version that this stream last answered, never a newer one,
so the next renewal repeats whatever a lost notice said. Therefore a reader that is too slow for its notices simply loses the
stream (OVERLOADED, bound "notices_of_stream"), opens another and renews. Event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from broker.model.words import EndReason
from broker.v1 import sessions_pb2
from broker.verbs import requests
from broker.verbs.bounds import (
    NOTICES_WAITING_MAX,
    RENEWALS_PER_MESSAGE_MAX,
    SESSIONS_PER_STREAM_MAX,
    STREAM_ANSWER_SIZE_MAX,
)
from broker.verbs.errors import VerbError, invalid_field
from broker.verbs.messages import lease_messages, session_ended_message
from broker.verbs.notices import News, NoticeBoard

_ITEM_FRAME_SIZE = 4
"""Tag and length of one result or notice inside its answer: at most this for items under 64 KiB."""

_Item = TypeVar("_Item", sessions_pb2.KeepAliveResult, sessions_pb2.Notice)


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewal's outcome. `response` None: the session is not open, because of `end_reason` (NONE: not known); `fence` 0: the id
    is not genuine."""

    fence: int
    response: sessions_pb2.RenewResponse | None
    end_reason: EndReason = EndReason.NONE


@dataclass(slots=True)
class _Spoken:
    """A session that the stream speaks for."""

    session_id: bytes
    change_version: int


class KeepAliveStream:
    """One stream. `answer` for each request; `notices` and `overflow` in tasks of their own; `close` at the end."""

    def __init__(
        self,
        *,
        renew: Callable[[sessions_pb2.RenewRequest], Renewed],
        notices: NoticeBoard,
        session_count_max: int = SESSIONS_PER_STREAM_MAX,
        notice_count_max: int = NOTICES_WAITING_MAX,
    ) -> None:
        self._renew = renew
        self._board = notices
        self._session_count_max = session_count_max
        self._notice_count_max = notice_count_max
        self._spoken: dict[int, _Spoken] = {}
        self._fences: dict[bytes, int] = {}
        self._waiting: deque[sessions_pb2.Notice] = deque()
        self._has_notices = asyncio.Event()
        self._has_overflowed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<KeepAliveStream: {len(self._spoken)} sessions, {len(self._waiting)} notices waiting>"

    def answer(self, request: sessions_pb2.KeepAliveRequest) -> list[sessions_pb2.KeepAliveResponse]:
        """Does one request. Its results come in one message, or more if they are long; none if it held no renewals."""
        self._check(request)
        for session_id in request.forget:
            self._forget(session_id)
        self._check_room(request)
        results = self._renew_all(request.renewals)
        return [sessions_pb2.KeepAliveResponse(results=part) for part in _cut(results)]

    async def notices(self) -> sessions_pb2.KeepAliveResponse:
        """The next notices; waits for at least one."""
        await self._has_notices.wait()
        part = next(_cut(self._waiting))
        for _ in part:
            self._waiting.popleft()
        if not self._waiting:
            self._has_notices.clear()
        return sessions_pb2.KeepAliveResponse(notices=part)

    async def overflow(self) -> NoReturn:
        """Waits until the reader has been too slow for its notices, and raises what its stream ends with."""
        await self._has_overflowed.wait()
        raise VerbError(
            "RESOURCE_EXHAUSTED",
            "OVERLOADED",
            "This stream does not read its notices; open it again and renew, nothing is lost by that.",
            {"bound": "notices_of_stream"},
        )

    def close(self) -> None:
        """Speaks for no session any more."""
        for fence in list(self._spoken):
            self._drop(fence)

    def hear(self, news: News) -> None:
        """Takes news from the board."""
        spoken = self._spoken.get(news.fence)
        if spoken is None:
            return
        if len(self._waiting) >= self._notice_count_max:
            self._has_overflowed.set()
        else:
            self._waiting.append(_notice(spoken, news))
            self._has_notices.set()
        if news.end_reason is not EndReason.NONE:
            self._drop(news.fence)

    def _check(self, request: sessions_pb2.KeepAliveRequest) -> None:
        if len(request.renewals) > RENEWALS_PER_MESSAGE_MAX:
            raise invalid_field("renewals", f"At most 256 renewals a message; these are {len(request.renewals)}.")
        for index, renewal in enumerate(request.renewals):
            requests.check_session_id(renewal.session_id, f"renewals[{index}].session_id")
            requests.check_change_version(renewal.change_version, f"renewals[{index}].change_version")
        for session_id in request.forget:
            requests.check_session_id(session_id, "forget")

    def _check_room(self, request: sessions_pb2.KeepAliveRequest) -> None:
        """Counts unknown ids as if they were open, so that a request is refused whole or not at all."""
        new = {renewal.session_id for renewal in request.renewals if renewal.session_id not in self._fences}
        if len(self._spoken) + len(new) > self._session_count_max:
            raise VerbError(
                "RESOURCE_EXHAUSTED",
                "OVERLOADED",
                f"One stream speaks for at most {self._session_count_max} sessions; open another one for more.",
                {"bound": "sessions_of_stream"},
            )

    def _renew_all(self, renewals: Iterable[sessions_pb2.RenewRequest]) -> list[sessions_pb2.KeepAliveResult]:
        """All are done, whatever becomes of one; but if one could not be decided none is told, and the stream ends with that error."""
        results: list[sessions_pb2.KeepAliveResult] = []
        undecided: VerbError | None = None
        for renewal in renewals:
            try:
                results.append(self._renew_one(renewal))
            except VerbError as error:
                undecided = error
        if undecided is not None:
            raise undecided
        return results

    def _renew_one(self, renewal: sessions_pb2.RenewRequest) -> sessions_pb2.KeepAliveResult:
        renewed = self._renew(renewal)
        if renewed.response is None:
            return self._ended(renewal.session_id, renewed)
        spoken = self._spoken.get(renewed.fence)
        if spoken is None:
            spoken = self._spoken[renewed.fence] = _Spoken(renewal.session_id, 0)
            self._fences[renewal.session_id] = renewed.fence
            self._board.watch(renewed.fence, renewal.session_id, self)
        spoken.change_version = renewed.response.change_version
        return sessions_pb2.KeepAliveResult(session_id=renewal.session_id, renewed=renewed.response)

    def _ended(self, session_id: bytes, renewed: Renewed) -> sessions_pb2.KeepAliveResult:
        if renewed.fence in self._spoken:
            self._drop(renewed.fence)  # so that the news of its end does not come again as a notice
        ended = session_ended_message(renewed.fence, renewed.end_reason)
        return sessions_pb2.KeepAliveResult(session_id=session_id, ended=ended)

    def _forget(self, session_id: bytes) -> None:
        fence = self._fences.get(session_id)
        if fence is not None:
            self._drop(fence)

    def _drop(self, fence: int) -> None:
        spoken = self._spoken.pop(fence)
        del self._fences[spoken.session_id]
        self._board.unwatch(fence, self)


def _notice(spoken: _Spoken, news: News) -> sessions_pb2.Notice:
    if news.end_reason is not EndReason.NONE:
        ended = session_ended_message(news.fence, news.end_reason)
        return sessions_pb2.Notice(session_id=spoken.session_id, session_ended=ended)
    changed = sessions_pb2.LeasesChanged(
        leases=lease_messages(news.leases), change_version=spoken.change_version
    )
    return sessions_pb2.Notice(session_id=spoken.session_id, leases_changed=changed)


def _cut(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """The items in parts that each fit into one message."""
    part: list[_Item] = []
    part_size = 0
    for item in items:
        size = item.ByteSize() + _ITEM_FRAME_SIZE
        if part and part_size + size > STREAM_ANSWER_SIZE_MAX:
            yield part
            part, part_size = [], 0
        part.append(item)
        part_size += size
    if part:
        yield part
