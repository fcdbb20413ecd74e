"""The command `report`, which writes a run as an HTML page, Markdown or pictures."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.commands.command import (
    RUN_HELP,
    Command,
    add_markdown,
    add_pictures,
    add_storage,
    file_path,
    only_run,
    print_lines,
    runs_of,
    step_summary,
    write_file,
    write_pictures,
)
from cnnperf.errors import CnnperfError, OptionError, RunFileError
from cnnperf.exit_status import ExitStatus

if TYPE_CHECKING:
    from cnnperf.runs import Run
    from cnnperf.runs.series import Change, Series

EPILOG = """\
examples:
  cnnperf report --html report.html                 # the latest run, with the history of all saved runs
  cnnperf report results/cpu-synthetic.json --md report.md --png figures
  cnnperf report latest~1 --svg figures --chart 'latency-*' --dark

Needs the extra `report`: pip install "cnnperf[report]"
"""
LEAST = 0.025  # smallest shift of the history to report, as a fraction


def _report(args: argparse.Namespace) -> int:
    if not any((args.html, args.md, args.png, args.svg, args.step_summary)):
        raise OptionError("no output: give --html FILE, --md FILE, --png FOLDER, --svg FOLDER or --step-summary")
    from cnnperf.output import append

    runs = runs_of(args.run_name, args)
    if args.html or args.png or args.svg:
        only_run(args.run_name, runs)
    name, run = runs[0]
    if args.html:
        from cnnperf.report.html import page_of

        write_file(args.html, page_of(name, run, *_history(args)))
    if args.md or args.step_summary:
        from cnnperf.report.markdown import runs_markdown

        text = runs_markdown(runs)
        if args.md:
            write_file(args.md, text)
        if args.step_summary:
            append(step_summary(), text)
    if args.png or args.svg:
        _pictures(run, args)
    return ExitStatus.OK


def _pictures(run: Run, args: argparse.Namespace) -> None:
    from cnnperf.report.charts import charts_of
    from cnnperf.report.view import RunView

    charts = charts_of(RunView(run))
    selected = [chart for chart in charts if fnmatchcase(chart.name, args.chart)]
    if not charts:
        raise RunFileError(f"{args.run_name}: there are no charts, because the run has no measured case")
    if not selected:
        names = ", ".join(chart.name for chart in charts)
        raise OptionError(f"--chart {args.chart}: there is no such chart; there are {names}")
    write_pictures(selected, args, "dark" if args.dark else "light")


def _history(args: argparse.Namespace) -> tuple[list[Series], list[Change]]:
    """Return the series of several saved runs and their changes; both empty if a package or the runs are missing."""
    from cnnperf.runs.series import changes_of
    from cnnperf.runs.storage import read_series

    if isinstance(args.runs, Path) and not args.runs.is_dir():
        return [], []
    try:
        all_series = [series for series in read_series(args.runs, "latency") if len(series.points) > 1]
        return all_series, changes_of(all_series, LEAST) if all_series else []
    except CnnperfError as error:
        print_lines([f"without the history: {error}"])
        return [], []


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_name", nargs="?", default="latest", metavar="RUN", help=f"{RUN_HELP} (default: latest)")
    add("--html", type=file_path, metavar="FILE", help="write one interactive page, which works offline, to this file")
    add_markdown(parser, "write Markdown to this file; several runs follow each other, with their devices side by side")
    add_pictures(parser, "chart")
    add("--chart", default="*", metavar="GLOB", help="only charts whose name matches, such as 'latency-*'")
    add("--dark", action="store_true", help="draw the pictures for a dark background")
    add_storage(parser)


HELP = "write a saved run as an HTML page, Markdown or pictures"
REPORTING = (Command("report", HELP, _report, _report_arguments, EPILOG),)
