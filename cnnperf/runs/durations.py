"""Durations of cases and runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.records.run import Run
from cnnperf.runs.choose import STORAGE, choose_runs


@dataclass(frozen=True)
class Measured:
    """Share of the duration of a run that its timed rounds took.

    Attributes:
        rounds: Seconds of the timed rounds.
        total: Seconds of the run without compilation.
    """

    rounds: float
    total: float

    @property
    def share(self) -> float:
        """Rounds over total."""
        return self.rounds / self.total


def measured_share(run: Run) -> Measured | None:
    """Return the share of a run's duration that its rounds took; None where a duration is unknown."""
    total = (run.wall_seconds or 0.0) - (run.compile_seconds or 0.0)
    return Measured(run.round_seconds, total) if run.round_seconds is not None and total > 0 else None


def read_durations(text: str, storage: str | Path = STORAGE) -> Mapping[Case, float]:
    """Return the whole duration of each case in seconds: building, compiling, checks, memory and rounds.

    Args:
        text: Runs, as in `choose_runs`; of several runs the median counts.
        storage: Folder of the runs, unless `text` is a path.

    Raises:
        RunFileError: If no run matches, or the runs were saved by a version that recorded no durations.
    """
    durations: dict[Case, list[float]] = {}
    for _, run in choose_runs(text, storage):
        for record in run.cases:
            if record.seconds is not None and math.isfinite(record.seconds):
                durations.setdefault(record.case, []).append(record.seconds)
    if not durations:
        raise RunFileError(f"{text}: no durations of cases in it; runs of this version have them")
    return {case: median(seconds) for case, seconds in durations.items()}
