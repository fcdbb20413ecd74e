"""Training a network by a recipe: AdamW with a one-cycle schedule, the same order of batches for the same seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnperf.studies.digits import Part, Split


@dataclass(frozen=True)
class Recipe:
    """Recipe of a training.

    Source of the schedule: Smith and Topin, "Super-Convergence", 2017, https://arxiv.org/abs/1708.07120, as
    `torch.optim.lr_scheduler.OneCycleLR` has it; of the optimizer: Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2017, https://arxiv.org/abs/1711.05101.

    Attributes:
        epochs: Over the training part.
        batch: Images of a step; an incomplete last batch is left out.
        rate: Highest learning rate.
        decay: Decoupled weight decay.
        target: Accuracy on the validation part, the time to which is noted.
        image_size: Height and width in pixels.
    """

    epochs: int
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.01
    target: float = 0.9
    image_size: int = 32


@dataclass(frozen=True)
class Trained:
    """Results of one training.

    Attributes:
        accuracy: On the test part after the last epoch, a fraction.
        validation: Accuracy on the validation part after each epoch.
        seconds: Training took, without the looks at the validation part.
        images: Trained on, each as often as it was.
        epochs_to_target: After which the validation accuracy first was the target's; None where it never was.
        seconds_to_target: Of training until then.
    """

    accuracy: float
    validation: tuple[float, ...]
    seconds: float
    images: int
    epochs_to_target: int | None
    seconds_to_target: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Trained:
        """Return what JSON kept of it."""
        return cls(**{**row, "validation": tuple(row["validation"])})

    @property
    def rate(self) -> float:
        """Return the images trained on a second."""
        return self.images / self.seconds


def train(
    network: nn.Module,
    split: Split,
    recipe: Recipe,
    seed: int,
    *,
    now: Callable[[], float] = time.perf_counter,
    told: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Train a network in place.

    Args:
        network: From (N, 3, H, W) to (N, 10) scores, on the device of the split.
        split: The images.
        recipe: How.
        seed: Of the order of the batches.
        now: Time in seconds.
        told: Called after each epoch with the number of it, from 1.

    Returns:
        Accuracies and times. On CUDA a time is read when the device has finished.
    """
    device = split.training.images.device
    steps = len(split.training) // recipe.batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    seconds, validation, ends = 0.0, [], []
    for epoch in range(recipe.epochs):
        begun = now()
        network.train()
        for images, classes in _batches(split.training, recipe.batch, generator):
            _step(network, images, classes, optimizer)
            schedule.step()
        _wait(device)
        seconds += now() - begun
        ends.append(seconds)
        validation.append(accuracy(network, split.validation))
        told(epoch + 1)
    reached = next((number for number, value in enumerate(validation) if value >= recipe.target), None)
    return Trained(
        accuracy=accuracy(network, split.test),
        validation=tuple(validation),
        seconds=seconds,
        images=recipe.epochs * steps * recipe.batch,
        epochs_to_target=None if reached is None else reached + 1,
        seconds_to_target=None if reached is None else ends[reached],
    )


def accuracy(network: nn.Module, part: Part) -> float:
    """Return the share of images that a network puts into their class."""
    network.eval()
    with torch.no_grad(), _autocast(part.images.device):
        found = torch.cat([network(images).argmax(dim=1) for images in part.images.split(256)])
    return float((found == part.classes).float().mean())


def _step(network: nn.Module, images: Tensor, classes: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    with _autocast(images.device):
        loss = F.cross_entropy(network(images), classes)
    loss.backward()
    optimizer.step()


def _autocast(device: torch.device) -> torch.autocast:
    """Compute in bf16 on CUDA; on the CPU it was seen to make small networks several times slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _batches(part: Part, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(part), generator=generator).to(part.classes.device)
    for places in order[: len(part) // size * size].split(size):
        yield part.images[places], part.classes[places]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
