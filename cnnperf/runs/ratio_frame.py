"""The ratios of saved runs as a tidy frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from cnnperf.records.case import AXES, Case
from cnnperf.records.run import Run
from cnnperf.runs.frame import typed_frame
from cnnperf.runs.pairs import CasePair, case_pairs_of
from cnnperf.runs.ratios import Ratio
from cnnperf.runs.read import read_runs
from cnnperf.runs.run_ratios import ratios_of_run

FORM = "form"
"""Question of a ratio between two forms of a part of a network."""

_SIDES = ("numerator", "denominator")
COLUMNS = (
    *("run", "time", "commit", "machine", "question"),
    *(f"{side}_{axis.name}" for side in _SIDES for axis in AXES),
    *("value", "low", "high", "cycles", "processes", "paired", "verdict"),
)
"""The columns of the frame of ratios, in order."""

_TYPES = {
    **{f"{side}_{axis.name}": "Int64" if axis.type is int else "category" for side in _SIDES for axis in AXES},
    **dict.fromkeys(("run", "commit", "machine", "question", "verdict"), "category"),
    **dict.fromkeys(("value", "low", "high"), "float64"),
    "time": "datetime64[us, UTC]",
    "cycles": "Int64",
    "processes": "int64",
    "paired": "bool",
}


def load_ratios(path: str | Path) -> pd.DataFrame:
    """Read the ratios of saved runs: one row per run and pair of cases that a report compares.

    Args:
        path: As for `load_runs`.

    Returns:
        A frame with the columns run, time, commit, machine, question (`engine`, `device`, `form`, or the part whose
        cost the ratio is), the axes of both cases (numerator_architecture, ..., denominator_world_size), value (latency
        of the numerator over that of the denominator), low and high (its 95 % interval), cycles (of both cases; missing
        if they are not paired), processes (whose spread the interval holds; 1 for most runs), paired (whether the cases
        were measured side by side) and verdict (`above`, `below`, `same`, `unsure` or `unknown`). The verdicts of one
        run hold together: at most one run in twenty has a false one.

    Raises:
        RunFileError: As for `load_runs`.

    Warns:
        UserWarning: As for `load_runs`.
    """
    return ratios_of_runs(read_runs(path))


def ratios_of_runs(runs: Iterable[tuple[str, Run]]) -> pd.DataFrame:
    """Return the frame of `load_ratios` of runs, given with their names."""
    return typed_frame((row for name, run in runs for row in _rows(name, run)), COLUMNS, _TYPES)


def _rows(name: str, run: Run) -> Iterator[tuple[object, ...]]:
    head = (name, run.time, run.commit, run.machine)
    questions = {(two.numerator, two.denominator): _question(two) for two in case_pairs_of(_cases(run))}
    for pair, ratio in ratios_of_run(run).items():
        axes = (value for case in pair for value in case.axes().values())
        yield (*head, questions.get(pair, FORM), *axes, *_tail(ratio))


def _cases(run: Run) -> list[Case]:
    return [record.case for record in run.cases]


def _question(pair: CasePair) -> str:
    return pair.kind if pair.question is None else pair.question.title


def _tail(ratio: Ratio) -> tuple[object, ...]:
    value, processes = ratio.value, 1 if ratio.freedom is None else ratio.freedom + 1
    cycles = value.rounds if ratio.paired else pd.NA
    return value.value, value.low, value.high, cycles, processes, ratio.paired, ratio.verdict
