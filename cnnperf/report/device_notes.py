"""Text around the table of CUDA beside the CPU: the machine above it; choices, best batches and doubts below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from cnnperf.records.case import Case
from cnnperf.records.machine import Scalar
from cnnperf.records.run import Run
from cnnperf.report.cases import count_text, distinct
from cnnperf.report.sweeps import crossover_text
from cnnperf.runs.device_records import DeviceBlock, DeviceRow, MissingRow, is_positive
from cnnperf.runs.devices import NOT_COMPARABLE
from cnnperf.runs.ratios import value_of
from cnnperf.runs.sweeps import Rivals
from cnnperf.units import format_quantity

Runs = Sequence[tuple[str, Run]]
"""Names and runs."""

MOST_NOTES = 60
MOST_FORMS = 6

_UNKNOWN = "not recorded"
_ON_OFF = {True: "on", False: "off"}

# Texts by name in the environment record, in the order of the header.
_GPU: Mapping[str, Callable[[Scalar], str]] = {
    "gpu_model": "GPU {}".format,
    "gpu_driver": "driver {}".format,
    "gpu_power_limit_w": lambda watt: f"power limit {f'{watt:g} W' if isinstance(watt, int | float) else watt}",
    "cudnn": "cuDNN {}".format,
    "cudnn_benchmark": lambda flag: f"cudnn.benchmark {_ON_OFF[flag] if isinstance(flag, bool) else flag}",
}
_CPU: Mapping[str, Callable[[Scalar], str]] = {
    "torch": "torch {}".format,
    "cpu_model": "CPU {}".format,
    "threads": "CPU threads {}".format,
}


def header_texts(runs: Runs, blocks: Sequence[DeviceBlock]) -> list[str]:
    """Return the machine of each run with a row, behind the number of the run where there are several."""
    texts = []
    for number, (name, run) in enumerate(runs, start=1):
        rows = [row for block in blocks for row in block.rows if row.run == name]
        if rows:
            prefix = f"[{number}] {name}: " if len(runs) > 1 else ""
            texts.append(prefix + "; ".join(_machine(run, rows)))
    return texts


def notes_of(runs: Runs, blocks: Sequence[DeviceBlock]) -> list[tuple[str, list[str]]]:
    """Return sentences by title: those of each network and phase, then those about missing rows."""
    all_notes = [(title_of(block.case), list(_notes(runs, block))) for block in blocks]
    notes = [(title, texts) for title, texts in all_notes if texts]
    more = len(notes) - MOST_NOTES
    notes = notes[:MOST_NOTES]
    if more > 0:
        notes.append(("", [f"notes on {more} more networks are in the run file"]))
    missing = list(_missing(blocks))
    return [*notes, ("Not in the table", missing)] if missing else notes


def title_of(case: Case) -> str:
    """Return the text for the axes that the rows of a block share."""
    sizes = case.sizes(("width", "threads", "world_size"))
    return ", ".join((case.architecture, case.phase, f"{case.image_size} x {case.image_size} images", *sizes))


def label_of(runs: Runs, row: DeviceRow) -> str:
    """Return the name of a row: number of its run if there are several, then its role, or on the CPU its engine."""
    number = _number(runs, row.run)
    if row.case.device_type == "cpu":
        return f"{number}CPU {row.case.engine}"
    device = f"{row.case.device} " if ":" in row.case.device else ""
    return f"{number}{device}{row.role.name}"


def form_of(case: Case) -> str:
    """Return precision, layout and engine of a case."""
    return f"{case.precision} {case.layout} {case.engine}"


def _number(runs: Runs, name: str) -> str:
    names = [other for other, _ in runs]
    return f"[{names.index(name) + 1}] " if len(names) > 1 else ""


def _machine(run: Run, rows: Sequence[DeviceRow]) -> Iterator[str]:
    on_cuda = [row for row in rows if row.case.device_type == "cuda"]
    if on_cuda:
        yield ", ".join([*_facts(run, _GPU), _clocks(on_cuda)])
    yield ", ".join(_facts(run, _CPU))
    if any(row.case.device.partition(":")[2] not in {"", "0"} for row in on_cuda):
        yield "the run names its first GPU only, other devices may be of another model"
    if run.shard:
        yield f"this is shard {run.shard}: `cnnperf merge` joins all, with the rows and the crossover of the whole run"
    if run.findings:
        yield f"findings about the whole run: {', '.join(dict.fromkeys(finding.kind for finding in run.findings))}"


def _facts(run: Run, table: Mapping[str, Callable[[Scalar], str]]) -> list[str]:
    facts = {name: run.environment.get(name) for name in table}
    return [write(_UNKNOWN if facts[name] is None else facts[name]) for name, write in table.items()]


def _clocks(rows: Sequence[DeviceRow]) -> str:
    clocks = [clock.value for row in rows if is_positive(clock := value_of(row.record, "sm_clock"))]
    ends = dict.fromkeys(format_quantity(end, "Hz") for end in (min(clocks), max(clocks))) if clocks else [_UNKNOWN]
    return f"SM clock under load {' to '.join(ends)}"


def _notes(runs: Runs, block: DeviceBlock) -> Iterator[str]:
    labels = [(label_of(runs, row), row) for row in block.rows]
    for label, row in labels:
        if row.case.device_type == "cuda" and not row.role.engines:  # the name does not say which case it is
            chosen = f", the fastest of {row.chosen_from} cases" if row.chosen_from > 1 else ""
            yield f"{label}: {form_of(row.case)}, batch {row.case.batch}{chosen}"
    for name, rivals in block.crossovers:
        yield f"{_number(runs, name)}crossover: {_crossover(rivals)}"
    for label, row in labels:
        if row.against_cpu is not None and row.against_cpu.reason in NOT_COMPARABLE:
            yield f"{label}: {row.against_cpu.reason}"
    for label, row in labels:
        if doubts := row.doubts():
            yield f"{label}: {'; '.join(doubts)}"
        if row.best is not None and row.best.record is not row.record and row.best.record.findings:
            yield f"{label}, best batch: {', '.join(finding.kind for finding in row.best.record.findings)}"


def _crossover(rivals: Rivals) -> str:
    records = [record for line in (rivals.challenger, rivals.base) for record in line.records.values()]
    kinds = dict.fromkeys(finding.kind for record in records for finding in record.findings)
    case = rivals.challenger.case
    form = "".join(f"{getattr(case, name)}, " for name in ("precision", "layout") if not case.is_default(name))
    findings = f" (findings among its cases: {', '.join(kinds)})" if kinds else ""
    return f"{form}{crossover_text(rivals)}{findings}"


def _missing(blocks: Sequence[DeviceBlock]) -> Iterator[str]:
    """Yield each reason once, with the number of networks and phases that it holds for."""

    def counted(text: str, count: int) -> str:
        return text if count == len(blocks) else f"{text} ({count} of {len(blocks)} networks and phases)"

    texts = [sorted({_missing_text(row) for row in block.missing}) for block in blocks]
    counts = Counter(text for of_block in texts for text in of_block)
    for text, count in sorted(counts.items()):
        yield counted(text, count)
    without = sum(_lacks_crossover(block) for block in blocks)
    if without:
        text = "crossover batch: needs three batches on both devices, as `cnnperf sweep` measures them"
        yield counted(text, without)
    others = [case for block in blocks for case in block.others]
    if others:
        forms = distinct(others, form_of)
        more = f" and {len(forms) - MOST_FORMS} more" if len(forms) > MOST_FORMS else ""
        cases = count_text(len(others), "CUDA case")
        yield f"{cases} of forms without a row: {', '.join(forms[:MOST_FORMS])}{more}"


def _lacks_crossover(block: DeviceBlock) -> bool:
    """Return whether a run has both devices and too few batches of them."""
    types = {(row.run, row.case.device_type) for row in block.rows}
    crossed = {name for name, _ in block.crossovers}
    return any({(run, "cpu"), (run, "cuda")} <= types and run not in crossed for run, _ in types)


def _missing_text(missing: MissingRow) -> str:
    role = missing.role
    form = f"{' or '.join(role.precisions)}, {role.layout}, {' or '.join(role.engines) or 'any engine'}"
    reason = f"not measured: {missing.reason}" if missing.reason else "no such case was measured"
    return f"{missing.device} {role.name} ({form}): {reason}"
