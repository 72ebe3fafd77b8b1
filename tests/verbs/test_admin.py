"""The admin verbs: what there is, page by page, and stepping in."""

from __future__ import annotations

import dataclasses

import pytest

from broker.keyring import KeyState, KeyView, LicenceState, LicenceView
from broker.model.durability import SnapshotView
from broker.model.terms import PoolTerms
from broker.model.words import LicenceModel, Sharing
from broker.v1 import admin_pb2, sessions_pb2, types_pb2
from broker.verbs.errors import VerbError
from broker.verbs.seams import ReloadError
from tests.metrics.readings import JOURNALED
from tests.verbs.world import WALL_NS, S, StubFleet, StuckPump, World, fresh_id, open_until_refused

HWKEY = KeyView(
    thumbprint="abc",
    state=KeyState.SUSPECT,
    code="no_answer",
    sentence="it did not answer",
    description="YubiKey 5 no 7",
    address="1-2",
    is_emulated=True,
    seats={"platform": 5},
    last_proof_age_ns=3 * S,
    proof_latency_ns=20_000_000,
    proof_count=4,
    proof_failure_count=1,
    grace_left_ns=300 * S,
)
LICENCE = LicenceView(
    licence_id="L-1",
    vendor="Acme",
    product="platform",
    seats=5,
    state=LicenceState.COUNTING,
    code="",
    sentence="",
    thumbprint="abc",
    file="platform.jwt",
    not_before_unix_s=1_700_000_000,
    expires_unix_s=None,
    is_test=True,
    terms="concurrent, per session",
    customer="",
)


def list_all(world: World, **fields: object) -> list[admin_pb2.Session]:
    found: list[admin_pb2.Session] = []
    token = ""
    while True:
        page = world.admin.list_sessions(admin_pb2.ListSessionsRequest(page_token=token, **fields))  # type: ignore[arg-type]
        found.extend(page.sessions)
        token = page.next_page_token
        if not token:
            return found


def test_the_broker_says_what_it_is() -> None:
    world = World(seats={"platform": 1})
    world.grant("platform")
    world.drain.set(True)
    answer = world.admin.get_broker(admin_pb2.GetBrokerRequest())
    assert (answer.version, answer.broker_id, answer.generation) == ("0.1.0", "07" * 8, 3)
    assert answer.start_time.ToNanoseconds() == WALL_NS
    assert (answer.session_count, answer.draining, answer.emulation) == (1, True, False)
    assert (answer.data_plane, answer.durability) == ("grpcio", "none")
    assert (answer.ttl.seconds, answer.renew_grace.seconds) == (60, 10)


def test_broker_that_keeps_nothing_has_no_journal_to_show() -> None:
    assert not World().admin.get_broker(admin_pb2.GetBrokerRequest()).HasField("journal")


def test_journal_is_shown_with_what_came_back_and_what_stands_in_the_way() -> None:
    world = World()
    world.durability = JOURNALED
    shown = world.admin.get_broker(admin_pb2.GetBrokerRequest()).journal
    assert (shown.status, shown.recovered_sessions, shown.last_run_clean) == ("learning", 3, False)
    assert (shown.recovery_time.nanos, list(shown.warnings)) == (250_000_000, ["a torn tail was cut"])
    assert (shown.log_size, shown.log_size_max, shown.position, shown.snapshot_behind_size) == (2 << 24, 1 << 32, 70_000, 512)
    assert shown.snapshot_time.ToNanoseconds() == 1_790_000_100 * S
    world.durability = dataclasses.replace(JOURNALED, is_writable=False, counters=None, snapshot=SnapshotView())
    shown = world.admin.get_broker(admin_pb2.GetBrokerRequest()).journal
    assert (shown.status, shown.log_size, shown.HasField("snapshot_time")) == ("renew_only", 0, False)


def test_wall_clock_that_stepped_back_is_shown_with_the_broker() -> None:
    world = World()
    assert not world.admin.get_broker(admin_pb2.GetBrokerRequest()).clock_suspect
    world.keyring.shown = dataclasses.replace(world.keyring.shown, is_clock_suspect=True)
    assert world.admin.get_broker(admin_pb2.GetBrokerRequest()).clock_suspect


def test_products_are_summed_over_their_pools() -> None:
    world = World()
    world.add_seats(0, "platform", 5, PoolTerms(model=LicenceModel.CONCURRENT, sharing=Sharing.USER))
    world.add_seats(1, "platform", 2, PoolTerms(model=LicenceModel.SITE), is_emulated=True)
    world.add_seats(2, "crm", 1)
    for number in range(6):
        world.grant("platform", user=f"user-{number}")
    world.grant("crm")
    world.open("crm")
    crm, platform = world.admin.list_products(admin_pb2.ListProductsRequest()).products
    assert (crm.product, crm.capacity, crm.in_use, crm.free, crm.denial_count) == ("crm", 1, 1, 0, 1)
    assert (platform.capacity, platform.in_use, platform.free, platform.lease_count) == (7, 6, 1, 6)
    assert [(pool.capacity, pool.in_use, pool.emulated) for pool in platform.pools] == [(5, 5, False), (2, 1, True)]
    assert platform.pools[0].terms == "concurrent, per user"
    assert not platform.emulated


