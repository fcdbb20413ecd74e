"""Measure the gate itself: how often it cries wolf, what it finds, and how long it takes.

    python scripts/gate_study.py run results/gate/study.jsonl --hours 1
    python scripts/gate_study.py table results/gate/study.jsonl

A run of the gate compares two folders whose two networks differ by extra layers, or not at all: a hundred equal layers
against a hundred and some more, so that 5 more are a slowdown of 5 %. One network is bound by its layers, the other by
the dispatch of tiny ones. Settings are taken in turn, and each line of the file is one network of one whole run with
fresh processes; `run` goes on where the file ends. Beside the gate's verdict stands that of
a comparison of medians with one process a side, as `pytest --benchmark-compare-fail=median:5%` makes it, on the samples
of the first pass.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from cnnperf.gate.command import Starter
from cnnperf.gate.gate import BASE, CANDIDATE, CONTROL, Gate, Series, control_of, ratios, verdict_of
from cnnperf.gate.lockstep import ESTIMATORS
from cnnperf.gate.sides import Side
from cnnperf.records.case import Case
from cnnperf.stats.sequential import Rule

NETWORK = """
from torch import nn

def make():
    layers = [nn.{layer} for _ in range({count})]
    last = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear({width}, 10)
    return nn.Sequential(nn.Conv2d(3, {width}, 1), *layers, *last)
"""
KINDS = {
    "layer": {"layer": "Conv2d(32, 32, 3, padding=1, bias=False)", "width": 32},
    "dispatch": {"layer": "ReLU()", "width": 4},
}
CASES = {
    "layer": Case("planted_layer:make", batch=4, image_size=24),
    "dispatch": Case("planted_dispatch:make", batch=1, image_size=4),
}
SLOWDOWNS = (0, 5, 0, 10, 0, 3, 0, 20)  # in percent; what matters most comes most often
THREADS = (2, 1)
LOADS = (False, True)
SECONDS = 120.0  # the time budget of a case
LAYERS = 100
VERDICTS = ("slower", "same", "faster", "unsure")
NAMES = {False: "quiet", True: "busy"}


def settings(slowdowns: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the settings for ever, each as often as it stands in the tables."""
    while True:
        for slowdown, threads, load in product(slowdowns, THREADS, LOADS):
            yield {"threads": threads, "load": load, "slowdown": slowdown}


@contextmanager
def competing_load(*, wanted: bool) -> Iterator[None]:
    """Keep one core busy with matrix products."""
    if not wanted:
        yield
        return
    # It ends by itself when this script was killed, or it would disturb whatever is measured next.
    product = "import os, torch; torch.set_num_threads(1); a = torch.randn(512, 512)"
    busy = f"{product}\nwhile os.getppid() == {os.getpid()}: a @ a"
    process = subprocess.Popen([sys.executable, "-c", busy], stderr=subprocess.DEVNULL)  # noqa: S603 - ours
    try:
        time.sleep(3)  # until it is past loading
        yield
    finally:
        process.kill()
        process.wait()


def side(folder: Path, slowdown: int) -> Side:
    """Write the networks and return their folder as a side."""
    folder.mkdir()
    for kind, network in KINDS.items():
        (folder / f"planted_{kind}.py").write_text(NETWORK.format(**network, count=LAYERS + slowdown))
    return Side(f"{LAYERS + slowdown} layers", "0" * 40, False, folder)


