"""What was not measured and what to distrust, each said once however many cases it concerns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cnnperf.records.case import AXES, AXIS_BY_NAME, AxisValue, Case
from cnnperf.records.finding import Finding
from cnnperf.records.run import CaseRecord, NotMeasured, Run
from cnnperf.report.layout import wrap

MOST_KINDS = 12
MOST_REASONS = 8
MOST_NAMES = 6

# Shown with every case; the others only where they are not as usual.
_ALWAYS = ("architecture", "phase", "device", "engine")


@dataclass(frozen=True)
class Doubt:
    """A reason to distrust a number, with its meaning and remedy."""

    seen: str
    advice: str = ""


def not_measured(run: Run) -> list[str]:
    """Return a sentence for each reason why cases were not measured, with how many and which."""
    by_reason: dict[str, list[NotMeasured]] = {}
    for record in run.not_measured:
        # "Tried to allocate 2.00 GiB" and "... 2.25 GiB" are one reason.
        by_reason.setdefault(re.sub(r"\d[\d.,]*", "#", record.reason), []).append(record)
    groups = sorted(by_reason.values(), key=len, reverse=True)
    return [*map(_reason_text, groups[:MOST_REASONS]), *_more(len(groups) - MOST_REASONS, "reasons")]


def doubts(run: Run) -> list[Doubt]:
    """Return the findings by kind: for each how many cases have it, the worst one, what it means and what to do."""
    by_kind: dict[str, list[tuple[Case, Finding]]] = {}
    for record in run.cases:
        for finding in record.findings:
            by_kind.setdefault(finding.kind, []).append((record.case, finding))
    groups = sorted(by_kind.items(), key=lambda item: len(item[1]), reverse=True)
    found = [_doubt(f"{finding.kind}: {finding.seen}", finding) for finding in run.findings]
    found += [_of_kind(kind, having, run.cases) for kind, having in groups]
    return [*found[:MOST_KINDS], *map(Doubt, _more(len(found) - MOST_KINDS, "kinds of findings"))]


def not_measured_lines(run: Run) -> list[str]:
    """Return what was not measured as lines of a terminal."""
    lines = [line for text in not_measured(run) for line in wrap(text)]
    return ["", *lines] if lines else []


def doubt_lines(run: Run) -> list[str]:
    """Return the findings as lines of a terminal."""
    lines = [line for doubt in doubts(run) for line in _lines(doubt)]
    if not lines:
        return ["", "Findings: none"] if run.cases else []
    return ["", "Findings", *lines]


def _lines(doubt: Doubt) -> list[str]:
    return wrap(f"  {doubt.seen}", rest="    ") + (wrap(f"    {doubt.advice}", rest="    ") if doubt.advice else [])


def _reason_text(group: list[NotMeasured]) -> str:
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


def _of_kind(kind: str, found: list[tuple[Case, Finding]], cases: tuple[CaseRecord, ...]) -> Doubt:
    case, finding = max(found, key=lambda item: item[1].severity or 0.0)
    number = f"{len({case for case, _ in found})} of {_count(len(cases), 'case')}"
    worst = "worst: " if len(found) > 1 else ""
    return _doubt(f"{kind}: {number}; {worst}{case.label()}: {finding.seen}", finding)


def _doubt(seen: str, finding: Finding) -> Doubt:
    return Doubt(seen, "; ".join(part for part in (finding.meaning, finding.remedy) if part))


def _more(count: int, what: str) -> list[str]:
    return [f"{count} more {what} in the run file"] if count > 0 else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
