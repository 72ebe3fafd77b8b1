"""The client when the broker or the way to it fails: retries, reconnects, restarts, silence, overload."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import client
from broker.client import NoticeKind
from broker.v1 import admin_pb2
from tests.client.support import WAIT_S, Cable, Notices, free_port
from tests.support.broker_process import RunningBroker, running_broker
from tests.support.waiting import until

QUICK = client.RetryPolicy(attempt_s=1.0, total_s=20.0, pause_s_min=0.02, pause_s_max=0.1)


def in_use(broker: RunningBroker, product: str) -> int:
    return int(broker.products()[product].in_use)


@contextmanager
def broker_at(directory: Path, port: int, durability: str = "strict") -> Iterator[RunningBroker]:
    clients = {"address": f"127.0.0.1:{port}"}
    settings = {"clients": clients, "sessions": {"renew_grace_s": 0.5}, "journal": {"durability": durability}}
    with running_broker(directory, settings=settings) as broker:
        yield broker


def test_nobody_there_is_unreachable_within_the_bound_and_says_so() -> None:
    policy = client.RetryPolicy(attempt_s=1.0, total_s=0.5, pause_s_max=0.05)
    with pytest.raises(client.Unreachable) as unreachable:
        client.open(f"127.0.0.1:{free_port()}", user="anna", products=["platform"], retry=policy)
    assert unreachable.value.attempt_count > 1
    assert "127.0.0.1" in str(unreachable.value)


def test_an_open_waits_for_a_broker_that_is_just_starting(tmp_path: Path) -> None:
    port = free_port()
    patient = client.RetryPolicy(attempt_s=2.0, total_s=40.0, pause_s_max=0.2)
    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(
            client.open, f"127.0.0.1:{port}", user="anna", products=["no-such-product"], retry=patient
        )
        with broker_at(tmp_path, port), pytest.raises(client.Denied) as denied:
            login.result(WAIT_S)
    assert denied.value.reason == "unknown_product"


def test_a_restarted_broker_is_found_again_and_the_session_goes_on(tmp_path: Path) -> None:
    port = free_port()
    with client.Client(f"127.0.0.1:{port}", retry=QUICK) as one:
        with broker_at(tmp_path, port) as broker:
            session = one.open(user="anna", products=["platform"])
            broker.kill()
        with broker_at(tmp_path, port) as broker:
            until(lambda: _stream_is_up(one), "the stream is up again")
            assert session.renew()
            assert not session.lost.is_set()
            assert in_use(broker, "platform") == 1


def test_a_restarted_broker_that_keeps_nothing_is_found_again_and_the_loss_is_clear(tmp_path: Path) -> None:
    """durability = "none": a killed broker forgets its sessions; the client must say so, not pretend."""
    port = free_port()
    notices = Notices()
    with client.Client(f"127.0.0.1:{port}", retry=QUICK) as one:
        with broker_at(tmp_path, port, "none") as broker:
            session = one.open(user="anna", products=["platform"], on_notice=notices)
            broker.kill()
        assert not session.lost.is_set()
        with broker_at(tmp_path, port, "none") as broker:
            assert session.lost.wait(WAIT_S)
            assert notices.await_kind(NoticeKind.SESSION_LOST).public_id == session.public_id
            with pytest.raises(client.SessionLost):
                session.renew()
            with one.open(user="anna", products=["platform"]) as again:
                assert in_use(broker, "platform") == 1
                assert again.public_id != session.public_id


def test_a_call_to_a_killed_broker_is_unreachable_and_the_session_unconfirmed(tmp_path: Path) -> None:
    port = free_port()
    notices = Notices()
    impatient = client.RetryPolicy(attempt_s=1.0, total_s=0.3, pause_s_min=0.02, pause_s_max=0.1)
    with client.Client(f"127.0.0.1:{port}", retry=impatient) as one:
        with broker_at(tmp_path, port) as broker:
            session = one.open(user="anna", products=["platform"], ttl_s=1, on_notice=notices)
            broker.kill()
        with pytest.raises(client.Unreachable):
            session.acquire("crm")
        assert notices.next().kind is NoticeKind.UNCONFIRMED
        assert not session.is_confirmed
        assert not session.lost.is_set()  # nobody who could know has said so
        assert session.holds("platform")


def test_a_pulled_cable_costs_no_seat_and_no_session(usher: RunningBroker) -> None:
    with Cable(usher.clients) as cable, client.Client(cable.address, retry=QUICK) as one:
        notices = Notices()
        session = one.open(user="anna", products=["platform"], ttl_s=30, on_notice=notices)
        until(lambda: _stream_is_up(one), "the stream is up")
        cable.pull()
        until(lambda: not _stream_is_up(one), "the stream broke")
        cable.plug()
        until(lambda: _stream_is_up(one), "the stream is up again")
        assert session.renew()
        assert in_use(usher, "platform") == 1
        _revoke(usher, session.public_id)  # the new stream speaks for the session as the old one did
        assert session.lost.wait(WAIT_S)
        assert notices.next().kind is NoticeKind.SESSION_LOST


def test_a_cable_out_for_longer_than_the_ttl_loses_the_session_clearly(usher: RunningBroker) -> None:
    with Cable(usher.clients) as cable, client.Client(cable.address, retry=QUICK) as one:
        notices = Notices()
        session = one.open(user="anna", products=["platform"], ttl_s=1, on_notice=notices)
        cable.pull()
        assert notices.next().kind is NoticeKind.UNCONFIRMED
        until(lambda: in_use(usher, "platform") == 0, "the broker has freed the seat")
        cable.plug()
        assert session.lost.wait(WAIT_S)
        lost = notices.next()
        assert (lost.kind, lost.end_reason) == (NoticeKind.SESSION_LOST, "expired")


def test_a_frozen_connection_is_given_up_and_made_anew(usher: RunningBroker) -> None:
    """No reset ever comes, as behind a firewall that forgot the connection: only a missing answer shows it."""
    with Cable(usher.clients) as cable, client.Client(cable.address, retry=QUICK) as one:
        notices = Notices()
        session = one.open(user="anna", products=["platform"], ttl_s=3, on_notice=notices)
        until(lambda: _stream_is_up(one), "the stream is up")
        cable.freeze()
        assert notices.next().kind is NoticeKind.UNCONFIRMED
        cable.thaw()
        until(lambda: session.lost.is_set() or session.is_confirmed, "the broker's word, either way")


def test_every_lost_answer_is_asked_for_anew_and_takes_one_seat(usher: RunningBroker) -> None:
    with Cable(usher.clients) as cable, client.Client(cable.address, retry=QUICK) as one:
        sessions = []
        for index in range(12):
            cable.cut_next_answer()
            sessions.append(one.open(user=f"user-{index}", products=["platform"], ttl_s=30))
        cable.cut_next_answer()
        assert sessions[0].release("platform")
        assert cable.connection_count >= 13
        assert len({session.public_id for session in sessions}) == 12
        assert in_use(usher, "platform") == 11
        assert not any(session.lost.is_set() for session in sessions)


def test_closing_without_a_broker_ends_quietly_and_soon(tmp_path: Path) -> None:
    port = free_port()
    impatient = client.RetryPolicy(attempt_s=1.0, total_s=0.3, pause_s_max=0.1)
    with broker_at(tmp_path, port) as broker:
        target = f"127.0.0.1:{port}"
        with client.open(target, user="anna", products=["platform"], retry=impatient) as session:
            broker.kill()
    assert not session.is_confirmed
    with pytest.raises(client.ClientClosed):
        session.renew()


def test_an_explicit_close_says_when_the_broker_could_not_be_told(tmp_path: Path) -> None:
    port = free_port()
    impatient = client.RetryPolicy(attempt_s=1.0, total_s=0.3, pause_s_max=0.1)
    with broker_at(tmp_path, port) as broker:
        session = client.open(f"127.0.0.1:{port}", user="anna", products=["platform"], retry=impatient)
        broker.kill()
    with pytest.raises(client.Unreachable):
        session.close()
    session.close()


def test_a_draining_broker_lets_nobody_in_and_keeps_who_is_there(usher: RunningBroker) -> None:
    impatient = client.RetryPolicy(attempt_s=1.0, total_s=0.3, pause_s_max=0.05)
    with client.Client(usher.clients, retry=impatient) as one:
        session = one.open(user="anna", products=["platform"])
        _drain(usher, True)
        try:
            with pytest.raises(client.Unreachable) as refused:
                one.open(user="late", products=["platform"])
            assert refused.value.reason == "DRAINING"
            assert session.renew()
        finally:
            _drain(usher, False)
        one.open(user="late", products=["platform"])


def test_a_full_broker_is_overloaded_not_out_of_seats(tmp_path: Path) -> None:
    settings = {"bounds": {"sessions_max": 2}}
    with running_broker(tmp_path, settings=settings) as broker, client.Client(broker.clients) as one:
        for index in range(2):
            one.open(user=f"user-{index}", products=["platform"])
        with pytest.raises(client.Overloaded) as overloaded:
            one.open(user="late", products=["platform"])
        assert overloaded.value.bound == "sessions"
        assert in_use(broker, "platform") == 2


def _stream_is_up(one: client.Client) -> bool:
    """A stream runs and nothing on it waits for its answer."""
    renewer = one._renewer
    with renewer.condition:
        return not renewer._stream.is_over and not renewer._keeper._sent and bool(renewer._keeper._due)


def _revoke(broker: RunningBroker, public_id: str) -> None:
    request = admin_pb2.RevokeSessionRequest(public_id=public_id, reason="test")
    broker.admin_stub().RevokeSession(request, metadata=broker.admin_metadata, timeout=10)


def _drain(broker: RunningBroker, is_draining: bool) -> None:
    request = admin_pb2.DrainRequest(draining=is_draining)
    broker.admin_stub().Drain(request, metadata=broker.admin_metadata, timeout=10)
