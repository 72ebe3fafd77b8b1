"""The auditor itself: every kind of broken promise is seen, and what a client cannot know is held against nobody."""

from collections.abc import Iterable

import pytest

from broker.v1 import admin_pb2, types_pb2
from tests.crash.auditor import NS, Auditor, Hold, Login, State, peak_of

TTL_NS = 8 * NS
CLOSED, EXPIRED = types_pb2.END_REASON_CLOSED, types_pb2.END_REASON_EXPIRED


def auditor_of(platform: int = 2) -> Auditor:
    return Auditor({"platform": platform, "crm": 1}, TTL_NS)


def grant_of(number: int, *products: str, replayed: bool = False) -> types_pb2.Grant:
    leases = [types_pb2.Lease(product=product, state=types_pb2.LEASE_STATE_ACTIVE) for product in products or ("platform",)]
    session_id = bytes(8) + number.to_bytes(8) + bytes(16)
    return types_pb2.Grant(session_id=session_id, public_id=f"1.{number}", leases=leases, replayed=replayed)


def opened(auditor: Auditor, user: str, number: int, *products: str, at_ns: int = NS) -> Login:
    login = Login(user, user.encode(), products or ("platform",))
    fence = auditor.asked(login)
    auditor.granted(login, grant_of(number, *products), at_ns, at_ns, fence)
    return login


def listed(user: str, number: int, *products: str) -> admin_pb2.Session:
    leases = [types_pb2.Lease(product=product) for product in products or ("platform",)]
    return admin_pb2.Session(public_id=f"1.{number}", holder=types_pb2.Holder(user=user), leases=leases)


def closed(auditor: Auditor, login: Login, at_ns: int) -> None:
    auditor.closing(login, b"c", at_ns)
    auditor.closed(login, CLOSED, at_ns)


def kinds(auditor: Auditor) -> list[str]:
    return [fault.kind for fault in auditor.faults]


# --- lost ------------------------------------------------------------------------------------------------------


def test_session_that_is_not_found_within_its_ttl_is_lost() -> None:
    auditor = auditor_of()
    auditor.not_found(opened(auditor, "anna", 1), 2 * NS)
    assert kinds(auditor) == ["lost"]


def test_session_that_was_silent_for_its_ttl_may_be_gone() -> None:
    auditor = auditor_of()
    login = opened(auditor, "anna", 1)
    auditor.not_found(login, NS + TTL_NS)
    assert (kinds(auditor), login.state) == ([], State.LAPSED)


def test_restart_gives_whoever_was_alive_a_full_ttl_and_nobody_else() -> None:
    auditor = auditor_of()
    alive, late = opened(auditor, "anna", 1, at_ns=5 * NS), opened(auditor, "bert", 2, at_ns=NS)
    auditor.restarted(killed_ns=10 * NS, started_ns=12 * NS)
    auditor.judge_sessions([], 19 * NS)
    assert (alive.safe_until_ns, late.safe_until_ns) == (20 * NS, 9 * NS)
    assert kinds(auditor) == ["lost"]


@pytest.mark.parametrize("reason", [EXPIRED, types_pb2.END_REASON_KEY_LOST])
def test_close_of_a_live_session_that_had_ended_for_another_reason_is_a_loss(reason: int) -> None:
    auditor = auditor_of()
    login = opened(auditor, "anna", 1)
    auditor.closing(login, b"c", 2 * NS)
    auditor.closed(login, reason, 2 * NS)
    assert kinds(auditor) == ["lost"]


def test_lease_that_is_not_among_the_sessions_leases_is_lost() -> None:
    auditor = auditor_of()
    opened(auditor, "anna", 1, "platform", "crm")
    auditor.judge_sessions([listed("anna", 1)], 2 * NS)
    assert kinds(auditor) == ["lost"]


def test_lease_that_a_renew_says_has_ended_is_lost() -> None:
    auditor = auditor_of()
    login = opened(auditor, "anna", 1)
    auditor.renewed(login, 2 * NS, [types_pb2.Lease(product="platform", state=types_pb2.LEASE_STATE_ENDED)])
    assert kinds(auditor) == ["lost"]


def test_repeated_open_that_is_denied_or_says_ended_is_a_loss() -> None:
    auditor = auditor_of()
    auditor.denied(opened(auditor, "anna", 1), types_pb2.DENIAL_REASON_NO_FREE_SEATS)
    auditor.told_ended(opened(auditor, "bert", 2), types_pb2.SessionEnded(end_reason=EXPIRED), 2 * NS)
    assert kinds(auditor) == ["lost", "lost"]


# --- duplicate, revived ----------------------------------------------------------------------------------------------


def test_second_session_under_one_request_id_is_a_duplicate() -> None:
    auditor = auditor_of()
    auditor.granted(opened(auditor, "anna", 1), grant_of(2), 2 * NS, 2 * NS)
    assert kinds(auditor) == ["duplicate"]


