"""Results of the sweeps among the cases of a run as tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord, Run
from cnnperf.report.cases import quantity_text
from cnnperf.report.layout import Row, grid, wrap
from cnnperf.runs.ratios import Cases
from cnnperf.runs.sweeps import LEAST, STEP, Crossover, Line, Rivals, efficiencies, gains, knee_of, lines_of, rivals_of
from cnnperf.units import ABSENT, format_percent

Column = Callable[[Line], Mapping[int, str]]
"""Cells of one column, by value of the swept axis."""

TENTHS_BELOW = 0.0995  # a share that is written with one decimal


@dataclass(frozen=True)
class Answer:
    """Lines of one network, phase and device over one axis, and sentences about them.

    Attributes:
        title: Network, phase, device and axis.
        lines: Lines of the engines.
        sentences: Knee, largest batch and crossover.
    """

    title: str
    lines: list[Line]
    sentences: list[str]


def networks_of(run: Run) -> dict[Case, CaseRecord]:
    """Return the records of the networks of a run by case; none of a shard, which has only some points of a sweep."""
    return {} if run.shard else {record.case: record for record in run.cases if not record.case.of_part}


def answers_of(run: Run) -> list[Answer]:
    """Return the results of the sweeps of a run; none for a shard, which has only some of their points."""
    if run.shard:
        return []
    cases = networks_of(run)
    answers = []
    for axis in LEAST:
        by_engine: dict[Case, list[Line]] = {}
        for line in lines_of(cases, axis):
            by_engine.setdefault(line.case.replace(engine="eager"), []).append(line)
        answers += [_answer(axis, lines, cases, run.step or STEP) for lines in by_engine.values()]
    return answers


def sweep_lines(run: Run) -> list[str]:
    """Return the section for a terminal; empty where nothing was swept."""
    answers = answers_of(run)
    if not answers:
        return []
    axes = {line.axis for answer in answers for line in answer.lines}
    explained = "; ".join(text for axis, text in EXPLAINED.items() if axis in axes)
    lines = ["", f"Sweeps ({explained})" if explained else "Sweeps"]
    return lines + [line for answer in answers for line in _table(answer)]


def sides_of(rivals: Rivals) -> tuple[str, str]:
    """Return the names of the challenger, with what it shares with the base, and of the base."""
    challenger, base = rivals.challenger.case, rivals.base.case
    if rivals.metric == "engine_crossover":
        return f"{challenger.device} {challenger.engine}", base.engine
    return f"{challenger.engine}, {challenger.device}", base.device


def crossover_text(rivals: Rivals) -> str:
    """Return a sentence about the batch from which the challenger is faster."""
    challenger, base = sides_of(rivals)
    crossover = rivals.crossover
    batches = ", ".join(map(str, crossover.earlier))
    earlier = f"; it was faster at batch {batches} too, and slower after" if batches else ""
    return f"{challenger} against {base}: {ANSWERS[crossover.answer](crossover)}{earlier}"


def device_crossovers(cases: Cases) -> list[str]:
    """Return for each network, phase and engine a sentence about the batch from which CUDA is faster than the CPU."""
    sentences = []
    for rivals in rivals_of(cases, least=1):
        if rivals.metric == "device_crossover" and rivals.crossover.most:
            case = rivals.challenger.case
            sentences.append(f"{case.architecture}, {case.phase}: {crossover_text(rivals)}")
    return sentences


ANSWERS: Mapping[str, Callable[[Crossover], str]] = {
    "from": lambda crossover: f"faster from batch {_batch_text(crossover.batch)} on",
    "always": lambda crossover: f"faster at every batch that was measured, {crossover.first} to {crossover.most}",
    "never": lambda crossover: f"still slower at batch {crossover.most}, the largest of both",
    "unsure": lambda crossover: f"no difference is sure at batch {crossover.most}, the largest of both",
}
EXPLAINED = {
    "batch": "gain: of images/s by doubling the batch, not paired",
    "threads": "efficiency: images/s over one thread's times the threads, in a sweep side by side",
}


def _batch_text(batch: Value | None) -> str:
    """Write a batch rounded up, and its interval rounded outwards."""
    if batch is None or batch.low is None or batch.high is None:
        return ABSENT
    value, low, high = (round(end, 6) for end in (batch.value, batch.low, batch.high))  # 4 may be 4.0000000001
    return f"{math.ceil(value)} [{math.floor(low)}, {math.ceil(high)}]"


def _answer(axis: str, lines: list[Line], cases: Cases, step: float) -> Answer:
    case = lines[0].case
    form = [getattr(case, name) for name in ("precision", "layout") if not case.is_default(name)]
    form += [] if axis == "batch" else [f"batch {case.batch}"]
    title = " ".join((case.architecture, case.phase, case.device, *form, *case.sizes(), "over", axis))
    sentences: list[str] = []
    if axis == "batch":
        for line in lines:
            sentences += [_knee(line, step), *_largest(line)]
        own = {line.case for line in lines}
        sentences += [crossover_text(rivals) for rivals in rivals_of(cases) if rivals.challenger.case in own]
    return Answer(title, lines, sentences)


def _knee(line: Line, step: float) -> str:
    knee, engine = knee_of(line.points("throughput"), step), line.case.engine
    if knee is None:
        under = format_percent(step)
        return f"{engine}: no knee up to batch {max(line.records)}: nowhere does doubling surely bring under {under}"
    sure = "surely" if knee.sure else "perhaps"
    return f"{engine}: {sure} the knee at batch {knee.batch}: doubling it brings {_percents(knee.gain, '+')}"


def _largest(line: Line) -> list[str]:
    how = "foreseen by counted bytes" if line.case.device_type == "cpu" else "tried"
    sentences = []
    for record in line.records.values():
        if largest := record.values.get("largest_batch"):
            open_end = largest.high is not None and largest.high != largest.value
            unknown = f" (up to {largest.high:.0f} is not known)" if open_end else ""
            sentences.append(f"{line.case.engine}: largest batch that fits, {how}: {largest.value:.0f}{unknown}")
    return sentences


def _table(answer: Answer) -> list[str]:
    axis = answer.lines[0].axis
    header: list[str] = [axis]
    columns: list[Mapping[int, str]] = []
    for line in answer.lines:
        for name, column in COLUMNS[axis].items():
            header.append(f"{line.case.engine} {name}")
            columns.append(column(line))
    values = sorted({value for line in answer.lines for value in line.records})
    rows: list[Row | str] = [(str(value), *(column.get(value, ABSENT) for column in columns)) for value in values]
    sentences = [part for sentence in answer.sentences for part in wrap(f"  {sentence}", rest="    ")]
    return [answer.title, *grid(tuple(header), rows), *sentences]


def _quantity(metric: str, unit: str) -> Column:
    return lambda line: {at: quantity_text(measured, unit) for at, measured in line.points(metric)}


def _gains(line: Line) -> Mapping[int, str]:
    return {batch: _percents(gain, "+") for batch, gain in gains(line.points("throughput"))}


def _efficiencies(line: Line) -> Mapping[int, str]:
    return {threads: _percents(share, "") for threads, share in efficiencies(line)}


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
"""By axis, the columns of each engine."""
