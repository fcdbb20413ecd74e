"""The plan: from the options' plain values to the list of cases. Nothing is built or measured here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import cast

from cnnperf.errors import OptionError
from cnnperf.measure.sampler import Schedule
from cnnperf.measure.support import cpu_cores
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import check_width
from cnnperf.records.case import AXES, AXIS_BY_NAME, LAYOUTS, PHASES, AxisValue, Case
from cnnperf.records.engines import NETWORK_ENGINES, USUAL_ENGINES
from cnnperf.stats.simultaneous import SMALLEST_DIFFERENCE

OVERRIDABLE = tuple(axis.name for axis in AXES if axis.overridable)
NESTING = ("threads", "width", "batch", "image_size", "precision", "layout", "phase", "engine")
"""Axes in the order in which cases vary, the slowest first: engines stand side by side. Other axes vary before."""

SUITES = ("smoke", "default", "full", "practice")

# Images in one call by architecture: few, because on a shared machine many short rounds say more than few long ones.
CPU_BATCH = {"lenet5": 128, "lenet5_avg": 128}
CPU_BATCH_OTHERS = 2
CUDA_BATCH = 512  # fills the device with 32 x 32 images
SHARED_BATCH = 64  # on both devices: feasible for a CPU, and large enough that launches do not bound a GPU
Axes = dict[str, Sequence[AxisValue]]

EVERY_COUNT = 8  # numbers of threads are consecutive up to this, and then doubled
SWEPT_PHASES = ("forward", "train")
FULL_PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16", "fp16")}
PRACTICE: Mapping[str, Axes] = {
    "cpu": {"precision": ("fp32", "amp"), "engine": USUAL_ENGINES},
    "cuda": {"precision": ("tf32", "amp"), "engine": NETWORK_ENGINES},
}
"""Device type to the axes of the suite `practice`: settings that are used for speed, in channels_last."""
PYTORCH_DEFAULT: Axes = {"precision": ("conv_tf32",), "layout": ("contiguous",), "engine": ("eager",)}
"""PyTorch's defaults on CUDA, with which the suite `practice` is compared."""


