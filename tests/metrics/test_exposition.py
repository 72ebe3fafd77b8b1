"""The page as programs that are not ours read it: promtool's lint, and the strict parser of OpenMetrics."""

import re

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.metrics.programs import promtool
from tests.metrics.readings import Bench, lived_in


def test_promtool_finds_nothing_to_say_about_the_metrics():
    done = promtool("check", "metrics", text=generate_latest(lived_in().registry).decode())
    assert (done.returncode, done.stdout) == (0, "")


def test_promtool_would_complain_about_a_counter_without_total():
    done = promtool("check", "metrics", text="# HELP usher_opens Opens.\n# TYPE usher_opens counter\nusher_opens 1\n")
    assert "counter metrics should have" in done.stdout


def test_openmetrics_form_is_read_by_a_strict_parser():
    bench = lived_in()
    families = list(text_string_to_metric_families(generate_openmetrics(bench.registry).decode()))
    read = {sample.name for family in families for sample in family.samples}
    assert read == set(bench.series())


def test_no_series_is_shown_twice():
    lines = [line for line in generate_latest(lived_in().registry).decode().splitlines() if not line.startswith("#")]
    series = [re.sub(r" \S+$", "", line) for line in lines]
    assert len(series) == len(set(series))


def test_broker_without_products_and_keys_can_be_scraped():
    done = promtool("check", "metrics", text=generate_latest(Bench().registry).decode())
    assert (done.returncode, done.stdout) == (0, "")


def test_every_family_explains_itself():
    for family in lived_in().families():
        assert family.documentation.endswith("."), family.name
