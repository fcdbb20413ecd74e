"""CUDA beside the CPU as plain data: which cases represent each device, their ratio, best batches and copies.

Cases are compared only within one run, and therefore on one machine. Rows of several runs may be shown together, but no
ratio between them is formed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.device_records import (
    COPIES,
    ROLES,
    BestBatch,
    DeviceBlock,
    DeviceRatio,
    DeviceRow,
    MissingRow,
    Role,
    is_positive,
)
from cnnperf.runs.pairs import DEVICE, counterpart, ratio_with_copy
from cnnperf.runs.ratios import Ratios, value_of
from cnnperf.runs.run_ratios import ratios_of_run
from cnnperf.runs.sweeps import Rivals, rivals_of

SHARED_BATCH = 64
"""Batch at which devices are compared where both have it: large enough for a GPU not to wait for launches."""

DIFFERENT_MACHINES = "not comparable: measured on different machines"
DIFFERENT_RUNS = "not comparable: measured in different runs"
NOT_COMPARABLE = (DIFFERENT_MACHINES, DIFFERENT_RUNS)
NO_LATENCY = "the latency is not a number above 0"

_LAUNCH_BOUND = "launch-bound"  # a finding that names what limits a time, and does not question it
_FREE = ("device", "engine", "precision", "layout", "batch")  # axes in which the cases of one block differ


@dataclass(frozen=True)
class _Part:
    """Cases of one run that one process ran.

    Attributes:
        name: Name of the run.
        run: The run.
        cases: Cases with a latency.
        blocks: The same by the axes that the cases of one block share.
        unusable: Cases without one.
        ratios: All ratios of the run.
        crossovers: Crossovers of CUDA and the CPU; none in a shard, which has only some points of each sweep.
    """

    name: str
    run: Run
    cases: Mapping[Case, CaseRecord]
    blocks: Mapping[Case, Mapping[Case, CaseRecord]]
    unusable: frozenset[Case]
    ratios: Ratios
    crossovers: tuple[Rivals, ...]


def device_blocks(runs: Iterable[tuple[str, Run]]) -> list[DeviceBlock]:
    """Return a block for each network and phase that was measured on CUDA in one of the runs.

    Args:
        runs: Names and runs.

    Returns:
        The blocks in the order of measuring; none where nothing was measured on CUDA.
    """
    parts = [_part(name, run) for name, run in runs]
    shared = [case for part in parts for case, cases in part.blocks.items() if any(map(_on_cuda, cases))]
    return [_block(case, parts) for case in dict.fromkeys(shared)]


def shared_axes(case: Case) -> Case:
    """Return the axes that the cases of one block share; the others have their defaults."""
    return Case.from_axes({name: axis for name, axis in case.axes().items() if name not in _FREE})


def _is_network(record: CaseRecord) -> bool:
    return not record.ranks and not record.case.of_part


def _part(name: str, run: Run) -> _Part:
    records = [record for record in run.cases if _is_network(record) and record.case.device_type in ROLES]
    cases = {record.case: record for record in records if is_positive(value_of(record, "latency"))}
    blocks: dict[Case, dict[Case, CaseRecord]] = {}
    for case, record in cases.items():
        blocks.setdefault(shared_axes(case), {})[case] = record
    unusable = frozenset(record.case for record in records if record.case not in cases)
    rivals = [] if run.shard or not any(map(_on_cuda, cases)) else rivals_of(cases)
    crossovers = tuple(pair for pair in rivals if pair.metric == "device_crossover")
    return _Part(name, run, cases, blocks, unusable, ratios_of_run(run), crossovers)


def _block(shared: Case, parts: Sequence[_Part]) -> DeviceBlock:
    rows: list[DeviceRow] = []
    missing: list[MissingRow] = []
    others: list[Case] = []
    crossovers: list[tuple[str, Rivals]] = []
    for part in parts:
        cases = part.blocks.get(shared, {})
        batch = _common_batch(cases) if cases else 0
        for device in sorted({case.device for case in cases}, key=lambda name: (name.startswith("cpu"), name)):
            own = {case: record for case, record in cases.items() if case.device == device}
            device_rows = list(_rows(part, own, batch, parts))
            rows += device_rows
            if device != "cpu":  # the second row of the CPU is left out where the first one is the same case
                present = {row.role for row in device_rows}
                roles = [role for role in ROLES["cuda"] if role not in present]
                missing += [MissingRow(device, role, _reason(part, shared, device, role)) for role in roles]
            others += [case for case in own if _on_cuda(case) and not _has_role(case)]
        of_block = [rivals for rivals in part.crossovers if shared_axes(rivals.challenger.case) == shared]
        crossovers += [(part.name, rivals) for rivals in of_block]
    return DeviceBlock(shared, tuple(rows), tuple(missing), tuple(crossovers), tuple(others))


def _common_batch(cases: Mapping[Case, CaseRecord]) -> int:
    """Return the batch of the rows: one that both devices have, 64 if possible, else the largest."""
    cuda = [case for case in cases if _on_cuda(case) and _has_role(case)]
    both = [case.batch for case in cuda if counterpart(case, DEVICE) in cases]
    return _preferred(both or [case.batch for case in cuda] or [case.batch for case in cases], SHARED_BATCH)


def _preferred(batches: Collection[int], first: int) -> int:
    return first if first in batches else max(batches)


def _rows(part: _Part, own: Mapping[Case, CaseRecord], batch: int, parts: Sequence[_Part]) -> Iterator[DeviceRow]:
    """Yield the rows of one device of one run; a case that fits two roles has the first row only."""
    taken: set[Case] = set()
    for role in ROLES[next(iter(own)).device_type]:
        fitting = [record for case, record in own.items() if role.accepts(case.axes())]
        if not fitting:
            continue
        common = _preferred([record.case.batch for record in fitting], batch)
        candidates = [record for record in fitting if record.case.batch == common]
        record = min(candidates, key=_soundness)
        if record.case not in taken:
            taken.add(record.case)
            against_cpu = _ratio(part, record, parts) if _on_cuda(record.case) else None
            yield DeviceRow(part.name, role, record, len(candidates), _best(own, record.case), against_cpu)


def _soundness(record: CaseRecord) -> tuple[bool, float]:
    """Return a sort key: cases without a finding that questions the time come first, then the faster ones."""
    questioned = any(finding.kind != _LAUNCH_BOUND for finding in record.findings)
    return questioned, value_of(record, "latency").value


def _best(own: Mapping[Case, CaseRecord], case: Case) -> BestBatch | None:
    alike = [record for other, record in own.items() if other.replace(batch=case.batch) == case]
    rated = [record for record in alike if is_positive(value_of(record, "throughput"))]
    if not rated:
        return None
    best = max(rated, key=lambda record: value_of(record, "throughput").value)
    return BestBatch(best, tuple(sorted(record.case.batch for record in rated)))


def _ratio(part: _Part, record: CaseRecord, parts: Sequence[_Part]) -> DeviceRatio:
    twin = record.case.replace(device="cpu")
    on_cpu = part.cases.get(twin)
    if on_cpu is None:
        return DeviceRatio(reason=_no_ratio(part, twin, parts))
    copies = [name for name in COPIES if is_positive(value_of(record, name))]
    with_copies = {name: ratio_with_copy(on_cpu, record, name) for name in copies}
    return DeviceRatio(part.ratios.get((twin, record.case)), "", on_cpu, with_copies)


def _no_ratio(part: _Part, twin: Case, parts: Sequence[_Part]) -> str:
    if twin in part.unusable:
        return f"on the CPU {NO_LATENCY}"
    failed = [entry.reason for entry in part.run.not_measured if Case.from_axes(entry.axes) == twin]
    if failed:
        return f"on the CPU not measured: {failed[0]}"
    machines = {other.run.machine for other in parts if twin in other.cases}
    if not machines:
        return "no case on the CPU with the same precision, layout, engine and batch"
    return DIFFERENT_RUNS if part.run.machine in machines else DIFFERENT_MACHINES


def _reason(part: _Part, shared: Case, device: str, role: Role) -> str:
    """Return why the case of a row was not measured; empty where it was not attempted."""
    for case in part.unusable:
        if shared_axes(case) == shared and case.device == device and role.accepts(case.axes()):
            return NO_LATENCY
    fixed = {name: axis for name, axis in shared.axes().items() if name not in _FREE} | {"device": device}
    for entry in part.run.not_measured:
        if all(entry.axes.get(name, axis) == axis for name, axis in fixed.items()) and role.accepts(entry.axes):
            return entry.reason
    return ""


def _on_cuda(case: Case) -> bool:
    return case.device_type == "cuda"


def _has_role(case: Case) -> bool:
    return any(role.accepts(case.axes()) for role in ROLES[case.device_type])
