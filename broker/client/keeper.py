"""Who must be renewed when: the sans-I/O half of the KeepAlive stream that carries all sessions of one client.

Decides; the owner (sync.py, aio.py) does: it asks `compose` for the next message, gives each answer to
`on_response`, sleeps until `wake_ns`, and breaks the stream when `is_late`. A session is renewed at once when it is added, and
again on each new stream: a renewal is also what subscribes the stream to the session's notices. At most one renewal
of a session is under way. `now_ns` is a monotonic clock. Not thread-safe: the owner holds a lock.

    idle ──due──► sent ──renewed──► idle (due after renew_after)
      ▲             │──ended─────► removed
      └─stream lost─┘ (due at once)
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from broker.client.errors import Overloaded
from broker.client.state import SessionState
from broker.client.values import Notice
from broker.v1 import sessions_pb2

SESSION_COUNT_MAX = 10_000
"""Sessions of one client: as many as a broker lets one stream carry."""
BATCH_COUNT_MAX = 256
"""Renewals of one message (KeepAliveRequest.renewals)."""

News = list[tuple[SessionState, Notice]]


@dataclass(slots=True)
class _Entry:
    state: SessionState
    due_ns: int
    sent_ns: int | None = None
    """When the renewal under way was sent."""


class Keeper:
    """The renewals of one client's sessions. `answer_ns`: a renewal unanswered for so long breaks the stream."""

    def __init__(self, answer_ns: int) -> None:
        self._answer_ns = answer_ns
        self._entries: dict[bytes, _Entry] = {}
        self._due: list[tuple[int, bytes]] = []
        """A heap; an item whose entry has another due time, or is under way, is stale and skipped."""
        self._sent: dict[bytes, int] = {}
        """session id → sent_ns, the oldest first: a dict keeps the order of insertion."""
        self._forgotten: list[bytes] = []

    def __len__(self) -> int:
        return len(self._entries)

    def states(self) -> list[SessionState]:
        """All sessions being kept."""
        return [entry.state for entry in self._entries.values()]

    def add(self, state: SessionState, now_ns: int) -> None:
        """Keeps a session from now on. Overloaded at the bound."""
        if len(self._entries) >= SESSION_COUNT_MAX:
            raise Overloaded(f"a client keeps at most {SESSION_COUNT_MAX} sessions", "SESSIONS_OF_CLIENT")
        entry = _Entry(state, now_ns)
        self._entries[state.session_id] = entry
        self._put(entry)

    def remove(self, session_id: bytes) -> None:
        """Keeps a session no more, whatever is under way."""
        if self._entries.pop(session_id, None) is not None:
            self._sent.pop(session_id, None)
            self._forgotten.append(session_id)

    def hasten_if_in_doubt(self, state: SessionState, now_ns: int) -> None:
        """Renews at once a session that its news alone do not explain; after the answer, if one is under way."""
        entry = self._entries.get(state.session_id)
        if entry is not None and state.is_in_doubt and entry.sent_ns is None:
            state.is_in_doubt = False
            entry.due_ns = now_ns
            self._put(entry)

    def compose(self, now_ns: int) -> sessions_pb2.KeepAliveRequest | None:
        """The message to send now, or None. Call again until None."""
        request = sessions_pb2.KeepAliveRequest()
        while self._due and self._due[0][0] <= now_ns and len(request.renewals) < BATCH_COUNT_MAX:
            entry = self._pop_due()
            if entry is not None:
                entry.sent_ns = self._sent[entry.state.session_id] = now_ns
                state = entry.state
                request.renewals.add(session_id=state.session_id, change_version=state.change_version)
        request.forget.extend(self._forgotten[:BATCH_COUNT_MAX])
        del self._forgotten[:BATCH_COUNT_MAX]
        return request if request.renewals or request.forget else None

    def wake_ns(self) -> int | None:
        """When there is something to do next; None: not before a session is added."""
        times = [self._due[0][0]] if self._due else []
        if self._sent:
            times.append(next(iter(self._sent.values())) + self._answer_ns)
        return min(times, default=None)

    def is_late(self, now_ns: int) -> bool:
        """The oldest renewal under way has waited too long: this stream is dead."""
        return bool(self._sent) and now_ns >= next(iter(self._sent.values())) + self._answer_ns

    def on_response(self, response: sessions_pb2.KeepAliveResponse, now_ns: int) -> News:
        """Takes in one message of the stream; what the sessions' owners are to be told."""
        news: News = []
        for result in response.results:
            news += self._on_result(result, now_ns)
        for notice in response.notices:
            entry = self._entries.get(notice.session_id)
            if entry is not None:
                news += [(entry.state, one) for one in entry.state.on_notice(notice)]
                self._drop_if_over(entry.state)
                self.hasten_if_in_doubt(entry.state, now_ns)
        return news

    def on_stream_lost(self, now_ns: int) -> News:
        """The stream is gone: everything is due on the next one; sessions unheard of for too long are told so."""
        self._sent.clear()
        self._forgotten.clear()
        self._due.clear()
        news: News = []
        for entry in self._entries.values():
            entry.sent_ns = None
            entry.due_ns = now_ns
            self._put(entry)
            news += [(entry.state, one) for one in entry.state.on_silence(now_ns)]
        return news

    def _on_result(self, result: sessions_pb2.KeepAliveResult, now_ns: int) -> News:
        entry = self._entries.get(result.session_id)
        if entry is None or entry.sent_ns is None:
            return []  # removed while it was under way
        state, sent_ns = entry.state, entry.sent_ns
        self._sent.pop(state.session_id, None)
        entry.sent_ns = None
        if result.WhichOneof("result") == "ended":
            notices = state.on_ended(result.ended.end_reason)
        else:
            notices = state.on_renewed(result.renewed, sent_ns)
            entry.due_ns = now_ns + state.renew_interval_ns
            self._put(entry)
            self.hasten_if_in_doubt(state, now_ns)
        self._drop_if_over(state)
        return [(state, notice) for notice in notices]

    def _drop_if_over(self, state: SessionState) -> None:
        if state.is_over:
            self._entries.pop(state.session_id, None)
            self._sent.pop(state.session_id, None)

    def _put(self, entry: _Entry) -> None:
        heapq.heappush(self._due, (entry.due_ns, entry.state.session_id))

    def _pop_due(self) -> _Entry | None:
        due_ns, session_id = heapq.heappop(self._due)
        entry = self._entries.get(session_id)
        is_current = entry is not None and entry.due_ns == due_ns and entry.sent_ns is None
        return entry if is_current else None
