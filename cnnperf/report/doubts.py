"""What was not measured and what to distrust, each said once however many cases it concerns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cnnperf.measure.case import AXES, AXIS_BY_NAME, AxisValue, Case
from cnnperf.measure.finding import Finding
from cnnperf.report.layout import wrap
from cnnperf.runs.records import CaseRecord, NotMeasured, Run

MOST_KINDS = 12
MOST_REASONS = 8
MOST_NAMES = 6

LOW_IS_WORSE = frozenset({"small sample", "waiting", "launch-bound"})
"""Kinds of findings whose text has the smaller number in the worse case."""

# Shown with every case; the others only where they are not as usual.
_ALWAYS = ("architecture", "phase", "device", "engine")


def not_measured_lines(run: Run) -> list[str]:
    """Return a line for each reason why cases were not measured, with how many and which."""
    by_reason: dict[str, list[NotMeasured]] = {}
    for record in run.not_measured:
        # "Tried to allocate 2.00 GiB" and "... 2.25 GiB" are one reason.
        by_reason.setdefault(re.sub(r"\d[\d.,]*", "#", record.reason), []).append(record)
    groups = sorted(by_reason.values(), key=len, reverse=True)
    lines = [line for group in groups[:MOST_REASONS] for line in wrap(_reason_line(group))]
    return ["", *lines, *_more(len(groups) - MOST_REASONS, "reasons")] if lines else []


def finding_lines(run: Run) -> list[str]:
    """Return the findings by kind: for each how many cases have it, the worst one, what it means and what to do."""
    by_kind: dict[str, list[tuple[Case, Finding]]] = {}
    for record in run.cases:
        for finding in record.findings:
            by_kind.setdefault(finding.kind, []).append((record.case, finding))
    groups = sorted(by_kind.items(), key=lambda item: len(item[1]), reverse=True)
    blocks = [_run_wide(finding) for finding in run.findings]
    blocks += [_of_kind(kind, found, run.cases) for kind, found in groups]
    if not blocks:
        return ["", "Findings: none"] if run.cases else []
    shown = [line for block in blocks[:MOST_KINDS] for line in block]
    return ["", "Findings", *shown, *_more(len(blocks) - MOST_KINDS, "kinds of findings")]


def _reason_line(group: list[NotMeasured]) -> str:
    whole = [record for record in group if "architecture" not in record.axes]
    single = [record.axes for record in group if "architecture" in record.axes]
    parts = [f"all cases with {_axes_text(record.axes)}" if record.axes else "all cases" for record in whole]
    if single:
        parts.append(f"{_count(len(single), 'case')}: {_which(single)}")
    return f"not measured: {group[0].reason} ({'; '.join(parts)})"


def _which(axes: Iterable[Mapping[str, AxisValue]]) -> str:
    """Return the values that the cases have on each axis: `resnet18; train; cuda; eager, compile; batch 512`."""
    points = [Case.from_axes(point).axes() for point in axes]
    words = []
    for axis in AXES:
        values = list(dict.fromkeys(str(point[axis.name]) for point in points))
        if axis.name in _ALWAYS:
            words.append(_listed(values))
        elif values != [str(AXIS_BY_NAME[axis.name].default)]:
            prefix = f"{axis.name} ".replace("_", " ") if axis.type is int else ""
            words.append(prefix + _listed(values))
    return "; ".join(words)


def _listed(values: list[str]) -> str:
    more = len(values) - MOST_NAMES
    return ", ".join(values[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _axes_text(axes: Mapping[str, AxisValue]) -> str:
    return ", ".join(f"{name} {value}" for name, value in axes.items())


def _run_wide(finding: Finding) -> list[str]:
    return wrap(f"  {finding.kind}: {finding.seen}", rest="    ") + _advice(finding)


def _of_kind(kind: str, found: list[tuple[Case, Finding]], cases: tuple[CaseRecord, ...]) -> list[str]:
    case, finding = max(found, key=lambda item: _severity(item[1]))
    number = f"{len({case for case, _ in found})} of {_count(len(cases), 'case')}"
    worst = "worst: " if len(found) > 1 else ""
    return wrap(f"  {kind}: {number}; {worst}{case.label()}: {finding.seen}", rest="    ") + _advice(finding)


def _advice(finding: Finding) -> list[str]:
    text = "; ".join(part for part in (finding.meaning, finding.remedy) if part)
    return wrap(f"    {text}", rest="    ") if text else []


def _severity(finding: Finding) -> float:
    """Judge by the first number in the text, which is the quantity that was checked."""
    numbers = re.findall(r"\d+(?:\.\d+)?", finding.seen)
    size = float(numbers[0]) if numbers else 0.0
    return -size if finding.kind in LOW_IS_WORSE else size


def _more(count: int, what: str) -> list[str]:
    return [f"  {count} more {what} in the run file"] if count > 0 else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
