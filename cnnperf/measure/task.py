"""The task of a case: what its network is fed with, and where the backward begins.

A network is fed with images and trained by the cross-entropy of its scores. A part of a network is fed with feature
maps; its backward begins with a gradient of its output that is drawn once, as the layer behind it would hand it over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from cnnperf.measure.classes import count_classes
from cnnperf.measure.images import CHANNELS, images_for
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import resolve
from cnnperf.records.case import Case


@dataclass(frozen=True)
class Task:
    """Inputs and target of a case.

    Attributes:
        inputs: Images, (N, 3, H, W), of a network; feature maps, each (N, C, H, W), of a part.
        target: Class numbers, (N,), int64, of a network; gradient of the output, (N, C, H, W), of a part.
    """

    inputs: tuple[torch.Tensor, ...]
    target: torch.Tensor

    @property
    def of_part(self) -> bool:
        """Whether the case is a part of a network."""
        return self.target.is_floating_point()

    def to(self, device: str, dtype: torch.dtype, layout: torch.memory_format = torch.preserve_format) -> Task:
        """Return the task on a device, with images, maps and gradients in a dtype and a memory format."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().to(device=device, dtype=dtype, memory_format=layout)

        target = moved(self.target) if self.of_part else self.target.to(device)
        return Task(tuple(map(moved, self.inputs)), target)

    def requiring_gradients(self, trains: bool) -> Task:  # noqa: FBT001 - the phase says it
        """Let the feature maps of a part require gradients, as they do inside a network; images never do."""
        for tensor in self.inputs:
            tensor.requires_grad_(trains and self.of_part)
        return self

    def copy(self, trains: bool) -> Task:  # noqa: FBT001 - the phase says it
        """Return the same task at other addresses."""
        return Task(tuple(tensor.detach().clone() for tensor in self.inputs), self.target).requiring_gradients(trains)

    def objective(self, output: torch.Tensor) -> torch.Tensor:
        """Return the tensor whose gradients are wanted: the loss of a network, the output of a part."""
        return output if self.of_part else nn.functional.cross_entropy(output.float(), self.target)

    def differentiate(self, objective: torch.Tensor) -> None:
        """Run the backward from the objective."""
        cast(Any, objective).backward(self.target if self.of_part else None)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return inputs and target."""
        return (*self.inputs, self.target)


def task_for(case: Case, input_kind: str, seed: int) -> Task:
    """Return the task of a case in float32 on the CPU.

    Args:
        case: The case.
        input_kind: `synthetic` or `photos`; see `images_for`. Feature maps are always normal noise.
        seed: Seed of inputs and target.

    Raises:
        OptionError: If the architecture does not exist, or its images or scores have another form.
    """
    row = resolve(case.architecture)
    generator = torch.Generator().manual_seed(seed)
    if row.maps:
        *maps, gradient = (torch.randn(_map_shape(case, row), generator=generator) for _ in range(row.maps + 1))
        return Task(tuple(maps), gradient)
    target = torch.randint(count_classes(row, case.image_size), (case.batch,), generator=generator)
    return Task((images_for(case, input_kind, seed),), target)


def hollow_task(case: Case) -> Task:
    """Return the task of a case in float32 on the meta device, without memory."""
    row = resolve(case.architecture)
    if row.maps:
        *maps, gradient = (torch.empty(_map_shape(case, row), device="meta") for _ in range(row.maps + 1))
        return Task(tuple(maps), gradient)
    images = torch.empty(case.batch, CHANNELS, case.image_size, case.image_size, device="meta")
    return Task((images,), torch.empty(case.batch, dtype=torch.int64, device="meta"))


def _map_shape(case: Case, row: Architecture) -> tuple[int, int, int, int]:
    return case.batch, case.width or row.channels, case.image_size, case.image_size
