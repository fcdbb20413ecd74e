"""What the sweeps of a run say, added to its record: rows of the frame like any other metric."""

from __future__ import annotations

from cnnperf.records.metrics import with_units
from cnnperf.records.run import Run
from cnnperf.runs.sweeps import STEP, sweep_values


def with_sweeps(run: Run) -> Run:
    """Return a run whose cases have what they say together: knee, crossover batch, efficiency of threads.

    A shard has only some points of each sweep, so that its cases get nothing before the shards are merged.
    """
    if run.shard:
        return run
    added = sweep_values({record.case: record for record in run.cases}, run.step or STEP)
    return run.replace(cases=tuple(one.with_values(with_units(added.get(one.case, {}))) for one in run.cases))
