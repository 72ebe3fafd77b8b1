"""What a client believes of a session: standing, leases, and news that overtake each other."""

from __future__ import annotations

import itertools

import pytest
from google.protobuf.duration_pb2 import Duration

from broker.client.state import SessionState, Standing
from broker.client.values import NoticeKind
from broker.v1 import sessions_pb2, types_pb2
from tests.client.messages import S, grant, lease, leases_changed, renewed, session_ended


def kinds(notices: list) -> list[NoticeKind]:
    return [notice.kind for notice in notices]


def acquired(*leases: types_pb2.Lease, version: int) -> sessions_pb2.Acquired:
    return sessions_pb2.Acquired(leases=leases, change_version=version)


@pytest.fixture
def state() -> SessionState:
    return SessionState(grant(), sent_ns=100 * S)


def test_a_grant_holds_for_ttl_and_grace_from_when_it_was_asked_for(state: SessionState) -> None:
    assert state.confirmed_until_ns == 170 * S
    assert state.standing is Standing.HELD
    assert [one.product for one in state.leases] == ["platform", "crm"]


# --- the table of standings ---------------------------------------------------------------------------------

INPUTS = {
    "renewed": lambda state: state.on_renewed(renewed(), 1000 * S),
    "silence": lambda state: state.on_silence(10_000 * S),
    "ended": lambda state: state.on_ended(types_pb2.END_REASON_EXPIRED),
    "closed": lambda state: state.on_closed() or [],
}
TABLE = {
    (Standing.HELD, "renewed"): (Standing.HELD, []),
    (Standing.HELD, "silence"): (Standing.UNCONFIRMED, [NoticeKind.UNCONFIRMED]),
    (Standing.HELD, "ended"): (Standing.LOST, [NoticeKind.SESSION_LOST]),
    (Standing.HELD, "closed"): (Standing.CLOSED, []),
    (Standing.UNCONFIRMED, "renewed"): (Standing.HELD, [NoticeKind.CONFIRMED]),
    (Standing.UNCONFIRMED, "silence"): (Standing.UNCONFIRMED, []),
    (Standing.UNCONFIRMED, "ended"): (Standing.LOST, [NoticeKind.SESSION_LOST]),
    (Standing.UNCONFIRMED, "closed"): (Standing.CLOSED, []),
    (Standing.LOST, "renewed"): (Standing.LOST, []),
    (Standing.LOST, "silence"): (Standing.LOST, []),
    (Standing.LOST, "ended"): (Standing.LOST, []),
    (Standing.LOST, "closed"): (Standing.CLOSED, []),
    (Standing.CLOSED, "renewed"): (Standing.CLOSED, []),
    (Standing.CLOSED, "silence"): (Standing.CLOSED, []),
    (Standing.CLOSED, "ended"): (Standing.CLOSED, []),
    (Standing.CLOSED, "closed"): (Standing.CLOSED, []),
}
WAYS = {
    Standing.HELD: (),
    Standing.UNCONFIRMED: ("silence",),
    Standing.LOST: ("ended",),
    Standing.CLOSED: ("closed",),
}


def test_the_table_of_standings_is_whole() -> None:
    assert set(TABLE) == set(itertools.product(Standing, INPUTS))


@pytest.mark.parametrize(("start", "given"), TABLE, ids=lambda one: getattr(one, "name", one))
def test_every_standing_answers_every_input_as_the_table_says(
    state: SessionState, start: Standing, given: str
) -> None:
    for step in WAYS[start]:
        INPUTS[step](state)
    assert state.standing is start
    notices = INPUTS[given](state)
    assert (state.standing, kinds(notices)) == TABLE[start, given]


# --- time ---------------------------------------------------------------------------------------------------


def test_silence_before_the_end_of_ttl_and_grace_is_nothing(state: SessionState) -> None:
    assert state.on_silence(170 * S - 1) == []
    assert kinds(state.on_silence(170 * S)) == [NoticeKind.UNCONFIRMED]


def test_an_older_answer_never_shortens_what_a_newer_one_confirmed(state: SessionState) -> None:
    state.on_renewed(renewed(), 200 * S)
    state.on_renewed(renewed(), 150 * S)
    assert state.confirmed_until_ns == 270 * S


def test_a_broker_cannot_make_a_client_renew_without_pause(state: SessionState) -> None:
    state.on_renewed(renewed(renew_after_s=0), 100 * S)
    assert state.renew_interval_ns >= 20_000_000


# --- leases -------------------------------------------------------------------------------------------------


