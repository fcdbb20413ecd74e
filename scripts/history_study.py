"""Measure the search for level shifts on histories with a known truth, and print the table.

    python scripts/history_study.py --histories 400

Each row is a kind of noise. `false alarms` counts histories without any change in which a shift was found; `found`
counts those in which a slowdown of 5 % after sixty runs was found when so many runs had followed it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping

import numpy as np

from cnnperf.stats.shifts import find_shifts

BEFORE = 60
AFTER = (3, 5, 8, 12, 20)
LENGTHS = (20, 50, 100)
LEAST = math.log1p(0.025)
STEP = math.log1p(0.05)
SPIKES = 0.05  # share of runs
NEAR = 5  # runs within which a shift counts as the planted one

Noise = Callable[[np.random.Generator, int, float], np.ndarray]


def gaussian(generator: np.random.Generator, runs: int, spread: float) -> np.ndarray:
    """Return independent runs."""
    return generator.normal(0, spread, runs)


def alike(correlation: float) -> Noise:
    """Return the noise of an autoregression of order one."""

    def noise(generator: np.random.Generator, runs: int, spread: float) -> np.ndarray:
        values = generator.normal(0, spread, runs)
        for index in range(1, runs):
            values[index] = correlation * values[index - 1] + math.sqrt(1 - correlation**2) * values[index]
        return values

    return noise


def spiky(generator: np.random.Generator, runs: int, spread: float) -> np.ndarray:
    """Return runs of which one in twenty takes some 15 % longer."""
    return generator.normal(0, spread, runs) + (generator.random(runs) < SPIKES) * generator.exponential(0.15, runs)


def drifting(generator: np.random.Generator, runs: int, spread: float) -> np.ndarray:
    """Return runs that become 8 % slower bit by bit."""
    return generator.normal(0, spread, runs) + np.linspace(0, 0.08, runs)


NOISES: Mapping[str, Noise] = {
    "independent": gaussian,
    "autocorrelated 0.3": alike(0.3),
    "autocorrelated 0.5": alike(0.5),
    "autocorrelated 0.7": alike(0.7),
    "spikes": spiky,
    "drift": drifting,
}


def false_alarms(noise: Noise, spread: float, runs: int, histories: int, generator: np.random.Generator) -> float:
    """Return the share of histories without a change in which one was found."""
    return float(np.mean([bool(find_shifts(noise(generator, runs, spread), LEAST)) for _ in range(histories)]))


def found(noise: Noise, spread: float, after: int, histories: int, generator: np.random.Generator) -> float:
    """Return the share of histories in which the planted slowdown was found where it is."""
    step = np.repeat((0.0, STEP), (BEFORE, after))
    shifts = [find_shifts(noise(generator, BEFORE + after, spread) + step, LEAST) for _ in range(histories)]
    return float(np.mean([any(abs(one.index - BEFORE) <= NEAR and one.size > 0 for one in these) for these in shifts]))


def table(histories: int, seed: int = 0) -> list[str]:
    """Return the table in Markdown."""
    header = [
        "noise",
        "spread",
        *(f"false alarms, {runs} runs" for runs in LENGTHS),
        *(f"found after {n}" for n in AFTER),
    ]
    lines = [f"| {' | '.join(header)} |", f"| --- | {' | '.join(['---:'] * (len(header) - 1))} |"]
    for name, noise in NOISES.items():
        for spread in (0.01, 0.03):
            generator = np.random.default_rng(seed)
            shares = [false_alarms(noise, spread, runs, histories, generator) for runs in LENGTHS]
            shares += [found(noise, spread, after, histories, generator) for after in AFTER]
            lines.append(f"| {name} | {spread:.0%} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return lines


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=400, help="of each kind and length (default: 400)")
    sys.stdout.writelines(f"{line}\n" for line in table(parser.parse_args().histories))


if __name__ == "__main__":
    main()
