"""The arguments of `cnnperf gate`, read without loading PyTorch."""

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
Measure a commit and the work tree side by side, and tell whether anything became slower or hungrier.

The base is checked out beside the work tree, in a folder for temporary files; nothing in the repository changes. First
the counters of each case (flop, bytes, operators, graphs, results) are compared exactly. Then both sides are timed in
turns, at many placements of memory and in several processes, until each case is decided or the time is used up:
  slower   surely, and found a second time
  same     a slowdown of more than is allowed is excluded
  faster   surely
  unsure   could not be told; the report says which slowdown could have been seen
The base is also timed against itself; where that seems to differ, no verdict on time is given.
"""

EXAMPLES = """\
examples:
  cnnperf gate --base origin/main
  cnnperf gate --base v1.2 --head HEAD --cnnperf-architecture 'se_*' --cnnperf-axis phase=train --allow 3%
  cnnperf gate --base HEAD~1 --only counters
  cnnperf gate --base v1.0 --save .benchmarks    # on main: ratios to a pinned commit, for `cnnperf history`

exit status:
  0  nothing is worse
  1  something is surely slower, a counter is worse, or results became wrong
  2  unknown arguments, or a side that cannot be measured
  3  something could not be told
"""

BISECT_EXAMPLES = """\
examples:
  cnnperf bisect 'resnet18 train cpu eager batch 4' --good v1.2 --bad main
  cnnperf bisect 'se_resnet18 forward cpu compile batch 4' --good HEAD~20 --bad HEAD --only counters

exit status:
  0  the commit was found
  2  unknown arguments, or a commit that cannot be measured
  3  the bad commit is not surely worse, or commits between could not be measured
"""

PARTS = ("counters", "time")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the gate takes, the options of the suite among it."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--base", required=True, metavar="REV", help="commit, tag or branch to compare with")
    add("--head", metavar="REV", help="what is compared with it (default: the work tree as it is)")
    add("--allow", action="append", default=[], metavar="PERCENT", help=TOLERANCE_HELP.replace("%", "%%"))
    add("--time-budget", default="10m", metavar="TIME", help="for timing: seconds, or 90s, 10m, 1h (default: 10m)")
    add("--only", choices=PARTS, help="compare counters alone, or time alone")
    add(
        "--accept",
        action="append",
        default=[],
        metavar="COUNTER",
        help="let a counter get worse, such as flop; repeatable",
    )
    add(
        "--base-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter of the base, where it needs other packages; auto makes an environment with pip where "
        "dependencies differ",
    )
    add(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="save a run file there, with the ratio to the base, for `cnnperf history --metric anchor_ratio`",
    )
    add("--samples", type=Path, metavar="FILE", help="write all seconds to a JSON file")
    suite = parser.add_argument_group("the suite's own options")
    for option in OPTIONS:
        if not option.pytest_only:
            action = "append" if option.repeatable else "store"
            suite.add_argument(
                option.flag, dest=option.key, metavar=option.metavar, action=action, help=option.help.replace("%", "%%")
            )


def add_bisect_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a bisection takes."""
    parser.epilog, parser.formatter_class = BISECT_EXAMPLES, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("case", metavar="CASE", help="its label, as reports print it, in quotes")
    add("--good", required=True, metavar="REV", help="a commit before it became worse")
    add("--bad", required=True, metavar="REV", help="a commit after it became worse")
    add("--allow", action="append", default=[], metavar="PERCENT", help="slowdown that is allowed (default: 5%%)")
    add("--time-budget", default="5m", metavar="TIME", help="for each commit: seconds, or 90s, 10m, 1h (default: 5m)")
    add("--only", choices=PARTS, default="time", help="what became worse (default: time)")
    parser.set_defaults(accept=[], head=None, base_python=sys.executable, samples=None, save=None)


def request_of(given: argparse.Namespace) -> Request:
    """Return what was asked.

    Raises:
        OptionError: If a tolerance, a time or a counter cannot be understood.
    """
    from cnnperf.gate.command import Request
    from cnnperf.records.metrics import METRICS

    known = [name for name, metric in METRICS.items() if metric.counter]
    for name in given.accept:
        if name not in known:
            raise OptionError(f"--accept: there is no counter {name!r}; the counters are {', '.join(known)}")
    if given.save is not None and given.only == "counters":
        raise OptionError("--save saves times, and --only counters measures none; leave out one of them")
    return Request(
        base=given.base,
        head=given.head,
        tolerance=parse_tolerance(given.allow),
        seconds=0.0 if given.only == "counters" else _seconds(given.time_budget),
        given=read_given(lambda key: getattr(given, key, None)),
        accepted=tuple(given.accept),
        base_python=given.base_python,
        parts=(given.only,) if given.only else ("counters", "time"),
        samples=given.samples,
        save=given.save,
    )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise OptionError(f"--time-budget takes seconds above 0, or a time such as 90s, 10m or 1h, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]
