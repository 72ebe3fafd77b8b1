"""The storm's arithmetic: histograms, percentiles, arrivals, the bytes of its requests, its plans."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.v1 import sessions_pb2
from loadtests._storm import arrivals_of, histogram_of
from loadtests.storm import StormPlan
from loadtests.storm.plan import CYCLES
from loadtests.storm.requests import REQUEST_ID, SESSION_ID, USER, templates
from loadtests.storm.result import Latency, latency_of, merged, percentile_of

ERROR_MAX = 1 / 128
TOP_NS = 2**37

values = st.lists(st.integers(0, TOP_NS - 1), min_size=1, max_size=200)


def plain_percentile(numbers: list[int], percent: float) -> int:
    """The nearest rank, the slow way."""
    rank = max(1, math.ceil(len(numbers) * percent / 100))
    return sorted(numbers)[rank - 1]


@given(values)
def test_every_value_falls_into_the_first_bucket_that_ends_at_or_above_it(numbers: list[int]) -> None:
    count, total, largest, buckets = histogram_of(numbers)
    assert (count, total, largest) == (len(numbers), sum(numbers), max(numbers))
    ends = [end for end, _ in buckets]
    assert ends == sorted(ends)
    plain = [0] * len(ends)
    for number in numbers:
        plain[bisect_left(ends, number)] += 1
    assert plain == [number for _, number in buckets]


@given(st.integers(0, TOP_NS - 1))
def test_a_bucket_ends_less_than_one_part_in_128_above_its_values(number: int) -> None:
    ((end, _),) = histogram_of([number])[3]
    assert number <= end <= number * (1 + ERROR_MAX)


@given(values, st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0]))
def test_percentiles_are_those_of_a_plain_sort_within_the_error(numbers: list[int], percent: float) -> None:
    latency = latency_of(histogram_of(numbers))
    exact_us = plain_percentile(numbers, percent) / 1e3
    assert exact_us <= latency.percentile(percent) * (1 + 1e-12)
    assert latency.percentile(percent) <= exact_us * (1 + ERROR_MAX) + 1e-9


def test_what_takes_longer_than_the_last_bucket_keeps_its_exact_maximum() -> None:
    count, _, largest, buckets = histogram_of([TOP_NS * 4])
    assert (count, largest, sum(number for _, number in buckets)) == (1, TOP_NS * 4, 1)


@given(values, values)
def test_histograms_of_two_storms_merge_into_that_of_both(first: list[int], second: list[int]) -> None:
    both = merged([latency_of(histogram_of(first)), latency_of(histogram_of(second))])
    together = latency_of(histogram_of(first + second))
    assert both.buckets == together.buckets
    assert both.max_us == together.max_us
    assert both.mean_us == pytest.approx(together.mean_us)


def test_percentiles_of_nothing_are_nothing() -> None:
    assert Latency().p999_us == 0
    assert percentile_of((), 50, 0.0) == 0


def test_even_arrivals_are_evenly_spaced() -> None:
    assert arrivals_of(1, 250.0, False, 4) == [250, 500, 750, 1000]


def test_poisson_arrivals_have_the_rate_and_spread_of_their_law_and_come_from_the_seed() -> None:
    times = arrivals_of(7, 1000.0, True, 20_000)
    assert times == arrivals_of(7, 1000.0, True, 20_000)
    assert times != arrivals_of(8, 1000.0, True, 20_000)
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1000, rel=0.05)
    assert deviation == pytest.approx(mean, rel=0.05)  # exponential gaps: as wide as long
    assert min(gaps) >= 0


def message_of(body: bytes) -> bytes:
    """What stands behind the gRPC prefix."""
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    return body[5:]


@pytest.mark.parametrize(("cycle", "opened", "added"), [("bundle", ["a", "b", "c"], ["b", "c"]), ("acquire", ["a"], ["b", "c"])])
def test_requests_are_what_protobuf_makes_of_them(cycle: str, opened: list[str], added: list[str]) -> None:
    made = {step: message_of(one[0]) for step, one in templates(cycle, ("a", "b", "c"), b"").items()}
    request = sessions_pb2.OpenRequest.FromString(made["open"])
    assert [(one.product, one.optional) for one in request.products] == [(name, False) for name in opened]
    assert (request.request_id, request.holder.user.encode()) == (REQUEST_ID, USER)
    assert request.SerializeToString() == made["open"]
    assert sessions_pb2.RenewRequest(session_id=SESSION_ID).SerializeToString() == made["renew"]
    close = sessions_pb2.CloseRequest(session_id=SESSION_ID, request_id=REQUEST_ID)
    assert close.SerializeToString() == made["close"]
    acquire = sessions_pb2.AcquireRequest.FromString(made["acquire"])
    assert [one.product for one in acquire.products] == added
    assert acquire.SerializeToString() == made["acquire"]


def test_places_of_a_template_are_where_its_marks_stand() -> None:
    body, request_id_at, session_at, user_at = templates("open_close", ("platform",), b"")["open"]
    assert body[request_id_at : request_id_at + 16] == REQUEST_ID
    assert body[user_at : user_at + 10] == USER
    assert session_at == 0


def test_a_plan_survives_its_json() -> None:
    plan = StormPlan(port=7600, cycle="noop", body=b"\x00\xff", products=("a", "b"), rate_per_s=12.5, tls_ca="ca.pem")
    assert StormPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"host": "192.0.2.1"}, "only sent to this machine"),
        ({"host": "broker.example"}, "only sent to this machine"),
        ({"cycle": "gale"}, "cycle is one of"),
        ({"port": 0}, "port"),
        ({"connections": 0}, "connections"),
        ({"streams": 100_000}, "streams"),
        ({"products": ()}, "products"),
        ({"products": ("a", "a")}, "named once"),
        ({"cycle": "acquire", "products": ("a",)}, "two products"),
        ({"rate_per_s": -1.0}, "rate_per_s"),
        ({"arrivals": "sometimes"}, "arrivals"),
        ({"tls_certificate": "c.pem"}, "needs tls_ca"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused_in_words(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StormPlan(**({"port": 7600} | fields))  # type: ignore[arg-type]


def test_json_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="no gusts"):
        StormPlan.from_json('{"port": 1, "gusts": 3}')


def test_every_cycle_says_what_it_does() -> None:
    assert all(CYCLES.values())