@dataclass(frozen=True)
class Plan:
    """Choice of the cases of an architecture.

    Attributes:
        suite: One of `SUITES`, or `sweep`.
        devices: Devices to use, such as `cpu` and `cuda:0`.
        overrides: Values by axis name that replace those of the suite.
    """

    suite: str = "default"
    devices: tuple[str, ...] = ("cpu",)
    overrides: Mapping[str, Sequence[AxisValue]] = field(default_factory=dict)

    def cases(self, architecture: Architecture) -> list[Case]:
        """Return the cases of an architecture: each phase on each device, eager before compiled.

        Raises:
            OptionError: If an image size or a width is asked for that the architecture does not take.
        """
        cases = [case for device in self.devices for case in self._on_device(architecture, device)]
        return list(dict.fromkeys(cases))

    def _on_device(self, architecture: Architecture, device: str) -> list[Case]:
        usual = self._axes(architecture, device.partition(":")[0])
        cases = self._points(architecture, device, usual | dict(self.overrides))
        own = {"batch": usual["batch"]} if architecture.batch is not None else {}
        for swept in self._sweeps(usual, device):
            cases += self._points(architecture, device, usual | swept | own | dict(self.overrides))
        return cases

    def _sweeps(self, usual: Axes, device: str) -> list[Axes]:
        """Return what the full suite sweeps over in the usual form, the batch and the CPU's threads; see `PRACTICE`."""
        if self.suite == "practice":
            return [] if device == "cpu" else [PYTORCH_DEFAULT]
        if self.suite != "full":
            return []
        plain: Axes = {"precision": usual["precision"][:1], "layout": usual["layout"][:1], "phase": SWEPT_PHASES}
        largest = cast(int, usual["batch"][-1])
        batches = {**plain, "batch": tuple(2**power for power in range(largest.bit_length()))}
        if device != "cpu":
            return [batches]
        threads = thread_counts(cpu_cores())
        return [batches, {**plain, "batch": (largest,), "engine": ("eager",), "threads": threads}]

    def _points(self, architecture: Architecture, device: str, axes: Axes) -> list[Case]:
        _check_image_size(architecture, axes["image_size"])
        _check_batch(architecture, axes["batch"])
        for width in axes["width"]:
            check_width(architecture, cast(int, width))
        order = (*(name for name in OVERRIDABLE if name not in NESTING), *NESTING)
        return [
            Case(architecture=architecture.name, device=device, **dict(zip(order, point, strict=True)))  # type: ignore[arg-type]  # values were parsed by their axes
            for point in product(*(axes[name] for name in order))
        ]

    def _axes(self, architecture: Architecture, device_type: str) -> Axes:
        full = self.suite == "full"
        usual: Axes = {name: (AXIS_BY_NAME[name].default,) for name in OVERRIDABLE} | {
            "phase": PHASES,
            "engine": USUAL_ENGINES,
            "precision": FULL_PRECISIONS[device_type] if full else ("fp32",),
            "layout": LAYOUTS if full else ("contiguous",),
            "batch": self._batches(architecture, device_type),
            "image_size": (architecture.image_size,),
        }
        if self.suite != "practice":
            return usual
        return usual | {"phase": SWEPT_PHASES, "layout": ("channels_last",)} | PRACTICE[device_type]

    def _batches(self, architecture: Architecture, device_type: str) -> tuple[int, ...]:
        """Choose batches: one that suits each device, and where there are both those that they share."""
        if architecture.batch is not None:
            return (architecture.batch,)
        small = CPU_BATCH.get(architecture.name, CPU_BATCH_OTHERS)
        kinds = {device.partition(":")[0] for device in self.devices}
        shared = (small, SHARED_BATCH) if len(kinds) > 1 else ()
        own = small if device_type == "cpu" else CUDA_BATCH
        first = (1,) if self.suite == "full" else ()
        return tuple(sorted({*first, *shared, own}))


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return the numbers of threads to compare on so many cores: each up to 8, then doubled ones, and all."""
    few = range(1, min(cores, EVERY_COUNT) + 1)
    doubled = (EVERY_COUNT * 2**power for power in range(1, cores.bit_length()))
    return tuple(dict.fromkeys((*few, *(count for count in doubled if count < cores), cores)))


SMOKE = Schedule(budget=0.0, warmup=0.0, least_groups=3)


def schedule_for(suite: str, seconds: float, interval: float, smallest: float = SMALLEST_DIFFERENCE) -> Schedule:
    """Return the schedule of a suite; the smoke suite takes three groups whatever the budget.

    Raises:
        OptionError: If a number is not positive, or the interval or the smallest difference is not below 1.
    """
    if not 0 < seconds < float("inf"):
        raise OptionError(f"--cnnperf-time takes seconds above 0, not {seconds:g}")
    if not 0 < interval < 1:
        raise OptionError(f"--cnnperf-interval takes a fraction between 0 and 1 or a percentage, not {interval:g}")
    if not 0 < smallest < 1:
        raise OptionError(
            f"--cnnperf-smallest-difference takes a fraction between 0 and 1 or a percentage, not {smallest:g}"
        )
    if suite == "smoke":
        return SMOKE
    return Schedule(budget=seconds, interval=interval, smallest_difference=smallest, warmup=0.4 * seconds)


def parse_overrides(texts: Iterable[str]) -> dict[str, tuple[AxisValue, ...]]:
    """Parse the values of `--cnnperf-axis`, each `NAME=V[,V]`.

    Raises:
        OptionError: If a text has no `=`, names no axis that can be overridden, or has a bad or no value.
    """
    overrides: dict[str, tuple[AxisValue, ...]] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not equals:
            raise OptionError(f"--cnnperf-axis takes NAME=VALUE[,VALUE], not {text!r}")
        if name not in OVERRIDABLE:
            hint = f"; use --cnnperf-{name}" if name in AXIS_BY_NAME else ""
            raise OptionError(f"--cnnperf-axis: unknown axis {name!r}{hint}; the axes are {', '.join(OVERRIDABLE)}")
        parsed = tuple(AXIS_BY_NAME[name].parse(value.strip()) for value in values.split(","))
        overrides[name] = tuple(dict.fromkeys((*overrides.get(name, ()), *parsed)))
    return overrides


def _check_image_size(architecture: Architecture, sizes: Iterable[AxisValue]) -> None:
    wrong = [size for size in sizes if architecture.fixed_image_size and size != architecture.image_size]
    if wrong:
        raise OptionError(
            f"{architecture.name} takes images of {architecture.image_size} x {architecture.image_size} only, not "
            f"{wrong[0]}; leave it out with --cnnperf-architecture"
        )


def _check_batch(architecture: Architecture, batches: Iterable[AxisValue]) -> None:
    wrong = [batch for batch in batches if architecture.batch not in (None, batch)]
    if wrong:
        raise OptionError(
            f"{architecture.name} brings its own inputs, whose batch is {architecture.batch}, not {wrong[0]}; write a "
            "factory for each batch"
        )
