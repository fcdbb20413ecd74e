"""The command line: arguments and exit codes. What the commands do is the business of other rooms."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cnnperf
from cnnperf.errors import CnnperfError, OptionError, RunFileError

if TYPE_CHECKING:
    from cnnperf.runs import Run

FINE = 0
DIFFERENT = 1
UNUSABLE = 2
UNTOLD = 3
INTERRUPTED = 130

EPILOG = """\
exit status:
  0  fine
  1  `repeat`: the runs differ; `compare`, `gate`, `history`: something is surely worse
  2  unknown arguments, or a file or a commit that cannot be used
  3  `compare`, `gate`, `history`: something could not be told

Runs are made by `pytest benchmarks --benchmark-autosave`, which saves them under .benchmarks/.
"""


HISTORY_EPILOG = """\
examples:
  cnnperf history
  cnnperf history 'se_*' --metric peak_memory
  cnnperf history 'resnet18 train*' --least 5% --runs nightly

A line of the file of known shifts is COMMIT | METRIC | CASE | REASON. Shifts are told with it, and do not fail.

exit status:
  0  no change for the worse, or only known ones
  1  a change for the worse
  2  unknown arguments, or runs that cannot be read
  3  too few runs
"""


@dataclass(frozen=True)
class Command:
    """Describe one command.

    Attributes:
        name: What is typed.
        help: One phrase, shown in the list of commands and in its own help.
        arguments: Name and help of each positional argument that is a path.
        run: Takes the parsed arguments and returns the exit status.
        add: Adds further arguments and longer help, or None.
    """

    name: str
    help: str
    arguments: tuple[tuple[str, str], ...]
    run: Callable[[argparse.Namespace], int]
    add: Callable[[argparse.ArgumentParser], None] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Those after the program's name; by default of this process.

    Returns:
        The exit status.
    """
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except CnnperfError as error:
        sys.stderr.write(f"cnnperf: {error}\n")
        return UNUSABLE
    except KeyboardInterrupt:
        sys.stderr.write("cnnperf: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # such as `cnnperf show ... | head`: the reader has what it wanted
        # Python flushes once more at exit; see https://docs.python.org/3/library/signal.html#note-on-sigpipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnperf",
        description="Read the runs of cnnperf's benchmarks, and compare commits.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cnnperf {cnnperf.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        for name, text in command.arguments:
            one.add_argument(name, type=Path, metavar=name.upper(), help=text)
        if command.add is not None:
            command.add(one)
        one.set_defaults(run=command.run)
    return parser


def _show(given: argparse.Namespace) -> int:
    from cnnperf.report.terminal import render_run

    for name, run in _runs(given.path):
        _print([f"run {name}", *render_run(run), ""])
    return FINE


def _repeat(given: argparse.Namespace) -> int:
    from cnnperf.report.repetition import repeat_lines
    from cnnperf.runs.repeat import repeat_of

    (_, first), (_, second) = _only(given.first), _only(given.second)
    repeat = repeat_of(first, second)
    _print(repeat_lines(repeat))
    return FINE if repeat.agree else DIFFERENT


def _figures(given: argparse.Namespace) -> int:
    from cnnperf.report.figures import figures, replace_figures

    text = _text_of(given.document)
    changed = replace_figures(text, figures(_runs(given.path)))
    _write(given.document, changed)
    _print([f"{given.document}: {'the figures were already these' if changed == text else 'figures replaced'}"])
    return FINE


def _compare(given: argparse.Namespace) -> int:
    from cnnperf.allowance import parse_allowance
    from cnnperf.report.verdicts import comparison_lines
    from cnnperf.runs.comparison import compare_runs
    from cnnperf.runs.sequential import Rule

    allowance = parse_allowance(given.allow)
    base, candidate = _runs(given.base), _runs(given.candidate)
    cases = len({record.case for _, run in (*base, *candidate) for record in run.cases})
    rule = Rule(allowance.general, cases=max(1, cases), overrides=allowance.overrides)
    comparison = compare_runs(base, candidate, rule, any_machine=given.any_machine)
    _print(comparison_lines(comparison))
    return comparison.status()


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    from cnnperf.allowance import ALLOWANCE_HELP

    text = ALLOWANCE_HELP.replace("%", "%%")
    parser.add_argument("--allow", action="append", default=[], metavar="PERCENT", help=text)
    parser.add_argument("--any-machine", action="store_true", help="compare runs of unlike environments too")


def _history(given: argparse.Namespace) -> int:
    from cnnperf.allowance import fraction_of
    from cnnperf.measure.metrics import METRICS
    from cnnperf.report.history import history_lines
    from cnnperf.runs.acknowledged import accept, read_acknowledged
    from cnnperf.runs.history import changes_of, series_of
    from cnnperf.runs.shifts import LEAST_RUNS

    least = fraction_of(given.least, "--least")
    if given.metric not in METRICS:
        raise OptionError(f"--metric: there is no metric {given.metric!r}; the metrics are {', '.join(METRICS)}")
    known = read_acknowledged(given.acknowledged) if given.acknowledged.exists() else []
    series = series_of(_runs(given.runs), given.metric, given.case)
    changes = accept(changes_of(series, least), known)
    _print(history_lines(series, changes))
    if any(change.worse and not change.reason for change in changes):
        return DIFFERENT
    searched = METRICS[given.metric].counter or any(len(one.points) >= LEAST_RUNS for one in series)
    return FINE if searched else UNTOLD


def _history_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = HISTORY_EPILOG
    add = parser.add_argument
    add("case", nargs="?", default="*", metavar="CASE", help="a glob over architectures or labels (default: all)")
    add("--runs", type=Path, default=Path(".benchmarks"), help="where they are saved (default: .benchmarks)")
    add("--metric", default="latency", help="which (default: latency); anchor_ratio goes on from machine to machine")
    add("--least", default="2.5%", metavar="PERCENT", help="smallest shift that matters (default: 2.5%%)")
    text = "text file of shifts that people know of (default: acknowledged-shifts.txt)"
    add("--acknowledged", type=Path, default=Path("acknowledged-shifts.txt"), metavar="FILE", help=text)


def _gate(given: argparse.Namespace) -> int:
    from cnnperf.gate.arguments import request_of
    from cnnperf.gate.command import run_gate
    from cnnperf.report.verdicts import comparison_lines

    result = run_gate(request_of(given), Path.cwd(), _tell)
    _print(comparison_lines(result))
    return result.status()


def _bisect(given: argparse.Namespace) -> int:
    from cnnperf.gate.arguments import request_of
    from cnnperf.gate.bisect import run_bisect
    from cnnperf.report.verdicts import comparison_lines

    given.base = given.good
    found = run_bisect(given.case, request_of(given), given.bad, Path.cwd(), _tell)
    if not found.confirmed:
        _print([f"{given.bad} is not surely worse than {given.good}:", "", *comparison_lines(found.comparison)])
        return UNTOLD
    if len(found.commits) > 1:
        _print([f"{given.case} became worse in one of these, of which some could not be measured:", *found.commits])
        return UNTOLD
    _print([f"{given.case} became worse in {found.commits[0]}"])
    return FINE


def _bisect_arguments(parser: argparse.ArgumentParser) -> None:
    from cnnperf.gate.arguments import add_bisect_arguments

    add_bisect_arguments(parser)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _gate_arguments(parser: argparse.ArgumentParser) -> None:
    from cnnperf.gate.arguments import add_arguments

    add_arguments(parser)


def _text_of(document: Path) -> str:
    try:
        return document.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{document}: cannot be read as text: {error}") from error


def _write(document: Path, text: str) -> None:
    try:
        document.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFileError(f"{document}: cannot be written: {error.strerror or error}") from error


def _runs(path: Path) -> list[tuple[str, Run]]:
    from cnnperf.runs.choose import choose_runs

    return choose_runs(str(path))


def _only(path: Path) -> tuple[str, Run]:
    runs = _runs(path)
    if len(runs) > 1:
        raise RunFileError(f"{path}: {len(runs)} runs, one is needed; name one file, such as the one of {runs[-1][0]}")
    return runs[0]


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


_PATH = "a run file, the journal of an interrupted run, or a directory of both"
_ONE = "a run file, or a directory with one"
_SIDE = "a run file, or a directory with runs of one commit"
COMMANDS = (
    Command("show", "print the summary of runs, as the benchmarks did at their end", (("path", _PATH),), _show),
    Command(
        "repeat",
        "check that two runs of one commit have equal counters, and print both times",
        (("first", _ONE), ("second", _ONE)),
        _repeat,
    ),
    Command(
        "figures",
        "write the tables of runs into a Markdown document, between its marks for figures",
        (("document", "such as README.md"), ("path", _PATH)),
        _figures,
    ),
    Command(
        "compare",
        "compare saved runs of two commits; without several runs of each, times tell nothing",
        (("base", _SIDE), ("candidate", _SIDE)),
        _compare,
        _compare_arguments,
    ),
    Command(
        "history",
        "find level shifts over all saved runs, and the commits in which they happened",
        (),
        _history,
        _history_arguments,
    ),
    Command(
        "bisect", "find the commit in which a case became worse, by measuring again", (), _bisect, _bisect_arguments
    ),
    Command("gate", "tell whether anything became slower or hungrier since a commit", (), _gate, _gate_arguments),
)


if __name__ == "__main__":
    sys.exit(main())