def run_once(setting: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the gate once and return what it said, one entry a case."""
    rule = Rule(cases=len(CASES))
    with tempfile.TemporaryDirectory() as above, competing_load(wanted=setting["load"]):
        base = side(Path(above, "base"), 0)
        sides = {BASE: base, CONTROL: base, CANDIDATE: side(Path(above, "candidate"), setting["slowdown"])}
        environment = {**os.environ, "OMP_NUM_THREADS": str(setting["threads"])}
        begun = time.monotonic()
        deadline = begun + SECONDS * len(CASES)
        gate = Gate(Starter(sides, environment=environment), rule, deadline)
        measured = gate.measure(list(CASES.values()))
        seconds = (time.monotonic() - begun) / len(CASES)
    withdrawn = bool(control_of(measured, rule))
    return [
        {**setting, "kind": kind, "seconds": round(seconds, 2), "withdrawn": withdrawn, **entry_of(series)}
        for kind, series in zip(CASES, measured, strict=True)
    ]


def entry_of(series: Series) -> dict[str, Any]:
    """Return what a series says, and what other rules would need."""
    verdict, every = verdict_of(series), [*series.first, *series.second]
    return {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "count": sum(map(len, every)),
        "estimate": None if verdict.found is None else verdict.found.middle,
        "base_seconds": verdict.base_seconds,
        "median_rule": median_rule(series),
        "ratios": {name: rounded(ratios(every, estimator=name)) for name in ESTIMATORS},
        "cpu_ratios": rounded(ratios(every, cpu=True)),
        "control": rounded(ratios(every, CONTROL)),
        "cpu_control": rounded(ratios(every, CONTROL, cpu=True)),
        "by_cpu": series.by_cpu,
    }


def rounded(passes: list[list[float]]) -> list[list[float]]:
    """Return log ratios to the hundredth of a percent."""
    return [[round(value, 4) for value in one] for one in passes]


def median_rule(series: Series) -> bool | None:
    """Return whether medians over one process a side differ by more than 5 %."""
    if not series.first:
        return None
    medians = {
        name: statistics.median(seconds for placement in series.first[0] for seconds in placement.wall[name])
        for name in (BASE, CANDIDATE)
    }
    return medians[CANDIDATE] > 1.05 * medians[BASE]


def run(path: Path, hours: float, slowdowns: Sequence[int]) -> None:
    """Append runs to the file until the time is over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = len(path.read_text().splitlines()) // len(CASES) if path.exists() else 0
    end = time.monotonic() + 3600 * hours
    for number, setting in enumerate(settings(slowdowns)):
        if time.monotonic() > end:
            return
        if number < done:
            continue
        entries = run_once(setting)
        with path.open("a") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries)
        said = ", ".join(f"{entry['kind']} {entry['verdict']}" for entry in entries)
        sys.stdout.write(f"{number + 1}: {setting}: {said} after {entries[0]['seconds']:.0f} s a case\n")
        sys.stdout.flush()


def table(path: Path, axes: Sequence[str]) -> list[str]:
    """Return the table of a file, one row for each point of the axes."""
    runs = [json.loads(line) for line in path.read_text().splitlines()]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in runs:
        groups.setdefault(tuple(one[axis] for axis in axes), []).append(one)
    header = [*axes, "cases", *VERDICTS, "withdrawn", "median:5%", "seconds, median and most"]
    lines = [f"| {' | '.join(header)} |", f"| {' | '.join(['---:'] * len(header))} |"]
    for point, group in sorted(groups.items()):
        seconds = [one["seconds"] for one in group]
        cells = [
            *(NAMES.get(value, f"{value}") if isinstance(value, bool) else f"{value}" for value in point),
            str(len(group)),
            *(_share(group, verdict) for verdict in VERDICTS),
            _rate(sum(one["withdrawn"] for one in group), len(group)),
            _rate(sum(bool(one["median_rule"]) for one in group), len(group)),
            f"{statistics.median(seconds):.0f}, {max(seconds):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _share(group: Sequence[dict[str, Any]], verdict: str) -> str:
    counted = [one for one in group if not one["withdrawn"]]
    return _rate(sum(one["verdict"] == verdict for one in counted), len(counted))


def _rate(count: int, total: int) -> str:
    if total == 0:
        return "-"
    interval = binomtest(count, total).proportion_ci(method="exact")
    return f"{count} [{interval.low:.0%}, {interval.high:.0%}]"


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("run", "table"), help="take more runs, or print the table of those there are")
    parser.add_argument("path", type=Path, help="the file of runs, one a line")
    parser.add_argument("--hours", type=float, default=1.0, help="how long to run (default: 1)")
    text = f"in percent, taken in turn (default: {' '.join(map(str, SLOWDOWNS))})"
    parser.add_argument("--slowdowns", type=int, nargs="+", default=SLOWDOWNS, metavar="PERCENT", help=text)
    parser.add_argument(
        "--by",
        default="slowdown,load,threads,kind",
        help="what the rows of the table tell apart (default: slowdown,load,threads,kind)",
    )
    given = parser.parse_args()
    if given.do == "run":
        run(given.path, given.hours, given.slowdowns)
    else:
        sys.stdout.writelines(f"{line}\n" for line in table(given.path, given.by.split(",")))


if __name__ == "__main__":
    main()
