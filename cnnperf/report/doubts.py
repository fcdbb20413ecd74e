"""Cases that were not measured and findings, each stated once for all cases that it concerns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cnnperf.records.case import AXES, AXIS_BY_NAME, AxisValue, Case
from cnnperf.records.finding import Finding
from cnnperf.records.run import NotMeasured, Run
from cnnperf.report.cases import count_text
from cnnperf.report.layout import wrap

MOST_KINDS = 12
MOST_REASONS = 8
MOST_NAMES = 6

# Shown with every case; other axes only where they do not have their default.
_ALWAYS = ("architecture", "phase", "device", "engine")


@dataclass(frozen=True)
class Doubt:
    """Reason to distrust a number, with its meaning and remedy."""

    seen: str
    advice: str = ""


def not_measured(run: Run) -> list[str]:
    """Return a sentence for each reason why cases were not measured, with their number and axes."""
    by_reason: dict[str, list[NotMeasured]] = {}
    for entry in run.not_measured:
        # "Tried to allocate 2.00 GiB" and "... 2.25 GiB" are one reason.
        by_reason.setdefault(re.sub(r"\d[\d.,]*", "#", entry.reason), []).append(entry)
    groups = sorted(by_reason.values(), key=len, reverse=True)
    return [*map(_reason_text, groups[:MOST_REASONS]), *_more(len(groups) - MOST_REASONS, "reasons")]


def doubts(run: Run) -> list[Doubt]:
    """Return the findings by kind: number of cases, the worst one, its meaning and remedy."""
    by_kind: dict[str, list[tuple[Case, Finding]]] = {}
    for record in run.cases:
        for finding in record.findings:
            by_kind.setdefault(finding.kind, []).append((record.case, finding))
    kinds = [_doubt(f"{finding.kind}: {finding.seen}", finding) for finding in run.findings]
    for kind, entries in sorted(by_kind.items(), key=lambda item: len(item[1]), reverse=True):
        case, finding = max(entries, key=lambda entry: entry[1].severity or 0.0)
        number = f"{len({case for case, _ in entries})} of {count_text(len(run.cases), 'case')}"
        worst = "worst: " if len(entries) > 1 else ""
        kinds.append(_doubt(f"{kind}: {number}; {worst}{case.label()}: {finding.seen}", finding))
    return [*kinds[:MOST_KINDS], *map(Doubt, _more(len(kinds) - MOST_KINDS, "kinds of findings"))]


def not_measured_lines(run: Run) -> list[str]:
    """Return `not_measured` as lines for a terminal."""
    lines = [line for text in not_measured(run) for line in wrap(text)]
    return ["", *lines] if lines else []


def doubt_lines(run: Run) -> list[str]:
    """Return the findings as lines for a terminal."""
    lines: list[str] = []
    for doubt in doubts(run):
        lines += wrap(f"  {doubt.seen}", rest="    ")
        lines += wrap(f"    {doubt.advice}", rest="    ") if doubt.advice else []
    if not lines:
        return ["", "Findings: none"] if run.cases else []
    return ["", "Findings", *lines]


def _reason_text(group: list[NotMeasured]) -> str:
    """Return a reason with the cases that it concerns; entries without an architecture concern all with some axes."""
    parts = []
    for entry in group:
        if "architecture" not in entry.axes:
            axes = ", ".join(f"{name} {value}" for name, value in entry.axes.items())
            parts.append(f"all cases with {axes}" if axes else "all cases")
    single = [entry.axes for entry in group if "architecture" in entry.axes]
    if single:
        parts.append(f"{count_text(len(single), 'case')}: {_axis_values(single)}")
    return f"not measured: {group[0].reason} ({'; '.join(parts)})"


def _axis_values(axes: Iterable[Mapping[str, AxisValue]]) -> str:
    """Return the values of the cases on each axis: `resnet18; train; cuda; eager, compile; batch 512`."""
    points = [Case.from_axes(point).axes() for point in axes]
    words = []
    for axis in AXES:
        values = list(dict.fromkeys(str(point[axis.name]) for point in points))
        more = f" and {len(values) - MOST_NAMES} more" if len(values) > MOST_NAMES else ""
        listed = ", ".join(values[:MOST_NAMES]) + more
        if axis.name in _ALWAYS:
            words.append(listed)
        elif values != [str(AXIS_BY_NAME[axis.name].default)]:
            words.append(f"{axis.name.replace('_', ' ')} {listed}" if axis.type is int else listed)
    return "; ".join(words)


def _doubt(seen: str, finding: Finding) -> Doubt:
    return Doubt(seen, "; ".join(part for part in (finding.meaning, finding.remedy) if part))


def _more(count: int, what: str) -> list[str]:
    return [f"{count} more {what} in the run file"] if count > 0 else []
