"""`python -m loadtests.bench`, short: it measures what is installed, ends with status 0 whatever the figures, and writes its file."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench import gil_holder
from loadtests.bench.__main__ import data_plane_here
from loadtests.bench.broker import RENEWED, Broker, BrokerPlan, bench_broker
from loadtests.bench.client import Pace, renew_sample
from loadtests.bench.figures import Bar, Sample, Spread, result_row
from loadtests.bench.markdown import document
from loadtests.bench.parts import Bench, Finding
from loadtests.bench.processors import machine, places
from loadtests.bench.questions import gil, peers
from loadtests.bench.report import as_json, write_json
from loadtests.bench.servers import ServerFailed
from tests.house.source_tree import ROOT

ROW = {"name", "requests_per_s", "cpu_us", "p50_us", "p99_us"}


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    command = [sys.executable, "-m", "loadtests.bench", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_short_bench_writes_the_promised_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    answer = bench("--short", "--rounds", "1", "--only", "peers", "--only", "ledger", "--output", str(path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    contents = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in contents["results"]}
    assert {"usher_renew", "usher_open_close_none", "grpc_aio_noop"} <= rows.keys()
    assert all(row.keys() >= ROW and row["requests_per_s"] > 0 and row["cpu_us"] > 0 for row in rows.values())
    assert {row["name"] for row in contents["ledger"]} >= {"ledger_renew_1000", "ledger_open_1000"}
    assert all(bar.keys() == {"what", "median", "quartiles", "bar", "is_met"} for bar in contents["bars"])
    assert contents["machine"]["is_short"] is True
    assert "met" in answer.stdout or "missed" in answer.stdout


def test_a_part_that_does_not_exist_is_refused() -> None:
    answer = bench("--only", "speed")
    assert answer.returncode == 2
    assert "peers" in answer.stderr


def test_bars_are_left_out_where_a_side_was_not_measured() -> None:
    one = Sample(1000, 1.0, 0.001, 0.1, ((10.0, 1000),))
    other = Sample(100, 1.0, 0.01, 0.1, ((10.0, 100),))
    found = peers.bars({"usher_renew": [one], "grpc_aio_noop": [other]})
    assert [(bar.what, bar.measured.median, bar.is_met) for bar in found] == [
        ("Renew, requests/s ÷ grpc.aio no-op", 10.0, False)
    ]


def test_file_has_rows_of_every_part_and_the_ledger_apart(tmp_path: Path) -> None:
    findings = [Finding("one", rows=[{"name": "a"}]), Finding("other", rows=[{"name": "b"}], sentences=["so it is"])]
    path = tmp_path / "deeper" / "bench.json"
    write_json(path, as_json({"machine": "x"}, {"rounds": 1}, findings, [{"name": "ledger_renew_1000"}]))
    contents = json.loads(path.read_text(encoding="utf-8"))
    assert [row["name"] for row in contents["results"]] == ["a", "b"]
    assert [row["name"] for row in contents["ledger"]] == ["ledger_renew_1000"]
    assert contents["sentences"] == ["so it is"]


def test_tables_of_the_document_come_out_of_the_file() -> None:
    one = Sample(1000, 1.0, 0.001, 0.1, ((10.0, 1000),))
    finding = Finding("one", rows=[result_row("usher_renew", [one])], bars=[Bar("the bar", Spread(1.0, 2.0, 3.0), 1.5)])
    contents = as_json(machine(), dataclasses.asdict(Pace()), [finding], [])
    lines = document(json.loads(json.dumps(contents))).splitlines()
    assert "| `usher_renew` | 1,000 (1,000 to 1,000) | 1.00 (1.00 to 1.00) | 10 | 10 | 0% | 10% |" in lines
    assert "| the bar | ≤ 1.5 | 2.00 (1.00 to 3.00) | **missed** |" in lines


@pytest.fixture
def context(tmp_path: Path) -> Bench:
    """Of a short run on this machine."""
    return Bench(tmp_path, Pace().shortened(), places(), data_plane_here(), lambda _: None, is_short=True)


def test_broker_of_the_bench_has_seats_for_a_million_and_its_renewals_are_counted(context: Bench) -> None:
    with bench_broker(context.directory, BrokerPlan(data_plane=context.data_plane)) as broker:
        capacities = {name: value for name, value in broker.counters().items() if name.startswith("usher_seats_capacity{")}
        assert sorted(value > 1_000_000 for value in capacities.values()) == [True, True]
        sample = renew_sample(broker.server, context.pace, sessions=50)
        assert broker.counters()[RENEWED] >= sample.requests > 0
        again = renew_sample(broker.server, context.pace, sessions=50)
        assert again.requests > 0
        assert broker.counters()["usher_sessions"] == 50


def test_held_gil_is_held_and_let_go_again(context: Bench) -> None:
    plan = BrokerPlan(data_plane=context.data_plane, module=gil_holder.__name__)
    with bench_broker(context.directory, plan) as broker:
        assert gil.hold(broker) >= gil.SCRAPE_HELD_S
        gil.release(broker)
        assert gil.is_free(broker)


def test_broker_that_ended_while_it_was_measured_is_a_failure(context: Bench) -> None:
    plan = BrokerPlan(data_plane=context.data_plane)
    with pytest.raises(ServerFailed, match="ended with status"), bench_broker(context.directory, plan) as broker:
        kill_and_wait(broker)


def kill_and_wait(broker: Broker) -> None:
    """As the kernel's out-of-memory killer would."""
    broker.process.kill()
    broker.process.wait()


def test_a_strict_broker_is_measured_beside_what_it_stands_on(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    answer = bench("--short", "--rounds", "1", "--only", "strict", "--only", "restart", "--output", str(path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    contents = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in contents["results"]}
    assert {"usher_open_close_strict", "usher_open_close_none_128"} <= rows.keys()
    assert any("first granted Open" in bar["what"] and bar["median"] > 0 for bar in contents["bars"])
    assert "security key present" in answer.stdout