def test_a_product_whose_seats_are_all_emulated_says_so() -> None:
    world = World()
    world.add_seats(0, "platform", 5, is_emulated=True)
    assert world.admin.list_products(admin_pb2.ListProductsRequest()).products[0].emulated


def test_a_lost_key_shows_as_deficit_and_grace() -> None:
    world = World(seats={"platform": 2})
    world.grant("platform")
    world.lose(0)
    (product,) = world.admin.list_products(admin_pb2.ListProductsRequest()).products
    assert (product.capacity, product.in_use, product.free, product.deficit) == (0, 1, 0, 1)
    assert (product.pools[0].grace_seats, product.pools[0].key_grace_count) == (2, 1)


def test_keys_are_shown_with_state_reason_and_numbers() -> None:
    world = World()
    world.keyring.shown = dataclasses.replace(world.keyring.shown, keys=(HWKEY,))
    (shown,) = world.admin.list_keys(admin_pb2.ListKeysRequest()).keys
    assert (shown.thumbprint, shown.state, shown.reason) == ("abc", admin_pb2.KEY_STATE_SUSPECT, "it did not answer")
    assert (dict(shown.seats), shown.last_proof_age.seconds, shown.proof_latency.nanos) == ({"platform": 5}, 3, 20_000_000)
    assert (shown.proof_count, shown.proof_failure_count, shown.grace_left.seconds) == (4, 1, 300)


def test_a_key_never_proven_has_no_age_of_its_proof() -> None:
    world = World()
    unproven = dataclasses.replace(HWKEY, last_proof_age_ns=None, proof_latency_ns=None)
    world.keyring.shown = dataclasses.replace(world.keyring.shown, keys=(unproven,))
    (shown,) = world.admin.list_keys(admin_pb2.ListKeysRequest()).keys
    assert not shown.HasField("last_proof_age")
    assert not shown.HasField("proof_latency")


@pytest.mark.parametrize("state", list(KeyState))
def test_every_state_of_a_key_has_its_word_in_the_api(state: KeyState) -> None:
    world = World()
    world.keyring.shown = dataclasses.replace(world.keyring.shown, keys=(dataclasses.replace(HWKEY, state=state),))
    (shown,) = world.admin.list_keys(admin_pb2.ListKeysRequest()).keys
    assert admin_pb2.KeyState.Name(shown.state) == f"KEY_STATE_{state.name}"


@pytest.mark.parametrize("state", list(LicenceState))
def test_every_state_of_a_licence_can_be_shown(state: LicenceState) -> None:
    world = World()
    licence = dataclasses.replace(LICENCE, state=state, expires_unix_s=1_900_000_000)
    world.keyring.shown = dataclasses.replace(world.keyring.shown, licences=(licence,))
    (shown,) = world.admin.list_licences(admin_pb2.ListLicencesRequest()).licences
    assert shown.state != admin_pb2.LICENCE_STATE_UNSPECIFIED
    assert (shown.licence_id, shown.source, shown.expiry.seconds) == ("L-1", "platform.jwt", 1_900_000_000)


def test_a_perpetual_licence_has_no_expiry() -> None:
    world = World()
    world.keyring.shown = dataclasses.replace(world.keyring.shown, licences=(LICENCE,))
    (shown,) = world.admin.list_licences(admin_pb2.ListLicencesRequest()).licences
    assert not shown.HasField("expiry")
    assert shown.not_before.seconds == 1_700_000_000


def test_sessions_come_page_by_page_each_exactly_once() -> None:
    world = World(seats={"platform": 700})
    public_ids = {world.grant("platform").public_id for _ in range(650)}
    listed = [session.public_id for session in list_all(world)]
    assert len(listed) == 650
    assert set(listed) == public_ids
    first = world.admin.list_sessions(admin_pb2.ListSessionsRequest())
    assert len(first.sessions) == 100
    assert len(world.admin.list_sessions(admin_pb2.ListSessionsRequest(page_size=1000)).sessions) == 256
    assert len(world.admin.list_sessions(admin_pb2.ListSessionsRequest(page_size=3)).sessions) == 3


