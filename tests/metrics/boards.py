"""The dashboards as the tests see them: every panel, query and variable of every JSON file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.metrics.programs import GRAFANA_DIRECTORY

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel or variable. `place` says where it stands; `is_instant` asks for now only."""

    place: str
    expr: str
    is_instant: bool


def dashboard_files() -> list[Path]:
    """All that are shipped."""
    return sorted((GRAFANA_DIRECTORY / "dashboards").glob("*.json"))


def read(path: Path) -> Json:
    """One dashboard."""
    board: Json = json.loads(path.read_text())
    return board


def panels(board: Json) -> list[Json]:
    """All panels that show something, those inside collapsed rows too."""
    inside = [panel for one in board["panels"] for panel in one.get("panels", [])]
    return [panel for panel in [*board["panels"], *inside] if panel["type"] != "row"]


def variables(board: Json) -> dict[str, Json]:
    """Template variables by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def panel_queries(board: Json) -> list[Query]:
    """Every target of every panel."""
    return [
        Query(f"{board['title']}: {panel['title']}, query {target['refId']}", target["expr"], bool(target.get("instant")))
        for panel in panels(board)
        for target in panel["targets"]
    ]


def variable_queries(board: Json) -> dict[str, tuple[str, str]]:
    """(expression, label) of each `label_values(expression, label)`, by the variable's name."""
    found = {}
    for name, variable in variables(board).items():
        if variable["type"] == "query":
            inside = variable["query"].removeprefix("label_values(").removesuffix(")")
            expr, _, label = inside.rpartition(",")
            found[name] = (expr.strip(), label.strip())
    return found
