"""The cells of the fusion benchmark: all forms of a part of a network side by side at one shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from cnnperf.errors import UnsupportedCase, WrongResult
from cnnperf.measure.clock import clock_for
from cnnperf.measure.graph_replay import ReplayClock, Replayed, Rotating, sets_for
from cnnperf.measure.paired import sample_together
from cnnperf.measure.parts import PARTS, Copy, Part, Shape, forms_of
from cnnperf.measure.precisions import DTYPES, allowed_tf32
from cnnperf.measure.sampler import Schedule, Subject
from cnnperf.records.fusion import FUSED, FusionRecord
from cnnperf.records.metrics import Value
from cnnperf.stats.paired import PairedSamples

COPY = "copy"
STAGES = {
    "ResNet-18": ((32, 64, 32, 32), (32, 128, 16, 16), (32, 256, 8, 8), (32, 512, 4, 4), (128, 64, 32, 32)),
    "ResNet-50": ((8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14), (8, 2048, 7, 7)),
}
"""Maps of the four stages, for images of 32 x 32 and of 224 x 224; a larger batch for the first of them too."""
CUDA_SHAPES = ((512, 64, 32, 32), (64, 256, 56, 56), (32, 64, 32, 32), (256, 512, 7, 7))
"""Maps of a short run on a GPU: two that are far larger than its cache, and two that are not."""
IMAGES = ((4, 3, 32, 32), (32, 3, 32, 32))
"""What the network takes."""

# Passes that the part cannot do without, and a byte mask where training needs one. Inference of the tail reads x again
# for the scaling, from cache where a sample fits there. Convolutions do not wait for memory, so that blocks and
# networks have no such floor.
FLOOR_PASSES = {("se", "forward"): 2.0, ("se", "train"): 5.0, ("tail", "forward"): 3.0, ("tail", "train"): 10.0}
TOLERANCE = {"fp32": 5e-3, "bf16": 1e-1}
"""Norm of the difference of two forms' outputs over the norm of the output: a few roundings in each layer."""
FORMS_TO_CHECK = {"compile", "fused", "fused-compile"}
"""Those with the same parameters as `eager`."""
MASK_BYTES = 2  # of the tail in training: written once, read once


@dataclass(frozen=True)
class Cell:
    """One cell: a part, in training or inference, at one shape."""

    part: str
    trains: bool
    shape: Shape
    layout: str
    precision: str
    device: str = "cpu"

    def id(self) -> str:
        """Return the pytest id."""
        shape = "x".join(map(str, self.shape))
        where = f"part={self.part}-phase={self.phase}-device={self.device}"
        return f"{where}-shape={shape}-layout={self.layout}-precision={self.precision}"

    @property
    def phase(self) -> str:
        """Return `train` (forward and backward) or `forward` (inference)."""
        return "train" if self.trains else "forward"


def all_cells(devices: tuple[str, ...], *, full: bool) -> list[Cell]:
    """Return the cells to measure; `full` adds bf16 and the stages of ResNet-50, and on CUDA the other parts."""
    return [cell for device in devices for cell in _cells_of(device, full=full)]


def _cells_of(device: str, *, full: bool) -> list[Cell]:
    if device != "cpu" and not full:
        return _cuda_cells(device)
    stages = STAGES["ResNet-18"] + STAGES["ResNet-50"] * full
    return [
        Cell(part, trains, shape, layout, precision, device)
        for part in PARTS
        for trains in (True, False)
        for precision in ("fp32", "bf16")[: 1 + full]
        for layout in ("contiguous", "channels_last")
        for shape in (IMAGES if part == "network" else stages)
    ]


def _cuda_cells(device: str) -> list[Cell]:
    """Return what a short run on a GPU is for, the most wanted first, so that one that is cut off has it."""
    return [
        Cell(part, trains, shape, layout, precision, device)
        for layout in ("channels_last", "contiguous")
        for precision in ("fp32", "bf16")
        for trains in (True, False)
        for part in ("tail", "se")
        for shape in CUDA_SHAPES
    ]


def floor_passes(cell: Cell) -> float | None:
    """Return the passes over a map that the part of a cell needs at least, None where it does not wait for memory."""
    passes = FLOOR_PASSES.get((cell.part, cell.phase))
    masks = MASK_BYTES / DTYPES[cell.precision].itemsize if (cell.part, cell.trains) == ("tail", True) else 0.0
    return None if passes is None else passes + masks


def measure_cell(cell: Cell, schedule: Schedule) -> tuple[PairedSamples, FusionRecord]:
    """Measure all forms of a cell side by side, and a plain copy where the part has a floor.

    Args:
        cell: What to measure.
        schedule: As for one case.

    Returns:
        The samples, and the record for the run file: the cell, seconds by form (on a GPU those of the device, with the
        host's beside them), ratios of each form to the fused one, the seconds of its least passes at the speed of the
        copy and its time over them, and what SE adds in each form to the part without it.

    Raises:
        WrongResult: If a form computes something else than the textbook formula, or the clock jumped.
        UnsupportedCase: If the fused form cannot be captured into a CUDA graph.
    """
    torch.compiler.reset()
    with allowed_tf32(cell.precision):
        measured = _on_cuda(cell, schedule) if cell.device != "cpu" else _on_cpu(cell, schedule)
    return measured.together, _record(cell, measured)