def test_a_session_is_shown_with_holder_leases_and_times_but_without_its_secret() -> None:
    world = World(seats={"platform": 1, "crm": 1})
    grant = world.grant("platform", "crm", label="sales", instance_id="desk", identity="cert-name")
    world.clock.advance_s(10)
    (session,) = list_all(world)
    assert (session.holder.user, session.holder.host, session.holder.app, session.holder.label) == ("ann", "desk-1", "crm/1", "sales")
    assert (session.instance_id, session.identity, session.age.seconds, session.ends_in.seconds) == ("desk", "cert-name", 10, 60)
    assert [lease.product for lease in session.leases] == ["platform", "crm"]
    assert grant.session_id not in session.SerializeToString()


def test_sessions_are_filtered_by_user_and_by_product() -> None:
    world = World(seats={"platform": 600, "crm": 600})
    for number in range(300):
        world.grant("platform", user=f"user-{number % 3}")
        world.grant("crm", user=f"user-{number % 3}")
    assert len(list_all(world, user="user-1")) == 200
    assert len(list_all(world, product="crm")) == 300
    assert len(list_all(world, user="user-1", product="crm", page_size=7)) == 100
    assert list_all(world, user="nobody") == []


def test_a_lease_that_ended_is_not_among_what_a_session_holds() -> None:
    world = World(seats={"platform": 1, "crm": 1})
    world.grant("platform", "crm")
    world.lose(1, grace_s=0)
    assert [lease.product for lease in list_all(world)[0].leases] == ["platform"]
    assert list_all(world, product="crm") == []


@pytest.mark.parametrize(
    ("field", "fields"),
    [("page_token", {"page_token": "x"}), ("page_token", {"page_token": "9" * 18}), ("page_token", {"page_token": "-1"}), ("page_token", {"page_token": "٣"}), ("page_size", {"page_size": -1})],
)
def test_a_wrong_page_is_refused_by_name(field: str, fields: dict[str, object]) -> None:
    with pytest.raises(VerbError) as error:
        World().admin.list_sessions(admin_pb2.ListSessionsRequest(**fields))  # type: ignore[arg-type]
    assert (error.value.status, error.value.metadata) == ("INVALID_ARGUMENT", {"field": field})


def test_a_page_token_far_behind_the_end_is_the_end() -> None:
    world = World(seats={"platform": 1})
    world.grant("platform")
    page = world.admin.list_sessions(admin_pb2.ListSessionsRequest(page_token="60000000"))
    assert (list(page.sessions), page.next_page_token) == ([], "")


def test_the_waitlist_is_empty() -> None:
    assert list(World().admin.list_waiters(admin_pb2.ListWaitersRequest()).waiters) == []