def test_key_grace_is_told_once_and_healing_by_a_notice(state: SessionState) -> None:
    (notice,) = state.on_notice(leases_changed(lease("crm", "KEY_GRACE", grace_s=300), version=1))
    assert notice.kind is NoticeKind.KEY_GRACE
    assert notice.lease is not None
    assert (notice.lease.product, notice.lease.key_grace_s) == ("crm", 300)
    assert state.on_renewed(renewed(lease("crm", "KEY_GRACE", grace_s=290)), 110 * S) == []
    assert [one.state for one in state.leases] == ["active", "key_grace"]
    assert kinds(state.on_notice(leases_changed(lease("crm"), version=1))) == [NoticeKind.HEALED]
    assert [one.state for one in state.leases] == ["active", "active"]


def test_a_renewal_that_no_longer_names_a_lease_in_grace_heals_it(state: SessionState) -> None:
    state.on_renewed(renewed(lease("crm", "KEY_GRACE", grace_s=300)), 110 * S)
    (notice,) = state.on_renewed(renewed(), 130 * S)
    assert notice.kind is NoticeKind.HEALED
    assert notice.lease is not None
    assert (notice.lease.state, notice.lease.key_grace_s) == ("active", None)


def test_a_lease_that_ended_is_told_once_by_whichever_way_comes_first(state: SessionState) -> None:
    ended = lease("crm", "ENDED", "KEY_LOST")
    (notice,) = state.on_notice(leases_changed(ended, version=1))
    assert (notice.kind, notice.end_reason) == (NoticeKind.LEASE_ENDED, "key_lost")
    assert state.on_renewed(renewed(ended, version=2), 110 * S) == []
    assert state.change_version == 2
    assert [one.product for one in state.leases] == ["platform"]


def test_acquired_leases_join_and_released_ones_leave(state: SessionState) -> None:
    state.on_acquired(acquired(lease("telephony"), version=1))
    state.on_released("platform")
    assert [one.product for one in state.leases] == ["crm", "telephony"]


def test_news_about_a_product_given_back_is_no_news(state: SessionState) -> None:
    state.on_released("crm")
    assert state.on_notice(leases_changed(lease("crm", "KEY_GRACE", grace_s=9), version=1)) == []
    assert [one.product for one in state.leases] == ["platform"]


def test_an_acquire_answer_that_is_overtaken_by_its_end_brings_nothing_back(state: SessionState) -> None:
    state.on_renewed(renewed(lease("telephony", "ENDED", "KEY_LOST"), version=3), 110 * S)
    state.on_acquired(acquired(lease("telephony"), version=2))
    assert [one.product for one in state.leases] == ["platform", "crm"]


def test_a_product_acquired_again_after_its_end_is_held(state: SessionState) -> None:
    state.on_renewed(renewed(lease("crm", "ENDED", "KEY_LOST"), version=2), 110 * S)
    state.on_acquired(acquired(lease("crm"), version=2))
    assert [one.product for one in state.leases] == ["platform", "crm"]


def test_a_late_notice_of_an_earlier_lease_is_doubted_and_settled_by_a_renewal(state: SessionState) -> None:
    ended = lease("crm", "ENDED", "KEY_LOST")
    state.on_renewed(renewed(ended, version=2), 110 * S)
    state.on_acquired(acquired(lease("crm"), version=2))
    state.is_in_doubt = False
    assert state.on_notice(leases_changed(ended, version=1)) == []  # of the lease before
    assert state.is_in_doubt
    assert [one.product for one in state.leases] == ["platform", "crm"]
    (notice,) = state.on_renewed(renewed(ended, version=3), 120 * S)  # this one is of the new lease
    assert notice.kind is NoticeKind.LEASE_ENDED


def test_a_lost_session_holds_nothing_and_hears_nothing_more(state: SessionState) -> None:
    (notice,) = state.on_notice(session_ended("SUPERSEDED"))
    assert (notice.kind, notice.end_reason, state.end_reason) == (
        NoticeKind.SESSION_LOST,
        "superseded",
        "superseded",
    )
    assert state.leases == ()
    assert state.on_notice(leases_changed(lease("crm", "KEY_GRACE"), version=5)) == []


def test_a_wish_for_release_comes_by_notice_and_by_renewal(state: SessionState) -> None:
    wish = sessions_pb2.PleaseRelease(within=Duration(seconds=30), message="backup at six")
    (notice,) = state.on_notice(sessions_pb2.Notice(session_id=state.session_id, please_release=wish))
    assert (notice.kind, notice.within_s, notice.message) == (NoticeKind.PLEASE_RELEASE, 30, "backup at six")
    answer = renewed()
    answer.please_release_within.CopyFrom(Duration(seconds=20))
    assert [one.within_s for one in state.on_renewed(answer, 110 * S)] == [20]


def test_words_of_a_newer_broker_stay_readable(state: SessionState) -> None:
    (notice,) = state.on_ended(77)
    assert notice.end_reason == "unknown_77"
