"""The page of a run: one self-contained file, which works without a network and by double-click."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from cnnperf.extras import needs_extra
from cnnperf.records.case import PHASES
from cnnperf.records.run import Run
from cnnperf.report.charts import charts_of, history_chart, rounds_chart
from cnnperf.report.device_columns import LEGEND
from cnnperf.report.devices import device_section
from cnnperf.report.doubts import Doubt
from cnnperf.report.drawing import MOST_CASES, THEMES, Chart, bundle, config_of
from cnnperf.report.headline import headline
from cnnperf.report.machine import machine_facts
from cnnperf.report.notes import ratio_notes
from cnnperf.report.rows import Row, history_data, round_rows, shift_rows
from cnnperf.report.sweep_charts import sweep_rows
from cnnperf.report.sweeps import device_crossovers
from cnnperf.report.view import RunView
from cnnperf.runs.ratios import value_of
from cnnperf.runs.series import Change, Series
from cnnperf.units import ABSENT, format_quantity

with needs_extra("report", "a page"):
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

FILTERS = ("architecture", "device", "phase", "engine")
_LOADER = PackageLoader("cnnperf.report", "page")


def page_of(name: str, run: Run, series: Sequence[Series] = (), changes: Sequence[Change] = ()) -> str:
    """Return the page of a run.

    Args:
        name: Name of the run.
        run: The run.
        series: Series of the history; may be empty.
        changes: Level shifts of these series.

    Returns:
        HTML with scripts, styles and data.
    """
    templates = _templates()
    view = RunView(run, name)
    charts = charts_of(view)
    history = history_data(series, changes)
    return templates.get_template("page.html.j2").render(
        name=name,
        run=run,
        headline=headline(view),
        machine=machine_facts(run),
        filters=_filters(view),
        sections=[(title, list(group)) for title, group in groupby(charts, key=lambda chart: chart.section)],
        tables=_tables(view),
        explained=next((chart.section for chart in charts if chart.dataset in {"ratios", "sweeps"}), ""),
        notes=ratio_notes(view),
        crossover=device_crossovers(view.cases),
        devices=device_section([(name, run)]),
        device_legend=LEGEND,
        sweeps=view.sweeps,
        changes=shift_rows(changes),
        history=[entry["name"] for entry in history["series"]],
        doubts=[*map(Doubt, view.not_measured), *view.doubts],
        environment=sorted((key, value) for key, value in run.environment.items() if value is not None),
        data=_data(view, charts, history),
        bundle=_script(bundle()),
        script=_script(_LOADER.get_source(templates, "page.js")[0]),
        style=Markup(_LOADER.get_source(templates, "page.css")[0]),  # noqa: S704 - our own file
    )


def _templates() -> Environment:
    templates = Environment(
        loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}  # the order of keys is that of the columns
    return templates


def _data(view: RunView, charts: Sequence[Chart], history: Mapping[str, Any]) -> Mapping[str, Any]:
    specs = {chart.name: {"dataset": chart.dataset, "where": chart.where, "spec": chart.spec()} for chart in charts}
    return {
        "charts": specs,
        "datasets": {
            "cases": view.case_rows,
            "memory": view.memory_rows,
            "ratios": view.ratio_rows,
            "sweeps": sweep_rows(view.run),
        },
        "rounds": {"spec": rounds_chart().to_dict(), "of": round_rows(view.cases)},
        "history": {"spec": history_chart().to_dict(), **history},
        "themes": {theme: config_of(theme) for theme in THEMES},
        "filters": FILTERS,
        "most": MOST_CASES,
    }


def _filters(view: RunView) -> dict[str, list[str]]:
    """Return the values of each axis by which the page filters."""
    values = {axis: list(dict.fromkeys(str(getattr(case, axis)) for case in view.cases)) for axis in FILTERS}
    values["phase"] = [phase for phase in PHASES if phase in values["phase"]]
    return values


def _tables(view: RunView) -> list[Mapping[str, str]]:
    """Return the numbers of the charts as a table."""
    rows: list[Mapping[str, str]] = []
    for row, record in zip(view.case_rows, view.cases.values(), strict=True):
        rows.append(
            {
                "case": str(row["label"]),
                "latency": _with_interval(row, "latency", "s"),
                "images/s": _with_interval(row, "throughput", "images/s"),
                "peak memory": format_quantity(value_of(record, "peak_memory").value, "B"),
                "to doubt": str(row["doubt"]),
            }
        )
    return rows


def _with_interval(row: Row, metric: str, unit: str) -> str:
    if row[metric] is None:
        return ABSENT
    ends = (row[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
    value, low, high = (format_quantity(math.nan if end is None else float(end), unit) for end in ends)
    return f"{value} [{low}, {high}]"


def _script(text: str) -> Markup:
    """Return a script without the end tag of its element."""
    return Markup(text.replace("</script", "<\\/script"))  # noqa: S704 - vl-convert's bundle and our own file
