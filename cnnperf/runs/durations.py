"""How long each case took in saved runs, for those who share out a suite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.runs.choose import STORAGE, choose_runs


def read_durations(text: str, storage: str | Path = STORAGE) -> Mapping[Case, float]:
    """Return the seconds that each case took, all of it: building, compiling, checking, memory and rounds.

    Args:
        text: The runs that are meant, as `choose_runs` takes them; of several the median counts.
        storage: Folder of the runs, for all but a path.

    Raises:
        RunFileError: If nothing fits, or the runs were saved by a version that kept no durations.
    """
    found: dict[Case, list[float]] = {}
    for _, run in choose_runs(text, storage):
        for record in run.cases:
            if record.seconds is not None and math.isfinite(record.seconds):
                found.setdefault(record.case, []).append(record.seconds)
    if not found:
        raise RunFileError(f"{text}: no durations of cases in it; runs of this version have them")
    return {case: median(seconds) for case, seconds in found.items()}
