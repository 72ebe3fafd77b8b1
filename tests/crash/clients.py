"""Clients that work on a broker which may die at any instant: open, renew, acquire, release, close, and retry with the same request_id.

A `Holder` is one app with a few logins; it does what the client library does when an answer does not come: the same request again, with the
same request_id, at the next broker. What it sends and what it is answered goes to the auditor, in that order. Each holder runs in a thread
of its own under load, and in the caller's thread when the auditor settles what is open.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2
from tests.crash.auditor import ENDED, NS, Auditor, Login, State

CALL_S = 20.0
LOGIN_COUNT_MAX = 4
REMEMBERED = 12
"""Ended logins that a holder still asks about."""
REMEMBERED_NS = 60 * NS
"""A broker remembers for 120 s."""
GIVE_UP_SHARE = 0.02
EXTRA = "crm"

Answer = Any


class Gone(Exception):
    """No answer: nobody knows whether the request was carried out."""


class Line:
    """Calls over one channel. Gone: UNAVAILABLE. Any other error than NOT_FOUND is for the auditor to hear of."""

    def __init__(self, channel: grpc.Channel, auditor: Auditor) -> None:
        self._stub = sessions_pb2_grpc.SessionsStub(channel)
        self._auditor = auditor

    def call(self, method: str, request: Any) -> Answer | None:
        """The answer; None for NOT_FOUND."""
        try:
            return getattr(self._stub, method)(request, timeout=CALL_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                self._auditor.fault("wrong", f"{method} is answered with {error.code().name}: {error.details()}")
            raise Gone from error


@dataclass(slots=True)
class Pending:
    """A request whose answer has not come, and who takes the answer: (login, answer or None for NOT_FOUND, sent_ns, now_ns)."""

    method: str
    request: Any
    login: Login
    answered: Callable[[Login, Answer | None, int, int], None]


class Holder:
    """One app. `step` does one thing, `settle` asks again what was left unanswered; both raise Gone."""

    def __init__(self, name: str, auditor: Auditor, choice: random.Random) -> None:
        self.name = name
        self.logins: list[Login] = []
        self._ended: deque[Login] = deque(maxlen=REMEMBERED)
        self._pending: Pending | None = None
        self._auditor = auditor
        self._choice = choice
        self._count = 0
        self._fence_before = 0

    # --- what a round asks of it ------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """There is a request whose answer did not come."""
        return self._pending is not None

    def run(self, line: Line, steps_max: int) -> None:
        """Works until the broker is gone."""
        try:
            for _ in range(steps_max):
                self.step(line)
        except Gone:
            self._auditor.count("unanswered")

    def settle(self, line: Line) -> None:
        """Asks again, with the same request_id, what was not answered; or, now and then, never again."""
        pending = self._pending
        if pending is None:
            return
        if pending.login.state in (State.ASKED, State.CLOSING) and self._choice.random() < GIVE_UP_SHARE:
            self._auditor.given_up(pending.login)
            self._pending = None
        else:
            self._auditor.count("retried")
            self._send(line, pending)
        self._sort()

    def renew_all(self, line: Line) -> None:
        """Every session that should live."""
        for login in tuple(self.logins):
            if login.state is State.LIVE:
                self._renew(line, login)
        self._sort()

    def ask_about_ended(self, line: Line, count: int) -> None:
        """What is over stays over: asked by Renew, by the same Open, by the same Close."""
        fresh = [one for one in self._ended if time.monotonic_ns() - one.ended_ns < REMEMBERED_NS]
        for login in self._choice.sample(fresh, min(count, len(fresh))):
            self._renew(line, login)
            self._open_again(line, login)
            if login.state is State.CLOSED:
                self._send_close(line, login)

    def step(self, line: Line) -> None:
        """One of the things that an app does."""
        live = [one for one in self.logins if one.state is State.LIVE]
        if not live or (len(live) < LOGIN_COUNT_MAX and self._choice.random() < 0.45):
            self._open(line)
        else:
            doing = self._choice.choices((self._renew, self._open_again, self._change, self._close), (4, 1, 3, 4))[0]
            doing(line, self._choice.choice(live))
        if self._choice.random() < 0.03:
            self.ask_about_ended(line, 1)
        self._sort()

    def fall_silent(self) -> None:
        """Forgets all its sessions, as an app that is gone."""
        self.logins.clear()
        self._pending = None

    # --- one thing each ---------------------------------------------------------------------------------

    def _open(self, line: Line) -> None:
        self._count += 1
        products = ("platform", EXTRA) if self._choice.random() < 0.3 else ("platform",)
        login = Login(f"{self.name}-{self._count}", self._choice.randbytes(16), products)
        self.logins.append(login)
        self._fence_before = self._auditor.asked(login)
        self._open_again(line, login)

    def _open_again(self, line: Line, login: Login) -> None:
        self._send(line, Pending("Open", open_request(login), login, self._opened))

    def _opened(self, login: Login, answer: Answer | None, sent_ns: int, now_ns: int) -> None:
        result = None if answer is None else answer.WhichOneof("result")
        if answer is not None and result == "grant":
            self._auditor.granted(login, answer.grant, sent_ns, now_ns, self._fence_before)
        elif answer is not None and result == "denial":
            self._auditor.denied(login, answer.denial.reason)
        elif answer is not None and result == "ended":
            self._auditor.told_ended(login, answer.ended, now_ns)
        else:
            self._auditor.fault("wrong", f"Open of {login.user} is answered with {result or 'NOT_FOUND'}")

    def _renew(self, line: Line, login: Login) -> None:
        request = sessions_pb2.RenewRequest(session_id=login.session_id)
        self._send(line, Pending("Renew", request, login, self._renewed))

    def _renewed(self, login: Login, answer: Answer | None, sent_ns: int, now_ns: int) -> None:
        if answer is None:
            self._auditor.not_found(login, now_ns)
        else:
            self._auditor.renewed(login, sent_ns, answer.changed)

    def _change(self, line: Line, login: Login) -> None:
        request_id, session_id = self._choice.randbytes(16), login.session_id
        self._auditor.changing(login, EXTRA, time.monotonic_ns())
        if self._choice.random() < 0.5:
            products = [types_pb2.ProductRequest(product=EXTRA)]
            request: Any = sessions_pb2.AcquireRequest(session_id=session_id, request_id=request_id, products=products)
            self._send(line, Pending("Acquire", request, login, self._acquired))
        else:
            request = sessions_pb2.ReleaseRequest(session_id=session_id, request_id=request_id, product=EXTRA)
            self._send(line, Pending("Release", request, login, self._released))

    def _acquired(self, login: Login, answer: Answer | None, sent_ns: int, now_ns: int) -> None:
        if answer is None:
            self._auditor.not_found(login, now_ns)
        else:
            self._auditor.changed(login, EXTRA, answer.WhichOneof("result") == "acquired", now_ns)

    def _released(self, login: Login, answer: Answer | None, sent_ns: int, now_ns: int) -> None:
        if answer is None:
            self._auditor.not_found(login, now_ns)
        else:
            self._auditor.changed(login, EXTRA, answer.WhichOneof("result") != "released", now_ns)

    def _close(self, line: Line, login: Login) -> None:
        self._auditor.closing(login, self._choice.randbytes(16), time.monotonic_ns())
        self._send_close(line, login)

    def _send_close(self, line: Line, login: Login) -> None:
        request = sessions_pb2.CloseRequest(session_id=login.session_id, request_id=login.close_id)
        self._send(line, Pending("Close", request, login, self._closed))

    def _closed(self, login: Login, answer: Answer | None, sent_ns: int, now_ns: int) -> None:
        if answer is not None:
            self._auditor.closed(login, answer.end_reason, now_ns)
        elif login.state is State.CLOSED:
            self._auditor.fault("wrong", f"the repeated Close of {login.user}'s session {login.public_id} is not found")
        else:
            self._auditor.not_found(login, now_ns)

    def _send(self, line: Line, pending: Pending) -> None:
        """Sends, and hands the answer on. It stays pending if Gone is raised."""
        self._pending = pending
        sent_ns = time.monotonic_ns()
        answer = line.call(pending.method, pending.request)
        self._pending = None
        pending.answered(pending.login, answer, sent_ns, time.monotonic_ns())

    def _sort(self) -> None:
        """Keeps what may live; remembers what is over, for a while."""
        self._ended.extend(one for one in self.logins if one.state in ENDED)
        self.logins = [one for one in self.logins if one.state in (State.ASKED, State.LIVE, State.CLOSING)]


def open_request(login: Login) -> sessions_pb2.OpenRequest:
    """A login's request, the same each time."""
    holder = types_pb2.Holder(user=login.user, host="desk", app="crash/1")
    products = [types_pb2.ProductRequest(product=product) for product in login.products]
    return sessions_pb2.OpenRequest(request_id=login.request_id, holder=holder, products=products)
