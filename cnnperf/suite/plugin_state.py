"""State of the plugin in one pytest run, and where pytest keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cnnperf.suite.options import Options
from cnnperf.suite.progress_line import ProgressLine
from cnnperf.suite.replay import Replay

if TYPE_CHECKING:
    from cnnperf.records.case import Case
    from cnnperf.runs.baseline import Baseline
    from cnnperf.suite.bench_run import BenchRun

MARKER = "cnnperf"
"""Name of the marker of a test that measures a case."""

REPLAY_KEY: pytest.StashKey[Replay] = pytest.StashKey()
"""Key of the timer of a test."""


@dataclass
class PluginState:
    """State of the plugin in one pytest run.

    Attributes:
        options: The checked options.
        baseline: Saved runs that the run is compared with, or None.
        durations: Seconds of each case by which shards are made.
        of_cases: Digest of all cases, of which a shard measures some.
        run: The benchmark run; None before its first case.
        progress: Writer of progress.
        saved: Whether pytest-benchmark has the record of the run.
    """

    options: Options
    baseline: Baseline | None
    durations: Mapping[Case, float]
    progress: ProgressLine
    of_cases: str = ""
    run: BenchRun | None = None
    saved: bool = False


STATE_KEY: pytest.StashKey[PluginState] = pytest.StashKey()


def storage_of(config: pytest.Config) -> Path:
    """Return the folder of the run files; for a storage that is not a folder, the default one."""
    text = str(config.getoption("benchmark_storage", ".benchmarks"))
    return Path(text.removeprefix("file://")) if "://" not in text.removeprefix("file://") else Path(".benchmarks")
