"""The cells of the fusion benchmark: all forms of a part of a network side by side at one shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

import torch

from cnnperf.errors import WrongResult
from cnnperf.measure.clock import clock_for
from cnnperf.measure.metrics import Value
from cnnperf.measure.paired import Together, sample_together
from cnnperf.measure.parts import PARTS, Copy, Part, Shape, forms_of
from cnnperf.measure.precisions import DTYPES
from cnnperf.measure.sampler import Schedule, Subject

COPY = "copy"
STAGES = {
    "ResNet-18": ((32, 64, 32, 32), (32, 128, 16, 16), (32, 256, 8, 8), (32, 512, 4, 4), (128, 64, 32, 32)),
    "ResNet-50": ((8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14), (8, 2048, 7, 7)),
}
"""Maps of the four stages, for images of 32 x 32 and of 224 x 224; a larger batch for the first of them too."""
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
    """Name one cell: a part, in training or inference, at one shape."""

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
    """Return the cells to measure; `full` adds bf16 and the stages of ResNet-50."""
    stages = STAGES["ResNet-18"] + STAGES["ResNet-50"] * full
    return [
        Cell(part, trains, shape, layout, precision, device)
        for device in devices
        for part in PARTS
        for trains in (True, False)
        for precision in ("fp32", "bf16")[: 1 + full]
        for layout in ("contiguous", "channels_last")
        for shape in (IMAGES if part == "network" else stages)
    ]


def floor_passes(cell: Cell) -> float | None:
    """Return the passes over a map that the part of a cell needs at least, None where it does not wait for memory."""
    passes = FLOOR_PASSES.get((cell.part, cell.phase))
    masks = MASK_BYTES / DTYPES[cell.precision].itemsize if (cell.part, cell.trains) == ("tail", True) else 0.0
    return None if passes is None else passes + masks


def measure_cell(cell: Cell, schedule: Schedule) -> tuple[Together, dict[str, object]]:
    """Measure all forms of a cell side by side, and a plain copy where the part has a floor.

    Args:
        cell: What to measure.
        schedule: As for one case.

    Returns:
        The samples, and the record for the run file: the cell, seconds by form, ratios of each form to the fused one,
        the fused form's time over that of its least passes at the speed of the copy, and what SE adds in each form to
        the part without it.

    Raises:
        WrongResult: If a form computes something else than the textbook formula, or the clock jumped.
    """
    torch.compiler.reset()
    facts = {name: getattr(cell, name) for name in ("trains", "layout", "precision", "device")}
    forms, floor = list(forms_of(cell.part)), floor_passes(cell)
    subjects: dict[str, Subject] = {} if floor is None else {COPY: Copy(cell.shape, cell.precision, cell.device)}
    parts = {form: Part(cell.part, form, cell.shape, **facts) for form in forms}
    _check_equal(cell, parts)
    subjects |= parts
    together = sample_together(subjects, clock_for(torch.device(cell.device)), schedule)
    record = {
        **asdict(cell),
        "seconds": {name: _json(together.latency(name)) for name in subjects},
        "over_fused": {name: _json(together.ratio(name, "fused")) for name in forms[:-1]},
        "over_floor": None if floor is None else _json(together.ratio("fused", COPY), 2 / floor),
        "over_fused_compile": _json(together.ratio("compile", "fused-compile")) if "fused-compile" in forms else None,
        "over_plain": {form: _json(together.ratio(form, plain)) for form, plain in _plain_of(forms).items()},
        "floor_passes": floor,
        "rounds": sum(map(len, together.groups["fused"])),
        "stopped": together.stopped,
    }
    return together, record


def _check_equal(cell: Cell, parts: dict[str, Part]) -> None:
    """Raise WrongResult where a form of ours computes something else than the textbook formula."""
    expected, limit = parts["eager"].output().double(), TOLERANCE[cell.precision]
    for form in FORMS_TO_CHECK & parts.keys():
        error = float((parts[form].output().double() - expected).norm() / expected.norm())
        if not error <= limit:
            raise WrongResult(
                f"{cell.id()}: the output of `{form}` is {error:.2g} of its norm away from that of `eager`, more than "
                f"{limit:.2g}; no time was taken"
            )


def _plain_of(forms: list[str]) -> dict[str, str]:
    """Return for each form with SE the form without that is run in the same way, where the part has one."""
    ways = {form: "plain-compile" if form.endswith("compile") else "plain" for form in forms}
    return {form: plain for form, plain in ways.items() if plain in forms and not form.startswith("plain")}


def _json(value: Value, factor: float = 1.0) -> dict[str, float]:
    ends = {"value": value.value, "low": cast(float, value.low), "high": cast(float, value.high)}
    return {key: end * factor for key, end in ends.items()}
