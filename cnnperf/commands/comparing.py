"""The commands that compare commits: `compare` on saved runs, `gate` and `bisect` by measuring."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.commands.command import (
    RUN_HELP,
    Command,
    add_markdown,
    add_storage,
    print_error,
    print_lines,
    runs_of,
    step_summary,
)
from cnnperf.exit_status import ExitStatus
from cnnperf.gate.arguments import add_arguments, add_bisect_arguments, request_of
from cnnperf.records.tolerance import TOLERANCE_HELP, parse_tolerance

if TYPE_CHECKING:
    from cnnperf.runs.verdicts import Comparison

VERBOSE_HELP = "give each counter of each case a line; Markdown always does"
MD_HELP = "also write the report as Markdown to this file"


def _compare(args: argparse.Namespace) -> int:
    from cnnperf.runs.comparison import compare_sides

    tolerance = parse_tolerance(args.allow)
    _check_output(args)
    base, candidate = runs_of(args.base, args), runs_of(args.candidate, args)
    return _report(compare_sides(base, candidate, tolerance, any_machine=args.any_machine), args)


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("base", metavar="BASE", help=RUN_HELP)
    add("candidate", metavar="CANDIDATE", help=RUN_HELP)
    add("--allow", action="append", default=[], metavar="PERCENT", help=TOLERANCE_HELP.replace("%", "%%"))
    add("--any-machine", action="store_true", help="compare even if the environments of the runs differ")
    add("--verbose", action="store_true", help=VERBOSE_HELP)
    add_markdown(parser, MD_HELP)
    add_storage(parser)


def _gate(args: argparse.Namespace) -> int:
    from cnnperf.gate.command import run_gate

    _check_output(args)
    return _report(run_gate(request_of(args), Path.cwd(), print_error), args)


def _gate_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    parser.add_argument("--verbose", action="store_true", help=VERBOSE_HELP)
    add_markdown(parser, MD_HELP)


def _bisect(args: argparse.Namespace) -> int:
    from cnnperf.gate.bisect import run_bisect
    from cnnperf.report.verdicts import comparison_lines

    args.base = args.good
    found = run_bisect(args.case, request_of(args), args.bad, Path.cwd(), print_error)
    if not found.confirmed:
        headline = f"{args.bad} is not significantly worse than {args.good}:"
        print_lines([headline, "", *comparison_lines(found.comparison)])
        return ExitStatus.UNSURE
    if len(found.commits) > 1:
        headline = f"{args.case} became worse in one of these commits; some of them could not be measured:"
        print_lines([headline, *found.commits])
        return ExitStatus.UNSURE
    print_lines([f"{args.case} became worse in {found.commits[0]}"])
    return ExitStatus.OK


def _check_output(args: argparse.Namespace) -> None:
    """Check before measuring that the Markdown can be made."""
    if args.step_summary:
        step_summary()
    if args.md or args.step_summary:
        import cnnperf.report.markdown  # noqa: F401 - raises an error that names a missing package


def _report(result: Comparison, args: argparse.Namespace) -> int:
    """Print and write a comparison, and return the exit status."""
    from cnnperf.report.verdicts import comparison_lines

    print_lines(comparison_lines(result, verbose=args.verbose))
    if args.md or args.step_summary:
        from cnnperf.output import append, write_whole
        from cnnperf.report.markdown import comparison_markdown

        text = comparison_markdown(result)
        if args.md:
            write_whole(args.md, text)
        if args.step_summary:
            append(step_summary(), text)
    return result.status()


COMPARING = (
    Command(
        "compare",
        "compare saved runs of two commits; a verdict on time needs several processes or runs of each",
        _compare,
        _compare_arguments,
    ),
    Command("gate", "measure a commit and the work tree side by side and report regressions", _gate, _gate_arguments),
    Command(
        "bisect", "find the commit in which a case became worse, by measuring again", _bisect, add_bisect_arguments
    ),
)
