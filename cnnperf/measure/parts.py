"""Parts of a network made runnable: Squeeze-and-Excitation alone, and the tail of a residual block."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnnperf.fusion import FusedSEBlock, fused_tail, textbook_tail
from cnnperf.measure.clock import clock_for
from cnnperf.measure.metrics import Value
from cnnperf.measure.paired import Together, sample_together
from cnnperf.measure.sampler import Schedule, Subject
from cnnperf.measure.workload import DTYPES, MEMORY_FORMATS, PADDING_BYTES
from cnnperf.models.squeeze_excitation import SEBlock

FORMS = ("eager", "compile", "fused")
COPY = "copy"
Shape = tuple[int, int, int, int]


class Tail(nn.Module):
    """Compute relu(se(norm(x)) + shortcut) operator by operator."""

    def __init__(self, channels: int) -> None:
        """Build BatchNorm and SE block for this many channels."""
        super().__init__()
        self.norm, self.se = nn.BatchNorm2d(channels), SEBlock(channels)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Transform a map and its shortcut, both N x C x H x W."""
        return textbook_tail(x, shortcut, self.norm, self.se)


class FusedTail(Tail):
    """Compute the same in one function."""

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Transform a map and its shortcut, both N x C x H x W."""
        return fused_tail(x, shortcut, self.norm, self.se)


PARTS: dict[str, tuple[type[nn.Module], type[nn.Module], int]] = {
    "se": (SEBlock, FusedSEBlock, 1),
    "tail": (Tail, FusedTail, 2),
}
"""Part to its textbook form, its fused form, and the number of maps that it takes."""


class Part:
    """Run one form of a part, forward and backward in training, forward alone in inference, as a subject to sample."""

    def __init__(self, part: str, form: str, shape: Shape, *, trains: bool, layout: str, precision: str) -> None:
        """Build the part and its maps.

        Args:
            part: A key of `PARTS`.
            form: `eager` or `compile` for the textbook form, `fused` for ours.
            shape: N, C, H, W.
            trains: Whether to train or to infer.
            layout: `contiguous` or `channels_last`.
            precision: `fp32` or `bf16`: of maps and parameters.
        """
        textbook, fused, maps = PARTS[part]
        torch.manual_seed(0)
        module = (fused if form == "fused" else textbook)(shape[1]).to(DTYPES[precision]).train(trains)
        self.module = cast(Callable[..., Tensor], torch.compile(module, dynamic=False) if form == "compile" else module)
        self._parameters = list(module.parameters())
        self._random = random.Random(0)  # noqa: S311 - places memory, hides nothing
        self._padding: list[Tensor] = []
        self._trains = trains
        drawn = [torch.randn(shape, dtype=torch.float32).to(DTYPES[precision]) for _ in range(maps + 1)]
        placed = [one.contiguous(memory_format=MEMORY_FORMATS[layout]) for one in drawn]
        self.maps = [one.requires_grad_(trains) for one in placed[:-1]]
        self.grad = placed[-1]

    def setup(self) -> None:
        """Clear all gradients."""
        for tensor in (*self.maps, *self._parameters):
            tensor.grad = None

    def run(self) -> None:
        """Run the part once."""
        if self._trains:
            cast(Any, self.module(*self.maps)).backward(self.grad)
            return
        with torch.no_grad():
            self.module(*self.maps)

    def relocate(self) -> None:
        """Put the maps at fresh addresses behind a random amount of padding."""
        self.setup()
        self._padding.clear()
        for tensor in (*self.maps, self.grad):
            self._padding.append(torch.empty(self._random.randrange(PADDING_BYTES), dtype=torch.uint8))
            tensor.data = tensor.detach().clone()


class Copy:
    """Copy a map: one pass of reading and one of writing, with which the passes of the others are compared."""

    def __init__(self, shape: Shape, precision: str) -> None:
        """Allocate both maps."""
        self._source = torch.randn(shape).to(DTYPES[precision])
        self._target = torch.empty_like(self._source)

    def setup(self) -> None:
        """Do nothing."""

    def run(self) -> None:
        """Copy."""
        self._target.copy_(self._source)

    def relocate(self) -> None:
        """Put both maps at fresh addresses."""
        self._source, self._target = self._source.clone(), self._target.clone()


@dataclass(frozen=True)
class Cell:
    """Name one cell of the fusion benchmark: all forms of a part at one shape."""

    part: str
    trains: bool
    shape: Shape
    layout: str
    precision: str

    def id(self) -> str:
        """Return the pytest id."""
        shape = "x".join(map(str, self.shape))
        return f"part={self.part}-phase={self.phase}-shape={shape}-layout={self.layout}-precision={self.precision}"

    @property
    def phase(self) -> str:
        """Return `train` (forward and backward) or `forward` (inference)."""
        return "train" if self.trains else "forward"


# Passes that the part cannot do without, and a byte mask where training needs one. Inference of the tail reads x again
# for the scaling, from cache where a sample fits there.
FLOOR_PASSES = {("se", "forward"): 2.0, ("se", "train"): 5.0, ("tail", "forward"): 3.0, ("tail", "train"): 10.0}
MASK_BYTES = 2  # of the tail in training: written once, read once


def floor_passes(cell: Cell) -> float:
    """Return the passes over a map that the part of a cell needs at least."""
    masks = MASK_BYTES / DTYPES[cell.precision].itemsize if (cell.part, cell.trains) == ("tail", True) else 0.0
    return FLOOR_PASSES[cell.part, cell.phase] + masks


def measure_cell(cell: Cell, schedule: Schedule) -> tuple[Together, dict[str, object]]:
    """Measure all forms of a cell and a plain copy side by side.

    Args:
        cell: What to measure.
        schedule: As for one case.

    Returns:
        The samples, and the record for the run file: the cell, seconds by form, ratios of each form to the fused one,
        and the fused form's time over that of its least passes at the speed of the copy.
    """
    torch.compiler.reset()
    facts = {"trains": cell.trains, "layout": cell.layout, "precision": cell.precision}
    subjects: dict[str, Subject] = {COPY: Copy(cell.shape, cell.precision)}
    subjects |= {form: Part(cell.part, form, cell.shape, **facts) for form in FORMS}  # type: ignore[arg-type]  # three keywords
    together = sample_together(subjects, clock_for(torch.device("cpu")), schedule)
    least = floor_passes(cell) / 2
    floor = together.ratio("fused", COPY)
    record = {
        **asdict(cell),
        "seconds": {name: _json(together.latency(name)) for name in subjects},
        "over_fused": {name: _json(together.ratio(name, "fused")) for name in FORMS[:-1]},
        "over_floor": {key: value / least for key, value in _json(floor).items()},
        "floor_passes": floor_passes(cell),
        "rounds": sum(map(len, together.groups["fused"])),
        "stopped": together.stopped,
    }
    return together, record


def _json(value: Value) -> dict[str, float]:
    return {"value": value.value, "low": cast(float, value.low), "high": cast(float, value.high)}
