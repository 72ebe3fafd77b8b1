"""Request statistics: closed sets, right buckets, zeros from the start."""

from __future__ import annotations

import threading

import pytest

from broker.v1 import sessions_pb2, types_pb2
from broker.verbs.admin import ADMIN_METHODS
from broker.verbs.stats import (
    BUCKET_BOUNDS_SECONDS,
    OUTCOMES,
    RequestStats,
    outcome_of_answer,
    outcome_of_status,
)


def test_every_pair_that_can_happen_is_there_with_zeros_from_the_start() -> None:
    snapshot = RequestStats(ADMIN_METHODS).snapshot()
    verbs = [method.name for method in sessions_pb2.DESCRIPTOR.services_by_name["Sessions"].methods]
    assert {method for method, _ in snapshot} >= {f"Sessions/{verb}" for verb in verbs} | {
        f"Admin/{method}" for method in ADMIN_METHODS
    }
    assert ("Sessions/Open", "denied") in snapshot
    assert all(histogram.count == 0 and histogram.sum_seconds == 0 for histogram in snapshot.values())
    assert {outcome for _, outcome in snapshot} <= set(OUTCOMES)


@pytest.mark.parametrize(
    ("seconds", "index"), [(0.0, 0), (1e-5, 0), (1.1e-5, 1), (0.001, 6), (0.0011, 7), (10.0, 18), (10.1, 19)]
)
def test_a_request_falls_into_the_bucket_whose_bound_it_does_not_pass(seconds: float, index: int) -> None:
    stats = RequestStats()
    stats.observe("Sessions/Open", "granted", seconds)
    counts = stats.snapshot()["Sessions/Open", "granted"].bucket_counts
    assert len(counts) == len(BUCKET_BOUNDS_SECONDS) + 1
    assert counts[index] == 1
    assert sum(counts) == 1


def test_a_snapshot_does_not_change_with_later_requests() -> None:
    stats = RequestStats()
    before = stats.snapshot()
    stats.observe("Sessions/Open", "granted", 1.0)
    assert before["Sessions/Open", "granted"].count == 0
    assert stats.snapshot()["Sessions/Open", "granted"].sum_seconds == 1.0


def test_an_outcome_that_is_no_word_of_ours_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        RequestStats().observe("Sessions/Open", "whatever a client sent", 1.0)


def test_no_request_is_lost_between_threads() -> None:
    stats = RequestStats()

    def observe() -> None:
        for _ in range(2000):
            stats.observe("Sessions/Renew", "ok", 0.001)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stats.snapshot()["Sessions/Renew", "ok"].count == 8000


def test_answers_and_statuses_have_their_outcomes() -> None:
    assert outcome_of_answer(sessions_pb2.OpenResponse(grant=types_pb2.Grant())) == "granted"
    assert outcome_of_answer(sessions_pb2.OpenResponse(denial=types_pb2.Denial())) == "denied"
    assert outcome_of_answer(sessions_pb2.OpenResponse(ended=types_pb2.SessionEnded())) == "ended"
    assert outcome_of_answer(sessions_pb2.ReleaseResponse(released=sessions_pb2.Released())) == "ok"
    assert outcome_of_answer(sessions_pb2.RenewResponse()) == "ok"
    assert outcome_of_status("NOT_FOUND") == "not_found"
    assert outcome_of_status("SOMETHING_NEW") == "internal"
