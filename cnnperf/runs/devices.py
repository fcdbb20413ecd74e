"""CUDA beside the CPU as plain data: which cases stand for each device, their ratio, best batches and copies.

Everything that is compared comes from one run, that is from one machine. Rows of several runs may stand below one
another; a ratio between them is never made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.device_records import (
    COPIES,
    LAUNCH_BOUND,
    ROLES,
    BestBatch,
    DeviceBlock,
    DeviceRatio,
    DeviceRow,
    MissingRow,
    Role,
    is_positive,
    value,
)
from cnnperf.runs.sweeps import Rivals, rivals_of
from cnnperf.stats.ratio import ratio, total

SHARED_BATCH = 64
"""The batch at which devices are compared where both have it: large enough for a GPU not to wait for launches."""

DIFFERENT_MACHINES = "not comparable: measured on different machines"
DIFFERENT_RUNS = "not comparable: measured in different runs"

NO_LATENCY = "the latency is not a number above 0"

_LINKS = ("device", "engine", "precision", "layout", "batch")  # the axes in which the cases of one block differ


@dataclass(frozen=True)
class _Part:
    """The cases of one run, those without a latency apart.

    Attributes:
        name: Of the run.
        run: The run.
        cases: Its cases with a latency.
        blocks: The same by the axes that the cases of one block share.
        unusable: Its cases without a latency.
        crossovers: CUDA against the CPU.
    """

    name: str
    run: Run
    cases: Mapping[Case, CaseRecord]
    blocks: Mapping[Case, Mapping[Case, CaseRecord]]
    unusable: frozenset[Case]
    crossovers: tuple[Rivals, ...]


def device_blocks(runs: Iterable[tuple[str, Run]]) -> list[DeviceBlock]:
    """Return a block for each network and phase that was measured on CUDA in one of the runs.

    Args:
        runs: A name and the run it belongs to.

    Returns:
        The blocks in the order of measuring; none where nothing was measured on CUDA.
    """
    parts = [_part(name, run) for name, run in runs]
    cuda = [shared for part in parts for shared, cases in part.blocks.items() if any(map(_on_cuda, cases))]
    return [_block(shared, parts) for shared in dict.fromkeys(cuda)]


def shared_axes(case: Case) -> Case:
    """Return the axes that the cases of one block share; the others have their defaults."""
    return Case.from_axes({name: axis for name, axis in case.axes().items() if name not in _LINKS})


def _part(name: str, run: Run) -> _Part:
    """Take the cases of one process; of a shard, which has some points of each sweep, no crossover."""
    records = [record for record in run.cases if not record.ranks and record.case.device_type in ROLES]
    cases = {record.case: record for record in records if is_positive(value(record, "latency"))}
    unusable = frozenset(record.case for record in records if record.case not in cases)
    blocks: dict[Case, dict[Case, CaseRecord]] = {}
    for case, record in cases.items():
        blocks.setdefault(shared_axes(case), {})[case] = record
    rivals = [] if run.shard or not any(map(_on_cuda, cases)) else rivals_of(cases)
    crossovers = tuple(one for one in rivals if one.metric == "device_crossover")
    return _Part(name, run, cases, blocks, unusable, crossovers)


def _block(shared: Case, parts: Sequence[_Part]) -> DeviceBlock:
    rows: list[DeviceRow] = []
    missing: list[MissingRow] = []
    others: list[Case] = []
    for part in parts:
        cases = part.blocks.get(shared, {})
        if not cases:
            continue
        batch = _common_batch(cases)
        for device in sorted({case.device for case in cases}, key=lambda name: (name.startswith("cpu"), name)):
            own = {case: record for case, record in cases.items() if case.device == device}
            found = list(_rows(part, own, batch, parts))
            rows += found
            missing += _missing(part, shared, device, {row.role for row in found})
            others += [case for case in own if _on_cuda(case) and not _has_role(case)]
    crossings = [
        (part.name, one) for part in parts for one in part.crossovers if shared_axes(one.challenger.case) == shared
    ]
    return DeviceBlock(shared, tuple(rows), tuple(missing), tuple(crossings), tuple(others))


def _common_batch(cases: Mapping[Case, CaseRecord]) -> int:
    """Return the batch of the rows: one that both devices have, 64 if possible, else the largest."""
    cuda = [case for case in cases if _on_cuda(case) and _has_role(case)]
    both = [case.batch for case in cuda if case.replace(device="cpu") in cases]
    return _preferred(both or [case.batch for case in cuda] or [case.batch for case in cases], SHARED_BATCH)


def _preferred(batches: Sequence[int], wanted: int) -> int:
    return wanted if wanted in batches else max(batches)


def _rows(part: _Part, own: Mapping[Case, CaseRecord], batch: int, parts: Sequence[_Part]) -> Iterator[DeviceRow]:
    """Yield the rows of one device of one run; a case that fits two roles stands in the first row only."""
    taken: set[Case] = set()
    device_type = next(iter(own)).device_type
    for role in ROLES[device_type]:
        fitting = [record for case, record in own.items() if role.accepts(case.axes())]
        if not fitting:
            continue
        common = _preferred([record.case.batch for record in fitting], batch)
        candidates = [record for record in fitting if record.case.batch == common]
        record = min(candidates, key=_soundness)
        if record.case not in taken:
            taken.add(record.case)
            against = _ratio(part, record, parts) if device_type == "cuda" else None
            yield DeviceRow(part.name, role, record, len(candidates), _best(own, record.case), against)


def _soundness(record: CaseRecord) -> tuple[bool, float]:
    """Order cases: those without a finding that questions the time first, then by latency."""
    questioned = any(finding.kind != LAUNCH_BOUND for finding in record.findings)
    return questioned, value(record, "latency").value


def _best(own: Mapping[Case, CaseRecord], case: Case) -> BestBatch | None:
    alike = [record for other, record in own.items() if other.replace(batch=case.batch) == case]
    rated = [record for record in alike if is_positive(value(record, "throughput"))]
    if not rated:
        return None
    best = max(rated, key=lambda record: value(record, "throughput").value)
    return BestBatch(best, tuple(sorted(record.case.batch for record in rated)))


def _ratio(part: _Part, record: CaseRecord, parts: Sequence[_Part]) -> DeviceRatio:
    twin = record.case.replace(device="cpu")
    on_cpu = part.cases.get(twin)
    if on_cpu is None:
        return DeviceRatio(reason=_no_ratio(part, twin, parts))
    cpu, cuda = value(on_cpu, "latency"), value(record, "latency")
    copies = {name: value(record, name) for name in COPIES if is_positive(value(record, name))}
    copied = {name: ratio(cpu, total(cuda, seconds)) for name, seconds in copies.items()}
    return DeviceRatio(ratio(cpu, cuda), "", on_cpu, copied)


def _no_ratio(part: _Part, twin: Case, parts: Sequence[_Part]) -> str:
    if twin in part.unusable:
        return f"on the CPU {NO_LATENCY}"
    failed = [one.reason for one in part.run.not_measured if Case.from_axes(one.axes) == twin]
    if failed:
        return f"on the CPU not measured: {failed[0]}"
    elsewhere = [other for other in parts if twin in other.cases]
    if not elsewhere:
        return "no case on the CPU with the same precision, layout, engine and batch"
    same = any(other.run.machine == part.run.machine for other in elsewhere)
    return DIFFERENT_RUNS if same else DIFFERENT_MACHINES


def _missing(part: _Part, shared: Case, device: str, present: set[Role]) -> list[MissingRow]:
    if device == "cpu":  # its second row is left out where the first one is the same case
        return []
    return [
        MissingRow(part.name, device, role, _reason(part, shared, device, role))
        for role in ROLES["cuda"]
        if role not in present
    ]


def _reason(part: _Part, shared: Case, device: str, role: Role) -> str:
    """Return why a row's case was not measured, empty where it was not tried."""
    unusable = [case for case in part.unusable if shared_axes(case) == shared and case.device == device]
    if any(role.accepts(case.axes()) for case in unusable):
        return NO_LATENCY
    for one in part.run.not_measured:
        alike = all(one.axes.get(name, axis) == axis for name, axis in shared.axes().items() if name not in _LINKS)
        if alike and one.axes.get("device", device) == device and role.accepts(one.axes):
            return one.reason
    return ""


def _on_cuda(case: Case) -> bool:
    return case.device_type == "cuda"


def _has_role(case: Case) -> bool:
    return any(role.accepts(case.axes()) for role in ROLES[case.device_type])
