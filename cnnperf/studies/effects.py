"""What a contrast shows: each effect with its interval, a sentence for each, and what a point of accuracy costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

import pandas as pd

from cnnperf.studies.contrast import SIDES, Contrast, Pair
from cnnperf.studies.digits import SHARES
from cnnperf.studies.paired import Difference, paired_difference, paired_ratio
from cnnperf.studies.training import Trained
from cnnperf.units import format_duration, format_quantity

POINTS = 100.0  # in a fraction

Bytes = tuple[int, int]
"""Peak of a training step, base first."""


def accuracy_effect(pairs: Sequence[Pair]) -> Difference:
    """Return by how many points the candidate's accuracy on the test images is above the base's.

    Each seed splits the same images anew, which the interval allows for.
    """
    base, candidate = ([POINTS * getattr(pair, side).accuracy for pair in pairs] for side in SIDES)
    return paired_difference(base, candidate, SHARES["test"] / SHARES["training"])


def rate_effect(pairs: Sequence[Pair]) -> Difference:
    """Return by which fraction the candidate trains on more images a second than the base."""
    return paired_ratio([pair.base.rate for pair in pairs], [pair.candidate.rate for pair in pairs])


def both_reach(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """Return the seconds to the target of both sides, base first, for the seeds in which both reach it."""
    times = [(pair.base.seconds_to_target, pair.candidate.seconds_to_target) for pair in pairs]
    return [(base, candidate) for base, candidate in times if base is not None and candidate is not None]


def target_effect(pairs: Sequence[Pair]) -> Difference | None:
    """Return by which fraction the candidate takes longer to the target, over the seeds in which both reach it."""
    both = both_reach(pairs)
    return paired_ratio([base for base, _ in both], [candidate for _, candidate in both]) if both else None


def answer(contrast: Contrast, pairs: Sequence[Pair], held: Bytes) -> list[str]:
    """Return the sentences of a contrast, the conclusion first."""
    if not pairs:
        return ["Not decided: no seed is finished."]
    over = f"{contrast.candidate} over {contrast.base}"
    return [
        _accuracy_sentence(contrast, pairs),
        f"Speed of training, images a second of {over}: {fraction_text(rate_effect(pairs))}.",
        _target_sentence(contrast, pairs),
        f"Memory, peak of a training step (fp32, SGD) of {over}: {_held_text(held)}.",
        _price_sentence(pairs),
    ]


def table_rows(pairs: Sequence[Pair], held: Bytes) -> list[tuple[str, ...]]:
    """Return the rows of the table: a quantity, both sides, the difference with its interval."""
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
    texts = [format_quantity(one, "B") for one in held]
    return [*rows, ("peak memory of a training step (fp32, SGD)", *texts, _memory_text(held))]


def samples_of(contrast: Contrast, pairs: Iterable[Pair]) -> pd.DataFrame:
    """Return the tidy frame: one row a seed, side, metric and, for what is seen during training, epoch."""
    rows = [
        (contrast.name, pair.seed, getattr(contrast, side), *row)
        for pair in pairs
        for side in SIDES
        for row in _metrics(getattr(pair, side))
    ]
    frame = pd.DataFrame(rows, columns=["study", "seed", "architecture", "metric", "epoch", "value", "unit"])
    return frame.astype({"epoch": "Int64", "value": "float64"})


def points_text(effect: Difference) -> str:
    """Return a difference of accuracies, in points."""
    return f"{effect.mean:+.2f} points [{effect.low:+.2f}, {effect.high:+.2f}]{_doubt(effect)}"


def fraction_text(effect: Difference) -> str:
    """Return a relative difference, in percent."""
    low, high = (POINTS * end for end in (effect.low, effect.high))
    return f"{POINTS * effect.mean:+.1f} % [{low:+.1f}, {high:+.1f}]{_doubt(effect)}"


def _doubt(effect: Difference) -> str:
    return "" if effect.decided else " (not decided)"


def _accuracy_sentence(contrast: Contrast, pairs: Sequence[Pair]) -> str:
    effect = accuracy_effect(pairs)
    base, candidate = (_accuracy_text([getattr(pair, side) for pair in pairs]) for side in SIDES)
    numbers = f"{points_text(effect)} over {effect.pairs} seeds"
    told = f"{contrast.candidate} {candidate}, {contrast.base} {base}: {numbers}"
    if not effect.decided:
        return f"Accuracy on the test images is not decided. {told}."
    first, second = contrast.candidate, contrast.base
    better, worse = (first, second) if effect.mean > 0 else (second, first)
    return f"{better} is more accurate than {worse} on the test images. {told}."


def _target_sentence(contrast: Contrast, pairs: Sequence[Pair]) -> str:
    target = f"{POINTS * contrast.recipe.target:.0f} % on the validation images"
    base, candidate = (_reached_text([getattr(pair, side) for pair in pairs]) for side in SIDES)
    counts = f"{contrast.base} reaches {target} with {base}, {contrast.candidate} with {candidate}"
    effect = target_effect(pairs)
    return (
        f"{counts}."
        if effect is None
        else f"{counts}; where both do ({effect.pairs}), the time to it differs by {fraction_text(effect)}."
    )


def _price_sentence(pairs: Sequence[Pair]) -> str:
    accuracy, rate = accuracy_effect(pairs), rate_effect(pairs)
    if not accuracy.decided or accuracy.mean < 0:
        return "Price of a point of accuracy: there is none, because no gain is decided."
    if not rate.decided or rate.mean > 0:
        return "Price of a point of accuracy: none is seen, because no loss of speed is decided."
    price = -POINTS * rate.mean / accuracy.mean
    return f"Price of a point of accuracy: {price:.1f} % of the images a second, as the ratio of both means."


def _metrics(trained: Trained) -> list[tuple[str, int | None, float, str]]:
    rows: list[tuple[str, int | None, float, str]] = [
        ("accuracy", None, trained.accuracy, "ratio"),
        ("training_rate", None, trained.rate, "images/s"),
        ("training_seconds", None, trained.seconds, "s"),
    ]
    if trained.seconds_to_target is not None:
        rows.append(("seconds_to_target", trained.epochs_to_target, trained.seconds_to_target, "s"))
    return rows + [("validation_accuracy", epoch + 1, value, "ratio") for epoch, value in enumerate(trained.validation)]


def _accuracy_text(side: Sequence[Trained]) -> str:
    return f"{POINTS * fmean(one.accuracy for one in side):.2f} %"


def _rate_text(side: Sequence[Trained]) -> str:
    return format_quantity(fmean(one.rate for one in side), "images/s")


def _reached_text(side: Sequence[Trained]) -> str:
    return f"{sum(one.epochs_to_target is not None for one in side)} of {len(side)} seeds"


def _held_text(held: Bytes) -> str:
    return f"{_memory_text(held)} of {format_quantity(held[0], 'B')}"


def _memory_text(held: Bytes) -> str:
    return f"{held[1] / held[0]:.3f}x"
