"""Runs in other formats: CSV and Parquet of the tidy frame, and the JSON of two benchmark services."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

from cnnperf.extras import needs_extra
from cnnperf.records.metrics import METRICS, RATIOS, Value
from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.frame import frame_of_runs

Runs = Sequence[tuple[str, Run]]

NANO = 1e9


def csv(runs: Runs) -> bytes:
    """Return the tidy frame as CSV."""
    return bytes(frame_of_runs(runs).to_csv(index=False).encode())


def parquet(runs: Runs) -> bytes:
    """Return the tidy frame as Parquet.

    Raises:
        CnnperfError: If pyarrow is not installed.
    """
    buffer = BytesIO()
    with needs_extra("history", "Parquet"):
        import pyarrow as pa  # noqa: F401 - pandas does not name it in its own error
    frame_of_runs(runs).to_parquet(buffer, index=False)
    return buffer.getvalue()


def github(runs: Runs) -> bytes:
    """Return the input of github-action-benchmark for its tool `customSmallerIsBetter`.

    Source: https://github.com/benchmark-action/github-action-benchmark#examples.
    """
    entries = []
    for _, run in runs:
        for record in run.by_case().values():
            for name, value in _smaller_is_better(record).items():
                entry = {"name": f"{record.case.label()}: {name}", "unit": METRICS[name].unit, "value": value.value}
                entries.append(entry | _range(value))
    return _json(entries)


def bencher(runs: Runs) -> bytes:
    """Return the Bencher Metric Format: latency in nanoseconds, other metrics in their SI units.

    Source: https://bencher.dev/docs/reference/bencher-metric-format/.
    """
    cases: dict[str, dict[str, dict[str, float]]] = {}
    for _, run in runs:
        for record in run.by_case().values():
            cases[record.case.label()] = {
                name.replace("_", "-"): _bounded(value, NANO if name == "latency" else 1.0)
                for name, value in _smaller_is_better(record).items()
            }
    return _json(cases)


FORMATS: Mapping[str, Callable[[Runs], bytes]] = {
    "csv": csv,
    "parquet": parquet,
    "github": github,
    "bencher": bencher,
}


def _smaller_is_better(record: CaseRecord) -> dict[str, Value]:
    values = {name: value for name, value in record.values.items() if math.isfinite(value.value)}
    # These services report a rise as a regression, and a ratio also rises where the other case becomes faster.
    names = [name for name, metric in METRICS.items() if metric.better == "lower" and name not in RATIOS]
    return {name: value for name, value in values.items() if name in names}


def _range(value: Value) -> dict[str, str]:
    return {} if math.isnan(value.half_width) else {"range": f"± {value.half_width:.1%}"}


def _bounded(value: Value, factor: float) -> dict[str, float]:
    ends = {"value": value.value, "lower_value": value.low, "upper_value": value.high}
    return {name: end * factor for name, end in ends.items() if end is not None and math.isfinite(end * factor)}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
