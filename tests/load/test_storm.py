"""The storm against real brokers: every cycle, both loops, TLS, and that the broker's own counters say the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.storm import StormPlan, StormResult, background_storm, run_storm
from loadtests.storm.check import Witness
from loadtests.storm.plan import CYCLES
from tests.house.source_tree import ROOT
from tests.support.broker_process import RunningBroker, running_broker
from tests.support.certificates import TestAuthority
from tests.support.data_planes import DATA_PLANES

KEYS = [{"name": "alpha", "seats": {"platform": 200, "crm": 200}}]
PRODUCTS = ("platform", "crm")

Storm = Callable[..., StormResult]


@pytest.fixture(scope="module", params=DATA_PLANES)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A broker with 200 seats of each product."""
    settings = {"clients": {"data_plane": request.param}, "sessions": {"ttl_s": 3600}}
    with running_broker(tmp_path_factory.mktemp("storm"), settings=settings, emulated_keys=KEYS) as broker:
        broker.await_proven()
        yield broker


def plan_for(broker: RunningBroker, **fields: Any) -> StormPlan:
    """A short storm: a few hundred calls."""
    short = {"connections": 2, "streams": 4, "duration_s": 0.3, "warmup_s": 0.05, "products": PRODUCTS}
    return StormPlan(port=int(broker.clients.rpartition(":")[2]), **(short | fields))


def storm_and_check(broker: RunningBroker, **fields: Any) -> StormResult:
    """Runs it; the broker must say the same."""
    witness = Witness(broker.http)
    result = run_storm(plan_for(broker, **fields))
    assert [one for one in witness.compare(result) if not one.agrees] == []
    return result


def assert_whole(result: StormResult) -> None:
    """Every request is in exactly one sum, and nothing was wrong."""
    assert result.error_examples == ()
    assert result.is_good
    assert result.sent == result.answered + result.retried_unprocessed + result.cut + result.unanswered_at_end
    assert result.answered == sum(result.answers.values()) == sum(result.statuses.values())
    assert result.latency.count == sum(count for _, count in result.latency.buckets)


def test_renews_find_the_sessions_that_were_opened_first(broker: RunningBroker) -> None:
    result = storm_and_check(broker, cycle="renew", sessions=50)
    assert_whole(result)
    assert result.sessions_opened_first == result.opened == result.closed == 50
    assert result.answers["renewed"] == result.answered - 100
    assert result.requests > 0
    assert set(result.latencies) == {"renew"}


@pytest.mark.parametrize("cycle", ["open_close", "bundle"])
def test_each_session_that_is_opened_is_closed(broker: RunningBroker, cycle: str) -> None:
    result = storm_and_check(broker, cycle=cycle)
    assert_whole(result)
    assert result.opened == result.closed > 0
    assert result.answered == 2 * result.opened


def test_a_repeated_open_is_answered_with_the_same_session(broker: RunningBroker) -> None:
    result = storm_and_check(broker, cycle="retry")
    assert_whole(result)
    assert result.opened == result.answers["replayed"] == result.closed > 0


def test_products_are_acquired_in_open_sessions(broker: RunningBroker) -> None:
    result = storm_and_check(broker, cycle="acquire")
    assert_whole(result)
    assert result.opened == result.answers["acquired"] == result.closed > 0


@pytest.mark.parametrize("sessions", [0, 20])
def test_each_connection_of_a_churn_does_its_work_and_ends(broker: RunningBroker, sessions: int) -> None:
    result = storm_and_check(broker, cycle="churn", sessions=sessions, sources=3)
    assert_whole(result)
    done = result.answers["renewed"] if sessions else result.closed
    assert done > 2
    assert done <= result.connects <= done + 2 * 2
    assert result.cut == 0


def test_noop_takes_any_method(broker: RunningBroker) -> None:
    result = run_storm(plan_for(broker, cycle="noop", path="/grpc.health.v1.Health/Check"))
    assert_whole(result)
    assert result.answers["ok"] == result.answered


@pytest.mark.parametrize("arrivals", ["even", "poisson"])
@pytest.mark.parametrize("cycle", ["renew", "open_close"])
def test_an_open_loop_sends_every_arrival_and_no_more(broker: RunningBroker, cycle: str, arrivals: str) -> None:
    result = storm_and_check(broker, cycle=cycle, sessions=20, rate_per_s=300.0, arrivals=arrivals)
    assert_whole(result)
    assert result.unsent_at_end == 0
    assert result.latency.count <= result.arrivals
    if arrivals == "even":
        assert 104 <= result.arrivals <= 105  # 0.35 s of them, the last at the very end
        assert 89 <= result.latency.count <= 91  # those of the last 0.3 s


def test_idle_connections_are_held_while_others_renew(broker: RunningBroker) -> None:
    with background_storm(plan_for(broker, cycle="idle", connections=30, duration_s=60)) as idle:
        assert idle.progress()[3] == 30
        result = storm_and_check(broker, cycle="renew", sessions=10)
    assert_whole(result)
    assert idle.result.connections_at_end == 30
    assert idle.result.error_examples == ()


