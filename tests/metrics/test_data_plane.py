"""The native data plane in the metrics: its counters as they are, its requests among everybody's, each series once."""

from dataclasses import replace
from itertools import accumulate

import pytest

from broker.model.tls import TlsError
from tests.metrics.readings import COUNTED, Bench


def test_each_number_is_the_listeners() -> None:
    bench = Bench(counted=COUNTED)
    for name, value in {
        "connections": 3,
        "keep_alive_streams": 1,
        "watched_sessions": 9,
        "held_answers": 0,
        "held_bytes": 0,
        "connections_accepted_total": 5,
        "connections_closed_total": 2,
        "calls_total": 12,
        "calls_refused_total": 1,
        "messages_received_total": 13,
        "messages_sent_total": 14,
        "received_bytes_total": 1500,
        "sent_bytes_total": 1600,
        "goaways_sent_total": 1,
        "goaways_received_total": 2,
        "tls_handshakes_total": 4,
        "batches_total": 6,
        "commands_total": 11,
        "notices_total": 2,
        "rounds_total": 40,
    }.items():
        assert bench.value(f"usher_data_plane_{name}") == value, name


def test_every_counter_of_the_listener_is_shown() -> None:
    """A number made one greater must move something on the page."""
    before = _page(Bench(counted=COUNTED))
    plain = [name for name in COUNTED.__slots__ if isinstance(getattr(COUNTED, name), int)]
    assert len(plain) == 21
    for name in plain:
        changed = replace(COUNTED, **{name: getattr(COUNTED, name) + 1000})
        assert _page(Bench(counted=changed)) != before, name


def _page(bench: Bench) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in bench.families()
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def test_every_kind_of_tls_failure_stands_at_zero_before_it_happens() -> None:
    bench = Bench(counted=COUNTED)
    for kind in TlsError:
        wanted = 3 if kind is TlsError.CLIENT_CERTIFICATE else 0
        assert bench.value("usher_data_plane_tls_failures_total", kind=kind.name.lower()) == wanted


def test_refusals_are_by_the_bound_that_was_broken() -> None:
    bench = Bench(counted=COUNTED)
    assert bench.value("usher_data_plane_refusals_total", bound="resets") == 2
    assert bench.value("usher_data_plane_refusals_total", bound="connections") == 0


def test_requests_of_both_planes_are_one_series() -> None:
    bench = Bench(counted=COUNTED)
    bench.stats.observe("Sessions/Open", "granted", 0.00003)
    labels = {"method": "Sessions/Open", "outcome": "granted"}
    assert bench.value("usher_requests_total", **labels) == 4
    assert bench.value("usher_request_duration_seconds_sum", **labels) == pytest.approx(0.00018)
    found = [
        bench.value("usher_request_duration_seconds_bucket", le=bound, **labels) for bound in ("1e-05", "2e-05", "5e-05", "0.0001", "+Inf")
    ]
    assert found == list(accumulate((0, 2, 1, 1, 0)))


def test_requests_that_only_the_listener_served_are_there_too() -> None:
    bench = Bench(counted=COUNTED)
    assert bench.value("usher_requests_total", method="Sessions/Renew", outcome="ok") == 7
    assert bench.value("usher_requests_total", method="Health/Check", outcome="ok") == 1
    assert bench.value("usher_requests_total", method="Sessions/Close", outcome="ok") == 0


def test_scrapes_add_nothing_to_what_was_counted() -> None:
    bench = Bench(counted=COUNTED)
    bench.stats.observe("Sessions/Open", "granted", 0.00003)
    assert _page(bench) == _page(bench)


def test_with_grpcio_there_is_no_data_plane_to_show() -> None:
    names = Bench().series()
    assert not [name for name in names if name.startswith("usher_data_plane")]
    assert "usher_requests_total" in names
