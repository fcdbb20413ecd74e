"""Reading run files into plain records and pandas frames. Nothing here needs torch or pytest."""

from cnnperf.records.finding import Finding
from cnnperf.records.reading import parse_document
from cnnperf.records.run import CaseRecord, NotMeasured, Run
from cnnperf.runs.analysis import compare_runs, history
from cnnperf.runs.frame import frame_of
from cnnperf.runs.read import load_runs, load_samples, read_runs
from cnnperf.runs.samples import samples_of

__all__ = [
    "CaseRecord",
    "Finding",
    "NotMeasured",
    "Run",
    "compare_runs",
    "frame_of",
    "history",
    "load_runs",
    "load_samples",
    "parse_document",
    "read_runs",
    "samples_of",
]
