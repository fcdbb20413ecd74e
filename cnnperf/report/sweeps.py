"""What the sweeps among a run's cases say: a table and sentences for each, for terminal, Markdown and page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import Run
from cnnperf.report.layout import Row, grid, wrap
from cnnperf.runs.pairs import Cases
from cnnperf.runs.sweeps import LEAST, STEP, Crossover, Line, Rivals, efficiencies, gains, knee_of, lines_of, rivals_of
from cnnperf.units import ABSENT, format_percent, format_quantity

Column = Callable[[Line], Mapping[int, str]]

TENTHS_BELOW = 0.0995  # a share that is written with one decimal

SIDES = {"engine_crossover": "engine", "device_crossover": "device"}
"""The axis in which the two sides of a crossover differ."""


@dataclass(frozen=True)
class Answer:
    """Lines of one network, phase and device over one axis, and sentences about them.

    Attributes:
        title: What was swept over what.
        lines: One an engine.
        sentences: Knee, largest batch, crossover.
    """

    title: str
    lines: list[Line]
    sentences: list[str]


def answers_of(run: Run) -> list[Answer]:
    """Return what the sweeps of a run say; a shard has but some of their points."""
    if run.shard:
        return []
    cases = {record.case: record for record in run.cases}
    step = run.step or STEP
    return [_answer(axis, lines, cases, step) for axis in LEAST for lines in _together(lines_of(cases, axis))]


def sweep_lines(run: Run) -> list[str]:
    """Return the section of a terminal's summary; none where nothing was swept."""
    found = answers_of(run)
    return ["", f"Sweeps{_explained(found)}", *(line for one in found for line in _told(one))] if found else []


def crossover_text(rivals: Rivals) -> str:
    """Return from which batch on the challenger is faster, as a sentence."""
    axis, found = SIDES[rivals.metric], rivals.crossover
    challenger, base = (getattr(line.case, axis) for line in (rivals.challenger, rivals.base))
    same = f"{rivals.challenger.case.device} " if axis == "engine" else f"{rivals.challenger.case.engine}, "
    sides = f"{same}{challenger} against {base}: "
    return sides + ANSWERS[found.answer](found) + _earlier(found)


def device_crossovers(cases: Cases) -> list[str]:
    """Return a sentence for each network, phase and engine: from which batch on CUDA surely is faster than the CPU."""
    found = [rivals for rivals in rivals_of(cases, least=1) if rivals.metric == "device_crossover"]
    named = [(rivals.challenger.case, crossover_text(rivals)) for rivals in found if rivals.crossover.most]
    return [f"{case.architecture}, {case.phase}: {sentence}" for case, sentence in named]


ANSWERS: Mapping[str, Callable[[Crossover], str]] = {
    "from": lambda found: f"faster from batch {_batch_text(found.batch)} on",
    "always": lambda found: f"faster at every batch that was measured, {found.first} to {found.most}",
    "never": lambda found: f"still slower at batch {found.most}, the largest of both",
    "unsure": lambda found: f"no difference is sure at batch {found.most}, the largest of both",
}


def _earlier(found: Crossover) -> str:
    batches = ", ".join(map(str, found.earlier))
    return f"; it was faster at batch {batches} too, and slower after" if batches else ""


def _batch_text(batch: Value | None) -> str:
    """Write a batch as the first whole number that is not below it, and its interval by those around it."""
    if batch is None or batch.low is None or batch.high is None:
        return ABSENT
    value, low, high = (round(end, 6) for end in (batch.value, batch.low, batch.high))  # 4 may be 4.0000000001
    return f"{math.ceil(value)} [{math.floor(low)}, {math.ceil(high)}]"


def _together(lines: list[Line]) -> list[list[Line]]:
    """Put those lines together that differ in the engine alone."""
    found: dict[Case, list[Line]] = {}
    for line in lines:
        found.setdefault(line.case.replace(engine="eager"), []).append(line)
    return list(found.values())


def _answer(axis: str, lines: list[Line], cases: Cases, step: float) -> Answer:
    case = lines[0].case
    form = [getattr(case, name) for name in ("precision", "layout") if not case.is_default(name)]
    form += ([] if axis == "batch" else [f"batch {case.batch}"]) + case.sizes()
    title = " ".join((case.architecture, case.phase, case.device, *form, "over", axis))
    own = {line.case for line in lines}
    crossings = [crossover_text(one) for one in rivals_of(cases) if axis == "batch" and one.challenger.case in own]
    told = [sentence for line in lines for sentence in _sentences(line, step)]
    return Answer(title, lines, [*told, *crossings])