def test_a_revoked_session_is_over_and_a_retry_finds_none() -> None:
    world = World(seats={"platform": 1})
    grant = world.grant("platform")
    request = admin_pb2.RevokeSessionRequest(public_id=grant.public_id, reason="went home")
    world.admin.revoke_session(request)
    with pytest.raises(VerbError) as renewal:
        world.verbs.renew(sessions_pb2.RenewRequest(session_id=grant.session_id))
    assert "ended by an admin" in renewal.value.message
    with pytest.raises(VerbError) as again:
        world.admin.revoke_session(request)
    assert (again.value.status, again.value.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert again.value.message == "Session 3.1 was ended by an admin."


@pytest.mark.parametrize(
    ("field", "request_message"),
    [
        ("public_id", admin_pb2.RevokeSessionRequest(public_id="abc")),
        ("public_id", admin_pb2.RevokeSessionRequest()),
        ("reason", admin_pb2.RevokeSessionRequest(public_id="3.1", reason="r" * 257)),
    ],
)
def test_a_revocation_that_names_no_session_is_invalid(field: str, request_message: admin_pb2.RevokeSessionRequest) -> None:
    with pytest.raises(VerbError) as error:
        World().admin.revoke_session(request_message)
    assert error.value.metadata == {"field": field}


def test_a_revocation_that_finds_no_room_for_its_events_says_so() -> None:
    world = World(seats={"platform": 2000}, pump_type=StuckPump, event_ring_size=128 * 1024)
    grants, _ = open_until_refused(world, "platform")

    def revoke(grant: types_pb2.Grant) -> None:
        world.admin.revoke_session(admin_pb2.RevokeSessionRequest(public_id=grant.public_id))

    def revoke_all() -> None:  # an end needs less room than an Open, so a few may still pass
        for grant in grants:
            revoke(grant)

    with pytest.raises(VerbError) as error:
        revoke_all()
    assert (error.value.status, error.value.reason) == ("UNAVAILABLE", "EVENTS_FULL")
    StuckPump.let_go(world.pump)
    world.settle()
    revoke(grants[-1])


def test_draining_starts_and_stops_and_says_who_is_left() -> None:
    world = World(seats={"platform": 2})
    world.grant("platform")
    assert world.admin.drain(admin_pb2.DrainRequest(draining=True)).session_count == 1
    assert world.drain.is_draining
    world.admin.drain(admin_pb2.DrainRequest(draining=True))
    world.admin.drain(admin_pb2.DrainRequest(draining=False))
    world.grant("platform")


def test_a_reload_says_what_changed() -> None:
    world = World()
    world.reload_lines = ["licence L-1 counts now"]
    assert list(world.admin.reload(admin_pb2.ReloadRequest()).changes) == ["licence L-1 counts now"]


def test_a_reload_that_fails_says_why_and_a_dry_run_is_not_served() -> None:
    world = World()
    world.reload_error = ReloadError("trust.json: not JSON")
    with pytest.raises(VerbError) as error:
        world.admin.reload(admin_pb2.ReloadRequest())
    assert (error.value.reason, error.value.message) == ("RELOAD_FAILED", "trust.json: not JSON")
    with pytest.raises(VerbError) as dry:
        world.admin.reload(admin_pb2.ReloadRequest(dry_run=True))
    assert (dry.value.status, dry.value.reason) == ("UNIMPLEMENTED", "NOT_SERVED_HERE")


def test_a_key_is_disabled_and_enabled_and_an_unknown_one_is_not_found() -> None:
    world = World()
    world.admin.set_key_enabled(admin_pb2.SetKeyEnabledRequest(thumbprint="known", enabled=False))
    assert world.keyring.enabled == {"known": False}
    with pytest.raises(VerbError) as error:
        world.admin.set_key_enabled(admin_pb2.SetKeyEnabledRequest(thumbprint="unknown"))
    assert (error.value.status, error.value.reason) == ("NOT_FOUND", "KEY_NOT_FOUND")


def test_the_emulated_fleet_is_listed_plugged_and_unplugged() -> None:
    fleet = StubFleet()
    world = World(fleet=fleet)
    (listed,) = world.admin.list_emulated_keys(admin_pb2.ListEmulatedKeysRequest()).keys
    assert (listed.name, listed.profile, listed.plugged, listed.thumbprint) == ("alpha", "yubikey5", True, "thumb")
    answer = world.admin.set_emulated_key_plugged(admin_pb2.SetEmulatedKeyPluggedRequest(name="alpha"))
    assert not answer.key.plugged
    assert not fleet.alpha.is_plugged
    with pytest.raises(VerbError) as error:
        world.admin.set_emulated_key_plugged(admin_pb2.SetEmulatedKeyPluggedRequest(name="zulu"))
    assert error.value.reason == "EMULATED_KEY_NOT_FOUND"


def test_without_emulation_and_history_these_calls_are_not_served() -> None:
    admin = World().admin
    calls = (
        lambda: admin.list_emulated_keys(admin_pb2.ListEmulatedKeysRequest()),
        lambda: admin.set_emulated_key_plugged(admin_pb2.SetEmulatedKeyPluggedRequest(name="alpha")),
        lambda: admin.get_usage_report(admin_pb2.GetUsageReportRequest()),
        lambda: admin.explain_denial(admin_pb2.ExplainDenialRequest()),
    )
    for call in calls:
        with pytest.raises(VerbError) as error:
            call()
        assert (error.value.status, error.value.reason) == ("UNIMPLEMENTED", "NOT_SERVED_HERE")


def test_events_are_shown_with_names_words_and_reasons() -> None:
    world = World(seats={"platform": 1})
    watch = world.admin.watch_events(admin_pb2.WatchEventsRequest())
    grant = world.grant("platform")
    world.open("platform")
    world.open("nonsense")
    world.verbs.close(sessions_pb2.CloseRequest(session_id=grant.session_id, request_id=fresh_id()))
    world.pump.pump()
    block = watch.ready()
    assert block is not None
    events = world.admin.event_response(block).events
    assert [admin_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_") for event in events] == [
        "SESSION_OPENED",
        "LEASE_STARTED",
        "DENIED",
        "DENIED",
        "LEASE_ENDED",
        "CHARGE_FREED",
        "SESSION_ENDED",
    ]
    opened, started, denied, unknown, *_, ended = events
    assert (opened.session, opened.message) == ("3.1", "ann on desk-1 opened session 3.1 with crm/1.")
    assert (started.product, started.seats) == ("platform", 1)
    assert (denied.product, denied.denial_reason) == ("platform", 1)
    assert unknown.product == ""
    assert (ended.end_reason, ended.time.ToNanoseconds()) == (1, WALL_NS)


def test_a_negative_sequence_is_refused() -> None:
    with pytest.raises(VerbError) as error:
        World().admin.watch_events(admin_pb2.WatchEventsRequest(after_sequence=-1))
    assert error.value.metadata == {"field": "after_sequence"}
