"""A load run by itself: it ends, its report is there, its failures are failures and its denials are not."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from loadtests.locust_process import Row, Run, percentile, run_locust
from loadtests.run import foreign_notes, general_objections
from loadtests.scenarios import BY_NAME, SCENARIOS
from tests.house.source_tree import ROOT


def run_of(*rows: Row, scenario: str = "login_rush", status: int = 0) -> Run:
    """A finished run with these rows."""
    return Run(BY_NAME[scenario], rows, status, 1.0, 0.5)


def row(kind: str, name: str, count: int = 1, failure_count: int = 0) -> Row:
    """A row answered in a millisecond."""
    return Row(kind, name, count, failure_count, Counter({1: count}))


def test_load_run_ends_with_a_report_and_status_0() -> None:
    words = ["--scenario", "key_pulled", "--seconds", "6", "--no-ceiling"]
    command = [sys.executable, "-m", "loadtests.run", *words]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "failures 0" in answer.stdout
    assert "never a seat beyond capacity" in answer.stdout
    assert (ROOT / "build" / "load" / "key_pulled.html").stat().st_size > 0
    assert "key_pulled.html" in (ROOT / "build" / "load" / "index.html").read_text(encoding="utf-8")


def test_locust_against_nobody_has_failures_and_no_good_calls(tmp_path: Path) -> None:
    run = run_locust(BY_NAME["steady_renew"], "127.0.0.1:1", tmp_path, user_count=2, seconds=2)
    assert run.failure_count > 0
    assert run.count_of("granted") == 0
    assert general_objections(run)


def test_load_is_sent_to_no_other_machine() -> None:
    command = [sys.executable, "-m", "loadtests.run", "--target", "192.0.2.1:7600"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 2
    assert "load is only sent to this machine" in answer.stderr


def test_denials_are_no_failures() -> None:
    run = run_of(row("granted", "Open platform", 5), row("denied", "Open platform: no_free_seats", 3))
    assert run.failure_count == 0
    assert general_objections(run) == ()


def test_a_failed_call_is_an_objection() -> None:
    run = run_of(row("granted", "Open platform"), row("denied", "Open platform: deficit"), row("error", "Renew", 2, 2))
    assert any("2 calls failed" in text for text in general_objections(run))


def test_a_run_without_calls_is_an_objection() -> None:
    assert any("no call was made" in text for text in general_objections(run_of()))


def test_denials_where_there_were_seats_for_all_are_an_objection() -> None:
    run = run_of(row("granted", "Open platform"), row("denied", "Open platform: no_free_seats"), scenario="steady_renew")
    assert any("seats for all" in text for text in general_objections(run))


def test_a_broker_with_too_few_seats_for_the_question_is_noted() -> None:
    full = run_of(row("granted", "Open platform"), row("denied", "Open platform: no_free_seats", 3), scenario="steady_renew")
    assert general_objections(full, is_own=False) == ()
    assert any("3 calls were denied" in text for text in foreign_notes(full, "127.0.0.1:1"))
    assert len(foreign_notes(run_of(row("granted", "Open platform"), scenario="steady_renew"), "127.0.0.1:1")) == 1


@pytest.mark.parametrize(("part", "expected_ms"), [(0.0, 1), (0.5, 1), (0.51, 2), (0.99, 10), (1.0, 10)])
def test_percentile_is_the_time_within_which_that_part_was_answered(part: float, expected_ms: int) -> None:
    assert percentile(Counter({1: 50, 2: 40, 10: 10}), part) == expected_ms


def test_percentile_of_nothing_is_0() -> None:
    assert percentile(Counter(), 0.5) == 0


def test_every_scenario_has_its_locustfile() -> None:
    folder = ROOT / "loadtests" / "locustfiles"
    assert all((folder / f"{scenario.name}.py").exists() for scenario in SCENARIOS)
