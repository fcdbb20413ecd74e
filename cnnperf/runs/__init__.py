"""Saved runs as records and pandas frames. Nothing here needs torch or pytest.

Names are loaded on first use, so that listing runs does not load pandas and scipy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnperf.records.finding import Finding as Finding
    from cnnperf.records.reading import parse_document as parse_document
    from cnnperf.records.run import CaseRecord as CaseRecord
    from cnnperf.records.run import NotMeasured as NotMeasured
    from cnnperf.records.run import Run as Run
    from cnnperf.runs.analysis import compare_runs as compare_runs
    from cnnperf.runs.analysis import history as history
    from cnnperf.runs.frame import frame_of as frame_of
    from cnnperf.runs.ratio_frame import load_ratios as load_ratios
    from cnnperf.runs.read import load_runs as load_runs
    from cnnperf.runs.read import load_samples as load_samples
    from cnnperf.runs.read import read_runs as read_runs
    from cnnperf.runs.samples import samples_of as samples_of

_HOMES = {
    "CaseRecord": "cnnperf.records.run",
    "Finding": "cnnperf.records.finding",
    "NotMeasured": "cnnperf.records.run",
    "Run": "cnnperf.records.run",
    "compare_runs": "cnnperf.runs.analysis",
    "frame_of": "cnnperf.runs.frame",
    "history": "cnnperf.runs.analysis",
    "load_ratios": "cnnperf.runs.ratio_frame",
    "load_runs": "cnnperf.runs.read",
    "load_samples": "cnnperf.runs.read",
    "parse_document": "cnnperf.records.reading",
    "read_runs": "cnnperf.runs.read",
    "samples_of": "cnnperf.runs.samples",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cnnperf.runs' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(_HOMES[name]), name)
