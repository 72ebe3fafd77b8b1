"""The Collector over a real ledger: each number is the ledger's, and what has not happened yet is a zero."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request

from broker.keyring import KeyState, LicenceState
from broker.model.words import DenialReason, EndReason, Sharing
from broker.verbs.stats import BUCKET_BOUNDS_SECONDS
from broker.web.metrics import WAITING_COUNT_MAX, metrics_endpoint
from tests.metrics.readings import BOUNDS, LICENCE, SECOND_NS, SECURITY_KEY, Bench, lived_in

PLATFORM: dict[str, Any] = {"product": "platform", "pool": "0", "emulated": "false"}

# --- seats -------------------------------------------------------------------------------------------------


def test_seats_of_a_pool_are_what_the_ledger_says():
    bench = Bench()
    bench.pool("platform", 3, 0)
    first, _ = bench.open("ann", "platform"), bench.open("bob", "platform")
    bench.close(first)

    assert bench.value("usher_seats_capacity", **PLATFORM) == 3
    assert bench.value("usher_seats_in_use", **PLATFORM) == 1
    assert bench.value("usher_seats_in_use_peak", **PLATFORM) == 2
    assert bench.value("usher_seats_free", **PLATFORM) == 2
    assert bench.value("usher_seats_deficit", **PLATFORM) == 0
    assert bench.value("usher_charges_taken_total", **PLATFORM) == 2


def test_lost_key_shows_as_deficit_and_grace_seats_and_no_free_seat():
    bench = Bench()
    bench.pool("platform", 3, 0)
    bench.open("ann", "platform")
    bench.open("bob", "platform")
    bench.lose(0)

    assert bench.value("usher_seats_capacity", **PLATFORM) == 0
    assert bench.value("usher_seats_in_use", **PLATFORM) == 2
    assert bench.value("usher_seats_deficit", **PLATFORM) == 2
    assert bench.value("usher_grace_seats", **PLATFORM) == 3
    assert bench.value("usher_seats_free", **PLATFORM) == 0


def test_charges_that_would_end_with_their_key_are_counted_apart():
    bench = Bench()
    bench.pool("platform", 3, 0)
    bench.open("ann", "platform")
    bench.lose(0)
    bench.ledger.advance(bench.now_ns)

    assert bench.value("usher_charges_in_key_grace", **PLATFORM) == 1


def test_leases_over_charges_show_how_many_share_a_seat():
    bench = Bench()
    bench.pool("crm", 3, 0, sharing=Sharing.USER)
    for _ in range(4):
        bench.open("ann", "crm")

    labels = {"product": "crm", "pool": "0", "emulated": "false"}
    assert bench.value("usher_leases", **labels) == 4
    assert bench.value("usher_charges", **labels) == 1


def test_pools_of_one_product_are_told_apart_and_emulated_ones_say_so():
    bench = Bench()
    bench.pool("platform", 3, 0)
    bench.pool("platform", 5, 1, is_emulated=True)

    assert bench.value("usher_seats_capacity", product="platform", pool="0", emulated="false") == 3
    assert bench.value("usher_seats_capacity", product="platform", pool="1", emulated="true") == 5


def test_pool_that_is_starting_says_so_until_it_is_not():
    bench = Bench()
    pool = bench.pool("platform", 3, 0)
    bench.ledger.set_starting(bench.now_ns, pool, True)
    assert bench.value("usher_pool_starting", **PLATFORM) == 1
    bench.ledger.set_starting(bench.now_ns, pool, False)
    assert bench.value("usher_pool_starting", **PLATFORM) == 0


def test_terms_of_a_pool_are_shown_in_words():
    bench = Bench()
    bench.pool("crm", 3, 0, sharing=Sharing.USER)

    labels = {"product": "crm", "pool": "0", "emulated": "false", "terms": "concurrent, per user"}
    assert bench.value("usher_pool_info", **labels) == 1


# --- denials and ends --------------------------------------------------------------------------------------


def test_denials_are_counted_by_product_and_reason():
    bench = Bench()
    bench.pool("platform", 1, 0)
    bench.open("ann", "platform")
    bench.open("bob", "platform")
    bench.open("cid", "platform")
    bench.lose(0)
    bench.open("dan", "platform")

    assert bench.value("usher_denials_total", product="platform", reason="no_free_seats") == 2
    assert bench.value("usher_denials_total", product="platform", reason="deficit") == 1
    assert bench.value("usher_denied_requests_total") == 3


def test_denial_of_an_unknown_product_is_counted_but_makes_no_label_of_it():
    bench = Bench()
    bench.pool("platform", 1, 0)
    bench.open("ann", "whatever-clients-may-say")

    assert bench.value("usher_denied_requests_total") == 1
    assert "whatever-clients-may-say" not in str(bench.series())


def test_request_sent_again_is_a_replay_and_not_a_second_denial():
    bench = Bench()
    bench.pool("platform", 1, 0)
    bench.open("ann", "platform")
    bench.open("bob", "platform", request=77)
    bench.open("bob", "platform", request=77)

    assert bench.value("usher_denials_total", product="platform", reason="no_free_seats") == 1
    assert bench.value("usher_replays_total") == 1


def test_ends_are_counted_by_reason_for_leases_and_for_sessions():
    bench = Bench()
    bench.pool("platform", 5, 0)
    bench.close(bench.open("ann", "platform"))
    bench.open("bob", "platform")
    bench.now_ns += SECOND_NS // 2
    fence = bench.ledger.session_fence(bench.open("cid", "platform"))
    bench.ledger.revoke(bench.now_ns, fence)

    for name, labels in (("usher_lease_ends_total", {"product": "platform"}), ("usher_sessions_ended_total", {})):
        assert bench.value(name, reason="closed", **labels) == 1
        assert bench.value(name, reason="revoked", **labels) == 1
        assert bench.value(name, reason="expired", **labels) == 0
    assert bench.value("usher_sessions") == 1
    assert bench.value("usher_sessions_opened_total") == 3


def test_every_reason_stands_at_zero_before_anything_happened():
    bench = Bench()
    bench.pool("platform", 5, 0)

    # Of a product that is declared, "unknown product" cannot be said.
    for denial in set(DenialReason) - {DenialReason.NONE, DenialReason.UNKNOWN_PRODUCT}:
        assert bench.value("usher_denials_total", product="platform", reason=denial.name.lower()) == 0, denial
    for end in set(EndReason) - {EndReason.NONE}:
        assert bench.value("usher_lease_ends_total", product="platform", reason=end.name.lower()) == 0, end
        assert bench.value("usher_sessions_ended_total", reason=end.name.lower()) == 0, end


def test_renewals_and_requests_for_lost_sessions_are_counted():
    bench = Bench()
    bench.pool("platform", 5, 0)
    session_id = bench.open("ann", "platform")
    bench.ledger.renew(bench.now_ns, session_id)
    bench.ledger.renew(bench.now_ns, session_id)
    bench.ledger.renew(bench.now_ns, bytes(32))

    assert bench.value("usher_renewals_total") == 2
    assert bench.value("usher_sessions_not_found_total") == 1


# --- bounds ------------------------------------------------------------------------------------------------


def test_records_in_use_stand_beside_the_bound_they_may_reach():
    bench = Bench()
    bench.pool("platform", 5, 0)
    bench.open("ann", "platform")

    for kind, used, most in (
        ("sessions", 1, BOUNDS.sessions_max),
        ("leases", 1, BOUNDS.leases_max),
        ("charges", 1, BOUNDS.charges_max),
        ("requests", 1, BOUNDS.requests_max),
        ("denials", 0, BOUNDS.denials_max),
    ):
        assert bench.value("usher_ledger_records", kind=kind) == used, kind
        assert bench.value("usher_ledger_records_limit", kind=kind) == most, kind


def test_events_wait_in_the_backlog_until_they_are_drained():
    bench = Bench()
    bench.pool("platform", 5, 0)
    bench.open("ann", "platform")
    waiting = bench.value("usher_events_backlog_bytes")
    assert waiting is not None
    assert 0 < waiting < BOUNDS.event_ring_size

    assert len(bench.ledger.drain_events()) == waiting
    assert bench.value("usher_events_backlog_bytes") == 0
    assert bench.value("usher_events_backlog_limit_bytes") == BOUNDS.event_ring_size


def test_open_that_finds_the_ledger_full_is_an_overload():
    bench = Bench()
    bench.pool("platform", 1000, 0)
    for number in range(BOUNDS.sessions_max + 1):
        bench.open(f"user-{number}", "platform")

    assert bench.value("usher_sessions") == BOUNDS.sessions_max
    assert bench.value("usher_overloads_total") == 1


# --- keys and licences -------------------------------------------------------------------------------------


def test_every_key_state_is_counted_and_those_without_keys_are_zero():
    bench = Bench(SECURITY_KEY, replace(SECURITY_KEY, thumbprint="other", state=KeyState.SUSPECT), replace(SECURITY_KEY, thumbprint="", state=KeyState.OPENING))
    counts = {state: bench.value("usher_keys", state=state.value) for state in KeyState}
    assert counts == dict.fromkeys(KeyState, 0) | {KeyState.PRESENT: 1, KeyState.SUSPECT: 1, KeyState.OPENING: 1}


@pytest.mark.parametrize("state", list(KeyState))
def test_key_is_present_exactly_while_its_seats_count(state):
    bench = Bench(replace(SECURITY_KEY, state=state))
    name = SECURITY_KEY.thumbprint[:12]
    assert bench.value("usher_key_present", thumbprint=name) == (state in (KeyState.PRESENT, KeyState.SUSPECT))
    for word in KeyState:
        assert bench.value("usher_key_state", thumbprint=name, state=word.value) == (word is state)


def test_key_keeps_its_series_when_it_becomes_known_by_a_description():
    bench = Bench(replace(SECURITY_KEY, state=KeyState.ABSENT, description="", seats={}))
    before = bench.series()["usher_key_present"]
    bench.keyring.shown = replace(bench.keyring.shown, keys=(SECURITY_KEY,))
    assert bench.series()["usher_key_present"] == before


def test_key_shows_its_seats_and_proofs():
    bench = Bench(SECURITY_KEY)
    name = SECURITY_KEY.thumbprint[:12]
    assert bench.value("usher_key_seats", thumbprint=name, product="platform") == 10
    assert bench.value("usher_key_proofs_total", thumbprint=name, outcome="ok") == 9
    assert bench.value("usher_key_proofs_total", thumbprint=name, outcome="failed") == 1
    assert bench.value("usher_key_proof_latency_seconds", thumbprint=name) == 0.04
    assert bench.value("usher_key_last_proof_age_seconds", thumbprint=name) == 12
    assert bench.value("usher_key_grace_left_seconds", thumbprint=name) == 300
    assert bench.value("usher_key_info", thumbprint=name, description="Token 5, serial 1002", emulated="false") == 1


def test_key_that_was_never_proven_has_no_age_and_no_latency_instead_of_a_wrong_one():
    bench = Bench(replace(SECURITY_KEY, last_proof_age_ns=None, proof_latency_ns=None))
    assert "usher_key_last_proof_age_seconds" not in bench.series()
    assert "usher_key_proof_latency_seconds" not in bench.series()


def test_two_views_of_one_identity_are_one_sample_with_the_worse_state():
    clone = replace(SECURITY_KEY, state=KeyState.QUARANTINED, proof_count=2)
    for keys in ((SECURITY_KEY, clone), (clone, SECURITY_KEY)):
        bench = Bench(*keys)
        assert bench.value("usher_key_present", thumbprint=SECURITY_KEY.thumbprint[:12]) == 0
        assert bench.value("usher_key_proofs_total", thumbprint=SECURITY_KEY.thumbprint[:12], outcome="ok") == 11


def test_licences_are_counted_by_state_and_only_those_with_an_end_have_an_expiry():
    perpetual = replace(LICENCE, licence_id="acme-18", expires_unix_s=None, state=LicenceState.KEY_ABSENT)
    bench = Bench(licences=(LICENCE, perpetual))

    assert bench.value("usher_licences", state="counting") == 1
    assert bench.value("usher_licences", state="key_absent") == 1
    assert bench.value("usher_licences", state="expired") == 0
    assert bench.value("usher_licence_expiry_timestamp_seconds", licence="acme-17", product="platform") == 1_900_000_000
    assert bench.value("usher_licence_expiry_timestamp_seconds", licence="acme-18", product="platform") is None
    assert bench.value("usher_licence_seats", licence="acme-18", product="platform") == 10


def test_refused_document_counts_but_its_texts_make_no_labels():
    bench = Bench(licences=(replace(LICENCE, licence_id="hostile", state=LicenceState.REFUSED),))
    assert bench.value("usher_licences", state="refused") == 1
    assert "hostile" not in str(bench.series())


# --- requests and the broker -------------------------------------------------------------------------------


def test_request_durations_are_a_cumulative_histogram():
    bench = Bench()
    for seconds in (0.000_015, 0.000_015, 0.003, 60.0):
        bench.stats.observe("Sessions/Open", "granted", seconds)

    labels = {"method": "Sessions/Open", "outcome": "granted"}
    buckets = {
        float(sample.labels["le"]): sample.value
        for family in bench.families()
        for sample in family.samples
        if sample.name == "usher_request_duration_seconds_bucket" and labels.items() <= sample.labels.items()
    }
    assert list(buckets) == [*BUCKET_BOUNDS_SECONDS, float("inf")]
    assert (buckets[1e-5], buckets[2e-5], buckets[0.002], buckets[0.005], buckets[10], buckets[float("inf")]) == (0, 2, 2, 3, 3, 4)
    assert bench.value("usher_request_duration_seconds_count", **labels) == 4
    assert bench.value("usher_request_duration_seconds_sum", **labels) == pytest.approx(60.003_03)


def test_request_outcomes_stand_at_zero_before_the_first_request_and_have_no_histogram_yet():
    bench = Bench()
    labels = {"method": "Sessions/Open", "outcome": "denied"}
    assert bench.value("usher_requests_total", **labels) == 0
    assert bench.value("usher_request_duration_seconds_count", **labels) is None
    bench.stats.observe("Sessions/Open", "denied", 0.001)
    assert bench.value("usher_requests_total", **labels) == 1
    assert bench.value("usher_request_duration_seconds_count", **labels) == 1


def test_broker_says_who_it_is():
    bench = Bench()
    assert bench.value("usher_build_info", version="1.2.3") == 1
    labels = {"broker_id": "0001020304050607", "data_plane": "grpcio", "durability": "none", "emulation": "true"}
    assert bench.value("usher_broker_info", **labels) == 1
    assert bench.value("usher_generation") == 7
    assert bench.value("usher_start_time_seconds") == 1_790_000_000
    assert bench.value("usher_draining") == 1
    assert (bench.value("process_resident_memory_bytes") or 0) > 0


def test_no_label_can_name_a_user_a_session_or_an_address():
    allowed = {
        "product", "pool", "emulated", "terms", "reason", "kind", "state", "thumbprint", "description", "outcome",
        "licence", "method", "le", "version", "broker_id", "data_plane", "durability", "emulation", "bound",
    }  # fmt: skip
    used = {label for family in lived_in().families() for sample in family.samples for label in sample.labels}
    assert used <= allowed


def test_number_of_series_does_not_grow_with_sessions():
    bench = lived_in()
    before = bench.series()
    for number in range(50):
        bench.open(f"another-{number}", "crm")
    assert bench.series() == before


# --- the page ----------------------------------------------------------------------------------------------


def request(accept: str = "") -> Request:
    return Request({"type": "http", "method": "GET", "path": "/metrics", "headers": [(b"accept", accept.encode())]})


async def test_page_is_prometheus_text_unless_openmetrics_is_asked_for():
    page = metrics_endpoint(lived_in().registry)
    plain, open_metrics = await page(request()), await page(request("application/openmetrics-text; version=1.0.0"))

    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert b'usher_seats_capacity{emulated="false",pool="0",product="platform"} 2.0' in plain.body
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert bytes(open_metrics.body).endswith(b"# EOF\n")


async def test_scrapes_beyond_the_bound_are_told_to_come_back(monkeypatch):
    gate = asyncio.Event()

    async def collect_at_the_gate(*_: object) -> bytes:
        await gate.wait()
        return b""

    monkeypatch.setattr(asyncio, "to_thread", collect_at_the_gate)
    page = metrics_endpoint(lived_in().registry)
    waiting = [asyncio.ensure_future(page(request())) for _ in range(WAITING_COUNT_MAX + 1)]
    await asyncio.sleep(0)

    refused = await page(request())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    gate.set()
    assert [response.status_code for response in await asyncio.gather(*waiting)] == [200] * (WAITING_COUNT_MAX + 1)
