"""Running the studies: from their settings to an outcome."""

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
        seeds: Number of seeds, from 0 on.
        folder: Folder of the file of finished seeds.
        epochs: Epochs of each training.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        seconds: Time budget of the study.
        restart: Whether to delete finished seeds.
        width: Channels of the first stage of ResNet-18; None for 64 on CUDA and 16 on the CPU.
        blocks: Number of blocks of the stacks.
        channels: Channels of the stacks.
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
        choice: The choices.
        progress: Receives the progress.

    Raises:
        OptionError: If a value is not allowed, or the device does not exist.
        RunFileError: If finished seeds were made with other settings.
    """
    device = devices_for(choice.device, "--device")[-1]  # for auto, CUDA comes last if it is present
    contrast = _contrast(name, replace(choice, device=device))
    check_digits()
    settings = contrast.settings(device) | {"where": where_of(device)}
    ledger = Ledger(seeds_path(choice.folder, name), settings, restart=choice.restart)
    seeds = range(choice.seeds)
    pairs = run_contrast(contrast, seeds, ledger, device=device, seconds=choice.seconds, progress=progress)
    progress.note("memory")
    memory = peaks(contrast, device)
    return Outcome(
        name,
        answer(contrast, pairs, memory),
        ("", contrast.base, contrast.candidate, "difference [95 % interval]"),
        table_rows(pairs, memory),
        samples_of(contrast, pairs),
        contrast_chart(contrast, pairs),
        where_of(device),
    )


def where_of(device: str) -> str:
    """Return processor or device, threads and versions as one text."""
    if device.startswith("cuda"):
        chip = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        chip = f"{cpu_model()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
    return f"{chip}, torch {torch.__version__}, cnnperf {cnnperf.__version__}"


def flow_study(depths: Sequence[int], setting: Setting, seeds: int, progress: Progress) -> Outcome:
    """Run the study of gradient flow.

    Args:
        depths: Numbers of blocks of the stacks, at least two different ones.
        setting: Setting of all stacks, apart from their blocks.
        seeds: Number of seeds, from 0 on.
        progress: Receives the progress, one part for each depth and family.

    Raises:
        OptionError: If there are fewer than two depths, or no seeds.
    """
    if len(set(depths)) < LEAST_DEPTHS or seeds < 1:
        raise OptionError(
            f"--depths takes at least {LEAST_DEPTHS} different numbers of blocks and --seeds at least 1, not "
            f"{list(depths)} and {seeds}"
        )
    stacks = [replace(setting, num_blocks=blocks) for blocks in sorted(set(depths))]  # checks all before measuring
    flows = []
    for stack in stacks:
        for family in FAMILIES:
            progress.note(f"{family}, {stack.num_blocks} blocks")
            flows.append(measure_flow(family, stack, range(seeds)))
            progress.epoch()
    return flow_outcome(flows, where_of(setting.device))


def peaks(contrast: Contrast, device: str) -> Bytes:
    """Return the peak bytes of a training step of both sides, measured as in the benchmarks."""
    base, candidate = contrast.builds
    return _peak(contrast.base, base, contrast, device), _peak(contrast.candidate, candidate, contrast, device)


def _peak(name: str, build: Build, contrast: Contrast, device: str) -> int:
    if name not in CATALOG:
        register(Architecture(name=name, build=build, summary=f"a side of the study {contrast.name}", source="a study"))
    recipe = contrast.recipe
    workload = Workload(Case(name, "train", device, batch=recipe.batch, image_size=recipe.image_size))
    workload.run_once()
    return measure_memory(workload).peak


def _contrast(name: str, choice: Choice) -> Contrast:
    if name == "pooling":
        return contrasts.pooling(choice.epochs)
    if name == "squeeze-excitation":
        default = FULL_WIDTH if choice.device.startswith("cuda") else SMALL_WIDTH
        return contrasts.squeeze_excitation(choice.epochs, default if choice.width is None else choice.width)
    if name == "depth":
        return contrasts.depth(choice.epochs, choice.blocks, choice.channels)
    raise OptionError(f"there is no study of training {name!r}; there are pooling, squeeze-excitation and depth")
