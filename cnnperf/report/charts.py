"""The charts: Vega-Altair specifications from which page, PNG and SVG are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnperf.extras import needs_extra
from cnnperf.records.case import PHASES
from cnnperf.records.engines import ENGINES
from cnnperf.report.drawing import GREY, Chart, belongs
from cnnperf.report.rows import ALIKE, DIFFERENCE_SEEN, NOT_SURE, PAIRED, Row
from cnnperf.report.sweep_charts import sweep_charts
from cnnperf.report.view import RunView
from cnnperf.runs.roofline import Ceiling, ceilings_of

with needs_extra("report", "a figure or page"):
    import altair as alt

SECONDS = "format(datum.value, '~s') + 's'"
ROW_HEIGHT = 30  # pixels
MEMORY_HEIGHT = 17


def charts_of(view: RunView) -> list[Chart]:
    """Return all charts for which a run has data."""
    cases, memory, ratios = view.case_rows, view.memory_rows, view.ratio_rows
    phases = [phase for phase in PHASES if any(row["phase"] == phase for row in cases)]
    charts = [_interval_chart(metric, phase, cases) for metric in INTERVALS for phase in phases]
    charts += [_memory_chart(phase, memory) for phase in phases if any(row["phase"] == phase for row in memory)]
    for kind in RATIOS:
        for phase in phases:
            where = {"kind": kind, "phase": phase}
            if any(belongs(row, where) for row in ratios):
                charts.append(_ratio_chart(where, ratios))
    if view.run.ceilings and any(row["intensity"] for row in cases):
        charts.append(_roofline(cases, ceilings_of(view.run)))
    return charts + sweep_charts(view.run)


@dataclass(frozen=True)
class Ratio:
    """Look of one kind of ratio chart.

    Attributes:
        section: Heading of the section.
        title: Title in front of the phase.
        axis: Title of the axis.
        even: Value without a difference, or None.
        scale: Type of the scale.
        number: Format of the numbers of the axis.
    """

    section: str
    title: str
    axis: str
    even: float | None = 1.0
    scale: str = "log"
    number: str = ".2f"


TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 3, 5, 10, 20, 50, 100, 200)
"""Ticks of ratios around 1, of which those in the domain are drawn. The default of a logarithmic scale has none between
1 and 2."""

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
LOOKS = {DIFFERENCE_SEEN: ("circle", 1.0), ALIKE: ("square", 1.0), NOT_SURE: ("circle", 0.35)}
"""Shape and opacity of a mark by what is seen."""
DASHES = {PAIRED[True]: [1, 0], PAIRED[False]: [3, 3]}
"""Dashes of an interval by whether the ratio is paired."""
INTERVALS = {
    "latency": ("Latency", "seconds a call, logarithmic", SECONDS),
    "throughput": ("Throughput", "images a second, logarithmic", "format(datum.value, '~s')"),
}


def _interval_chart(metric: str, phase: str, rows: Sequence[Row]) -> Chart:
    section, title, label = INTERVALS[metric]
    ends = {metric: metric, f"{metric}_low": "from", f"{metric}_high": "to"}
    common = {
        **_by_engine(),
        "tooltip": [
            alt.Tooltip("label:N", title="case"),
            *(alt.Tooltip(f"{name}:Q", title=text, format=".3s") for name, text in ends.items()),
            alt.Tooltip(f"{metric}_rounds:Q", title="rounds"),
            alt.Tooltip("doubt:N", title="to doubt"),
        ],
    }
    base = _over("cases")
    line = base.mark_rule(strokeWidth=3, opacity=0.5).encode(
        x=alt.X(f"{metric}_low:Q", title=title), x2=f"{metric}_high:Q", **common
    )
    scale = alt.Scale(type="log", nice=False, padding=12)
    x = alt.X(f"{metric}:Q", title=title, scale=scale, axis=alt.Axis(labelExpr=label, tickCount=4))
    shape = alt.Shape("engine:N", legend=None, sort=list(ENGINES))
    point = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, shape=shape, **common)
    title = f"{section}, {phase}"
    return Chart(f"{metric}-{phase}", section, title, "cases", rows, _sized(line + point), {"phase": phase})


def _memory_chart(phase: str, rows: Sequence[Row]) -> Chart:
    bars = _over("memory").mark_bar()
    chart = bars.encode(
        y=_rows_axis(),
        x=alt.X("sum(mib):Q", title="MiB at the peak", axis=alt.Axis(tickCount=5)),
        color=alt.Color("part:N", sort=None, legend=alt.Legend()),
        order=alt.Order("order:Q"),
        tooltip=[alt.Tooltip("label:N", title="case"), "part:N", alt.Tooltip("mib:Q", title="MiB", format=".4g")],
    ).properties(width="container", height=alt.Step(MEMORY_HEIGHT))
    title = f"Memory at the peak, {phase}"
    return Chart(f"memory-{phase}", "Memory", title, "memory", rows, chart, {"phase": phase})


def _ratio_chart(where: Mapping[str, str], rows: Sequence[Row]) -> Chart:
    kind, phase = where["kind"], where["phase"]
    look = RATIOS[kind]
    base = _over("ratios")
    common = {
        **_by_engine(),
        "tooltip": [alt.Tooltip("label:N", title="case"), alt.Tooltip("told:N", title=look.axis.partition(",")[0])],
    }
    scale = alt.Scale(type=look.scale, nice=False, padding=12, zero=False)
    own = [row for row in rows if belongs(row, where)]
    line = base.mark_rule(strokeWidth=3, opacity=0.5).encode(
        x=alt.X("low:Q", title=look.axis), x2="high:Q", **common, **_by_pairing(own)
    )
    ticks = {"values": TICKS} if look.even == 1 else {"tickCount": 4}
    point = base.mark_point(filled=True, size=70).encode(
        x=alt.X("ratio:Q", title=look.axis, scale=scale, axis=alt.Axis(format=look.number, **ticks)),
        **common,
        **_by_verdict(own),
    )
    layers = [] if look.even is None else [_line_at(look.even)]
    if any(row["low"] is not None for row in own):  # a screen reader reads an empty layer out
        layers.append(line)
    title = f"{look.title}, {phase}"
    return Chart(f"{kind}-{phase}", look.section, title, "ratios", rows, _sized(alt.layer(*layers, point)), where)


def _by_verdict(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the encodings of the words of some rows by shape and opacity, with a legend of these words."""
    looks = {word: look for word, look in LOOKS.items() if any(row["seen"] == word for row in rows)}
    shapes, opacities = ([look[index] for look in looks.values()] for index in (0, 1))
    legend = None if list(looks) == [DIFFERENCE_SEEN] else alt.Legend()
    shape = alt.Shape("seen:N", scale=alt.Scale(domain=list(looks), range=shapes), legend=legend)
    scale = alt.Scale(type="ordinal", domain=list(looks), range=opacities)  # the default interpolates two opacities
    opacity = alt.Opacity("seen:N", scale=scale, legend=legend)
    return {"shape": shape, "opacity": opacity}


