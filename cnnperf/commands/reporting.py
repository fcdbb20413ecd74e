"""The command that makes files of a run: a page, Markdown, and pictures."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.commands.command import (
    RUN,
    Command,
    add_storage,
    file_path,
    print_lines,
    runs_of,
    step_summary,
    the_one,
)
from cnnperf.errors import CnnperfError, OptionError, RunFileError
from cnnperf.exit_status import ExitStatus

if TYPE_CHECKING:
    from cnnperf.runs import Run
    from cnnperf.runs.series import Change, Series

EPILOG = """\
examples:
  cnnperf report --html report.html                 # the latest run, with the history of all that are saved
  cnnperf report results/cpu.json --md report.md --png figures
  cnnperf report latest~1 --svg figures --chart 'latency-*' --dark

Needs the extra `report`: pip install "cnnperf[report]"
"""


def _report(given: argparse.Namespace) -> int:
    if not any((given.html, given.md, given.png, given.svg, given.step_summary)):
        raise OptionError("nothing to make: give --html FILE, --md FILE, --png FOLDER, --svg FOLDER or --step-summary")
    from cnnperf.output import append

    runs = runs_of(given.run_name, given)
    if given.html or given.png or given.svg:
        the_one(given.run_name, runs)
    name, run = runs[0]
    if given.html:
        from cnnperf.report.html import page_of

        _write(given.html, page_of(name, run, *_history(given)))
    if given.md or given.step_summary:
        from cnnperf.report.markdown import runs_markdown

        text = runs_markdown(runs)
        if given.md:
            _write(given.md, text)
        if given.step_summary:
            append(step_summary(), text)
    if given.png or given.svg:
        _pictures(run, given)
    return ExitStatus.OK


def _pictures(run: Run, given: argparse.Namespace) -> None:
    from cnnperf.report.charts import charts_of
    from cnnperf.report.view import RunView

    theme = "dark" if given.dark else "light"
    charts = charts_of(RunView(run))
    chosen = [chart for chart in charts if fnmatchcase(chart.name, given.chart)]
    if not charts:
        raise RunFileError(f"{given.run_name}: there is nothing to draw, because it has no case that was measured")
    if not chosen:
        there = ", ".join(chart.name for chart in charts)
        raise OptionError(f"--chart {given.chart}: there is no such chart; there are {there}")
    for chart in chosen:
        if given.png:
            _write(given.png / f"{chart.name}.png", chart.png(theme))
        if given.svg:
            _write(given.svg / f"{chart.name}.svg", chart.svg(theme))


def _write(path: Path, content: str | bytes) -> None:
    from cnnperf.output import write_whole

    write_whole(path, content)
    print_lines([f"wrote {path}"])


def _history(given: argparse.Namespace) -> tuple[list[Series], list[Change]]:
    """Return the history of the saved runs; none where there are not several, or the package for it is missing."""
    from cnnperf.runs.series import changes_of
    from cnnperf.runs.storage import read_series

    if isinstance(given.runs, Path) and not given.runs.is_dir():
        return [], []
    try:
        series = [one for one in read_series(given.runs, "latency") if len(one.points) > 1]
        return series, changes_of(series, given.least) if series else []
    except CnnperfError as error:
        print_lines([f"without the history: {error}"])
        return [], []


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    add = parser.add_argument
    add("run_name", nargs="?", default="latest", metavar="RUN", help=f"{RUN} (default: latest)")
    add("--html", type=file_path, metavar="FILE", help="one page to explore, which works without a network")
    add(
        "--md",
        type=file_path,
        metavar="FILE",
        help="Markdown; of several runs one after the other, and their devices side by side",
    )
    add("--step-summary", action="store_true", help="append the Markdown to the file that GITHUB_STEP_SUMMARY names")
    add("--png", type=file_path, metavar="FOLDER", help="a picture of each chart")
    add("--svg", type=file_path, metavar="FOLDER", help="a drawing of each chart")
    add("--chart", default="*", metavar="GLOB", help="which pictures, such as 'latency-*' (default: all)")
    add("--dark", action="store_true", help="pictures for a dark background")
    parser.set_defaults(least=0.025)
    add_storage(parser)


REPORTING = (Command("report", "make a page, Markdown or pictures of a run", _report, _report_arguments),)
