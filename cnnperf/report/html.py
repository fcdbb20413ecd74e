"""One page to explore a run: self-contained, so that it works without a network and by double-click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from cnnperf.extras import needs_extra
from cnnperf.records.case import PHASES
from cnnperf.records.run import Run
from cnnperf.report.cases import distinct
from cnnperf.report.charts import charts_of, history_chart, rounds_chart
from cnnperf.report.device_columns import LEGEND
from cnnperf.report.devices import device_section
from cnnperf.report.doubts import Doubt
from cnnperf.report.drawing import MOST_CASES, THEMES, Chart, bundle, config_of
from cnnperf.report.headline import headline
from cnnperf.report.machine import machine_facts
from cnnperf.report.rows import Row, history_data, round_rows, shift_rows
from cnnperf.report.sweep_charts import sweep_rows
from cnnperf.report.sweeps import device_crossovers
from cnnperf.report.view import RunView
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
        name: Of the run.
        run: The run.
        series: Of the history, or none.
        changes: Found in it.

    Returns:
        HTML with scripts, styles and data inside.
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
        crossover=device_crossovers(view.cases),
        devices=device_section([(name, run)]),
        device_legend=LEGEND,
        sweeps=view.sweeps,
        changes=shift_rows(changes),
        history=[one["name"] for one in history["series"]],
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
    return {
        "charts": {
            chart.name: {"dataset": chart.dataset, "where": chart.where, "spec": chart.spec()} for chart in charts
        },
        "datasets": {
            "cases": view.case_rows,
            "memory": view.memory_rows,
            "ratios": view.ratio_rows,
            "sweeps": sweep_rows(view.run),
        },
        "rounds": {"spec": rounds_chart().to_dict(), "of": round_rows(view.run)},
        "history": {"spec": history_chart().to_dict(), **history},
        "themes": {theme: config_of(theme) for theme in THEMES},
        "filters": FILTERS,
        "most": MOST_CASES,
    }


def _filters(view: RunView) -> dict[str, list[str]]:
    """Return the values of each axis that the page filters by, where there is something to choose from."""
    values = {axis: distinct(view.cases, lambda case, axis=axis: str(getattr(case, axis))) for axis in FILTERS}  # type: ignore[misc]  # bound early
    values["phase"] = [phase for phase in PHASES if phase in values["phase"]]
    return values


def _tables(view: RunView) -> list[Mapping[str, str]]:
    """Return the numbers behind the charts as texts, for those who read instead of looking."""
    return [
        {
            "case": str(row["label"]),
            "latency": _with_interval(row, "latency", "s"),
            "images/s": _with_interval(row, "throughput", "images/s"),
            "peak memory": format_quantity(record.values["peak_memory"].value, "B")
            if "peak_memory" in record.values
            else ABSENT,
            "to doubt": str(row["doubt"]),
        }
        for row, record in zip(view.case_rows, view.cases.values(), strict=True)
    ]


def _with_interval(row: Row, metric: str, unit: str) -> str:
    texts = [
        format_quantity(float(value), unit) if isinstance(value := row[name], int | float) else ABSENT
        for name in (metric, f"{metric}_low", f"{metric}_high")
    ]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if texts[0] != ABSENT else ABSENT


def _script(text: str) -> Markup:
    """Return a script that its element cannot be ended by."""
    return Markup(text.replace("</script", "<\\/script"))  # noqa: S704 - vl-convert's bundle and our own file
