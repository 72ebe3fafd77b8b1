"""The sync client against a real broker: sessions, threads, notices, what is given back and what is not."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker import client
from broker.client import NoticeKind
from tests.client.support import WAIT_S, Notices
from tests.support.broker_process import RunningBroker, process_environment, running_broker
from tests.support.certificates import TestAuthority
from tests.support.waiting import until


def in_use(broker: RunningBroker, *products: str) -> tuple[int, ...]:
    numbers = broker.products()
    return tuple(numbers[product].in_use for product in products)


# --- a session ----------------------------------------------------------------------------------------------


def test_the_with_block_holds_the_seats_and_gives_them_back(usher: RunningBroker) -> None:
    with client.open(
        usher.clients, user="anna", products=["platform", "crm"], optional=["telephony"]
    ) as session:
        assert [lease.product for lease in session.leases] == ["platform", "crm", "telephony"]
        assert all(lease.state == "active" and lease.is_emulated for lease in session.leases)
        assert session.holds("crm")
        assert session.is_confirmed
        assert not session.lost.is_set()
        assert in_use(usher, "platform", "crm", "telephony") == (1, 1, 1)
        (seen,) = usher.sessions()
        assert seen.public_id == session.public_id
        assert seen.holder.user == "anna"
        assert session.public_id in repr(session)
    assert in_use(usher, "platform", "crm", "telephony") == (0, 0, 0)
    assert not session.lost.is_set()
    assert not session.is_confirmed


def test_without_a_target_it_is_the_broker_of_this_machine(
    usher: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.Client().target == "127.0.0.1:7600"
    monkeypatch.setattr("broker.client.target.DEFAULT_PORT", int(usher.clients.rpartition(":")[2]))
    with client.open(user="anna", products=["platform"]) as session:
        assert session.holds("platform")
        assert in_use(usher, "platform") == (1,)


def test_an_error_inside_the_block_gives_the_seats_back_and_is_raised(usher: RunningBroker) -> None:
    with pytest.raises(ZeroDivisionError), client.open(usher.clients, user="anna", products=["platform"]):
        raise ZeroDivisionError
    assert in_use(usher, "platform") == (0,)


def test_acquire_and_release_inside_a_session(usher: RunningBroker) -> None:
    with client.open(usher.clients, user="anna", products=["platform"]) as session:
        acquired = session.acquire("crm", optional=["telephony", "no-such-product"])
        assert [lease.product for lease in acquired.leases] == ["crm", "telephony"]
        assert [denial.reason for denial in acquired.unavailable] == ["unknown_product"]
        assert in_use(usher, "platform", "crm", "telephony") == (1, 1, 1)
        assert session.release("crm")
        assert not session.release("crm")
        assert [lease.product for lease in session.leases] == ["platform", "telephony"]
        assert session.renew() == session.leases


def test_a_denial_is_raised_with_its_numbers(usher: RunningBroker) -> None:
    with client.Client(usher.clients) as one:
        for index in range(5):
            one.open(user=f"user-{index}", products=["telephony"])
        with pytest.raises(client.Denied) as denied:
            one.open(user="late", products=["platform", "telephony"])
        assert in_use(usher, "platform", "telephony") == (0, 5)
    error = denied.value
    assert (error.reason, error.product, error.capacity, error.in_use) == ("no_free_seats", "telephony", 5, 5)
    assert error.retry_after_s is not None
    assert error.retry_after_s > 0
    assert "telephony" in str(error)
    assert in_use(usher, "telephony") == (0,)


def test_an_optional_product_that_is_full_is_explained(usher: RunningBroker) -> None:
    with client.Client(usher.clients) as one:
        for index in range(5):
            one.open(user=f"user-{index}", products=["telephony"])
        session = one.open(user="late", products=["platform"], optional=["telephony"])
        assert [denial.reason for denial in session.unavailable] == ["no_free_seats"]
        assert not session.holds("telephony")


def test_a_denied_acquire_leaves_the_session_as_it_was(usher: RunningBroker) -> None:
    with client.open(usher.clients, user="anna", products=["platform"]) as session:
        with pytest.raises(client.Denied):
            session.acquire("crm", "no-such-product")
        assert [lease.product for lease in session.leases] == ["platform"]
        assert in_use(usher, "crm") == (0,)


def test_a_broken_field_is_named(usher: RunningBroker) -> None:
    with pytest.raises(client.InvalidRequest) as refused:
        client.open(usher.clients, user="", products=["platform"])
    assert (refused.value.field, refused.value.reason) == ("holder.user", "INVALID_FIELD")


def test_a_wish_to_wait_is_denied_while_brokers_keep_no_waitlist(usher: RunningBroker) -> None:
    with pytest.raises(client.Denied) as denied:
        client.open(usher.clients, user="anna", products=["platform"], wait_limit_s=5)
    assert denied.value.reason == "waiting_unsupported"


# --- the background -----------------------------------------------------------------------------------------


def test_the_background_keeps_a_seat_far_past_its_ttl(usher: RunningBroker) -> None:
    with client.Client(usher.clients) as one:
        kept = one.open(user="kept", products=["platform"], ttl_s=1)
        for round_count in range(
            3
        ):  # each silent session lives for ttl and grace, 1.5 s: so long passes, three times
            silent = one.open(user=f"silent-{round_count}", products=["platform"], ttl_s=1)
            one._renewer.remove(silent._state)
            until(lambda: _open_ids(usher) == {kept.public_id}, "the silent session has expired")
        assert kept.is_confirmed
        assert kept.renew()
        assert not kept.lost.is_set()


def test_three_hundred_sessions_live_on_one_client(usher: RunningBroker) -> None:
    with client.Client(usher.clients) as one:
        sessions = []
        for index in range(300):
            session = one.open(user=f"user-{index}", products=["platform"], ttl_s=2)
            session.release("platform")
            sessions.append(session)
        pause = threading.Event()
        pause.wait(4.0)  # two ttls
        assert one.session_count == 300
        assert len(usher.sessions()) == 300
        assert all(session.is_confirmed for session in sessions)
    assert usher.sessions() == []


def test_a_revoked_session_is_lost_and_says_why(usher: RunningBroker) -> None:
    notices = Notices()
    with client.open(usher.clients, user="anna", products=["platform"], on_notice=notices) as session:
        _revoke(usher, session.public_id)
        assert session.lost.wait(WAIT_S)
        notice = notices.next()
        assert (notice.kind, notice.end_reason) == (NoticeKind.SESSION_LOST, "revoked")
        assert notice.public_id == session.public_id
        assert session.end_reason == "revoked"
        assert session.leases == ()
        with pytest.raises(client.SessionLost) as lost:
            session.acquire("crm")
        assert lost.value.end_reason == "revoked"


def test_the_same_instance_takes_over_and_the_older_session_is_told(usher: RunningBroker) -> None:
    with (
        client.open(usher.clients, user="anna", products=["platform"], instance_id="desk-7") as older,
        client.open(usher.clients, user="anna", products=["platform"], instance_id="desk-7") as newer,
    ):
        assert older.lost.wait(WAIT_S)
        assert older.end_reason == "superseded"
        assert not newer.lost.is_set()
        assert in_use(usher, "platform") == (1,)


def test_a_pulled_key_is_noticed_and_its_return_heals(usher: RunningBroker) -> None:
    notices = Notices()
    with client.open(usher.clients, user="anna", products=["platform", "telephony"]) as session:
        session.on_notice(notices)
        usher.unplug("charlie")
        try:
            notice = notices.next()
            assert notice.kind is NoticeKind.KEY_GRACE
            assert notice.lease is not None
            assert notice.lease.product == "telephony"
            assert notice.lease.key_grace_s is not None
            assert 0 < notice.lease.key_grace_s <= 300
            assert [lease.state for lease in session.leases] == ["active", "key_grace"]
        finally:
            usher.plug("charlie")
        assert notices.next().kind is NoticeKind.HEALED
        assert [lease.state for lease in session.leases] == ["active", "active"]
    usher.await_capacity("telephony", 5)
    usher.await_capacity("crm", 10)


def test_a_lease_whose_key_stays_away_ends_and_can_be_acquired_again(tmp_path: Path) -> None:
    settings = {"keys": {"scan_interval_s": 0.1, "grace_s": 1.0}}
    notices = Notices()
    with (
        running_broker(tmp_path, settings=settings) as broker,
        client.open(
            broker.clients, user="anna", products=["platform", "telephony"], on_notice=notices
        ) as session,
    ):
        broker.unplug("charlie")
        ended = notices.await_kind(NoticeKind.LEASE_ENDED)
        assert ended.lease is not None
        assert (ended.lease.product, ended.end_reason) == ("telephony", "key_lost")
        assert [lease.product for lease in session.leases] == ["platform"]
        with pytest.raises(client.Denied) as denied:
            session.acquire("telephony")
        assert denied.value.reason == "no_capacity"
        broker.plug("charlie")
        broker.await_capacity("telephony", 5)
        session.acquire("telephony")
        assert session.renew() == session.leases
        assert [lease.product for lease in session.leases] == ["platform", "telephony"]
        assert not session.lost.is_set()


# --- callbacks and threads ----------------------------------------------------------------------------------


def test_a_callback_that_blocks_or_fails_delays_no_renewal(usher: RunningBroker) -> None:
    release = threading.Event()
    seen = Notices()

    def clumsy(notice: client.Notice) -> None:
        seen(notice)
        release.wait(WAIT_S)
        raise ValueError("clumsy")

    with client.Client(usher.clients) as one:
        victim = one.open(user="victim", products=["platform"], ttl_s=1, on_notice=clumsy)
        other = one.open(user="other", products=["platform"], ttl_s=1, on_notice=seen)
        _revoke(usher, victim.public_id)
        assert seen.next().public_id == victim.public_id  # the callback hangs now
        threading.Event().wait(2.0)  # longer than ttl and grace
        assert other.is_confirmed
        _revoke(usher, other.public_id)
        assert other.lost.wait(WAIT_S)
        release.set()
        assert seen.next().public_id == other.public_id  # in order, after the failure


def test_a_callback_may_close_the_session(usher: RunningBroker) -> None:
    closed = threading.Event()
    with client.open(usher.clients, user="anna", products=["platform", "telephony"]) as session:

        @session.on_notice
        def leave(_notice: client.Notice) -> None:
            session.close()
            closed.set()

        usher.unplug("charlie")
        try:
            assert closed.wait(WAIT_S)
            assert in_use(usher, "platform") == (0,)
        finally:
            usher.plug("charlie")
    usher.await_capacity("telephony", 5)
    usher.await_capacity("crm", 10)


def test_many_threads_share_one_client(usher: RunningBroker) -> None:
    with client.Client(usher.clients) as one, ThreadPoolExecutor(8) as pool:

        def login(index: int) -> str:
            try:
                with one.open(user=f"user-{index}", products=["platform", "crm"]) as session:
                    session.acquire("telephony")
                    session.release("crm")
                    session.renew()
            except client.Denied as denied:
                return denied.reason
            return "served"

        outcomes = set(pool.map(login, range(200)))
        assert outcomes <= {"served", "no_free_seats"}
        assert "served" in outcomes
        assert one.session_count == 0
    assert in_use(usher, "platform", "crm", "telephony") == (0, 0, 0)


def test_closing_twice_and_using_after_close(usher: RunningBroker) -> None:
    one = client.Client(usher.clients)
    session = one.open(user="anna", products=["platform"])
    session.close()
    session.close()
    with pytest.raises(client.ClientClosed):
        session.renew()
    one.close()
    one.close()
    with pytest.raises(client.ClientClosed):
        one.open(user="anna", products=["platform"])


def test_closing_the_client_closes_its_sessions(usher: RunningBroker) -> None:
    one = client.Client(usher.clients)
    for index in range(5):
        one.open(user=f"user-{index}", products=["platform"])
    assert in_use(usher, "platform") == (5,)
    one.close()
    assert in_use(usher, "platform") == (0,)


def test_no_thread_outlives_its_client(usher: RunningBroker) -> None:
    before = set(threading.enumerate())
    with client.open(usher.clients, user="anna", products=["platform"], on_notice=Notices()):
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert "usher-client-renewals" in names
    until(lambda: not _ours(set(threading.enumerate()) - before), "the client's threads have ended")


def test_a_crash_gives_nothing_back_and_the_ttl_does(usher: RunningBroker) -> None:
    script = (
        "import os, sys; from broker import client\n"
        "session = client.open(sys.argv[1], user='anna', products=['platform'], ttl_s=1)\n"
        "print(session.public_id, flush=True); sys.stdin.readline(); os._exit(9)"
    )
    with _python(script, usher.clients) as app:
        public_id = app.stdout.readline().strip()
        assert [session.public_id for session in usher.sessions()] == [public_id]
        app.stdin.write("\n")
        app.stdin.flush()
        assert app.wait(WAIT_S) == 9
    assert in_use(usher, "platform") == (1,)  # nobody said goodbye
    until(lambda: in_use(usher, "platform") == (0,), "the ttl has freed the seat")


def test_a_program_that_forgets_to_close_ends_without_hanging_or_complaint(usher: RunningBroker) -> None:
    script = (
        "import sys; from broker import client\n"
        "session = client.open(sys.argv[1], user='anna', products=['platform'], ttl_s=1, on_notice=print)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, usher.clients],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(lambda: usher.sessions() == [], "the ttl has ended the session")


# --- TLS ----------------------------------------------------------------------------------------------------


def test_mutual_tls_by_files_and_by_bytes(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "certificates")
    ours = authority.client("crm-web.example")
    settings = {"clients": {"tls": authority.server_tls(is_mutual=True)}}
    by_file = client.Tls(ca=authority.ca, certificate=str(ours.certificate), private_key=ours.private_key)
    by_bytes = client.Tls(
        ca=authority.ca.read_bytes(),
        certificate=ours.certificate.read_bytes(),
        private_key=ours.private_key.read_bytes(),
    )
    quick = client.RetryPolicy(attempt_s=2, total_s=1)
    with running_broker(tmp_path, settings=settings) as broker:
        for tls in (by_file, by_bytes):
            with client.open(broker.clients, tls=tls, user="anna", products=["platform"]):
                (session,) = broker.sessions()
                assert session.identity == "crm-web.example"
        for tls in (None, client.Tls(ca=authority.ca)):
            with pytest.raises(client.Unreachable):
                client.open(broker.clients, tls=tls, user="anna", products=["platform"], retry=quick)


def _open_ids(broker: RunningBroker) -> set[str]:
    return {session.public_id for session in broker.sessions()}


def _revoke(broker: RunningBroker, public_id: str) -> None:
    from broker.v1 import admin_pb2

    request = admin_pb2.RevokeSessionRequest(public_id=public_id, reason="test")
    broker.admin_stub().RevokeSession(request, metadata=broker.admin_metadata, timeout=10)


def _ours(threads: set[threading.Thread]) -> set[threading.Thread]:
    return {thread for thread in threads if thread.name.startswith("usher-client") and thread.is_alive()}


def _python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=process_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
