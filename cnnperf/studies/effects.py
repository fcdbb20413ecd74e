"""The effects of a contrast with their intervals, as numbers, sentences and table rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

import pandas as pd

from cnnperf.studies.contrast import SIDES, Contrast, Pair
from cnnperf.studies.digits import SHARES
from cnnperf.studies.paired import Difference, paired_difference, paired_ratio
from cnnperf.studies.training import Trained
from cnnperf.units import format_duration, format_quantity

POINTS = 100.0  # percentage points of a fraction of 1

Bytes = tuple[int, int]
"""Peak bytes of a training step, base first."""


def accuracy_effect(pairs: Sequence[Pair]) -> Difference:
    """Return the difference in test accuracy, candidate minus base, in percentage points.

    Each seed splits the same images anew; the interval accounts for it.
    """
    base, candidate = ([POINTS * getattr(pair, side).accuracy for pair in pairs] for side in SIDES)
    return paired_difference(base, candidate, SHARES["test"] / SHARES["training"])


def rate_effect(pairs: Sequence[Pair]) -> Difference:
    """Return the relative difference in images trained a second, as a fraction of the base's."""
    return paired_ratio([pair.base.rate for pair in pairs], [pair.candidate.rate for pair in pairs])


def both_reach(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """Return the seconds to the target of both sides, base first, for the seeds with which both reach it."""
    times = [(pair.base.seconds_to_target, pair.candidate.seconds_to_target) for pair in pairs]
    return [(base, candidate) for base, candidate in times if base is not None and candidate is not None]


def target_effect(pairs: Sequence[Pair]) -> Difference | None:
    """Return the relative difference in seconds to the target, over the seeds with which both sides reach it."""
    both = both_reach(pairs)
    return paired_ratio([base for base, _ in both], [candidate for _, candidate in both]) if both else None


def answer(contrast: Contrast, pairs: Sequence[Pair], peaks: Bytes) -> list[str]:
    """Return the sentences about a contrast, the conclusion first."""
    if not pairs:
        return ["Not decided: no seed is finished."]
    over = f"{contrast.candidate} over {contrast.base}"
    memory = f"{_memory_text(peaks)} of {format_quantity(peaks[0], 'B')}"
    return [
        _accuracy_sentence(contrast, pairs),
        f"Speed of training, images a second of {over}: {fraction_text(rate_effect(pairs))}.",
        _target_sentence(contrast, pairs),
        f"Memory, peak of a training step (fp32, SGD) of {over}: {memory}.",
        _price_sentence(pairs),
    ]


def table_rows(pairs: Sequence[Pair], peaks: Bytes) -> list[tuple[str, ...]]:
    """Return the rows of the table: quantity, base, candidate, difference with its interval."""
    if not pairs:
        return []
    base, candidate = ([getattr(pair, side) for pair in pairs] for side in SIDES)
    rows: list[tuple[str, ...]] = [
        ("test accuracy", _accuracy_text(base), _accuracy_text(candidate), points_text(accuracy_effect(pairs))),
        ("training", _rate_text(base), _rate_text(candidate), fraction_text(rate_effect(pairs))),
        ("reached the target", _reached_text(base), _reached_text(candidate), ""),
    ]
    effect = target_effect(pairs)
    if effect is not None:
        texts = [format_duration(fmean(side)) for side in zip(*both_reach(pairs), strict=True)]
        rows.append((f"time to the target, {effect.pairs} seeds", *texts, fraction_text(effect)))
    texts = [format_quantity(peak, "B") for peak in peaks]
    return [*rows, ("peak memory of a training step (fp32, SGD)", *texts, _memory_text(peaks))]


def samples_of(contrast: Contrast, pairs: Iterable[Pair]) -> pd.DataFrame:
    """Return the tidy frame with a row for each seed, side, metric and, for metrics during training, epoch."""
    rows: list[tuple[object, ...]] = []
    for pair in pairs:
        for side in SIDES:
            labels = contrast.name, pair.seed, getattr(contrast, side)
            rows += [(*labels, *row) for row in _metrics(getattr(pair, side))]
    frame = pd.DataFrame(rows, columns=["study", "seed", "architecture", "metric", "epoch", "value", "unit"])
    return frame.astype({"epoch": "Int64", "value": "float64"})


def points_text(effect: Difference) -> str:
    """Return the text of a difference in accuracy, in percentage points."""
    return f"{effect.mean:+.2f} points [{effect.low:+.2f}, {effect.high:+.2f}]{_decision_text(effect)}"


def fraction_text(effect: Difference) -> str:
    """Return the text of a relative difference, in percent."""
    low, high = POINTS * effect.low, POINTS * effect.high
    return f"{POINTS * effect.mean:+.1f} % [{low:+.1f}, {high:+.1f}]{_decision_text(effect)}"


def _decision_text(effect: Difference) -> str:
    return "" if effect.decided else " (not decided)"


def _accuracy_sentence(contrast: Contrast, pairs: Sequence[Pair]) -> str:
    effect = accuracy_effect(pairs)
    base, candidate = (_accuracy_text([getattr(pair, side) for pair in pairs]) for side in SIDES)
    difference = f"{points_text(effect)} over {effect.pairs} seeds"
    numbers = f"{contrast.candidate} {candidate}, {contrast.base} {base}: {difference}"
    if not effect.decided:
        return f"Accuracy on the test images is not decided. {numbers}."
    first, second = contrast.candidate, contrast.base
    better, worse = (first, second) if effect.mean > 0 else (second, first)
    return f"{better} is more accurate than {worse} on the test images. {numbers}."


def _target_sentence(contrast: Contrast, pairs: Sequence[Pair]) -> str:
    target = f"{POINTS * contrast.recipe.target:.0f} % on the validation images"
    base, candidate = (_reached_text([getattr(pair, side) for pair in pairs]) for side in SIDES)
    counts = f"{contrast.base} reaches {target} with {base}, {contrast.candidate} with {candidate}"
    effect = target_effect(pairs)
    if effect is None:
        return f"{counts}."
    return f"{counts}; where both do ({effect.pairs}), the time to it differs by {fraction_text(effect)}."


def _price_sentence(pairs: Sequence[Pair]) -> str:
    accuracy, rate = accuracy_effect(pairs), rate_effect(pairs)
    if not accuracy.decided or accuracy.mean < 0:
        return "Price of a point of accuracy: there is none, because no gain is decided."
    if not rate.decided or rate.mean > 0:
        return "Price of a point of accuracy: none is seen, because no loss of speed is decided."
    price = -POINTS * rate.mean / accuracy.mean
    return f"Price of a point of accuracy: {price:.1f} % of the images a second, as the ratio of both means."


def _metrics(trained: Trained) -> list[tuple[str, int | None, float, str]]:
    """Return metric, epoch, value and unit of each number of a training."""
    rows: list[tuple[str, int | None, float, str]] = [
        ("accuracy", None, trained.accuracy, "ratio"),
        ("training_rate", None, trained.rate, "images/s"),
        ("training_seconds", None, trained.seconds, "s"),
    ]
    if trained.seconds_to_target is not None:
        rows.append(("seconds_to_target", trained.epochs_to_target, trained.seconds_to_target, "s"))
    return rows + [("validation_accuracy", epoch + 1, value, "ratio") for epoch, value in enumerate(trained.validation)]


def _accuracy_text(side: Sequence[Trained]) -> str:
    return f"{POINTS * fmean(trained.accuracy for trained in side):.2f} %"


def _rate_text(side: Sequence[Trained]) -> str:
    return format_quantity(fmean(trained.rate for trained in side), "images/s")


def _reached_text(side: Sequence[Trained]) -> str:
    return f"{sum(trained.epochs_to_target is not None for trained in side)} of {len(side)} seeds"


def _memory_text(peaks: Bytes) -> str:
    return f"{peaks[1] / peaks[0]:.3f}x"