def _sentences(line: Line, step: float) -> list[str]:
    if line.axis != "batch":
        return []
    knee, last = knee_of(line.points("throughput"), step), max(line.records)
    if knee is None:
        under = format_percent(step)
        told = f"{line.case.engine}: no knee up to batch {last}: nowhere does doubling surely bring under {under}"
    else:
        sure = "surely" if knee.sure else "perhaps"
        told = f"{line.case.engine}: {sure} the knee at batch {knee.batch}: doubling it brings {_signed(knee.gain)}"
    return [told, *_largest(line)]


def _largest(line: Line) -> list[str]:
    found = [record.values["largest_batch"] for record in line.records.values() if "largest_batch" in record.values]
    how = "foreseen by counted bytes" if line.case.device_type == "cpu" else "tried"
    return [f"{line.case.engine}: largest batch that fits, {how}: {_range_text(one)}" for one in found]


def _range_text(largest: Value) -> str:
    if largest.high is None or largest.high == largest.value:
        return f"{largest.value:.0f}"
    return f"{largest.value:.0f} (up to {largest.high:.0f} is not known)"


def _explained(found: list[Answer]) -> str:
    axes = {line.axis for one in found for line in one.lines}
    notes = {
        "batch": "gain: of images/s by doubling the batch",
        "threads": "efficiency: images/s over one thread's times the threads, in a sweep side by side",
    }
    told = "; ".join(note for axis, note in notes.items() if axis in axes)
    return f" ({told})" if told else ""


def _told(answer: Answer) -> list[str]:
    axis = answer.lines[0].axis
    header: list[str] = [axis]
    cells: list[Mapping[int, str]] = []
    for line in answer.lines:
        for name, column in COLUMNS[axis].items():
            header.append(f"{line.case.engine} {name}")
            cells.append(column(line))
    values = sorted({value for line in answer.lines for value in line.records})
    rows: list[Row | str] = [(str(value), *(cell.get(value, ABSENT) for cell in cells)) for value in values]
    sentences = [part for sentence in answer.sentences for part in wrap(f"  {sentence}", rest="    ")]
    return [answer.title, *grid(tuple(header), rows), *sentences]


def _quantity(metric: str, unit: str) -> Column:
    def column(line: Line) -> Mapping[int, str]:
        return {value: _doubted(found, unit) for value, found in line.points(metric)}

    return column


def _doubted(value: Value, unit: str) -> str:
    text = format_quantity(value.value, unit).removesuffix("images/s").rstrip()
    return text if math.isnan(value.half_width) else f"{text} ±{format_percent(value.half_width)}"


def _gains(line: Line) -> Mapping[int, str]:
    return {batch: _signed(gain) for batch, gain in gains(line.points("throughput"))}


def _efficiencies(line: Line) -> Mapping[int, str]:
    shares = efficiencies(line)
    return {threads: _percents(share, "") for threads, share in shares}


def _signed(gain: Value) -> str:
    return _percents(gain, "+")


def _percents(value: Value, sign: str) -> str:
    """Write a share with its interval: `+2.1% [+0.4, +3.8]`, `90% [88, 92]`."""
    ends = [_percent(end, sign) for end in (value.low, value.high) if end is not None]
    return f"{_percent(value.value, sign)}%" + (f" [{', '.join(ends)}]" if ends else "")


def _percent(share: float, sign: str) -> str:
    return f"{100 * share:{sign}.{int(abs(share) < TENTHS_BELOW)}f}"


_RATE = {"images/s": _quantity("throughput", "images/s")}
_SIZED = {
    "latency": _quantity("latency", "s"),
    "memory": _quantity("peak_memory", "B"),
    "rate": _quantity("flop_rate", "flop/s"),
}
COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "batch": _RATE | {"gain": _gains},
    "threads": _RATE | {"efficiency": _efficiencies},
    "image_size": _RATE | _SIZED,
    "width": _RATE | _SIZED,
}
"""By axis: what stands in the table for each engine."""