@dataclass(frozen=True)
class _Measured:
    """Samples of a cell.

    Attributes:
        together: Seconds of one call in each form: on the device where that is a GPU, else on the host.
        host: Wall seconds of one synchronized call in each form; empty on the CPU, where `together` has them.
        calls: Of one replay by form; empty on the CPU.
        missing: Form that could not be captured, and so has no time on the device, to the reason.
    """

    together: PairedSamples
    host: Mapping[str, Value] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def _on_cpu(cell: Cell, schedule: Schedule) -> _Measured:
    parts = _build(cell)
    subjects: dict[str, Subject] = {**_copy(cell), **parts}
    return _Measured(sample_together(subjects, clock_for(torch.device(cell.device)), schedule))


def _on_cuda(cell: Cell, schedule: Schedule) -> _Measured:
    """Time synchronized calls on the host for a quarter of the budget, and replays on the device for the rest."""
    device = torch.device(cell.device)
    with torch.cuda.device(device):
        map_bytes = math.prod(cell.shape) * DTYPES[cell.precision].itemsize
        maps = PARTS[cell.part].maps + 1  # those that are read, and the output
        sets = sets_for(maps * map_bytes, torch.cuda.get_device_properties(device).L2_cache_size)
        parts, clock = _build(cell, sets), ReplayClock(device)
        short = replace(schedule, budget=schedule.budget / 4, settled_groups=schedule.least_groups)
        host = sample_together(dict(parts), clock_for(device), short)
        replayed, missing = _replays(cell, parts, sets, clock)
        together = sample_together(replayed, clock, replace(schedule, budget=3 * schedule.budget / 4))
    calls = {name: one.calls for name, one in replayed.items()}
    return _Measured(together.per_call(calls), {name: host.latency(name) for name in parts}, calls, missing)


def _replays(
    cell: Cell, parts: Mapping[str, Part], sets: int, clock: ReplayClock
) -> tuple[dict[str, Replayed], dict[str, str]]:
    """Return the forms that could be captured, and of the others why not."""
    expected = {form: _results_of_a_call(part) for form, part in parts.items()}
    replayed, missing = {}, {}
    rotating: dict[str, Rotating] = {**_copy(cell, sets), **parts}
    for name, one in rotating.items():
        try:
            replayed[name] = Replayed(f"{cell.id()}: {name}", one, sets, clock)
        except UnsupportedCase as error:
            if name == FUSED:
                raise
            missing[name] = str(error)
    for form in parts.keys() & replayed.keys():
        _check_replay(cell, form, parts[form], replayed[form], expected[form])
    return replayed, missing


def _results_of_a_call(part: Part) -> list[Tensor]:
    part.setup()
    part.run()
    return [one.clone() for one in part.results()]


def _check_replay(cell: Cell, form: str, part: Part, replayed: Replayed, expected: list[Tensor]) -> None:
    """Raise WrongResult where the graph that is timed writes something else than a call does."""
    found = part.results()
    for one in found:
        one.fill_(math.nan)
    replayed.run()
    for one, other in zip(found, expected, strict=True):
        _check_near(cell, f"a replay of `{form}`", one, other, "that of a call")


def _build(cell: Cell, sets: int = 1) -> dict[str, Part]:
    facts = {name: getattr(cell, name) for name in ("trains", "layout", "precision", "device")}
    parts = {form: Part(cell.part, form, cell.shape, **facts, sets=sets) for form in forms_of(cell.part)}
    _check_equal(cell, {form: part.output() for form, part in parts.items()})
    return parts


def _copy(cell: Cell, sets: int = 1) -> dict[str, Copy]:
    """Return what the floor is reckoned from, where the part has one."""
    return {} if floor_passes(cell) is None else {COPY: Copy(cell.shape, cell.precision, cell.device, sets)}


def _record(cell: Cell, measured: _Measured) -> FusionRecord:
    together, floor = measured.together, floor_passes(cell)
    forms = [form for form in forms_of(cell.part) if form in together.groups]
    has_floor, has_both = floor is not None and COPY in together.groups, {"compile", "fused-compile"} <= set(forms)
    return FusionRecord(
        **asdict(cell),
        seconds={name: together.latency(name) for name in together.groups},
        host_seconds=dict(measured.host),
        calls=dict(measured.calls),
        not_captured=dict(measured.missing),
        over_fused={name: together.ratio(name, FUSED) for name in forms if name != FUSED},
        over_floor=together.ratio(FUSED, COPY).scaled(2 / cast(float, floor)) if has_floor else None,
        floor_seconds=together.latency(COPY).scaled(cast(float, floor) / 2) if has_floor else None,
        over_fused_compile=together.ratio("compile", "fused-compile") if has_both else None,
        over_plain={form: together.ratio(form, plain) for form, plain in _plain_of(forms).items()},
        floor_passes=floor,
        rounds=sum(map(len, together.groups[FUSED])),
        stopped=together.stopped,
    )


def _check_equal(cell: Cell, outputs: Mapping[str, Tensor]) -> None:
    """Raise WrongResult where a form of ours computes something else than the textbook formula."""
    for form in sorted(FORMS_TO_CHECK & outputs.keys()):
        _check_near(cell, f"`{form}`", outputs[form], outputs["eager"], "that of `eager`")


def _check_near(cell: Cell, name: str, found: Tensor, expected: Tensor, what: str) -> None:
    exact, limit = expected.double(), TOLERANCE[cell.precision]
    error = float((found.double() - exact).norm() / exact.norm())
    if not error <= limit:  # so that NaN is wrong too
        raise WrongResult(
            f"{cell.id()}: the output of {name} is {error:.2g} of its norm away from {what}, more than {limit:.2g}; no "
            "time was taken"
        )


def _plain_of(forms: list[str]) -> dict[str, str]:
    """Return for each form with SE the form without that is run in the same way, where the part has one."""
    ways = {form: "plain-compile" if form.endswith("compile") else "plain" for form in forms}
    return {form: plain for form, plain in ways.items() if plain in forms and not form.startswith("plain")}
