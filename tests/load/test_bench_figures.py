"""The arithmetic of the bench: medians and quartiles, ratios within a round, histograms, bars, and what h2load prints."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.client import check_counts, h2load_numbers
from loadtests.bench.figures import (
    Bar,
    Sample,
    Spread,
    histogram_lines,
    merged,
    octave_counts,
    percentile_us,
    ratio_spread,
    result_row,
    spread,
)
from loadtests.bench.parts import in_turn, rotated
from loadtests.bench.servers import ServerFailed

COUNTS = st.dictionaries(st.integers(1, 10_000), st.integers(1, 50), min_size=1, max_size=30)


def sample(requests: int = 1000, *, elapsed_s: float = 2.0, cpu_s: float = 0.5, latency_us: float = 100.0) -> Sample:
    """A window whose requests all took equally long."""
    return Sample(requests, elapsed_s, cpu_s, 1.5, ((latency_us, requests),))


def test_sample_gives_rate_cost_and_shares() -> None:
    one = sample(1000, elapsed_s=2.0, cpu_s=0.5)
    assert one.requests_per_s == 500
    assert one.cpu_us == 500
    assert one.server_share == 0.25
    assert one.client_share == 0.75


def test_spread_of_one_value_is_that_value() -> None:
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)


def test_spread_has_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(2.0, 3.0, 4.0)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20))
def test_spread_is_in_order_and_within_its_values(values: list[float]) -> None:
    found = spread(values)
    assert min(values) <= found.low * 1.000001
    assert found.low <= found.median * 1.000001
    assert found.median <= found.high * 1.000001
    assert found.high <= max(values) * 1.000001


def test_ratio_is_made_within_each_round_before_the_median_is_taken() -> None:
    # The machine is three times slower in the second round; both sides feel it, and the ratio does not.
    above = [sample(300), sample(100), sample(330)]
    below = [sample(100), sample(50), sample(110)]
    assert ratio_spread(above, below, lambda one: one.requests_per_s) == Spread(2.5, 3.0, 3.0)


def test_ratio_of_unequal_numbers_of_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratio_spread([sample()], [sample(), sample()], lambda one: one.cpu_us)


@given(COUNTS)
def test_percentiles_are_those_of_the_sorted_values(counts: dict[int, int]) -> None:
    values = sorted(value for value, count in counts.items() for _ in range(count))
    buckets = tuple((float(value), count) for value, count in sorted(counts.items()))
    for part in (0.0, 0.25, 0.5, 0.9, 0.99, 1.0):
        expected = values[max(math.ceil(part * len(values)), 1) - 1]
        assert percentile_us(buckets, part) == expected


@given(COUNTS, COUNTS)
def test_merged_histogram_counts_everything_once(one: dict[int, int], other: dict[int, int]) -> None:
    both = dict(merged(tuple((float(value), count) for value, count in sorted(each.items())) for each in (one, other)))
    assert both == {float(value): one.get(value, 0) + other.get(value, 0) for value in {*one, *other}}


def test_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile_us((), 0.5))


def test_bar_looks_at_the_median_only_and_knows_its_side() -> None:
    measured = Spread(0.9, 1.1, 1.5)
    assert Bar("at most", measured, 1.2).is_met
    assert not Bar("at most", measured, 1.0).is_met
    assert Bar("at least", measured, 1.0, is_floor=True).is_met
    assert not Bar("at least", measured, 1.2, is_floor=True).is_met
    assert Bar("at least", measured, 3.0, is_floor=True).as_json()["bar"] == "≥ 3"


def test_row_of_the_file_has_the_promised_members() -> None:
    row = result_row("usher_renew", [sample(latency_us=100.0), sample(3000, cpu_s=1.0, latency_us=300.0)])
    assert {"name", "requests_per_s", "cpu_us", "p50_us", "p99_us"} <= row.keys()
    assert row["requests_per_s"] == 1000
    assert row["p99_us"] == 200.0
    assert row["rounds"] == 2


def test_histogram_is_drawn_with_one_line_for_each_doubling() -> None:
    buckets = ((3.0, 5), (4.0, 5), (60.0, 1))
    assert octave_counts(buckets) == {2: 10, 6: 1}
    lines = histogram_lines({"one": buckets, "other": ((8.0, 2),)})
    assert len(lines) == 1 + 5
    assert "10 ██" in lines[1]


def test_order_of_a_round_moves_on_so_that_nobody_is_always_first() -> None:
    assert [rotated(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    said: list[str] = []
    calls: list[str] = []

    def subject(name: str) -> Sample:
        calls.append(name)
        return sample()

    samples = in_turn({"a": lambda: subject("a"), "b": lambda: subject("b")}, 2, said.append)
    assert calls == ["a", "b", "b", "a"]
    assert {name: len(several) for name, several in samples.items()} == {"a": 2, "b": 2}
    assert len(said) == 4


def test_other_counts_at_the_server_than_at_the_client_are_a_failure() -> None:
    check_counts("usher", renewals=(5.0, 5))
    with pytest.raises(ServerFailed, match="counted renewals: 4; the client was answered 5"):
        check_counts("usher", opened=(1, 1), renewals=(4.0, 5))


H2LOAD = """
finished in 500.12ms, 123338.67 req/s, 5.30MB/s
requests: 370016 total, 370272 started, 370016 done, 370015 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 370015 2xx, 0 3xx, 1 4xx, 0 5xx
"""


def test_output_of_h2load_is_understood() -> None:
    done, failed, good, elapsed_s = h2load_numbers(H2LOAD)
    assert (done, failed, good) == (370016, 1, 370015)
    assert elapsed_s == pytest.approx(0.50012)


def test_output_of_h2load_that_says_nothing_is_a_failure() -> None:
    with pytest.raises(ServerFailed, match="could not connect"):
        h2load_numbers("could not connect")
