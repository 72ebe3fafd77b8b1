"""Planted lies: a server that answers wrongly is caught by the storm, each lie under its own name, with an example."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from broker.v1 import sessions_pb2, types_pb2
from loadtests.storm import StormPlan, StormResult, run_storm
from loadtests.storm.check import Comparison, compare
from tests.load.storm_servers import HonestSessions, lying_sessions

LIE_AT = 5
"""The call that is answered wrongly; all others are honest."""


def short(port: int, **fields: Any) -> StormPlan:
    """A storm of a moment."""
    wanted = {"connections": 1, "streams": 2, "duration_s": 0.3, "warmup_s": 0.0, "patience_s": 0.3}
    return StormPlan(port=port, **(wanted | fields))


class LiesOnce(HonestSessions):
    """Lies in the n-th call of one method."""

    method = ""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def __call__(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        if method == self.method:
            with self._mutex:
                self._calls += 1
                is_lie = self._calls == LIE_AT
            if is_lie:
                return self.lie(request, context)
        return super().__call__(method, request, context)

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The wrong answer."""
        raise AssertionError(f"{type(self).__name__} has no lie")


class WrongStatus(LiesOnce):
    method = "Open"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.INTERNAL, "the dog ate it")
        yield b""


class NoMessage(LiesOnce):
    method = "Close"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()


class TwoMessages(LiesOnce):
    method = "Open"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from self.open(request, context)
        yield from self.open(request, context)


class NoProtobuf(LiesOnce):
    method = "Open"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"\xff\xff\xff"


class Nothing(LiesOnce):
    method = "Open"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b""


class FreshIsReplayed(LiesOnce):
    method = "Open"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield self.grant(self.fresh_id(), True)


class OverAlready(LiesOnce):
    method = "Open"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        ended = types_pb2.SessionEnded(public_id="1.1", end_reason=types_pb2.END_REASON_EXPIRED)
        yield bytes(sessions_pb2.OpenResponse(ended=ended).SerializeToString())


class EndedByForce(LiesOnce):
    method = "Close"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield bytes(sessions_pb2.CloseResponse(end_reason=types_pb2.END_REASON_REVOKED).SerializeToString())


class LongAnswer(LiesOnce):
    method = "Open"

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield bytes(50_000)


@pytest.mark.parametrize(
    ("lie", "kind", "words"),
    [
        (WrongStatus, "status", "status 13 : the dog ate it"),
        (NoMessage, "no_answer", "instead of an answer"),
        (TwoMessages, "answered_twice", "a second one"),
        (NoProtobuf, "malformed", "3 bytes that are no OpenResponse"),
        (Nothing, "malformed", "0 bytes that are no OpenResponse"),
        (FreshIsReplayed, "replayed", "a new request was answered as a repetition"),
        (OverAlready, "ended", "reason 2"),
        (EndedByForce, "end_reason", "end reason 3"),
        (LongAnswer, "too_long", "more than"),
    ],
)
def test_one_wrong_answer_among_right_ones_is_one_error_under_its_name(
    lie: type[LiesOnce], kind: str, words: str
) -> None:
    with lying_sessions(lie()) as port:
        result = run_storm(short(port, cycle="open_close"))
    assert [(fault.kind, fault.count) for fault in result.faults] == [(kind, 1)]
    assert words in result.faults[0].example
    assert result.faults[0].example.startswith(lie.method)
    assert not result.is_good
    assert result.answered == result.sent > LIE_AT


