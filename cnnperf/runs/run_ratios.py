"""Every ratio that is shown of a run."""

from __future__ import annotations

from cnnperf.records.run import Run
from cnnperf.runs.forms import compared_records
from cnnperf.runs.ratios import Ratios, ratios_of


def ratios_of_run(run: Run) -> Ratios:
    """Return every ratio that is shown of a run, by numerator and denominator; their verdicts hold together."""
    cases = {record.case: record for record in run.cases}
    return ratios_of(cases, compared_records(cases), run.smallest_difference)
