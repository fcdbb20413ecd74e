"""The task of a case: what its network is fed with, and where the backward begins.

A network is fed with images and trained by the cross-entropy of its scores; where it returns something else, by the
mean square of the first floating-point tensor in it. A part of a network is fed with feature maps; its backward begins
with a gradient of its output that is drawn once, as the layer behind it would hand it over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from cnnperf.measure.arguments import Arguments
from cnnperf.measure.classes import SCORE_DIMENSIONS, count_classes
from cnnperf.measure.images import CHANNELS, images_for
from cnnperf.measure.outputs import main_tensor
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import resolve
from cnnperf.models.initialization import seeded
from cnnperf.models.modes import preserved_modes
from cnnperf.models.subject import IMAGE_DIMENSIONS, MakeOptimizer, Subject
from cnnperf.records.case import Case


@dataclass(frozen=True)
class Task:
    """Inputs and target of a case.

    Attributes:
        inputs: Images, (N, 3, H, W), of a network; feature maps, each (N, C, H, W), of a part; all tensors in the
            arguments of a network with inputs of its own.
        target: Class numbers, (N,), int64, of a network; gradient of the output, (N, C, H, W), of a part; second
            argument of `loss`, of any kind.
        of_part: Whether the case is a part of a network.
        arguments: How the inputs are passed; None for one after the other.
        loss: Function of output and target; None for the usual one.
        optimizer: Function from parameters to the optimizer; None for the usual one.
    """

    inputs: tuple[torch.Tensor, ...]
    target: Any
    of_part: bool = False
    arguments: Arguments | None = None
    loss: Callable[..., torch.Tensor] | None = None
    optimizer: MakeOptimizer | None = None

    @property
    def of_images(self) -> bool:
        """Whether the first input is a batch of images or maps."""
        first = self.inputs[0]
        return first.dim() == IMAGE_DIMENSIONS and first.is_floating_point()

    def call(self, network: Callable[..., Any]) -> Any:
        """Call a network with the inputs, and return its output."""
        return network(*self.inputs) if self.arguments is None else self.arguments.call(network, self.inputs)

    def to(self, device: str, dtype: torch.dtype, layout: torch.memory_format = torch.preserve_format) -> Task:
        """Return the task on a device, with tensors of real numbers in a dtype, and maps in a memory format."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            real = dtype if tensor.is_floating_point() else tensor.dtype
            form = layout if tensor.dim() == IMAGE_DIMENSIONS else torch.preserve_format
            return tensor.detach().to(device=device, dtype=real, memory_format=form)

        target = tree_map(lambda leaf: moved(leaf) if isinstance(leaf, torch.Tensor) else leaf, self.target)
        return replace(self, inputs=tuple(map(moved, self.inputs)), target=target)

    def requiring_gradients(self, trains: bool) -> Task:  # noqa: FBT001 - the phase says it
        """Let the feature maps of a part require gradients, as they do inside a network; images never do."""
        for tensor in self.inputs:
            tensor.requires_grad_(trains and self.of_part)
        return self

    def copy(self, trains: bool) -> Task:  # noqa: FBT001 - the phase says it
        """Return the same task at other addresses."""
        inputs = tuple(tensor.detach().clone() for tensor in self.inputs)
        return replace(self, inputs=inputs).requiring_gradients(trains)

    def objective(self, output: Any) -> torch.Tensor:
        """Return the tensor whose gradients are wanted: the loss of a network, the output of a part.

        Raises:
            TypeError: If the output has no floating-point tensor.
        """
        if self.loss is not None:
            return self.loss(output) if self.target is None else self.loss(output, self.target)
        main = main_tensor(output)
        if self.of_part:
            return main
        if self.scores(main):
            return nn.functional.cross_entropy(main.float(), self.target)
        return torch.view_as_real(main).square().mean() if main.is_complex() else main.float().square().mean()

    def scores(self, output: torch.Tensor) -> bool:
        """Return whether an output holds scores of the classes of the target, (N, classes)."""
        if output.dim() != SCORE_DIMENSIONS or output.is_complex() or not isinstance(self.target, torch.Tensor):
            return False
        return len(output) == len(self.target)

    def differentiate(self, objective: torch.Tensor) -> None:
        """Run the backward from the objective."""
        cast(Any, objective).backward(self.target if self.of_part else None)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return all tensors of inputs and target."""
        return (*self.inputs, *(leaf for leaf in tree_leaves(self.target) if isinstance(leaf, torch.Tensor)))


def task_of(subject: Subject) -> Task:
    """Return the task of a network with inputs of its own, on the CPU."""
    arguments, tensors = Arguments.of(*subject.arguments())
    return Task(tensors, subject.target, arguments=arguments, loss=subject.loss, optimizer=subject.optimizer)


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
    if row.subject:
        with preserved_modes(), seeded(seed):
            return task_of(row.subject())
    generator = torch.Generator().manual_seed(seed)
    if row.maps:
        *maps, gradient = (torch.randn(_map_shape(case, row), generator=generator) for _ in range(row.maps + 1))
        return Task(tuple(maps), gradient, of_part=True)
    classes = count_classes(row, case.image_size) or 1  # without scores only the length of the target is of use
    target = torch.randint(classes, (case.batch,), generator=generator)
    return Task((images_for(case, input_kind, seed),), target)


def hollow_task(case: Case) -> Task:
    """Return the task of a case in float32 on the meta device, without memory."""
    row = resolve(case.architecture)
    if row.subject:
        return task_for(case, "synthetic", 0).to("meta", torch.float32)
    if row.maps:
        *maps, gradient = (torch.empty(_map_shape(case, row), device="meta") for _ in range(row.maps + 1))
        return Task(tuple(maps), gradient, of_part=True)
    images = torch.empty(case.batch, CHANNELS, case.image_size, case.image_size, device="meta")
    return Task((images,), torch.empty(case.batch, dtype=torch.int64, device="meta"))


def _map_shape(case: Case, row: Architecture) -> tuple[int, int, int, int]:
    return case.batch, case.width or row.channels, case.image_size, case.image_size
