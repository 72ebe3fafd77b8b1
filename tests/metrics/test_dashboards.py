"""The dashboards: as the code makes them, valid by Grafana's schema, and by the rules of Grafana's dashboard linter.

No Grafana was there to open them in; the queries are run for real in test_live_prometheus.py.
"""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.metrics.boards import (
    Json,
    Query,
    dashboard_files,
    panel_queries,
    panels,
    read,
    variable_queries,
    variables,
)
from tests.metrics.programs import GRAFANA_DIRECTORY
from tests.metrics.promql import Selector, selectors, substituted
from tests.metrics.readings import exposed

SCHEMA = json.loads((Path(__file__).parent / "data" / "grafana-dashboard.schema.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
BOARDS = [pytest.param(read(path), id=path.stem) for path in dashboard_files()]
QUERIES = [pytest.param(query, id=query.place) for path in dashboard_files() for query in panel_queries(read(path))]

# Units of Grafana that are used here (packages/grafana-data/src/valueFormats/categories.ts).
UNITS = {"Bps", "short", "percentunit", "s", "bytes", "ops", "reqps"}
_RANGE_FUNCTIONS = {"rate", "increase", "irate"}


def read_selectors(query: Query) -> list[Selector]:
    return selectors(substituted(query.expr))


def test_there_is_an_overview():
    assert [path.stem for path in dashboard_files()] == ["overview"]


def test_checked_in_overview_is_what_the_code_makes():
    script = GRAFANA_DIRECTORY / "overview.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the schema --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", BOARDS)
def test_dashboard_is_valid_by_the_schema(board):
    errors = [f"{list(error.absolute_path)}: {error.message[:300]}" for error in VALIDATOR.iter_errors(board)]
    assert errors == []


@pytest.mark.parametrize("board", BOARDS)
def test_schema_would_refuse_a_wrong_type_and_an_unknown_name(board):
    for spoil in (_with_number_as_unit, _with_unknown_name):
        wrong = copy.deepcopy(board)
        spoil(wrong)
        assert not VALIDATOR.is_valid(wrong), spoil.__name__


def _with_number_as_unit(board: Json) -> None:
    panels(board)[0]["fieldConfig"]["defaults"]["unit"] = 5


def _with_unknown_name(board: Json) -> None:
    board["colour"] = "blue"


# --- the linter's rules: the board ---------------------------------------------------------------------------


@pytest.mark.parametrize("board", BOARDS)
def test_board_cannot_be_edited_and_refreshes_itself(board):
    assert board["editable"] is False
    assert re.fullmatch(r"\d+[sm]", board["refresh"])
    assert board["uid"].startswith("usher-")
    assert "usher" in board["tags"]
    assert board["description"]


@pytest.mark.parametrize("board", BOARDS)
def test_data_source_is_a_variable_and_everything_uses_it(board):
    declared = variables(board)["datasource"]
    assert (declared["type"], declared["query"]) == ("datasource", "prometheus")
    for thing in (*panels(board), *(target for panel in panels(board) for target in panel["targets"])):
        assert thing["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for name in ("job", "instance", "product"):
        assert variables(board)[name]["datasource"]["uid"] == "${datasource}", name


@pytest.mark.parametrize("board", BOARDS)
def test_variables_take_many_values_and_look_again_when_the_time_changes(board):
    for name in ("job", "instance", "product"):
        variable = variables(board)[name]
        assert (variable["multi"], variable["includeAll"], variable["allValue"], variable["refresh"]) == (True, True, ".+", 2), name


@pytest.mark.parametrize("board", BOARDS)
def test_panel_numbers_are_unique_and_panels_do_not_overlap(board):
    everything = [*board["panels"], *(inner for one in board["panels"] for inner in one.get("panels", []))]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("board", BOARDS)
def test_every_panel_has_a_title_a_description_a_unit_and_a_query(board):
    for panel in panels(board):
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"], panel["title"]
        ref_ids = [target["refId"] for target in panel["targets"]]
        assert len(set(ref_ids)) == len(ref_ids), panel["title"]


@pytest.mark.parametrize("board", BOARDS)
def test_every_column_of_a_table_is_named_or_hidden(board):
    for panel in (one for one in panels(board) if one["type"] == "table"):
        merge, organize = panel["transformations"]
        assert (merge["id"], organize["id"]) == ("merge", "organize")
        count = len(panel["targets"])
        values = {"Value"} if count == 1 else {f"Value #{target['refId']}" for target in panel["targets"]}
        settled = organize["options"]["renameByName"].keys() | organize["options"]["excludeByName"].keys()
        assert values <= settled, panel["title"]


# --- the linter's rules: queries -----------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES)
def test_query_is_promql_that_names_only_metrics_that_exist(query):
    named = {selector.metric for selector in read_selectors(query)}
    assert named
    assert named <= exposed().labels.keys()


@pytest.mark.parametrize("query", QUERIES)
def test_query_names_only_labels_that_its_metrics_have(query):
    for selector in read_selectors(query):
        assert selector.labels <= exposed().labels[selector.metric], selector.metric


@pytest.mark.parametrize("query", QUERIES)
def test_query_selects_the_chosen_brokers(query):
    for selector in read_selectors(query):
        assert {"job", "instance"} <= selector.labels, selector.metric


@pytest.mark.parametrize("query", QUERIES)
def test_counters_are_only_read_as_rates_and_only_counters_are(query):
    for selector in read_selectors(query):
        is_rated = bool(selector.functions) and selector.functions[-1] in _RANGE_FUNCTIONS
        assert is_rated == (selector.metric in exposed().counters), selector.metric


@pytest.mark.parametrize("query", QUERIES)
def test_range_is_grafana_s_own_so_that_no_zoom_finds_an_empty_window(query):
    assert set(re.findall(r"\[([^\]]+)\]", query.expr)) <= {"$__rate_interval", "$__range"}


@pytest.mark.parametrize("board", BOARDS)
def test_variable_queries_name_metrics_and_labels_that_exist(board):
    found = variable_queries(board)
    assert set(found) == {"job", "instance", "product"}
    for expr, label in found.values():
        (selector,) = selectors(substituted(expr))
        assert label in exposed().labels[selector.metric]


# --- what an admin must find ---------------------------------------------------------------------------------


def test_overview_shows_what_an_admin_asks_first():
    shown = {selector.metric for query in panel_queries(read(dashboard_files()[0])) for selector in read_selectors(query)}
    assert shown >= {
        "usher_seats_capacity",
        "usher_seats_in_use",
        "usher_seats_in_use_peak",
        "usher_seats_free",
        "usher_seats_deficit",
        "usher_denials_total",
        "usher_leases",
        "usher_charges",
        "usher_sessions",
        "usher_sessions_opened_total",
        "usher_renewals_total",
        "usher_keys",
        "usher_key_state",
        "usher_key_present",
        "usher_licences",
        "usher_licence_expiry_timestamp_seconds",
        "usher_request_duration_seconds_bucket",
        "usher_ledger_records",
        "usher_ledger_records_limit",
        "usher_events_backlog_bytes",
    }


# --- provisioning --------------------------------------------------------------------------------------------


def test_provisioned_data_source_is_a_prometheus_with_the_scrape_interval_of_the_example():
    (source,) = _provisioning("datasources/prometheus.yaml")["datasources"]
    assert (source["type"], source["access"], source["editable"]) == ("prometheus", "proxy", False)
    example = yaml.safe_load((GRAFANA_DIRECTORY.parent / "prometheus" / "prometheus.yml").read_text())
    # Grafana makes $__rate_interval from it.
    assert source["jsonData"]["timeInterval"] == example["global"]["scrape_interval"]


def test_provisioned_dashboards_come_from_files_and_stay_as_they_are():
    (provider,) = _provisioning("dashboards/usher.yaml")["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    assert Path(provider["options"]["path"]).is_absolute()


def _provisioning(name: str) -> Json:
    parsed: Json = yaml.safe_load((GRAFANA_DIRECTORY / "provisioning" / name).read_text())
    assert parsed["apiVersion"] == 1
    return parsed
