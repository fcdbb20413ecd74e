"""The studies as they are run: from what was chosen to an outcome."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import cnnperf
from cnnperf.errors import OptionError
from cnnperf.measure.devices import devices_for
from cnnperf.measure.environment import cpu_model
from cnnperf.measure.memory import measure_memory
from cnnperf.measure.workload import Workload
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import CATALOG, register
from cnnperf.records.case import Case
from cnnperf.studies import contrasts
from cnnperf.studies.contrast import Build, Contrast, Progress, run_contrast, seeds_path
from cnnperf.studies.digits import check_digits
from cnnperf.studies.drawn import contrast_chart
from cnnperf.studies.effects import Bytes, answer, samples_of, table_rows
from cnnperf.studies.flows import flow_outcome
from cnnperf.studies.gradient_flow import FAMILIES, Setting, measure_flow
from cnnperf.studies.ledger import Ledger
from cnnperf.studies.outcome import Outcome

FULL_WIDTH, SMALL_WIDTH = 64, 16
LEAST_DEPTHS = 2


@dataclass(frozen=True)
class Choice:
    """Choices for a study of training.

    Attributes:
        seeds: How many, from 0 on.
        folder: Where finished seeds are kept.
        epochs: Of each training.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        seconds: How long the study may take.
        restart: Whether finished seeds are thrown away.
        width: Of ResNet-18; None for the full one on CUDA and a quarter of it on the CPU.
        blocks: Of the stacks.
        channels: Of the stacks.
    """

    seeds: int
    folder: Path
    epochs: int
    device: str = "auto"
    seconds: float = math.inf
    restart: bool = False
    width: int | None = None
    blocks: int = 1
    channels: int = 1

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            OptionError: If one is too small.
        """
        for name in ("seeds", "epochs"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name} is at least 1, not {getattr(self, name)}")
        if not self.seconds > 0:
            raise OptionError(f"--minutes is above 0, not {self.seconds / 60:g}")


def training_study(name: str, choice: Choice, progress: Progress) -> Outcome:
    """Run a study of training.

    Args:
        name: `pooling`, `squeeze-excitation` or `depth`.
        choice: What was chosen.
        progress: Is told of each epoch.

    Raises:
        OptionError: If a value cannot be, or the device does not exist.
        RunFileError: If finished seeds were made with other settings.
    """
    device = devices_for(choice.device, "--device")[-1]  # auto: CUDA where there is one
    contrast = _contrast(name, replace(choice, device=device))
    check_digits()
    settings = contrast.settings(device) | {"where": where_of(device)}
    ledger = Ledger(seeds_path(choice.folder, name), settings, restart=choice.restart)
    seeds = range(choice.seeds)
    pairs = run_contrast(contrast, seeds, ledger, device=device, seconds=choice.seconds, progress=progress)
    progress.note("memory")
    held = peaks(contrast, device)
    return Outcome(
        name,
        answer(contrast, pairs, held),
        ("", contrast.base, contrast.candidate, "difference [95 % interval]"),
        table_rows(pairs, held),
        samples_of(contrast, pairs),
        contrast_chart(contrast, pairs),
        where_of(device),
    )


def where_of(device: str) -> str:
    """Return machine, device and versions in one sentence."""
    if device.startswith("cuda"):
        chip = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        chip = f"{cpu_model()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
    return f"{chip}, torch {torch.__version__}, cnnperf {cnnperf.__version__}"


def flow_study(depths: Sequence[int], setting: Setting, seeds: int, progress: Progress) -> Outcome:
    """Run the study of gradient flow.

    Args:
        depths: Numbers of blocks, at least two.
        setting: What else is looked at.
        seeds: How many, from 0 on.
        progress: Is told of each depth and family.

    Raises:
        OptionError: If there are fewer than two depths, or no seeds.
    """
    if len(set(depths)) < LEAST_DEPTHS or seeds < 1:
        raise OptionError(
            f"--depths takes at least {LEAST_DEPTHS} different numbers of blocks and --seeds at least 1; given are "
            f"{list(depths)} and {seeds}"
        )
    flows = []
    for stack in [replace(setting, num_blocks=blocks) for blocks in sorted(set(depths))]:
        for family in FAMILIES:
            progress.note(f"{family}, {stack.num_blocks} blocks")
            flows.append(measure_flow(family, stack, range(seeds)))
            progress.epoch()
    return flow_outcome(flows, where_of(setting.device))


def peaks(contrast: Contrast, device: str) -> Bytes:
    """Return the bytes at the peak of a training step of both sides, as the benchmarks measure them."""
    base, candidate = (
        _peak(name, build, contrast, device)
        for name, build in zip((contrast.base, contrast.candidate), contrast.builds, strict=True)
    )
    return base, candidate


def _peak(name: str, build: Build, contrast: Contrast, device: str) -> int:
    if name not in CATALOG:
        register(Architecture(name=name, build=build, summary=f"a side of the study {contrast.name}", source="a study"))
    recipe = contrast.recipe
    workload = Workload(Case(name, "train", device, batch=recipe.batch, image_size=recipe.image_size))
    workload.run_once()
    return measure_memory(workload).peak


def _contrast(name: str, choice: Choice) -> Contrast:
    usual = FULL_WIDTH if choice.device.startswith("cuda") else SMALL_WIDTH
    width = usual if choice.width is None else choice.width
    makers = {
        "pooling": lambda: contrasts.pooling(choice.epochs),
        "squeeze-excitation": lambda: contrasts.squeeze_excitation(choice.epochs, width),
        "depth": lambda: contrasts.depth(choice.epochs, choice.blocks, choice.channels),
    }
    if name not in makers:
        raise OptionError(f"there is no study of training {name!r}; there are {', '.join(makers)}")
    return makers[name]()
