"""Drawing of charts: colours, files and libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnperf.errors import CnnperfError
from cnnperf.extras import needs_extra
from cnnperf.output import write_whole
from cnnperf.report.rows import Row

with needs_extra("report", "a figure or page"):
    import vl_convert

PNG_SCALE = 2.0
STATIC_WIDTH = 560
GREY = "#888888"
MOST_CASES = 150
"""Most cases in one chart; more are neither legible nor drawn quickly."""

THEMES: Mapping[str, Mapping[str, Any]] = {
    "light": {"text": "#1f2430", "grid": "#e3e6eb", "colors": ["#0b6bcb", "#c2500a", "#0a7d5a", "#8a3ffc", "#6f6f6f"]},
    "dark": {"text": "#e6e8ee", "grid": "#343a46", "colors": ["#63b3ff", "#ffab6b", "#54d6a8", "#c6a3ff", "#b0b4bd"]},
}
"""Colours with a contrast of at least 3 to 1 to the page, which colour-blind readers can distinguish."""


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: Name of its files and of its element in the page.
        section: Heading of its section.
        title: Description.
        dataset: Name of the rows that it is made from.
        rows: Those rows.
        chart: The Altair chart, without its rows.
        where: Values by column of the rows that it shows.
    """

    name: str
    section: str
    title: str
    dataset: str
    rows: Sequence[Row]
    chart: Any
    where: Mapping[str, str] = field(default_factory=dict)

    def spec(self, theme: str | None = None) -> dict[str, Any]:
        """Return the Vega-Lite specification; with a theme, complete with its rows, for a picture."""
        spec: dict[str, Any] = self.chart.to_dict()
        spec["description"] = self.title
        if theme is None:
            return spec
        rows = [row for row in self.rows if belongs(row, self.where)]
        cases = list(dict.fromkeys(row.get("id") for row in rows))
        shown, more = set(cases[:MOST_CASES]), len(cases) - MOST_CASES
        rows = [row for row in rows if row.get("id") in shown]
        spec["datasets"] = {**spec.get("datasets", {}), self.dataset: rows}
        spec["title"] = f"{self.title}, without {more} more cases" if more > 0 else self.title
        spec["background"] = "#ffffff" if theme == "light" else "#161a22"
        spec["config"] = {**spec.get("config", {}), **config_of(theme)}
        if spec.get("width") == "container":  # that of the page
            spec["width"] = STATIC_WIDTH
        return spec

    def svg(self, theme: str = "light") -> str:
        """Return the chart as SVG."""
        return str(vl_convert.vegalite_to_svg(self.spec(theme)))

    def png(self, theme: str = "light") -> bytes:
        """Return the chart as PNG."""
        return bytes(vl_convert.vegalite_to_png(self.spec(theme), scale=PNG_SCALE))


def belongs(row: Row, where: Mapping[str, str]) -> bool:
    """Return whether a row has the values that a chart shows."""
    return all(row[name] == value for name, value in where.items())


def bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, so that a page works without a network.

    Bundling takes seconds. The script is therefore kept in the user's cache folder, one for each version of vl-convert.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnperf"
    file = folder / f"vega-{vl_convert.__version__}.js"
    with suppress(OSError):
        return file.read_bytes().decode()
    text = str(vl_convert.javascript_bundle())
    with suppress(CnnperfError):
        write_whole(file, text)
    return text


def config_of(theme: str) -> dict[str, Any]:
    """Return Vega-Lite's configuration for a theme."""
    colors = THEMES[theme]
    text = {"labelColor": colors["text"], "titleColor": colors["text"]}
    return {
        "font": "system-ui, sans-serif",
        "background": "transparent",
        "axis": {
            **text,
            "gridColor": colors["grid"],
            "domainColor": colors["grid"],
            "tickColor": colors["grid"],
            "labelLimit": 240,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
        },
        "axisX": {"labelOverlap": "greedy", "labelSeparation": 6},
        "legend": {
            **text,
            "orient": "top",
            "layout": {"top": {"direction": "vertical", "anchor": "start"}},  # side by side, several are cut off
            "labelFontSize": 12,
            "title": None,
            "symbolBaseFillColor": colors["text"],
        },
        "title": {"color": colors["text"], "anchor": "start", "fontSize": 14},
        "view": {"stroke": None},
        "range": {"category": colors["colors"]},
    }
