"""The charts: each one specification, of which page, PNG and SVG are made by Vega-Altair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnperf.extras import needs_extra
from cnnperf.records.case import PHASES
from cnnperf.records.engines import ENGINES
from cnnperf.report.drawing import Chart, belongs
from cnnperf.report.rows import Row, ceiling_rows
from cnnperf.report.sweep_charts import sweep_charts
from cnnperf.report.view import RunView

with needs_extra("report", "a figure or page"):
    import altair as alt

SECONDS = "format(datum.value, '~s') + 's'"
ROW_HEIGHT = 30  # pixels
MEMORY_HEIGHT = 17


def charts_of(view: RunView) -> list[Chart]:
    """Return all charts for which a run has something to show."""
    run, cases, memory, ratios = view.run, view.case_rows, view.memory_rows, view.ratio_rows
    phases = [phase for phase in PHASES if any(row["phase"] == phase for row in cases)]
    charts = [_interval_chart("latency", phase, cases) for phase in phases]
    charts += [_interval_chart("throughput", phase, cases) for phase in phases]
    charts += [_memory_chart(phase, memory) for phase in phases if any(row["phase"] == phase for row in memory)]
    for kind in RATIOS:
        wanted = [{"kind": kind, "phase": phase} for phase in phases]
        charts += [_ratio_chart(where, ratios) for where in wanted if any(belongs(row, where) for row in ratios)]
    if run.ceilings and any(row["intensity"] for row in cases):
        charts.append(_roofline(cases, ceiling_rows(run)))
    return charts + sweep_charts(run)


@dataclass(frozen=True)
class Ratio:
    """Look of one kind of ratio chart.

    Attributes:
        section: Heading.
        title: Before the phase.
        axis: Title of the axis.
        even: Where it makes no difference, or None.
        scale: Of the axis.
        number: Format of its numbers.
    """

    section: str
    title: str
    axis: str
    even: float | None = 1.0
    scale: str = "log"
    number: str = ".2f"


RATIOS: Mapping[str, Ratio] = {
    "engine": Ratio("Compiled against eager", "Compiling pays above 1", "eager / compiled"),
    "break_even": Ratio(
        "Compiled against eager", "Compiling has paid for itself", "after so many calls, logarithmic", None, number="~s"
    ),
    "device": Ratio("CUDA against CPU", "CUDA is faster above 1", "CPU / CUDA"),
    "cost": Ratio("What a part costs", "It costs above 1", "with / without"),
    "recovery": Ratio(
        "What a part costs", "Fusion takes back, of what Squeeze-and-Excitation costs", "share", 0.0, "linear", ".0%"
    ),
}
INTERVALS = {
    "latency": ("Latency", "seconds a call, logarithmic", SECONDS, "~s"),
    "throughput": ("Throughput", "images a second, logarithmic", "format(datum.value, '~s')", "~s"),
}


def _interval_chart(metric: str, phase: str, rows: Sequence[Row]) -> Chart:
    section, title, label, number = INTERVALS[metric]
    x = alt.X(
        f"{metric}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(labelExpr=label, tickCount=4),
    )
    tooltip = [
        alt.Tooltip("label:N", title="case"),
        alt.Tooltip(f"{metric}:Q", title=metric, format=f".3{number.removeprefix('~')}"),
        alt.Tooltip(f"{metric}_low:Q", title="from", format=f".3{number.removeprefix('~')}"),
        alt.Tooltip(f"{metric}_high:Q", title="to", format=f".3{number.removeprefix('~')}"),
        alt.Tooltip(f"{metric}_rounds:Q", title="rounds"),
        alt.Tooltip("doubt:N", title="to doubt"),
    ]
    common = {
        "y": _rows_axis(),
        "yOffset": alt.YOffset("engine:N", sort=list(ENGINES)),
        "color": _color("engine"),
        "tooltip": tooltip,
    }
    base = _over("cases")
    line = base.mark_rule(strokeWidth=3, opacity=0.5).encode(
        x=alt.X(f"{metric}_low:Q", title=title), x2=f"{metric}_high:Q", **common
    )
    point = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, shape=alt.Shape("engine:N", legend=None, sort=list(ENGINES)), **common
    )
    layered = _sized(line + point)
    return Chart(f"{metric}-{phase}", section, f"{section}, {phase}", "cases", rows, layered, {"phase": phase})


def _memory_chart(phase: str, rows: Sequence[Row]) -> Chart:
    chart = (
        _over("memory")
        .mark_bar()
        .encode(
            y=_rows_axis(),
            x=alt.X("sum(mib):Q", title="MiB at the peak", axis=alt.Axis(tickCount=5)),
            color=alt.Color("part:N", sort=None, legend=alt.Legend()),
            order=alt.Order("order:Q"),
            tooltip=[alt.Tooltip("label:N", title="case"), "part:N", alt.Tooltip("mib:Q", title="MiB", format=".4g")],
        )
    )
    return Chart(
        f"memory-{phase}",
        "Memory",
        f"Memory at the peak, {phase}",
        "memory",
        rows,
        chart.properties(width="container", height=alt.Step(MEMORY_HEIGHT)),
        {"phase": phase},
    )


def _ratio_chart(where: Mapping[str, str], rows: Sequence[Row]) -> Chart:
    kind, phase = where["kind"], where["phase"]
    about = RATIOS[kind]
    base = _over("ratios")
    common = {
        "y": _rows_axis(),
        "yOffset": alt.YOffset("engine:N", sort=list(ENGINES)),
        "color": _color("engine"),
        "tooltip": [alt.Tooltip("label:N", title="case"), alt.Tooltip("told:N", title=about.axis.partition(",")[0])],
    }
    scale = alt.Scale(type=about.scale, nice=False, padding=12, zero=False)
    line = base.mark_rule(strokeWidth=3, opacity=0.5).encode(x=alt.X("low:Q", title=about.axis), x2="high:Q", **common)
    opacity = alt.condition(alt.datum.seen == "difference seen", alt.value(1), alt.value(0.35))
    point = base.mark_point(filled=True, size=70).encode(
        x=alt.X("ratio:Q", title=about.axis, scale=scale, axis=alt.Axis(format=about.number, tickCount=4)),
        opacity=opacity,
        **common,
    )
    # A screen reader would be told of a layer that is empty.
    layers = [line, point] if any(row["low"] is not None for row in rows if belongs(row, where)) else [point]
    marks = alt.layer(*([] if about.even is None else [_line_at(about.even)]), *layers)
    return Chart(f"{kind}-{phase}", about.section, f"{about.title}, {phase}", "ratios", rows, _sized(marks), where)


def _line_at(even: float) -> Any:
    values = alt.InlineData(values=[{"even": even}])
    return alt.Chart(values).mark_rule(strokeDash=[4, 4], color="#888888").encode(x="even:Q")


def _roofline(rows: Sequence[Row], ceilings: Sequence[Row]) -> Chart:
    lines = [
        {
            **row,
            "intensity": intensity,
            "flop_rate": min(float(row["bandwidth"] or 0) * intensity, float(row["rate"] or 0)),
        }
        for row in ceilings
        for knee in [float(row["knee"] or 1)]
        for intensity in (knee / 64, knee, knee * 64)
    ]
    scale = alt.Scale(type="log", nice=False)
    x = alt.X(
        "intensity:Q",
        title="flop for each byte that must move, logarithmic",
        scale=scale,
        axis=alt.Axis(format="~s", tickCount=4),
    )
    y = alt.Y("flop_rate:Q", title="flop/s, logarithmic", scale=scale, axis=alt.Axis(format="~s", tickCount=4))
    roof = (
        alt.Chart(alt.InlineData(values=lines))
        .mark_line(color="#888888")
        .encode(x=x, y=y, detail="name:N", tooltip=["name:N"])
    )
    point = (
        _over("cases")
        .mark_point(filled=True, size=60, opacity=0.85)
        .encode(
            x=x,
            y=y,
            color=_color("engine"),
            shape=alt.Shape("phase:N", legend=alt.Legend()),
            tooltip=[
                alt.Tooltip("label:N", title="case"),
                alt.Tooltip("flop_rate:Q", title="flop/s", format=".3s"),
                alt.Tooltip("intensity:Q", title="flop/byte", format=".3s"),
            ],
        )
    )
    title = "Roofline: what was reached under the ceilings of a copy and a matrix product"
    return Chart("roofline", "Roofline", title, "cases", rows, (roof + point).properties(width="container", height=340))


def rounds_chart() -> Any:
    """Return the chart of the raw rounds of one case, from the rows `rounds`."""
    chart = (
        _over("rounds")
        .mark_tick(thickness=2, opacity=0.6)
        .encode(
            x=alt.X(
                "seconds:Q",
                title="seconds a call",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(labelExpr=SECONDS, tickCount=5),
            ),
            y=alt.Y("placement:O", title="group of rounds (on the CPU: placement in memory)"),
            tooltip=[alt.Tooltip("seconds:Q", title="seconds", format=".4s"), "placement:O"],
        )
    )
    return chart.properties(width="container", height=alt.Step(16))


def history_chart() -> Any:
    """Return the chart of one series of the history, from the rows `history`."""
    x = alt.X("number:Q", title="run", axis=alt.Axis(format="d", tickMinStep=1))
    y = alt.Y("value:Q", title="seconds a call", scale=alt.Scale(zero=False), axis=alt.Axis(labelExpr=SECONDS))
    tooltip = [
        "run:N",
        "commit:N",
        alt.Tooltip("value:Q", title="seconds", format=".4s"),
        alt.Tooltip("shift:N", title="level shift"),
    ]
    base = _over("history")
    shifted = base.transform_filter(alt.datum.shift != "")
    line = base.mark_line(opacity=0.5).encode(x=x, y=y)
    point = base.mark_point(filled=True, size=40).encode(x=x, y=y, tooltip=tooltip)
    rule = shifted.mark_rule(strokeDash=[4, 4], strokeWidth=2, color="#888888").encode(x=x, tooltip=tooltip)
    text = shifted.mark_text(align="left", dx=5, dy=8, baseline="top", color="#888888").encode(
        x=x, y=alt.value(0), text="shift:N"
    )
    return (rule + line + point + text).properties(width="container", height=260)


def _over(dataset: str) -> Any:
    return alt.Chart(alt.NamedData(name=dataset))


def _rows_axis() -> Any:
    return alt.Y("row:N", title=None, sort=None)


def _color(field: str) -> Any:
    return alt.Color(f"{field}:N", sort=list(ENGINES), legend=alt.Legend(symbolOpacity=1))


def _sized(chart: Any) -> Any:
    return chart.properties(width="container", height=alt.Step(step=ROW_HEIGHT, **{"for": "position"}))
