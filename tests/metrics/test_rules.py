"""Recording rules and alerts: promtool accepts and tests them, and its tests notice when a rule is wrong."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from broker.cli.commands import usher
from tests.metrics.boards import dashboard_files
from tests.metrics.programs import PROMETHEUS_DIRECTORY, RULE_TESTS_FILE, RULES_FILE, promtool
from tests.metrics.promql import selectors
from tests.metrics.readings import exposed

RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in RULES if "record" in rule}


def test_promtool_accepts_the_example_configuration_with_its_rules():
    done = promtool("check", "config", "--lint-fatal", str(PROMETHEUS_DIRECTORY / "prometheus.yml"))
    assert done.returncode == 0, done.stdout


def test_alerts_fire_and_stay_silent_as_their_tests_say():
    done = promtool("test", "rules", str(RULE_TESTS_FILE))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # Each is a mistake that somebody could make, or an argument in a comment of the rules.
        ("last_over_time(usher_seats_free[5m])) == 0", "last_over_time(usher_seats_free[5m])) >= 0"),
        ("last_over_time(usher_seats_free[5m])", "usher_seats_free"),
        ("last_over_time(usher_seats_in_use[5m])", "last_over_time(usher_seats_capacity[5m])"),
        ("sum by (job, instance, product) (last_over_time(usher_seats_free", "min by (job, instance, product) (last_over_time(usher_seats_free"),
        ("        for: 5m\n", ""),
        ("        for: 5m\n", "        for: 15m\n"),
        ("last_over_time(usher_key_present[5m])", "usher_key_present"),
        ('unless on (job, instance, thumbprint)\n          (last_over_time(usher_key_state{state="disabled"}[5m]) == 1)', ""),
        ("        for: 2m\n", ""),
        (" or absent(up{job=\"usher\"})", ""),
        ("        for: 1m\n", ""),
        ("severity: critical", "severity: warning"),
        ("usher_key_info{", "usher_key_state{"),
        ("product:usher_seats_capacity:sum > 0", "product:usher_seats_capacity:sum"),
        ("rate(usher_denials_total[5m])", "increase(usher_denials_total[5m])"),
        ("last_over_time(usher_journal_writable[5m]) == 0", "last_over_time(usher_journal_writable[5m]) == 1"),
        ("last_over_time(usher_journal_writable[5m])", "usher_journal_writable"),
        ("last_over_time(usher_journal_spare_missing[5m]) == 1", "last_over_time(usher_journal_spare_missing[5m]) >= 0"),
        ("[5m]) > 0.8", "[5m]) > 0.4"),
        ("> 3 * last_over_time", "> 1 * last_over_time"),
        ("> 3 * last_over_time", "> 9 * last_over_time"),
        ("histogram_quantile(0.5,", "histogram_quantile(0.99,"),
        ("[5m]))) > 0.05", "[5m]))) > 0.5"),
        ("[5m]) < 3600", "[5m]) < 360"),
        ("(last_over_time(usher_last_run_clean[5m]) == 0)", "(last_over_time(usher_last_run_clean[5m]) == 1)"),
    ],
)  # fmt: skip
def test_planted_mistake_is_noticed(tmp_path: Path, right: str, wrong: str):
    text = RULES_FILE.read_text()
    assert right in text, "the rules have changed: plant the mistake anew"
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "rules" / RULES_FILE.name).write_text(text.replace(right, wrong))
    (tmp_path / "tests" / RULE_TESTS_FILE.name).write_text(RULE_TESTS_FILE.read_text())
    assert promtool("check", "rules", str(tmp_path / "rules" / RULES_FILE.name)).returncode == 0, "it must still be a rule"
    assert promtool("test", "rules", str(tmp_path / "tests" / RULE_TESTS_FILE.name)).returncode != 0


def test_the_three_alerts_are_there():
    assert set(ALERTS) >= {"SeatsExhausted", "SeatKeyMissing", "BrokerDown"}


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_been_tested_both_ways(name: str):
    cases = [
        case
        for test in yaml.safe_load(RULE_TESTS_FILE.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    assert any(case["exp_alerts"] for case in cases), "never seen to fire"
    assert any(not case["exp_alerts"] for case in cases), "never seen to be silent"


@pytest.mark.parametrize("name", ALERTS)
def test_alert_waits_has_a_severity_and_explains_itself(name: str):
    alert = ALERTS[name]
    assert re.fullmatch(r"\d+m", alert["for"])
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}


@pytest.mark.parametrize("name", ALERTS)
def test_runbook_has_a_chapter_for_the_alert(name: str):
    path, _, anchor = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    runbook = PROMETHEUS_DIRECTORY.parents[1] / path
    chapters = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbook.read_text(), flags=re.MULTILINE | re.DOTALL))
    assert anchor == name.lower()
    for heading in ("**Means.**", "**Look.**", "**Do.**"):
        assert heading in chapters[name]


def test_commands_of_the_runbook_and_the_dashboard_exist():
    texts = [PROMETHEUS_DIRECTORY / "runbook.md", *dashboard_files()]
    found = {words for path in texts for words in re.findall(r"`usher ([a-z]+(?: [a-z]+)?)", path.read_text())}
    assert len(found) > 5
    for words in found:
        path = words.split()
        command: click.Command = usher
        while path:
            assert isinstance(command, click.Group), words
            next_command = command.get_command(click.Context(command), path.pop(0))
            assert next_command, words
            command = next_command


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.get("alert") or rule["record"]) for rule in RULES])
def test_rule_names_only_metrics_and_labels_that_exist(rule: dict[str, Any]):
    for selector in selectors(rule["expr"]):
        if selector.metric not in RECORDS and selector.metric != "up":
            assert selector.labels <= exposed().labels[selector.metric], selector.metric


def test_example_scrapes_the_job_and_port_that_the_rules_and_the_broker_have():
    (scrape,) = yaml.safe_load((PROMETHEUS_DIRECTORY / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["job_name"] == "usher"
    assert scrape["static_configs"] == [{"targets": ["127.0.0.1:7602"]}]
