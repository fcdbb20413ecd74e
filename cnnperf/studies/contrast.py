"""Two networks that differ in one thing, trained alike on the same images, seed by seed."""

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
    """Two sides that are compared.

    Attributes:
        name: Of the study.
        base: Name of the network without.
        candidate: Name of the network with.
        builds: Both networks, base first, each drawn from PyTorch's generator on the CPU.
        recipe: How both are trained.
        facts: What else a seed depends on, such as the width.
    """

    name: str
    base: str
    candidate: str
    builds: tuple[Build, Build]
    recipe: Recipe
    facts: Mapping[str, Any]

    def settings(self, device: str) -> dict[str, Any]:
        """Return what a finished seed depends on, as plain values."""
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
        """Note that an epoch of one side has ended."""

    def skip(self, parts: int) -> None:
        """Note epochs that need not be run, because they are finished or the time is up."""

    def note(self, text: str) -> None:
        """Note what happens."""


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
    """Train both networks for each seed that is not finished yet, and return all finished ones.

    Both sides have the same split, the same order of batches and the same seed of their parameters, and take turns in
    which is first, so that a drift of the machine falls on both. After the first, a seed begins only if one fits into
    the time that is left, judged by the longest so far.

    Args:
        contrast: What is compared.
        seeds: Which.
        ledger: Keeps each seed as soon as both its sides are finished.
        device: Where it is computed.
        seconds: How long all may take.
        progress: Is told of each epoch.
        now: Time in seconds.

    Returns:
        The finished pairs among the seeds, in their order.
    """
    begun = now()
    kept = pairs_of(ledger, list(ledger.rows))
    longest = max((pair.base.seconds + pair.candidate.seconds for pair in kept), default=0.0)
    missing = [seed for seed in seeds if seed not in ledger.rows]
    epochs = len(SIDES) * contrast.recipe.epochs
    progress.skip(epochs * (len(seeds) - len(missing)))
    if missing:
        progress.note("warming up")
        _warm_up(contrast, device)
    for number, seed in enumerate(missing):
        started = now()
        if longest and started - begun + longest > seconds:
            progress.skip(epochs * (len(missing) - number))
            progress.note("the time is up")
            break
        progress.note(f"seed {seed}")
        ledger.add(seed, _pair(contrast, seed, device, first=seed % 2, progress=progress))
        longest = max(longest, now() - started)
    return pairs_of(ledger, seeds)


def pairs_of(ledger: Ledger, seeds: Sequence[int]) -> list[Pair]:
    """Return the finished pairs among the seeds."""
    rows = [(seed, ledger.rows[seed]) for seed in seeds if seed in ledger.rows]
    return [Pair(seed, *(Trained.of(row[side]) for side in SIDES)) for seed, row in rows]


def seeds_path(folder: Path, name: str) -> Path:
    """Return where the finished seeds of a study are kept."""
    return folder / f"{name}.seeds.jsonl"


def _pair(contrast: Contrast, seed: int, device: str, *, first: int, progress: Progress) -> dict[str, Any]:
    split = split_digits(seed, contrast.recipe.image_size).to(device)
    found: dict[str, Any] = {}
    for place in (first, 1 - first):
        with seeded(seed):
            network = contrast.builds[place]()
        network.to(device)
        trained = train(network, split, contrast.recipe, seed, told=lambda _: progress.epoch())
        found[SIDES[place]] = asdict(trained)
    return found


def _warm_up(contrast: Contrast, device: str) -> None:
    """Train both sides a little, so that the first seed does not pay for what the libraries do once."""
    split = split_digits(0, contrast.recipe.image_size).to(device)
    recipe = Recipe(epochs=1, batch=contrast.recipe.batch, image_size=contrast.recipe.image_size)
    for build in contrast.builds:
        with seeded(0):
            network = build()
        train(network.to(device), split, recipe, 0)
