"""The building blocks of Usher's dashboards: variables, queries and panels with the house's habits built in.

Every panel has a title, a description that says what to make of it, a unit, and the data source variable; every query
selects the broker by $job and $instance. Queries read the raw metrics, not recording rules, so that a dashboard
works before any rule is loaded. Classic JSON (works in Grafana 10 to 13) by grafana-foundation-sdk, pinned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    DataSourceRef,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

BROKER = 'job=~"$job",instance=~"$instance"'
"""Label matchers that select the chosen brokers."""
PRODUCT = f'{BROKER},product=~"$product"'
"""And the chosen products of them."""

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, ORANGE, RED = "green", "orange", "red"

TimeSeries = timeseries.Panel
Panel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel


@dataclass(frozen=True, slots=True)
class Series:
    """One query over time and the name of each of its lines, such as "{{product}} in use"."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Column:
    """One query of now: its values fill a column of a table. "" as the title: only its labels are shown.

    A table has one unit for all its columns: the schema of Grafana's SDK takes no override of a unit, and a file that
    is checked is worth more than a column that is prettier.
    """

    title: str
    expr: str


# --- variables --------------------------------------------------------------------------------------------


def datasource_variable() -> dashboard.DatasourceVariable:
    """Which Prometheus."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def label_variable(name: str, label: str, metric: str) -> dashboard.QueryVariable:
    """All values of the label `name` on the metric, any number of them, all at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .hide(VariableHide.DONT_HIDE)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )


# --- queries ----------------------------------------------------------------------------------------------


def _ref_id(index: int) -> str:
    return chr(ord("A") + index)


def _over_time(index: int, series: Series) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(SOURCE).ref_id(_ref_id(index)).expr(series.expr)
    return query.legend_format(series.legend).range()


def _now(index: int, expr: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(SOURCE).ref_id(_ref_id(index)).expr(expr)
    return query.format(PromQueryFormat.TABLE).instant()


# --- panels -----------------------------------------------------------------------------------------------


def tile(
    title: str, description: str, expr: str, *, unit: str = "short", steps: Sequence[tuple[float, str]] = ()
) -> stat.Panel:
    """One number in large, green until the first of `steps`, with its course behind it."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(_steps(steps))
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_over_time(0, Series(expr, "")))
        .span(4)
        .height(4)
    )


def _steps(steps: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    first = Threshold(value=None, color=GREEN)
    later = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([first, *later])


def lines(
    title: str, description: str, series: Sequence[Series], *, unit: str = "short", width: int = 12, is_stacked: bool = False
) -> TimeSeries:
    """Lines over time, from zero, with the last and the greatest value in the legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .draw_style(GraphDrawStyle.LINE)
        .fill_opacity(20 if is_stacked else 5)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .span(width)
        .height(8)
    )
    if is_stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for index, one in enumerate(series):
        panel = panel.with_target(_over_time(index, one))
    return panel


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )


def rows_of_now(
    title: str, description: str, columns: Sequence[Column], *, names: Mapping[str, str], width: int = 24, unit: str = "short"
) -> table.Panel:
    """A table of now: one row for each set of labels in `names` (label → heading), one column a query."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_headings(columns, names))
        .span(width)
        .height(8)
    )
    for index, column in enumerate(columns):
        panel = panel.with_target(_now(index, column.expr))
    return panel


def _headings(columns: Sequence[Column], names: Mapping[str, str]) -> DataTransformerConfig:
    """One query's values are called "Value", those of several "Value #A", "Value #B"."""
    values = ["Value"] if len(columns) == 1 else [f"Value #{_ref_id(index)}" for index in range(len(columns))]
    titles = {value: column.title for value, column in zip(values, columns, strict=True) if column.title}
    hidden = ["Time", *(value for value in values if value not in titles)]
    options = {
        "excludeByName": dict.fromkeys(hidden, True),
        "indexByName": {name: index for index, name in enumerate([*names, *titles])},
        "renameByName": {**names, **titles},
    }
    return DataTransformerConfig(id_val="organize", options=options)


def heat(title: str, description: str, expr: str, *, unit: str, width: int = 12) -> heatmap.Panel:
    """The buckets of a histogram over time; `unit` is that of the buckets."""
    query = prometheus.Dataquery().datasource(SOURCE).ref_id(_ref_id(0)).expr(expr)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .with_target(query.format(PromQueryFormat.HEATMAP).legend_format("{{le}}").range())
        .span(width)
        .height(8)
    )
