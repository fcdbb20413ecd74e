"""Two networks that differ in one thing, trained by the same recipe on the same images, seed by seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from cnnperf.models.initialization import seeded
from cnnperf.studies.digits import split_digits
from cnnperf.studies.ledger import Ledger
from cnnperf.studies.training import Recipe, Trained, train

Build = Callable[[], nn.Module]
SIDES = ("base", "candidate")


@dataclass(frozen=True)
class Contrast:
    """Two networks to compare.

    Attributes:
        name: Name of the study.
        base: Name of the network without the change.
        candidate: Name of the network with the change.
        builds: Functions that build base and candidate, with parameters from PyTorch's generator on the CPU.
        recipe: Recipe by which both are trained.
        facts: Further settings on which the result of a seed depends, such as the width.
    """

    name: str
    base: str
    candidate: str
    builds: tuple[Build, Build]
    recipe: Recipe
    facts: Mapping[str, Any]

    def settings(self, device: str) -> dict[str, Any]:
        """Return all settings on which the result of a seed depends, as plain values."""
        return {"study": self.name, **asdict(self.recipe), **self.facts, "device": device, "torch": torch.__version__}


@dataclass(frozen=True)
class Pair:
    """Results of one seed on both sides."""

    seed: int
    base: Trained
    candidate: Trained


class Progress(Protocol):
    """Receiver of the progress of a study."""

    def epoch(self) -> None:
        """Record the end of an epoch of one side."""

    def skip(self, parts: int) -> None:
        """Record epochs that are not run, because they are finished or the time budget is used up."""

    def note(self, text: str) -> None:
        """Record the current activity."""


def run_contrast(
    contrast: Contrast,
    seeds: Sequence[int],
    ledger: Ledger,
    *,
    device: str = "cpu",
    seconds: float = float("inf"),
    progress: Progress,
    now: Callable[[], float] = time.perf_counter,
) -> list[Pair]:
    """Train both networks for each seed that is not finished yet, and return all finished pairs.

    Both sides have the same split, the same order of batches and the same seed of their parameters. They alternate in
    which is trained first, so that a drift of the machine affects both. After the first, a seed begins only if the
    remaining time is at least that of the longest seed so far.

    Args:
        contrast: The networks to compare.
        seeds: Seeds to train.
        ledger: File of finished seeds; each is added as soon as both sides are trained.
        device: Device to train on.
        seconds: Time budget of all seeds.
        progress: Receives the progress.
        now: Clock in seconds.

    Returns:
        The finished pairs, in the order of the seeds.
    """
    start = now()
    finished = pairs_of(ledger, list(ledger.rows))
    longest = max((pair.base.seconds + pair.candidate.seconds for pair in finished), default=0.0)
    missing = [seed for seed in seeds if seed not in ledger.rows]
    epochs = len(SIDES) * contrast.recipe.epochs
    progress.skip(epochs * (len(seeds) - len(missing)))
    if missing:
        progress.note("warming up")
        _warm_up(contrast, device)
    for number, seed in enumerate(missing):
        seed_start = now()
        if longest and seed_start - start + longest > seconds:
            progress.skip(epochs * (len(missing) - number))
            progress.note("the time budget is used up")
            break
        progress.note(f"seed {seed}")
        ledger.add(seed, _train_pair(contrast, seed, device, first=seed % 2, progress=progress))
        longest = max(longest, now() - seed_start)
    return pairs_of(ledger, seeds)


def pairs_of(ledger: Ledger, seeds: Sequence[int]) -> list[Pair]:
    """Return the finished pairs among the seeds."""
    rows = [(seed, ledger.rows[seed]) for seed in seeds if seed in ledger.rows]
    return [Pair(seed, *(Trained.of(row[side]) for side in SIDES)) for seed, row in rows]


def seeds_path(folder: Path, name: str) -> Path:
    """Return the path of the file of finished seeds of a study."""
    return folder / f"{name}.seeds.jsonl"


def _train_pair(contrast: Contrast, seed: int, device: str, *, first: int, progress: Progress) -> dict[str, Any]:
    """Train both sides with one seed, that with index `first` first, and return their results by side."""
    split = split_digits(seed, contrast.recipe.image_size).to(device)
    results: dict[str, Any] = {}
    for index in (first, 1 - first):
        with seeded(seed):
            network = contrast.builds[index]()
        network.to(device)
        trained = train(network, split, contrast.recipe, seed, on_epoch=lambda _: progress.epoch())
        results[SIDES[index]] = asdict(trained)
    return results


def _warm_up(contrast: Contrast, device: str) -> None:
    """Train both sides for one epoch, so that the time of the first seed has no one-time work of the libraries."""
    split = split_digits(0, contrast.recipe.image_size).to(device)
    recipe = Recipe(epochs=1, batch=contrast.recipe.batch, image_size=contrast.recipe.image_size)
    for build in contrast.builds:
        with seeded(0):
            network = build()
        train(network.to(device), split, recipe, 0)
