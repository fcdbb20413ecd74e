"""Paired ratios as metrics of the case that has the other engine, the other device or the part.

A ratio of a case to another case of its run says more than seconds about other machines. As a metric it is in the
frame, in exported files, in the dataset of a fleet and in the history. Quotients of medians are no metrics: their
intervals miss what changed between the two cases.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.run import Run
from cnnperf.runs.pairs import DEVICE, ENGINE, PART, QUESTIONS, case_pairs_of
from cnnperf.runs.ratios import Cases, latency_ratio

METRIC_OF: Mapping[str, str] = {ENGINE: "engine_ratio", DEVICE: "device_ratio", PART: "part_ratio"}
"""Metric by kind of pair."""

_REFERENCES = {METRIC_OF[ENGINE]: "eager", METRIC_OF[DEVICE]: "cpu"}
_WITHOUT_PART = {question.candidate: question.baseline for question in QUESTIONS}


def with_ratios(run: Run) -> Run:
    """Return a run whose cases have their paired ratios among their values.

    The cases of a block are in one shard, so that a shard has the ratios of its own blocks.
    """
    added = ratio_values({record.case: record for record in run.cases})
    cases = [record.with_values(with_units(added.get(record.case, {}))) for record in run.cases]
    return run.replace(cases=tuple(cases))


def ratio_values(cases: Cases) -> dict[Case, dict[str, Value]]:
    """Return the paired ratios of a run by case and metric; `rounds` of a ratio is its number of cycles."""
    added: dict[Case, dict[str, Value]] = {}
    for pair in case_pairs_of(cases):
        if pair.kind == ENGINE and pair.numerator.engine != "eager":
            continue  # the first of several engines, which takes the place of eager in reports
        ratio = latency_ratio(cases[pair.numerator], cases[pair.denominator])
        if ratio.paired:
            added.setdefault(pair.subject, {})[METRIC_OF[pair.kind]] = ratio.value
    return added


def reference_of(case: Case, metric: str) -> str:
    """Return what a ratio of a case is to: `eager`, `cpu` or an architecture; an empty text for other metrics."""
    if metric == METRIC_OF[PART]:
        return _WITHOUT_PART.get(case.architecture, "the network without the part")
    return _REFERENCES.get(metric, "")
