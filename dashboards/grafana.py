"""A board as Grafana's JSON, through the foundation SDK."""

from __future__ import annotations

import json
from typing import Final, assert_never

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from dashboards.board import Board, Choice, Limits, Look, Panel

TAG: Final = "chrono_ray"
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""Whichever Prometheus is chosen above the board: no uid of any Grafana is built in."""
HEIGHT: Final = 8
NUMBER_HEIGHT: Final = 4
REFS: Final = "ABCDEFGH"
GOOD, WORRYING, BAD = "green", "orange", "red"


def encoded(board: Board) -> str:
    """The JSON that is committed, provisioned and pushed: always the same for the same board."""
    built = _board(board).build()
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _board(board: Board) -> build.Dashboard:
    made = (
        build.Dashboard(board.title).uid(board.uid).description(board.description).tags([TAG])
        .time("now-3h", "now").refresh("30s").timezone("browser").readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR).link(_others())
        .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )  # fmt: skip
    for choice in board.choices:
        made.with_variable(_choice(choice))
    number = 0
    for row in board.rows:
        number += 1
        made.with_row(build.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made.with_panel(_panel(panel).id(number))
    return made


def _others() -> build.DashboardLink:
    """A list of our boards at the top of each."""
    return (
        build.DashboardLink("chrono_ray").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
        .as_dropdown(True).keep_time(True)
    )  # fmt: skip


def _choice(choice: Choice) -> build.QueryVariable:
    return (
        build.QueryVariable(choice.name).label(choice.label).datasource(SOURCE)
        .query(f"label_values({choice.metric}, {choice.name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".*")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
    )  # fmt: skip


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel:
    made = _look(panel.look)
    made.title(panel.title).description(panel.description).datasource(SOURCE)
    made.unit(panel.unit).span(panel.width).min(0)
    made.no_value("nothing" if panel.empty else "no data")
    made.thresholds(_thresholds(panel.limits))
    for ref, query in zip(REFS, panel.queries, strict=False):
        made.with_target(_target(ref, query.expression, query.legend or panel.title))
    return made


def _look(look: Look) -> timeseries.Panel | stat.Panel:
    match look:
        case Look.LINES | Look.STACK:
            return _curves(look)
        case Look.NUMBER:
            return _number()
        case other:
            assert_never(other)


def _curves(look: Look) -> timeseries.Panel:
    made = (
        timeseries.Panel().height(HEIGHT).line_width(1).show_points(looks.VisibilityMode.NEVER)
        .fill_opacity(30 if look is Look.STACK else 8)
        .legend(common.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"])
                .display_mode(looks.LegendDisplayMode.TABLE)
                .placement(looks.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI)
                 .sort(looks.SortOrder.DESCENDING))
    )  # fmt: skip
    if look is Look.STACK:
        made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    return made


def _number() -> stat.Panel:
    return (
        stat.Panel().height(NUMBER_HEIGHT).graph_mode(looks.BigValueGraphMode.AREA)
        .color_mode(looks.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip


def _thresholds(limits: Limits | None) -> build.ThresholdsConfig:
    made = build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    if limits is None:
        return made.steps([models.Threshold(value=None, color=GOOD)])
    if limits.bad >= limits.worrying:
        colors, values = (GOOD, WORRYING, BAD), (None, limits.worrying, limits.bad)
    else:
        colors, values = (BAD, WORRYING, GOOD), (None, limits.bad, limits.worrying)
    return made.steps([
        models.Threshold(value=value, color=color)
        for value, color in zip(values, colors, strict=True)
    ])  # fmt: skip


def _target(ref: str, expression: str, legend: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery().ref_id(ref).expr(expression).legend_format(legend)
        .range().editor_mode(prometheus_models.QueryEditorMode.CODE).datasource(SOURCE)
    )  # fmt: skip