def test_sessions_that_are_kept_come_back_to_the_next_storm_with_the_same_seed(broker: RunningBroker) -> None:
    fields = {"cycle": "renew", "sessions": 20, "seed": 99}
    first = storm_and_check(broker, **fields, closes_sessions=False)
    second = storm_and_check(broker, **fields, closes_sessions=False)
    assert_whole(first)
    assert_whole(second)
    assert (first.opened, first.closed) == (20, 0)
    assert (second.opened, second.answers["replayed"], second.sessions_opened_first) == (0, 20, 20)


def test_denials_are_errors_unless_they_are_allowed(broker: RunningBroker) -> None:
    fields = {"cycle": "open_close", "products": ("nothing",)}
    strict = storm_and_check(broker, **fields)
    lenient = storm_and_check(broker, **fields, allows_denials=True)
    assert [fault.kind for fault in strict.faults] == ["denied"]
    assert "nothing" in strict.faults[0].example
    assert not strict.is_good
    assert lenient.is_good
    assert lenient.answers["denied"] == lenient.answered > 0


def test_sessions_that_nobody_opened_are_not_found_and_an_error(broker: RunningBroker) -> None:
    result = storm_and_check(broker, cycle="renew", sessions=0)
    assert result.statuses == {5: result.answered}
    assert result.reasons == {"SESSION_NOT_FOUND": result.answered}
    assert [fault.kind for fault in result.faults] == ["status"]
    assert "SESSION_NOT_FOUND" in result.faults[0].example


def test_a_process_that_is_watched_has_its_cpu_time_in_the_result(broker: RunningBroker) -> None:
    result = run_storm(plan_for(broker, cycle="renew", sessions=5, watched_process=broker.process.pid))
    assert result.watched_cpu_s is not None
    assert result.watched_cpu_s > 0
    assert result.client_cpu_s > 0


@pytest.mark.parametrize("is_mutual", [False, True], ids=["tls", "mutual"])
def test_a_storm_speaks_tls(tmp_path: Path, is_mutual: bool) -> None:
    authority = TestAuthority(tmp_path / "certificates")
    tls: dict[str, str] = {"tls_ca": str(authority.ca)}
    if is_mutual:
        files = authority.client("storm.example")
        tls |= {"tls_certificate": str(files.certificate), "tls_private_key": str(files.private_key)}
    settings = {"clients": {"tls": authority.server_tls(is_mutual=is_mutual)}}
    with running_broker(tmp_path, settings=settings, emulated_keys=KEYS) as broker:
        assert_whole(storm_and_check(broker, cycle="bundle", **tls))
        assert_whole(storm_and_check(broker, cycle="churn", sessions=5, **tls))
        stranger = TestAuthority(tmp_path / "stranger")
        refused = run_storm(plan_for(broker, cycle="bundle", connect_limit_s=0.3, tls_ca=str(stranger.ca)))
    assert {fault.kind for fault in refused.faults} == {"connect"}
    assert "TLS" in refused.faults[0].example
    assert refused.sent == 0


def test_a_stop_of_the_broker_under_a_storm_loses_no_answer(tmp_path: Path) -> None:
    with running_broker(tmp_path, emulated_keys=KEYS) as broker:
        with background_storm(plan_for(broker, cycle="renew", sessions=20, duration_s=30, ends_with_server=True)) as storm:
            broker.process.terminate()
            storm.join(30)
        result = storm.result
    assert result.is_server_gone
    assert result.error_examples == ()
    assert result.unanswered_at_end == 0
    assert result.sent == result.answered + result.retried_unprocessed + result.cut


def run_command(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`python -m loadtests.storm`."""
    command = [sys.executable, "-m", "loadtests.storm", *words]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=180, check=False)


def test_the_command_tours_all_cycles_with_a_broker_of_its_own_and_ends_with_status_0() -> None:
    words = ("--duration", "0.2", "--warmup", "0.05", "--connections", "2", "--streams", "4", "--data-plane", "grpcio")
    answer = run_command(*words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "every answer was as it should be" in answer.stdout
    assert [cycle for cycle in CYCLES if cycle != "noop" and f"\n{cycle}: " not in answer.stdout] == []


def test_the_command_ends_with_status_1_when_the_server_is_not_as_it_should_be(broker: RunningBroker) -> None:
    words = ("--cycle", "open_close", "--products", "nothing", "--duration", "0.2")
    answer = run_command("--target", broker.clients, "--http", broker.http, *words)
    assert answer.returncode == 1
    assert "ERROR denied" in answer.stdout


def test_the_command_sends_load_to_no_other_machine() -> None:
    answer = run_command("--target", "192.0.2.1:7600")
    assert answer.returncode == 2
    assert "load is only sent to this machine" in answer.stderr


@pytest.mark.parametrize("data_plane", ["native", "grpcio"])
def test_a_plan_as_json_gives_a_result_as_json(data_plane: str, tmp_path: Path) -> None:
    """With a broker of its own, whose keys are proven."""
    with running_broker(tmp_path, settings={"clients": {"data_plane": data_plane}}, emulated_keys=KEYS) as broker:
        broker.await_proven()
        answer = run_command("--plan", "-", stdin=plan_for(broker, cycle="open_close").to_json())
    assert answer.returncode == 0, answer.stdout + answer.stderr
    result = json.loads(answer.stdout)
    assert result["opened"] == result["closed"] > 0
    assert result["errors"] == 0
