"""The commands that compare commits: saved runs, both sides measured now, and every commit between two."""

from __future__ import annotations

import argparse
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
    tell,
)
from cnnperf.exit_status import ExitStatus

if TYPE_CHECKING:
    from cnnperf.runs.verdicts import Comparison


def _compare(given: argparse.Namespace) -> int:
    from cnnperf.records.tolerance import parse_tolerance
    from cnnperf.runs.comparison import compare_sides

    tolerance = parse_tolerance(given.allow)
    _check_output(given)
    base, candidate = runs_of(given.base, given), runs_of(given.candidate, given)
    return _told(compare_sides(base, candidate, tolerance, any_machine=given.any_machine), given)


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    from cnnperf.records.tolerance import TOLERANCE_HELP

    add = parser.add_argument
    add("base", metavar="BASE", help=RUN)
    add("candidate", metavar="CANDIDATE", help=RUN)
    add("--allow", action="append", default=[], metavar="PERCENT", help=TOLERANCE_HELP.replace("%", "%%"))
    add("--any-machine", action="store_true", help="compare runs of unlike environments too")
    _add_output(parser)
    add_storage(parser)


def _gate(given: argparse.Namespace) -> int:
    from cnnperf.gate.arguments import request_of
    from cnnperf.gate.command import run_gate

    _check_output(given)
    return _told(run_gate(request_of(given), Path.cwd(), tell), given)


def _gate_arguments(parser: argparse.ArgumentParser) -> None:
    from cnnperf.gate.arguments import add_arguments

    _add_output(parser)
    add_arguments(parser)


def _bisect(given: argparse.Namespace) -> int:
    from cnnperf.gate.arguments import request_of
    from cnnperf.gate.bisect import run_bisect
    from cnnperf.report.verdicts import comparison_lines

    given.base = given.good
    found = run_bisect(given.case, request_of(given), given.bad, Path.cwd(), tell)
    if not found.confirmed:
        print_lines([f"{given.bad} is not surely worse than {given.good}:", "", *comparison_lines(found.comparison)])
        return ExitStatus.UNSURE
    if len(found.commits) > 1:
        print_lines(
            [f"{given.case} became worse in one of these, of which some could not be measured:", *found.commits]
        )
        return ExitStatus.UNSURE
    print_lines([f"{given.case} became worse in {found.commits[0]}"])
    return ExitStatus.OK


def _bisect_arguments(parser: argparse.ArgumentParser) -> None:
    from cnnperf.gate.arguments import add_bisect_arguments

    add_bisect_arguments(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--md", type=file_path, metavar="FILE", help="write the report as Markdown too")
    parser.add_argument(
        "--step-summary", action="store_true", help="append the Markdown to the file that GITHUB_STEP_SUMMARY names"
    )


def _check_output(given: argparse.Namespace) -> None:
    """Tell before measuring what would fail afterwards."""
    if given.step_summary:
        step_summary()
    if given.md or given.step_summary:
        import cnnperf.report.markdown  # noqa: F401 - it names the package that is missing


def _told(result: Comparison, given: argparse.Namespace) -> int:
    from cnnperf.report.verdicts import comparison_lines

    print_lines(comparison_lines(result))
    if given.md or given.step_summary:
        from cnnperf.output import append, write_whole
        from cnnperf.report.markdown import comparison_markdown

        text = comparison_markdown(result)
        if given.md:
            write_whole(given.md, text)
        if given.step_summary:
            append(step_summary(), text)
    return result.status()


COMPARING = (
    Command(
        "compare",
        "compare saved runs of two commits; without several processes of each, times tell nothing",
        _compare,
        _compare_arguments,
    ),
    Command("gate", "tell whether anything became slower or hungrier since a commit", _gate, _gate_arguments),
    Command("bisect", "find the commit in which a case became worse, by measuring again", _bisect, _bisect_arguments),
)