def _by_pairing(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the encoding that dashes the intervals of ratios that are not paired; none where all are."""
    words = [word for word in DASHES if any(row["paired"] == word for row in rows)]
    if PAIRED[False] not in words:
        return {}
    scale = alt.Scale(domain=words, range=[DASHES[word] for word in words])
    legend = alt.Legend(symbolType="stroke", symbolStrokeColor=GREY, symbolStrokeWidth=2, symbolOpacity=1)
    return {"strokeDash": alt.StrokeDash("paired:N", scale=scale, legend=legend)}


def _line_at(even: float) -> Any:
    values = alt.InlineData(values=[{"even": even}])
    return alt.Chart(values).mark_rule(strokeDash=[4, 4], color=GREY).encode(x="even:Q")


def _roofline(rows: Sequence[Row], ceilings: Sequence[Ceiling]) -> Chart:
    lines = []
    for ceiling in ceilings:
        for intensity in (ceiling.knee / 64, ceiling.knee, ceiling.knee * 64):
            name = f"{ceiling.device} {ceiling.precision}"
            lines.append({"name": name, "intensity": intensity, "flop_rate": ceiling.flop_rate(intensity)})
    scale, axis = alt.Scale(type="log", nice=False), alt.Axis(format="~s", tickCount=4)
    x = alt.X("intensity:Q", title="flop for each byte that must move, logarithmic", scale=scale, axis=axis)
    y = alt.Y("flop_rate:Q", title="flop/s, logarithmic", scale=scale, axis=axis)
    roof = alt.Chart(alt.InlineData(values=lines)).mark_line(color=GREY)
    points = _over("cases").mark_point(filled=True, size=60, opacity=0.85)
    tooltip = [
        alt.Tooltip("label:N", title="case"),
        alt.Tooltip("flop_rate:Q", title="flop/s", format=".3s"),
        alt.Tooltip("intensity:Q", title="flop/byte", format=".3s"),
    ]
    chart = roof.encode(x=x, y=y, detail="name:N", tooltip=["name:N"]) + points.encode(
        x=x, y=y, color=_color("engine"), shape=alt.Shape("phase:N", legend=alt.Legend()), tooltip=tooltip
    )
    title = "Roofline: what was reached under the ceilings of a copy and a matrix product"
    return Chart("roofline", "Roofline", title, "cases", rows, chart.properties(width="container", height=340))


def rounds_chart() -> Any:
    """Return the chart of the raw rounds of one case, from the rows `rounds`."""
    axis = alt.Axis(labelExpr=SECONDS, tickCount=5)
    chart = (
        _over("rounds")
        .mark_tick(thickness=2, opacity=0.6)
        .encode(
            x=alt.X("seconds:Q", title="seconds a call", scale=alt.Scale(zero=False), axis=axis),
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
    rule = shifted.mark_rule(strokeDash=[4, 4], strokeWidth=2, color=GREY).encode(x=x, tooltip=tooltip)
    text = shifted.mark_text(align="left", dx=5, dy=8, baseline="top", color=GREY)
    label = text.encode(x=x, y=alt.value(0), text="shift:N")
    return (rule + line + point + label).properties(width="container", height=260)


def _over(dataset: str) -> Any:
    return alt.Chart(alt.NamedData(name=dataset))


def _rows_axis() -> Any:
    return alt.Y("row:N", title=None, sort=None)


def _by_engine() -> dict[str, Any]:
    """Return the encodings of a row per case, with an offset and a colour per engine."""
    return {"y": _rows_axis(), "yOffset": alt.YOffset("engine:N", sort=list(ENGINES)), "color": _color("engine")}


def _color(field: str) -> Any:
    return alt.Color(f"{field}:N", sort=list(ENGINES), legend=alt.Legend(symbolOpacity=1))


def _sized(chart: Any) -> Any:
    return chart.properties(width="container", height=alt.Step(step=ROW_HEIGHT, **{"for": "position"}))
