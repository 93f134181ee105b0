"""The parts of a dashboard: questions, panels, and the frame around them, the same for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, text, timeseries
from grafana_foundation_sdk.builders import dashboard as frame
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import AnnotationQuery as Annotation
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    FieldColor,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.dashboard import Panel as DashboardPanel

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "outspoken"
GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "#8e8e8e"

# Warm is what receivers should mend, purple what the guard or an operator said, and never green.
OUTCOMES = {
    "http_3xx": "#f2cc0c",
    "http_4xx": "#ff9830",
    "http_410": "#8e8e8e",
    "http_413": "#fade2a",
    "http_429": "#ffb357",
    "http_5xx": "#f2495c",
    "connect": "#c4162a",
    "connect_timeout": "#ad0317",
    "dns": "#8f3bb8",
    "shortage": "#d9d9d9",
    "tls": "#5794f2",
    "read_timeout": "#e02f44",
    "reset": "#fa6400",
    "protocol": "#3274d9",
    "blocked": "#b877d9",
    "unsendable": "#96d98d",
    "internal": "#ffffff",
}
REASONS = {
    "exhausted": "#f2495c",
    "expired": "#ff9830",
    "too_large": "#fade2a",
    "gone": "#8e8e8e",
    "forbidden_destination": "#b877d9",
    "unsendable": "#96d98d",
    "operator": "#5794f2",
    "stream_killed": "#c4162a",
}

_COUNTS = frozenset(
    {units.Short, units.EventsPerSecond, units.OpsPerSecond, units.RequestsPerSecond, units.RowsPerSecond}
)
_TARGET = 'job=~"$job",instance=~"$instance"'
_CONSOLE = "http://127.0.0.1:9465"  # as in config/prometheus/prometheus.yml, until somebody says another
_BUILDS = '{__name__=~"(relay|engine)_build_info"}'

Steps = Sequence[tuple[float, str]]
"""From which value on which colour holds; below the first, green does."""

Panel = Builder[DashboardPanel]
"""A panel of any kind, before it is placed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question. In a selector, `@` stands for the job and instances that were chosen, `%` for the job alone, which
    is all that a recorded series has. `{{label}}` in a legend is the value of a label."""

    expression: str
    legend: str
    exemplars: bool = False

    def target(self, letter: str, *, instant: bool = False) -> prometheus.Dataquery:
        expression = self.expression.replace("{@", "{" + _TARGET).replace("{%", '{job=~"$job"')
        query = prometheus.Dataquery().expr(" ".join(expression.split())).legend_format(self.legend).ref_id(letter)
        query = query.instant() if instant else query.range()
        return query.exemplar(exemplar=True) if self.exemplars else query


def quantile(share: float, metric: str, legend: str, *, narrow: str = "", exemplars: bool = False) -> Ask:
    """What that share of the values of a histogram does not exceed."""
    buckets = f"sum by (le) (rate({metric}_bucket{{@{narrow}}}[$__rate_interval]))"
    return Ask(f"histogram_quantile({share}, {buckets})", legend, exemplars)


def p99(metric: str, by: str = "instance") -> str:
    """What 99 of 100 values do not exceed, for each value of a label."""
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric}_bucket{{@}}[$__rate_interval])))"


def ours(expression: str) -> str:
    """The same, of our processes only: whatever else Prometheus scrapes is a Python process too."""
    return f"{expression} and on (job, instance) {_BUILDS.replace('}', ',' + _TARGET + '}')}"


def number(
    title: str,
    description: str,
    unit: str,
    ask: Ask,
    *,
    steps: Steps = (),
    width: int = 4,
    base: str = GREEN,
    decimals: int | None = None,
    nothing: str = "",
    leads: str = "",
) -> Panel:
    """One number, coloured by how bad it is; the word for `nothing` stands where there is none. It `leads` to a page of
    the console."""
    panel = (
        stat.Panel()
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps, base))
    )
    if nothing:
        panel = panel.no_value(nothing)
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _common(panel, title, description, unit, [ask], width, 4, leads=leads)


def graph(
    title: str,
    description: str,
    unit: str,
    *asks: Ask,
    width: int = 8,
    stacked: bool = False,
    columns: bool = False,
    lines: Steps = (),
    colours: Mapping[str, str] | None = None,
    least: float | None = None,
    greatest: float | None = None,
    leads: str = "",
) -> Panel:
    """Values over time, as lines, areas or columns. `lines` are drawn across, `colours` belong to legends;
    the axis goes up to `least` at least, which for counts and rates is one, and to `greatest` at most. A value
    `leads` to a page of the console."""
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .min(0)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if columns:
        panel = panel.draw_style(GraphDrawStyle.BARS).fill_opacity(80)
    if lines:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(_thresholds(lines, "transparent")).thresholds_style(style)
    if greatest is not None:
        panel = panel.max(greatest)
    if least is not None or unit in _COUNTS:
        panel = panel.axis_soft_max(least or 1)
    for legend, colour in (colours or {}).items():
        panel = panel.override_by_name(legend, [DynamicConfigValue("color", _fixed(colour))])
    return _common(panel, title, description, unit, asks, width, 8, leads=leads)


def bars(title: str, description: str, unit: str, ask: Ask, *, width: int = 8, leads: str = "") -> Panel:
    """One bar for each series, as it stands now; it `leads` to a page of the console."""
    panel = (
        bargauge.Panel()
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(0)
        .color_scheme(frame.FieldColor().mode(FieldColorModeId.CONTINUOUS_BL_YL_RD))
    )
    return _common(panel, title, description, unit, [ask], width, 8, instant=True, leads=leads)


def words(title: str, description: str, content: str, *, width: int = 8, height: int = 8) -> Panel:
    """What no number says, as Markdown."""
    return text.Panel().title(title).description(description).content(content).span(width).height(height)


def processes() -> list[Panel]:
    """What each process of ours takes of its machine."""
    return [
        graph(
            "Processor",
            "Cores in use.",
            units.Short,
            Ask(ours("rate(process_cpu_seconds_total{@}[$__rate_interval])"), "{{job}} {{instance}}"),
            width=6,
        ),
        graph(
            "Memory",
            "Resident, without the recogniser processes.",
            units.BytesIEC,
            Ask(ours("process_resident_memory_bytes{@}"), "{{job}} {{instance}}"),
            width=6,
        ),
    ]


def dashboard(uid: str, title: str, description: str, rows: Sequence[tuple[str, Sequence[Panel]]]) -> frame.Dashboard:
    """The frame: variables, links to the sisters, annotations, and rows of panels."""
    built = (
        frame.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables([_source(), *_variables(), _console()])
        .annotations(_annotations())
        .link(_sisters())
        .link(_in_the_console("/"))
    )
    for name, panels in rows:
        built = built.with_row(frame.Row(name))
        for panel in panels:
            built = built.with_panel(panel)
    return built


def _common(
    panel: Any,
    title: str,
    description: str,
    unit: str,
    asks: Sequence[Ask],
    width: int,
    height: int,
    *,
    instant: bool = False,
    leads: str = "",
) -> Panel:
    panel = panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    for letter, ask in zip("ABCDEFGHIJ", asks, strict=False):
        panel = panel.with_target(ask.target(letter, instant=instant))
    if leads:
        panel = panel.data_links([_in_the_console(leads)])
    done: Panel = panel
    return done


def _in_the_console(path: str) -> frame.DashboardLink:
    link = frame.DashboardLink("Console").type(DashboardLinkType.LINK)
    return link.url("${console:raw}" + path).target_blank(True)


def _thresholds(steps: Steps, base: str) -> frame.ThresholdsConfig:
    marks = [Threshold(value=None, color=base), *(Threshold(value=value, color=colour) for value, colour in steps)]
    return frame.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(marks)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )


def _fixed(colour: str) -> FieldColor:
    return FieldColor(mode=FieldColorModeId.FIXED, fixed_color=colour)


def _source() -> frame.DatasourceVariable:
    return frame.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _variables() -> list[frame.QueryVariable]:
    return [
        _variable("job", "Job", f"label_values({_BUILDS}, job)"),
        _variable("instance", "Instance", "label_values(" + _BUILDS.replace("}", ',job=~"$job"}') + ", instance)"),
    ]


def _variable(name: str, label: str, query: str) -> frame.QueryVariable:
    return (
        frame.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .hide(VariableHide.DONT_HIDE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _console() -> frame.TextBoxVariable:
    """Where links lead: as those who look at the dashboards reach it."""
    current = VariableOption(selected=True, text=_CONSOLE, value=_CONSOLE)
    return frame.TextBoxVariable("console").label("Console").default_value(_CONSOLE).current(current)


def _annotations() -> list[Builder[Annotation]]:
    started = ours(f"changes(process_start_time_seconds{{{_TARGET}}}[2m]) > 0")
    return [
        _annotation("Starts", started, BLUE),
        _annotation("Firing alerts", 'ALERTS{alertstate="firing",severity=~"page|ticket",job=~"$job"}', RED),
    ]


def _annotation(name: str, expression: str, colour: str) -> frame.AnnotationQuery:
    query = frame.AnnotationQuery().name(name).datasource(SOURCE).enable(True).hide(False)
    return query.icon_color(colour).expr(expression)


def _sisters() -> frame.DashboardLink:
    link = frame.DashboardLink("Outspoken").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)
