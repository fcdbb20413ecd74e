"""The arguments of `cnnperf gate` and `cnnperf bisect`, read without loading PyTorch."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.errors import OptionError
from cnnperf.records.tolerance import TOLERANCE_HELP, parse_tolerance
from cnnperf.suite.flags import OPTIONS, read_given

if TYPE_CHECKING:
    from cnnperf.gate.command import Request

DESCRIPTION = """\
Measure a commit and the work tree side by side and report regressions.

The base is checked out into a temporary folder; the repository is not changed. First, the counters of each case (flop,
bytes, operators, graphs) are compared exactly, and its results within rounding. Then both sides are timed in turns, at
many memory placements and in several processes, until each case has a verdict or the time budget is used up:
  slower   a significant slowdown, confirmed by a second measurement
  same     a slowdown larger than --allow is excluded
  faster   a significant speedup
  unsure   none of these; the report names the smallest slowdown that would have been detected
The base is also timed against itself. If that shows a difference, no verdict on time is given.
"""

EXAMPLES = """\
examples:
  cnnperf gate --base origin/main
  cnnperf gate --base v1.2 --head HEAD --cnnperf-architecture 'se_*' --cnnperf-axis phase=train --allow 3%
  cnnperf gate --base HEAD~1 --only counters
  cnnperf gate --base v1.0 --save .benchmarks    # on main: ratios to a pinned commit, for `cnnperf history`

exit status:
  0  nothing is worse
  1  a case is significantly slower, a counter is worse, or results became wrong
  2  invalid arguments, or a side that cannot be measured
  3  at least one case has no verdict
"""

BISECT_EXAMPLES = """\
examples:
  cnnperf bisect 'resnet18 train cpu eager batch 4' --good v1.2 --bad main
  cnnperf bisect 'se_resnet18 forward cpu compile batch 4' --good HEAD~20 --bad HEAD --only counters

exit status:
  0  the commit was found
  2  invalid arguments, or a commit that cannot be measured
  3  the bad commit is not significantly worse, or commits in between could not be measured
"""

PARTS = ("counters", "time")
_SECONDS_PER_UNIT = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME_FORMATS = "seconds, or a time such as 90s, 10m, 1h"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the gate, including options of the suite."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("--base", required=True, metavar="REV", help="commit, tag or branch to compare with")
    text = "compare with the tip of the base, even if the candidate's branch left it earlier"
    add("--base-exact", action="store_true", help=text)
    add("--head", metavar="REV", help="commit, tag or branch to measure (default: the work tree as it is)")
    add("--allow", action="append", default=[], metavar="PERCENT", help=TOLERANCE_HELP.replace("%", "%%"))
    add("--time-budget", default="10m", metavar="TIME", help=f"budget for all timing: {_TIME_FORMATS} (default: 10m)")
    add("--only", choices=PARTS, help="compare only counters and results, or only time")
    text = "let this counter get worse, such as flop; repeatable"
    add("--accept", action="append", default=[], metavar="COUNTER", help=text)
    text = (
        "Python interpreter of the base (default: the running one); auto makes an environment with pip if the "
        "dependencies of the sides differ"
    )
    add("--base-python", default=sys.executable, metavar="PATH", help=text)
    text = "shell command to run in each checkout before measuring, for files that git ignores and the code needs"
    add("--prepare", default="", metavar="COMMAND", help=text)
    text = "save a run file with the ratio to the base there, for `cnnperf history --metric anchor_ratio`"
    add("--save", type=Path, metavar="FOLDER", help=text)
    add("--samples", type=Path, metavar="FILE", help="write the seconds of all rounds to a JSON file")
    suite = parser.add_argument_group("options of the suite")
    for option in OPTIONS:
        if not option.pytest_only:
            action = "append" if option.repeatable else "store"
            suite.add_argument(
                option.flag, dest=option.key, metavar=option.metavar, action=action, help=option.help.replace("%", "%%")
            )


def add_bisect_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a bisection."""
    parser.epilog = BISECT_EXAMPLES
    add = parser.add_argument
    add("case", metavar="CASE", help="label of the case as reports print it, in quotes")
    add("--good", required=True, metavar="REV", help="a commit before the regression")
    add("--bad", required=True, metavar="REV", help="a commit with the regression")
    add("--allow", action="append", default=[], metavar="PERCENT", help="largest acceptable slowdown (default: 5%%)")
    text = f"budget for timing each commit: {_TIME_FORMATS} (default: 5m)"
    add("--time-budget", default="5m", metavar="TIME", help=text)
    add("--only", choices=PARTS, default="time", help="what became worse (default: time)")
    parser.set_defaults(accept=[], head=None, base_python=sys.executable, samples=None, save=None)
    parser.set_defaults(base_exact=True, prepare="")


def request_of(args: argparse.Namespace) -> Request:
    """Build the request from parsed arguments.

    Raises:
        OptionError: If a tolerance, a time or a counter is invalid, or `--save` is combined with `--only counters`.
    """
    from cnnperf.gate.command import Request
    from cnnperf.records.metrics import METRICS

    counters = [name for name, metric in METRICS.items() if metric.counter]
    for name in args.accept:
        if name not in counters:
            raise OptionError(f"--accept: there is no counter {name!r}; the counters are {', '.join(counters)}")
    if args.save is not None and args.only == "counters":
        raise OptionError("--save saves times, and --only counters measures none; leave out one of them")
    return Request(
        base=args.base,
        head=args.head,
        tolerance=parse_tolerance(args.allow),
        budget=0.0 if args.only == "counters" else _seconds(args.time_budget),
        options=read_given(lambda key: getattr(args, key, None)),
        accepted=tuple(args.accept),
        base_python=args.base_python,
        parts=(args.only,) if args.only else PARTS,
        samples=args.samples,
        save=args.save,
        base_exact=args.base_exact,
        prepare=args.prepare,
    )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise OptionError(f"--time-budget takes seconds above 0, or a time such as 90s, 10m or 1h, not {text!r}")
    return float(match[1]) * _SECONDS_PER_UNIT[match[2]]
