"""Training by a recipe: AdamW with a one-cycle schedule; a seed determines the order of batches."""

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

    Source of the schedule: Smith and Topin, "Super-Convergence", 2017, https://arxiv.org/abs/1708.07120, as in
    `torch.optim.lr_scheduler.OneCycleLR`. Source of the optimizer: Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2017, https://arxiv.org/abs/1711.05101.

    Attributes:
        epochs: Epochs over the training part.
        batch: Images of a step; an incomplete last batch is left out.
        rate: Highest learning rate.
        decay: Decoupled weight decay.
        target: Accuracy on the validation part, to which the time is measured.
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
        accuracy: Accuracy on the test part after the last epoch, a fraction.
        validation: Accuracy on the validation part after each epoch.
        seconds: Duration of training, without validation.
        images: Number of images trained on; an image counts once for each epoch.
        epochs_to_target: Epochs until the validation accuracy first reached the target; None if it never did.
        seconds_to_target: Seconds of training until then.
    """

    accuracy: float
    validation: tuple[float, ...]
    seconds: float
    images: int
    epochs_to_target: int | None
    seconds_to_target: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Trained:
        """Read the result from its JSON."""
        return cls(**{**row, "validation": tuple(row["validation"])})

    @property
    def rate(self) -> float:
        """Return the images trained on per second."""
        return self.images / self.seconds


def train(
    network: nn.Module,
    split: Split,
    recipe: Recipe,
    seed: int,
    *,
    now: Callable[[], float] = time.perf_counter,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Train a network in place.

    Args:
        network: Network from images (N, 3, H, W) to scores (N, 10), on the device of the split.
        split: The images.
        recipe: The recipe.
        seed: Seed of the order of the batches.
        now: Clock in seconds.
        on_epoch: Called after each epoch with its number, from 1.

    Returns:
        Accuracies and times. On CUDA, the device is synchronized before a time is read.
    """
    device = split.training.images.device
    steps = len(split.training) // recipe.batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    seconds, validation, ends = 0.0, [], []
    for epoch in range(recipe.epochs):
        start = now()
        network.train()
        for images, classes in _batches(split.training, recipe.batch, generator):
            _step(network, images, classes, optimizer)
            schedule.step()
        _synchronize(device)
        seconds += now() - start
        ends.append(seconds)
        validation.append(accuracy(network, split.validation))
        on_epoch(epoch + 1)
    reached = next((epoch for epoch, value in enumerate(validation) if value >= recipe.target), None)
    return Trained(
        accuracy=accuracy(network, split.test),
        validation=tuple(validation),
        seconds=seconds,
        images=recipe.epochs * steps * recipe.batch,
        epochs_to_target=None if reached is None else reached + 1,
        seconds_to_target=None if reached is None else ends[reached],
    )


def accuracy(network: nn.Module, part: Part) -> float:
    """Return the share of images that a network classifies correctly."""
    network.eval()
    with torch.no_grad(), _autocast(part.images.device):
        predicted = torch.cat([network(images).argmax(dim=1) for images in part.images.split(256)])
    return float((predicted == part.classes).float().mean())


def _step(network: nn.Module, images: Tensor, classes: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    with _autocast(images.device):
        loss = F.cross_entropy(network(images), classes)
    loss.backward()
    optimizer.step()


def _autocast(device: torch.device) -> torch.autocast:
    """Return autocast to bf16 on CUDA, disabled on the CPU, where it made small networks several times slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _batches(part: Part, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(part), generator=generator).to(part.classes.device)
    for indices in order[: len(part) // size * size].split(size):
        yield part.images[indices], part.classes[indices]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
