"""KeepAlive: many sessions on one stream, and the notices that come down it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.contract.conftest import Implementation
from tests.contract.generated import Api
from tests.contract.harness import NOWHERE_ID, Door, KeepAlive, Security, refused
from tests.support.broker_process import running_broker
from tests.support.data_planes import DATA_PLANES


def test_renewals_are_answered_in_their_order(door: Door) -> None:
    grants = door.fill("platform", 10)
    ids = [grant.session_id for grant in reversed(grants)]
    with KeepAlive(door) as stream:
        results = stream.renew(*ids)
    assert [result.session_id for result in results] == ids
    assert {result.WhichOneof("result") for result in results} == {"renewed"}
    assert {result.renewed.ttl.seconds for result in results} == {60}


def test_one_message_may_carry_256_renewals(door: Door) -> None:
    ids = [grant.session_id for grant in door.fill("platform", 15)]
    many = [ids[index % 15] for index in range(256)]
    with KeepAlive(door) as stream:
        assert [result.session_id for result in stream.renew(*many)] == many


def test_257_renewals_in_one_message_are_refused(door: Door) -> None:
    grant = door.grant()
    with KeepAlive(door) as stream, refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        stream.renew(*[grant.session_id] * 257)
    door.renew(grant.session_id)


def test_a_thousand_sessions_live_on_one_stream(door: Door) -> None:
    user = {"user": "anna", "host": "desk-1"}
    grants = [door.grant(["desk"], **user), door.grant(["desk"], **user)]
    for _ in range(
        100
    ):  # ten at a time: there are fifteen seats, and what counts here is the number of sessions
        some = door.fill("platform", 10) if len(grants) < 1000 else []
        for grant in some:
            door.release(grant.session_id, "platform")
        grants += some
    del grants[1000:]
    ids = [grant.session_id for grant in grants]
    with KeepAlive(door) as stream:
        for start in range(0, 1000, 250):
            stream.send(*ids[start : start + 250])
        results = stream.results(1000)
        assert [result.session_id for result in results] == ids
        assert {result.WhichOneof("result") for result in results} == {"renewed"}
        door.revoke(grants[777].public_id)
        assert stream.notice().session_id == ids[777]


def test_a_session_that_is_gone_is_answered_beside_those_that_live(door: Door) -> None:
    live, gone = door.fill("platform", 2)
    door.close(gone.session_id)
    with KeepAlive(door) as stream:
        one, two, three = stream.renew(live.session_id, gone.session_id, NOWHERE_ID)
    assert one.WhichOneof("result") == "renewed"
    assert (two.session_id, two.WhichOneof("result")) == (gone.session_id, "ended")
    assert two.ended.public_id == gone.public_id
    assert two.ended.end_reason == door.api.types.END_REASON_CLOSED
    assert (three.session_id, three.WhichOneof("result")) == (NOWHERE_ID, "ended")
    assert three.ended.end_reason == door.api.types.END_REASON_UNSPECIFIED


def test_a_stream_keeps_a_session_alive_past_its_ttl(door: Door) -> None:
    keeper = door.grant(ttl=Duration(seconds=1))
    dying = door.grant(ttl=Duration(seconds=1), user="boris")
    with KeepAlive(door) as stream:
        stream.renew(keeper.session_id, dying.session_id)
        while not stream.notices:  # until the one that is renewed no more has expired
            stream.renew(keeper.session_id)
        assert stream.notice().session_id == dying.session_id
        assert stream.renew(keeper.session_id)[0].WhichOneof("result") == "renewed"


def test_the_end_of_a_stream_ends_no_session(door: Door) -> None:
    grant = door.grant()
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
    door.renew(grant.session_id)
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        assert stream.finish() == []  # half-closed: the broker ends its side, with OK
    door.renew(grant.session_id)
    assert door.in_use("platform") == (1,)


def test_a_lost_connection_ends_no_session(door: Door) -> None:
    grant = door.grant()
    channel = door.channel()
    with KeepAlive(door, door.api.sessions_grpc.SessionsStub(channel)) as stream:
        stream.renew(grant.session_id)
        channel.close()
    door.renew(grant.session_id)


def test_a_revoked_session_is_told_at_once(door: Door) -> None:
    grant = door.grant()
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        door.revoke(grant.public_id)
        notice = stream.notice()
    assert notice.session_id == grant.session_id
    assert notice.session_ended.public_id == grant.public_id
    assert notice.session_ended.end_reason == door.api.types.END_REASON_REVOKED


def test_a_session_closed_over_another_call_is_told_on_the_stream(door: Door) -> None:
    grant = door.grant()
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        door.close(grant.session_id)
        assert stream.notice().session_ended.end_reason == door.api.types.END_REASON_CLOSED


def test_a_forgotten_session_sends_no_more_notices(door: Door) -> None:
    forgotten, watched = door.fill("platform", 2)
    with KeepAlive(door) as stream:
        stream.renew(forgotten.session_id, watched.session_id)
        stream.renew(watched.session_id, forget=[forgotten.session_id])
        door.revoke(forgotten.public_id)
        door.revoke(watched.public_id)
        assert stream.notice().session_id == watched.session_id


def test_two_streams_both_hear_about_a_session(door: Door) -> None:
    grant = door.grant()
    with KeepAlive(door) as one, KeepAlive(door) as two:
        one.renew(grant.session_id)
        two.renew(grant.session_id)
        door.revoke(grant.public_id)
        assert one.notice() == two.notice()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_session_id_of_a_wrong_size_ends_the_stream(door: Door, size: int) -> None:
    with KeepAlive(door) as stream, refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        stream.renew(bytes(size))


# --- keys pulled and plugged --------------------------------------------------------------------------------


def test_a_pulled_key_puts_leases_in_grace_and_its_return_heals_them(with_all_keys: Door) -> None:
    door = with_all_keys
    types = door.api.types
    grant = door.grant(["platform", "telephony"])
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        door.broker.unplug("charlie")
        notice = stream.notice()
        assert notice.session_id == grant.session_id
        (lease,) = notice.leases_changed.leases
        assert (lease.product, lease.state) == ("telephony", types.LEASE_STATE_KEY_GRACE)
        assert 0 < lease.key_grace.seconds <= 300
        assert door.numbers("telephony").deficit == 1
        (renewed,) = stream.renew(grant.session_id)
        assert [one.state for one in renewed.renewed.changed] == [types.LEASE_STATE_KEY_GRACE]
        door.broker.plug("charlie")
        (healed,) = stream.notice().leases_changed.leases
        assert (healed.product, healed.state) == ("telephony", types.LEASE_STATE_ACTIVE)
    assert not door.renew(grant.session_id).changed
    assert door.numbers("telephony").deficit == 0


def test_nobody_new_is_let_in_while_a_pulled_key_leaves_a_deficit(with_all_keys: Door) -> None:
    door = with_all_keys
    door.fill("platform", 12)
    door.broker.unplug("bravo")  # 5 of 15 are left
    door.broker.await_capacity("platform", 5)
    denial = door.denial(["platform"], user="late")
    assert denial.reason == door.api.types.DENIAL_REASON_DEFICIT
    assert (denial.capacity, denial.in_use, denial.deficit) == (5, 12, 7)
    door.broker.plug("bravo")
    door.broker.await_capacity("platform", 15)
    door.grant(["platform"], user="late")


def test_a_pulled_key_whose_seats_are_free_bothers_nobody(with_all_keys: Door) -> None:
    door = with_all_keys
    grant = door.grant(["platform"])
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        door.broker.unplug("alpha")
        door.broker.await_capacity("platform", 10)
        (renewed,) = stream.renew(grant.session_id)
        assert not renewed.renewed.changed
        assert not stream.notices
    assert door.numbers("platform").deficit == 0


def test_the_newest_seats_are_in_grace_first(with_all_keys: Door) -> None:
    door = with_all_keys
    grants = door.fill("platform", 12)
    door.broker.unplug("bravo")
    door.broker.await_capacity("platform", 5)
    with KeepAlive(door) as stream:
        waiting = {grant.session_id for grant in grants[5:]}
        results = stream.renew(*[grant.session_id for grant in grants])
        in_grace = {result.session_id for result in results if result.renewed.changed}
        while in_grace != waiting:  # grace settles step by step; the rest comes as notices
            assert in_grace < waiting
            in_grace.add(stream.notice().session_id)


@pytest.fixture(params=DATA_PLANES)
def short_grace(request: pytest.FixtureRequest, api: Api, tmp_path: Path) -> Iterator[Door]:
    """A broker whose keys may be missed for one second only."""
    settings = Implementation(request.param, "plaintext").settings(None) | {  # type: ignore[arg-type]
        "keys": {"scan_interval_s": 0.1, "grace_s": 1.0}
    }
    with running_broker(tmp_path, settings=settings) as broker:
        yield Door(api, broker, Security())


def test_after_key_grace_the_lease_ends_and_the_session_lives_on(short_grace: Door) -> None:
    door = short_grace
    types = door.api.types
    grant = door.grant(["platform", "telephony"])
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        door.broker.unplug("charlie")
        states = []
        while types.LEASE_STATE_ENDED not in states:
            (lease,) = stream.notice().leases_changed.leases
            states.append(lease.state)
        assert (lease.product, lease.end_reason) == ("telephony", types.END_REASON_KEY_LOST)
        (renewed,) = stream.renew(grant.session_id, change_version=grant.change_version)
    assert renewed.renewed.change_version > grant.change_version
    (ended,) = renewed.renewed.changed
    assert (ended.product, ended.state, ended.end_reason) == (
        "telephony",
        types.LEASE_STATE_ENDED,
        types.END_REASON_KEY_LOST,
    )
    answer = door.renew(grant.session_id, renewed.renewed.change_version)
    assert not answer.changed  # the version was echoed: it is no news any more
    assert door.in_use("platform", "telephony") == (1, 0)
