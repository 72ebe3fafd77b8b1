"""The table of long jobs: shares, names, reports; one short job of it for real."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import soak


def test_minutes_are_shared_as_the_full_times_are() -> None:
    seconds = soak.times_of(soak.JOBS, 10)
    assert abs(sum(seconds) - 600) <= len(soak.JOBS)
    by_name = dict(zip((job.name for job in soak.JOBS), seconds, strict=True))
    assert by_name["fuzz-wire"] == by_name["fuzz-h2"] == by_name["fuzz-tls"]


def test_without_minutes_the_fuzz_targets_get_an_hour_together() -> None:
    times = dict(zip((job.name for job in soak.JOBS), soak.times_of(soak.JOBS, None), strict=True))
    assert sum(seconds for name, seconds in times.items() if name.startswith("fuzz-")) == 3600


def test_a_name_that_is_no_job_is_refused_with_the_names_that_are() -> None:
    with pytest.raises(SystemExit, match=r"no such job: chrun; there are .*churn"):
        soak.chosen(["chrun"], [])


def test_a_short_job_runs_and_says_what_it_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(soak, "REPORTS", tmp_path)
    (report,) = soak.run_jobs(soak.chosen(["differential"], []), minutes=0.01, at_once=1, seed=7)
    assert report.is_good
    assert report.said.endswith("0 differences")
    assert "seed 7" in (tmp_path / "differential.log").read_text()


def test_a_job_that_finds_something_shows_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(soak, "REPORTS", tmp_path)
    bad = soak.Job("bad", "fails", 1, lambda seconds, seed: ["-c", f"print('it broke with', {seed}); raise SystemExit(3)"])
    monkeypatch.setattr(soak, "JOBS", (bad,))
    reports = soak.run_jobs([bad], minutes=0.01, at_once=1, seed=None)
    assert not reports[0].is_good
    assert "FOUND" in soak.table(reports)
    assert f"it broke with {reports[0].seed}" in soak.table(reports)
    assert sys.executable in (tmp_path / "bad.log").read_text()