class AnotherSession(HonestSessions):
    """Repetitions are given another session."""

    def open(self, request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        answer = sessions_pb2.OpenResponse.FromString(next(super().open(request, _)))
        yield self.grant(self.fresh_id(), answer.grant.replayed)


class Forgetful(HonestSessions):
    """Repetitions are given the same session, and called new."""

    def open(self, request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        answer = sessions_pb2.OpenResponse.FromString(next(super().open(request, _)))
        yield self.grant(answer.grant.session_id, False)


@pytest.mark.parametrize(("lie", "kind"), [(AnotherSession, "other_session"), (Forgetful, "not_replayed")])
def test_a_repetition_must_be_answered_as_one_with_the_same_session(lie: type[HonestSessions], kind: str) -> None:
    with lying_sessions(lie()) as port:
        result = run_storm(short(port, cycle="retry"))
    assert [fault.kind for fault in result.faults] == [kind]
    assert result.faults[0].count == result.answers["closed"] > 0


def test_an_honest_server_passes_the_same_storm() -> None:
    with lying_sessions(HonestSessions()) as port:
        result = run_storm(short(port, cycle="retry"))
    assert result.error_examples == ()
    assert result.is_good


class SameForAll(HonestSessions):
    """Everybody is given the same session."""

    def fresh_id(self) -> bytes:
        return bytes(32)


def test_two_sessions_with_one_id_are_an_error() -> None:
    with lying_sessions(SameForAll()) as port:
        result = run_storm(short(port, cycle="renew", sessions=4))
    assert [(fault.kind, fault.count) for fault in result.faults] == [("session_twice", 3)]


class Silent(LiesOnce):
    """One call is never answered, as long as the storm lasts."""

    method = "Open"

    def __init__(self) -> None:
        super().__init__()
        self.is_over = threading.Event()

    def lie(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.is_over.set)
        self.is_over.wait()
        yield b""


def test_an_answer_that_never_comes_is_counted_and_an_error() -> None:
    with lying_sessions(Silent()) as port:
        result = run_storm(short(port, cycle="open_close"))
    assert [(fault.kind, fault.count) for fault in result.faults] == [("unanswered", 1)]
    assert result.unanswered_at_end == 1
    assert result.sent == result.answered + 1


class Stalled(HonestSessions):
    """Everything stands still once, in the middle of the run."""

    STALL_S = 0.4

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def renew(self, _: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
        self._calls += 1
        if self._calls == 20:
            threading.Event().wait(self.STALL_S)
        yield b""


def stalled_storm(**fields: Any) -> StormResult:
    """Against a server of one thread that stalls once."""
    with lying_sessions(Stalled(), workers=1) as port:
        return run_storm(short(port, cycle="renew", streams=1, duration_s=1.0, patience_s=5.0, **fields))


def test_an_open_loop_sees_everyone_who_would_have_waited_in_a_stall_and_a_closed_one_sees_itself() -> None:
    rate_per_s = 100.0
    open_loop = stalled_storm(rate_per_s=rate_per_s)
    closed_loop = stalled_storm()
    half_us = Stalled.STALL_S / 2 * 1e6
    assert closed_loop.latency.max_us >= half_us
    # All who were to be sent in the first half of the stall had to wait for more than its other half.
    expected = round(rate_per_s * Stalled.STALL_S / 2)
    assert open_loop.latency.count_above(half_us) >= expected - 1
    assert open_loop.backlog_peak >= expected
    assert open_loop.unsent_at_end == 0
    assert open_loop.answered == open_loop.arrivals
    assert open_loop.is_good


def test_a_rate_that_cannot_be_reached_is_an_error_with_the_calls_that_were_never_sent() -> None:
    with lying_sessions(Stalled(), workers=1) as port:
        plan = short(port, cycle="renew", streams=1, duration_s=0.2, patience_s=0.1, rate_per_s=1_000_000.0)
        result = run_storm(plan)
    assert result.unsent_at_end > 0
    assert result.answered + result.unanswered_at_end + result.unsent_at_end == result.arrivals
    assert "unsent" in {fault.kind for fault in result.faults}


def samples(**values: float) -> dict[str, float]:
    """A page of metrics."""
    names = {"granted": "usher_sessions_opened_total", "answered": 'usher_requests_total{method="Sessions/Open",outcome="granted"}'}
    return {names[name]: value for name, value in values.items()}


def test_a_broker_that_counts_otherwise_is_contradicted() -> None:
    with lying_sessions(HonestSessions()) as port:
        result = run_storm(short(port, cycle="open_close"))
    before = samples(granted=10, answered=100)
    honest = samples(granted=10 + result.opened, answered=100 + result.answered)
    boasting = samples(granted=11 + result.opened, answered=100 + result.answered)
    sums = {one.what: one for one in compare(result, before, honest)}
    assert sums["sessions granted"].agrees
    assert sums["calls answered"].agrees
    assert not sums["sessions closed"].agrees  # this broker does not count them
    assert not {one.what: one for one in compare(result, before, boasting)}["sessions granted"].agrees


@pytest.mark.parametrize(("broker", "uncertain", "agrees"), [(5, 0, True), (6, 0, False), (6, 1, True), (4, 1, False)])
def test_only_calls_that_were_cut_leave_room_for_a_difference(broker: int, uncertain: int, agrees: bool) -> None:
    assert Comparison("sums", 5, broker, uncertain).agrees is agrees
