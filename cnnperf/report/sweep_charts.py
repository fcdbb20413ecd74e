"""The charts of sweeps: throughput over the batch or a size, and the efficiency of threads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnperf.extras import needs_extra
from cnnperf.records.case import LATER
from cnnperf.records.metrics import Value
from cnnperf.records.run import Run
from cnnperf.report.drawing import GREY, Chart
from cnnperf.report.rows import Row, axes_of, rounded
from cnnperf.report.sweeps import crossover_text, networks_of, sides_of
from cnnperf.runs.sweeps import LEAST, STEP, Line, efficiencies, knee_of, lines_of, rivals_of

with needs_extra("report", "a figure or page"):
    import altair as alt

HEIGHT = 280  # pixels
WIDE = 20.0  # largest over smallest value above which the vertical axis is logarithmic


@dataclass(frozen=True)
class Look:
    """Look of the charts of sweeps over one axis.

    Attributes:
        title: Title in front of network and phase.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        number: Format of the numbers of the vertical axis.
        ideal: Best possible value, drawn as a line; None where there is none.
    """

    title: str
    x: str
    y: str = "images a second"
    number: str = "~s"
    ideal: float | None = None


LOOKS: Mapping[str, Look] = {
    "batch": Look("Throughput over the batch", "images in one call, logarithmic"),
    "threads": Look("Efficiency of CPU threads", "threads", "images/s over those of one thread for each", ".0%", 1.0),
    "image_size": Look("Throughput over the size of images", "pixels, height and width, logarithmic"),
    "width": Look("Throughput over the width", "channels of the first layer, logarithmic"),
}


def sweep_rows(run: Run) -> list[Row]:
    """Return a row per point of each sweep: its axes, the value with its interval, and whether the knee is there."""
    cases, step = networks_of(run), run.step or STEP
    return [row for axis in LEAST for line in lines_of(cases, axis) for row in _rows(line, step)]


def sweep_charts(run: Run) -> list[Chart]:
    """Return a chart for each network, phase and axis that was swept."""
    rows = sweep_rows(run)
    crossings = _crossings(run)
    return [
        _chart(sweep, [row for row in rows if row["sweep"] == sweep], rows, crossings.get(sweep, []))
        for sweep in dict.fromkeys(str(row["sweep"]) for row in rows)
    ]


def _rows(line: Line, step: float) -> list[Row]:
    rates = line.points("throughput")
    knee = knee_of(rates, step) if line.axis == "batch" else None
    shown = efficiencies(line) if line.axis == "threads" else rates
    return [
        {
            **axes_of(line.at(at)),
            "sweep": _name(line),
            "over": line.axis,
            "series": _series(line),
            "at": at,
            **_ends(value),
            "knee": "knee" if knee is not None and knee.batch == at else "",
        }
        for at, value in shown
    ]


def _ends(value: Value) -> Row:
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    return {"value": rounded(value.value), "low": rounded(low), "high": rounded(high)}


def _name(line: Line) -> str:
    return re.sub(r"[^\w.]+", "-", f"sweep-{line.axis}-{line.case.architecture}-{line.case.phase}")


def _series(line: Line) -> str:
    """Return the name of a line: device, engine, and the axes that do not have their default."""
    case = line.case
    words = [getattr(case, name) for name in ("precision", "layout") if not case.is_default(name)]
    sizes = [name for name in ("batch", "image_size", *LATER) if name != line.axis]
    return ", ".join((f"{case.device} {case.engine}", *words, *case.sizes(sizes)))


def _crossings(run: Run) -> dict[str, list[Row]]:
    """Return the crossovers by name of the sweep."""
    crossings: dict[str, list[Row]] = {}
    for rivals in rivals_of(networks_of(run)):
        batch = rivals.crossover.batch
        if rivals.crossover.answer == "from" and batch is not None:
            row: Row = {**_ends(batch), "told": crossover_text(rivals), "short": " > ".join(sides_of(rivals))}
            crossings.setdefault(_name(rivals.challenger), []).append(row)
    return crossings


def _chart(sweep: str, own: Sequence[Row], rows: Sequence[Row], crossings: Sequence[Row]) -> Chart:
    axis, first = str(own[0]["over"]), own[0]
    look = LOOKS[axis]
    x, y = _x(look, own), _y(look, own)
    color = alt.Color("series:N", sort=None, legend=alt.Legend(symbolOpacity=1))
    number = f".3{look.number.removeprefix('~')}" if look.ideal is None else look.number
    tooltip = [
        alt.Tooltip("label:N", title="case"),
        *(alt.Tooltip(f"{name}:Q", title=title, format=number) for name, title in TOOLTIPS.items()),
    ]
    base = alt.Chart(alt.NamedData(name="sweeps"))
    band = base.mark_area(opacity=0.2).encode(x=x, y=alt.Y("low:Q", title=look.y), y2="high:Q", color=color)
    line = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=color)
    point = base.mark_point(filled=True, size=50, opacity=1).encode(x=x, y=y, color=color, tooltip=tooltip)
    knee = base.transform_filter(alt.datum.knee != "")
    ring = knee.mark_point(size=220, strokeWidth=2, filled=False).encode(x=x, y=y, color=color, tooltip=tooltip)
    text = knee.mark_text(dy=20, fontSize=12).encode(x=x, y=y, text="knee:N", color=color)
    marks = [*_ideal(look), *(_crossing(look, crossings) if crossings else []), band, line, point]
    marks += [ring, text] if any(row["knee"] for row in own) else []
    drawn = alt.layer(*marks).properties(width="container", height=HEIGHT)
    title = f"{look.title}: {first['architecture']}, {first['phase']}"
    return Chart(sweep, "Sweeps", title, "sweeps", rows, drawn, {"sweep": sweep})


TOOLTIPS = {"at": "at", "value": "value", "low": "from", "high": "to"}


def _x(look: Look, own: Sequence[Row]) -> Any:
    ticks = sorted({int(row["at"] or 1) for row in own})
    scale = alt.Scale(type="linear" if look.ideal else "log", nice=False, padding=12, zero=False)
    return alt.X("at:Q", title=look.x, scale=scale, axis=alt.Axis(values=ticks, format="d"))


def _y(look: Look, own: Sequence[Row]) -> Any:
    values = [float(row["value"] or 1) for row in own]
    wide = max(values) > WIDE * min(values)
    scale = alt.Scale(type="log", nice=False, padding=12) if wide else alt.Scale(zero=True)
    return alt.Y("value:Q", title=look.y, scale=scale, axis=alt.Axis(format=look.number, tickCount=5))


def _ideal(look: Look) -> list[Any]:
    if look.ideal is None:
        return []
    data = alt.Chart(alt.InlineData(values=[{"ideal": look.ideal}]))
    return [data.mark_rule(strokeDash=[4, 4], color=GREY).encode(y=alt.Y("ideal:Q", title=look.y))]


def _crossing(look: Look, crossings: Sequence[Row]) -> list[Any]:
    data = alt.Chart(alt.InlineData(values=list(crossings)))
    band = data.mark_rect(opacity=0.15, color=GREY).encode(x=alt.X("low:Q", title=look.x), x2="high:Q")
    rule = data.mark_rule(strokeDash=[4, 4], color=GREY).encode(x=alt.X("value:Q"), tooltip=["told:N"])
    text = data.mark_text(angle=270, align="right", dx=-6, dy=-8, color=GREY).encode(
        x=alt.X("value:Q"), y=alt.value(0), text="short:N"
    )
    return [band, rule, text]
