"""What the sweeps of a run say, written into its file: rows of the frame like any other metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnperf.records.case import Case
from cnnperf.records.document import parse_document
from cnnperf.records.metrics import METRICS
from cnnperf.runs.sweeps import STEP, sweep_values


def add_sweeps(document: Mapping[str, Any]) -> None:
    """Give the cases of a run-file document what they say together: knee, crossover batch, efficiency of threads.

    A shard has some points of each sweep only, so that its cases get nothing before they are merged.

    Args:
        document: It is changed where it is.

    Raises:
        RunFileError: If it is damaged.
    """
    run = parse_document(document)
    if run.shard:
        return
    added = sweep_values({record.case: record for record in run.cases}, run.step or STEP)
    for record in (entry["extra_info"] for entry in document["benchmarks"] if "cnnperf" in entry.get("extra_info", {})):
        values = added.get(Case.from_axes(record["axes"]), {})
        record["metrics"] |= {name: value.as_json(METRICS[name]) for name, value in values.items()}
