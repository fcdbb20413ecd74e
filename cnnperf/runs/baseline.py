"""The baseline of a run in progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnperf.records.machine import Scalar
from cnnperf.records.run import Run
from cnnperf.records.tolerance import Tolerance
from cnnperf.runs.comparison import Runs, check_environments, compare_sides, label_of
from cnnperf.runs.verdicts import Comparison


@dataclass(frozen=True)
class Baseline:
    """Runs with which a new one is compared.

    Attributes:
        runs: One or more runs of one commit.
        tolerance: Largest acceptable slowdown.
        fails: Whether the new run fails where it is slower.
    """

    runs: Runs
    tolerance: Tolerance
    fails: bool

    def __post_init__(self) -> None:
        """Refuse runs of several commits.

        Raises:
            RunFileError: If there are several; the message lists them.
        """
        label_of(self.runs)

    def check(self, environment: Mapping[str, Scalar]) -> None:
        """Refuse an environment in which times cannot be compared with the baseline's.

        Raises:
            RunFileError: If it differs; the message lists the facts.
        """
        remedy = "choose a baseline of this machine"
        check_environments([*(run for _, run in self.runs), Run(environment=environment)], remedy)

    def compare(self, run: Run) -> Comparison:
        """Compare a run that is still in memory.

        Raises:
            RunFileError: If the runs cannot be compared.
        """
        return compare_sides(self.runs, [("this run", run)], self.tolerance)
