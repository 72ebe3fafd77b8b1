"""Who must be renewed when, over streams that come and go. A property test drives it against a plain description."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from broker.client.errors import Overloaded
from broker.client.keeper import BATCH_COUNT_MAX, SESSION_COUNT_MAX, Keeper
from broker.client.state import SessionState
from broker.client.values import NoticeKind
from broker.v1 import sessions_pb2, types_pb2
from tests.client.messages import S, grant, lease, leases_changed, renewed, session_ended

ANSWER_NS = 5 * S


def state(number: int, now_ns: int = 0) -> SessionState:
    return SessionState(grant(number), now_ns)


def answer_to(request: sessions_pb2.KeepAliveRequest, *ended: bytes) -> sessions_pb2.KeepAliveResponse:
    """Every renewal is granted, but for those ended."""
    results = []
    for renewal in request.renewals:
        if renewal.session_id in ended:
            over = types_pb2.SessionEnded(end_reason=types_pb2.END_REASON_EXPIRED)
            results.append(sessions_pb2.KeepAliveResult(session_id=renewal.session_id, ended=over))
        else:
            results.append(sessions_pb2.KeepAliveResult(session_id=renewal.session_id, renewed=renewed()))
    return sessions_pb2.KeepAliveResponse(results=results)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(ANSWER_NS)


def test_a_new_session_is_renewed_at_once_and_again_when_due(keeper: Keeper) -> None:
    one = state(1)
    keeper.add(one, 0)
    request = keeper.compose(0)
    assert request is not None
    assert [renewal.session_id for renewal in request.renewals] == [one.session_id]
    assert keeper.compose(0) is None
    keeper.on_response(answer_to(request), 1 * S)
    assert keeper.wake_ns() == 21 * S
    assert keeper.compose(21 * S - 1) is None
    assert keeper.compose(21 * S) is not None


def test_a_renewal_echoes_the_newest_version(keeper: Keeper) -> None:
    keeper.add(state(1), 0)
    keeper.on_response(
        sessions_pb2.KeepAliveResponse(notices=[leases_changed(lease("crm", "ENDED"), version=7)]), 0
    )
    request = keeper.compose(0)
    assert request is not None
    assert request.renewals[0].change_version == 7


def test_a_thousand_sessions_go_in_messages_of_at_most_256(keeper: Keeper) -> None:
    for number in range(1, 1001):
        keeper.add(state(number), 0)
    sizes = []
    while (request := keeper.compose(0)) is not None:
        sizes.append(len(request.renewals))
    assert sizes == [256, 256, 256, 232]
    assert BATCH_COUNT_MAX == 256


def test_a_session_under_way_is_not_sent_again(keeper: Keeper) -> None:
    keeper.add(state(1), 0)
    keeper.compose(0)
    assert keeper.compose(100 * S) is None
    assert keeper.wake_ns() == ANSWER_NS
    assert not keeper.is_late(ANSWER_NS - 1)
    assert keeper.is_late(ANSWER_NS)


def test_a_new_stream_renews_everything_at_once(keeper: Keeper) -> None:
    for number in (1, 2, 3):
        keeper.add(state(number), 0)
    request = keeper.compose(0)
    assert request is not None
    keeper.on_response(answer_to(request), 0)
    assert keeper.on_stream_lost(2 * S) == []
    again = keeper.compose(2 * S)
    assert again is not None
    assert len(again.renewals) == 3
    assert not keeper.is_late(2 * S)


def test_a_lost_stream_tells_sessions_whose_time_has_passed(keeper: Keeper) -> None:
    keeper.add(state(1), 0)
    assert keeper.on_stream_lost(69 * S) == []
    ((_, notice),) = keeper.on_stream_lost(70 * S)
    assert notice.kind is NoticeKind.UNCONFIRMED
    assert keeper.on_stream_lost(80 * S) == []


def test_a_removed_session_is_forgotten_on_the_stream(keeper: Keeper) -> None:
    one, two = state(1), state(2)
    keeper.add(one, 0)
    keeper.add(two, 0)
    request = keeper.compose(0)
    assert request is not None
    keeper.remove(one.session_id)
    assert keeper.on_response(answer_to(request, one.session_id), 0) == []
    forget = keeper.compose(0)
    assert forget is not None
    assert list(forget.forget) == [one.session_id]
    assert len(keeper) == 1


def test_an_ended_session_is_told_and_renewed_no_more(keeper: Keeper) -> None:
    one = state(1)
    keeper.add(one, 0)
    request = keeper.compose(0)
    assert request is not None
    ((_, notice),) = keeper.on_response(answer_to(request, one.session_id), 0)
    assert (notice.kind, notice.end_reason) == (NoticeKind.SESSION_LOST, "expired")
    assert len(keeper) == 0
    assert keeper.wake_ns() is None


def test_a_pushed_end_while_a_renewal_is_under_way_leaves_nothing_late(keeper: Keeper) -> None:
    keeper.add(state(1), 0)
    request = keeper.compose(0)
    assert request is not None
    keeper.on_response(sessions_pb2.KeepAliveResponse(notices=[session_ended("REVOKED")]), 0)
    assert not keeper.is_late(100 * S)
    assert keeper.on_response(answer_to(request), 1 * S) == []


def test_notices_of_strangers_are_ignored(keeper: Keeper) -> None:
    keeper.add(state(1), 0)
    stranger = sessions_pb2.KeepAliveResponse(notices=[session_ended("REVOKED", number=9)])
    assert keeper.on_response(stranger, 0) == []
    assert len(keeper) == 1


def test_a_session_in_doubt_is_renewed_before_its_time(keeper: Keeper) -> None:
    one = state(1)
    keeper.add(one, 0)
    request = keeper.compose(0)
    assert request is not None
    keeper.on_response(answer_to(request), 0)
    one.on_acquired(sessions_pb2.Acquired(leases=[lease("telephony")], change_version=1))
    keeper.hasten_if_in_doubt(one, 3 * S)
    assert keeper.wake_ns() == 3 * S
    assert keeper.compose(3 * S) is not None
    assert not one.is_in_doubt


def test_doubt_while_a_renewal_is_under_way_waits_for_its_answer(keeper: Keeper) -> None:
    one = state(1)
    keeper.add(one, 0)
    request = keeper.compose(0)
    assert request is not None
    one.is_in_doubt = True
    keeper.hasten_if_in_doubt(one, 1 * S)
    assert keeper.compose(1 * S) is None
    keeper.on_response(answer_to(request), 2 * S)
    assert keeper.compose(2 * S) is not None


def test_a_client_keeps_at_most_ten_thousand_sessions(keeper: Keeper) -> None:
    for number in range(1, SESSION_COUNT_MAX + 1):
        keeper.add(state(number), 0)
    with pytest.raises(Overloaded):
        keeper.add(state(SESSION_COUNT_MAX + 1), 0)
    keeper.remove((1).to_bytes(32, "big"))
    keeper.add(state(SESSION_COUNT_MAX + 1), 0)


class KeeperMachine(RuleBasedStateMachine):
    """Whatever happens: no session waits longer than its interval, none is under way twice, none is lost."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.keeper = Keeper(ANSWER_NS)
        self.now_ns = 0
        self.number = 0
        self.kept: dict[bytes, int] = {}
        """session id → when its next renewal must be composed at the latest."""
        self.under_way: list[bytes] = []

    @rule(target=sessions)
    def add(self) -> bytes:
        self.number += 1
        one = state(self.number, self.now_ns)
        self.keeper.add(one, self.now_ns)
        self.kept[one.session_id] = self.now_ns
        return one.session_id

    @rule(session_id=sessions)
    def remove(self, session_id: bytes) -> None:
        self.keeper.remove(session_id)
        self.kept.pop(session_id, None)
        self.under_way = [one for one in self.under_way if one != session_id]

    @rule(span_s=st.integers(0, 30))
    def wait(self, span_s: int) -> None:
        self.now_ns += span_s * S

    @rule()
    def send(self) -> None:
        while (request := self.keeper.compose(self.now_ns)) is not None:
            for renewal in request.renewals:
                assert renewal.session_id in self.kept
                assert renewal.session_id not in self.under_way
                assert self.kept[renewal.session_id] <= self.now_ns
                self.under_way.append(renewal.session_id)
        overdue = {one for one, due_ns in self.kept.items() if due_ns <= self.now_ns}
        assert overdue <= set(self.under_way)

    @rule(count=st.integers(1, 5))
    def answer(self, count: int) -> None:
        answered, self.under_way = self.under_way[:count], self.under_way[count:]
        results = [sessions_pb2.KeepAliveResult(session_id=one, renewed=renewed()) for one in answered]
        self.keeper.on_response(sessions_pb2.KeepAliveResponse(results=results), self.now_ns)
        for one in answered:
            self.kept[one] = self.now_ns + 20 * S

    @rule()
    def lose_the_stream(self) -> None:
        self.keeper.on_stream_lost(self.now_ns)
        self.under_way.clear()
        self.kept = dict.fromkeys(self.kept, self.now_ns)

    @invariant()
    def wakes_in_time(self) -> None:
        idle = [due_ns for one, due_ns in self.kept.items() if one not in self.under_way]
        wake_ns = self.keeper.wake_ns()
        if idle:
            assert wake_ns is not None
            assert wake_ns <= min(idle)
        assert len(self.keeper) == len(self.kept)


TestKeeperMachine = KeeperMachine.TestCase
TestKeeperMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
