"""The cases of the fusion benchmark: every form of a part of a network at the shapes of two ResNets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from cnnperf.models.parts import parts
from cnnperf.records.case import LAYOUTS, AxisValue, Case
from cnnperf.records.engines import ENGINES, USUAL_ENGINES
from cnnperf.suite.options import Options
from cnnperf.suite.plan import parse_overrides

Shape = dict[str, AxisValue]
Axes = dict[str, tuple[AxisValue, ...]]

FUSED = "fused:"
FORMS = {
    "se": ("part:se", "part:se_torchvision", "part:se_timm", "fused:part:se", "part:se_copy"),
    "tail": ("part:tail", "fused:part:tail", "part:tail_copy"),
    "block": ("part:block", "part:block_plain", "fused:part:block"),
}
"""Architectures by part."""

ONLY_EAGER = ("part:se_copy", "part:tail_copy", "fused:part:se", "fused:part:tail")
"""Architectures that torch.compile cannot make faster."""

SHAPES = ("batch", "width", "image_size")
STAGES = {
    "ResNet-18": ((32, 64, 32), (32, 128, 16), (32, 256, 8), (32, 512, 4), (128, 64, 32)),
    "ResNet-50": ((8, 256, 56), (8, 512, 28), (8, 1024, 14), (8, 2048, 7)),
}
"""Batch, channels, and height and width of the maps of each stage, for images of 32 x 32 and of 224 x 224; of ResNet-18
also the first stage at batch 128."""

CUDA_ENGINES = ("eager", "compile", "replay", "compile_replay")
CUDA_SHAPES = ((512, 64, 32), (64, 256, 56), (32, 64, 32), (256, 512, 7))
"""Maps of a short run on a GPU: two that are far larger than its cache, and two that are not."""


def part_cases(options: Options, part: str) -> list[Case]:
    """Return the cases of a part on all devices.

    The suite `full` adds the stages of ResNet-50, on the CPU bf16, and on CUDA the blocks. On CUDA every form is
    measured by synchronized calls and by replays.

    Args:
        options: Options of the run; values of axes replace those of the suite.
        part: Key of `FORMS`.

    Raises:
        OptionError: If a device does not exist here, or a value of an axis is not valid.
    """
    overrides = parse_overrides(options.axes)
    full = options.suite == "full"
    return [
        case
        for device in options.devices_here()
        if device == "cpu" or full or part != "block"
        for case in _on_device(part, device, overrides, full=full)
    ]


def _on_device(part: str, device: str, overrides: Axes, *, full: bool) -> Iterator[Case]:
    on_cpu = device == "cpu"
    axes: Axes = {
        "layout": LAYOUTS if on_cpu else LAYOUTS[::-1],  # the most wanted first, for a run that is cut off
        "precision": ("fp32", "bf16") if full or not on_cpu else ("fp32",),
        "phase": ("train", "forward"),
    }
    axes |= {name: values for name, values in overrides.items() if name not in (*SHAPES, "engine")}
    engines = overrides.get("engine", USUAL_ENGINES if on_cpu else CUDA_ENGINES)
    installed = parts()
    forms = [name for name in FORMS[part] if name.removeprefix(FUSED) in installed]
    shapes = _shapes(overrides, on_cpu=on_cpu, full=full)
    for point, shape, architecture, engine in product(product(*axes.values()), shapes, forms, engines):
        if architecture not in ONLY_EAGER or ENGINES[str(engine)].compile_options is None:
            fixed = dict(zip(axes, point, strict=True)) | shape
            yield Case(architecture=architecture, device=device, engine=str(engine), **fixed)  # type: ignore[arg-type]  # values were parsed by their axes


def _shapes(overrides: Axes, *, on_cpu: bool, full: bool) -> list[Shape]:
    stages = STAGES["ResNet-18"] if on_cpu or full else CUDA_SHAPES
    stages += STAGES["ResNet-50"] if full else ()
    if any(name in overrides for name in SHAPES):
        first = dict(zip(SHAPES, stages[0], strict=True))
        stages = tuple(product(*(overrides.get(name, (first[name],)) for name in SHAPES)))  # type: ignore[arg-type]
    return [dict(zip(SHAPES, point, strict=True)) for point in stages]