def test_session_id_of_somebody_else_is_a_duplicate() -> None:
    auditor = auditor_of()
    opened(auditor, "anna", 5)
    login = Login("bert", b"bert", ("platform",))
    auditor.granted(login, grant_of(5, replayed=True), 2 * NS, 2 * NS, auditor.asked(login))
    assert kinds(auditor) == ["duplicate"]


def test_user_who_is_listed_twice_is_a_duplicate() -> None:
    auditor = auditor_of()
    opened(auditor, "anna", 1)
    auditor.judge_sessions([listed("anna", 1), listed("anna", 2)], 2 * NS)
    assert kinds(auditor) == ["duplicate"]


@pytest.mark.parametrize("way", ["renewed", "listed", "opened"])
def test_closed_session_that_lives_is_revived(way: str) -> None:
    auditor = auditor_of()
    login = opened(auditor, "anna", 1)
    closed(auditor, login, 2 * NS)
    if way == "renewed":
        auditor.renewed(login, 3 * NS, [])
    elif way == "listed":
        auditor.judge_sessions([listed("anna", 1)], 3 * NS)
    else:
        auditor.granted(login, grant_of(1, replayed=True), 3 * NS, 3 * NS)
    assert kinds(auditor) == ["revived"]


# --- stranded ------------------------------------------------------------------------------------------------------


def test_session_that_nobody_asked_for_and_one_that_was_denied_are_stranded() -> None:
    auditor = auditor_of()
    login = Login("bert", b"bert", ("platform",))
    auditor.asked(login)
    auditor.denied(login, types_pb2.DENIAL_REASON_NO_FREE_SEATS)
    auditor.judge_sessions([listed("ghost", 1), listed("bert", 2)], 2 * NS)
    assert kinds(auditor) == ["stranded", "stranded"]


def test_lease_that_was_given_back_and_is_held_is_stranded() -> None:
    auditor = auditor_of()
    login = opened(auditor, "anna", 1, "platform", "crm")
    auditor.changing(login, "crm", 2 * NS)
    auditor.changed(login, "crm", False, 2 * NS)
    auditor.judge_sessions([listed("anna", 1, "platform", "crm")], 3 * NS)
    assert kinds(auditor) == ["stranded"]


def test_seats_in_use_that_no_session_holds_are_stranded() -> None:
    auditor = auditor_of()
    products = {"platform": admin_pb2.Product(in_use=2), "crm": admin_pb2.Product()}
    auditor.judge_products(products, [listed("anna", 1)])
    assert kinds(auditor) == ["stranded"]


def test_whatever_is_left_after_silence_is_stranded() -> None:
    auditor = auditor_of()
    auditor.judge_silence({"platform": admin_pb2.Product(in_use=1), "crm": admin_pb2.Product()}, [listed("anna", 1)])
    assert kinds(auditor) == ["stranded", "stranded"]


# --- over capacity, fences, and what is allowed ----------------------------------------------------------------------------


def test_more_seats_held_at_one_instant_than_the_keys_give_are_seen_from_answers_alone() -> None:
    auditor = auditor_of(platform=2)
    for number in range(1, 4):
        opened(auditor, f"user-{number}", number)
    auditor.judge_holds(2 * NS)
    assert kinds(auditor) == ["over_capacity"]


def test_seat_that_goes_from_hand_to_hand_is_one_seat() -> None:
    auditor = auditor_of(platform=1)
    for number in range(1, 4):
        closed(auditor, opened(auditor, f"user-{number}", number, at_ns=number * NS), number * NS + 5)
    auditor.judge_holds(9 * NS)
    assert (kinds(auditor), auditor.figures["peak_platform"]) == ([], 1)


@pytest.mark.parametrize(
    ("holds", "peak"),
    [([], 0), ([(1, 5), (5, 9)], 1), ([(1, 5), (4, 9)], 2), ([(1, 0), (3, 0), (2, 3)], 2), ([(7, 3)], 0)],
)
def test_peak_counts_holds_that_overlap(holds: Iterable[tuple[int, int]], peak: int) -> None:
    assert peak_of([Hold("platform", begin, end) for begin, end in holds], 10) == peak


def test_fence_that_does_not_grow_is_wrong() -> None:
    auditor = auditor_of()
    opened(auditor, "anna", 7)
    opened(auditor, "bert", 6)
    assert kinds(auditor) == ["wrong"]


def test_doubtful_requests_are_held_against_nobody() -> None:
    auditor = auditor_of()
    asked, given_up = Login("asked", b"a", ("platform",)), opened(auditor, "bert", 1)
    auditor.asked(asked)
    auditor.closing(given_up, b"c", 2 * NS)
    auditor.given_up(given_up)
    changing = opened(auditor, "carl", 2)
    auditor.changing(changing, "crm", 2 * NS)
    auditor.judge_sessions([listed("asked", 9), listed("carl", 2, "platform", "crm")], 3 * NS)
    auditor.judge_sessions([listed("bert", 1), listed("carl", 2)], 3 * NS)
    assert kinds(auditor) == []
