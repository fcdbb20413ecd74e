"""The tables of `suite_study.py`: how far runs agree, how wide their intervals are, and what they say falsely."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

FALSE = {"above", "below"}
LENET = "lenet5"


def tables(files: Sequence[Path]) -> Iterator[str]:
    """Yield Markdown: one row a file, then what planted slowdowns came to."""
    frames = {file.stem: pd.read_csv(file) for file in files}
    rows = [_agreement(frame) for name, frame in frames.items() if name != "planted"]
    if rows:
        names = [name for name in frames if name != "planted"]
        yield tabulate(pd.DataFrame(rows, names).T, headers="keys", tablefmt="github")
    if "planted" in frames:
        yield tabulate(_planted(frames["planted"]), headers="keys", tablefmt="github", showindex=False)


def _agreement(frame: pd.DataFrame) -> dict[str, str]:
    """Return the figures of one file by their description."""
    frame = frame.assign(ratio=frame["numerator"] + " / " + frame["denominator"] + ", " + frame["phase"])
    shown = frame[frame["kind"] == "shown"]
    twins = frame[frame["kind"] == "other"]
    runs = frame.drop_duplicates("run")
    disjoint, contradictory, beyond = _pairs(shown)
    halves = np.log(frame["high"] / frame["low"]) / 2
    spread = np.log(shown["value"]).groupby(shown["ratio"]).std()
    false = [_says_false(run) for _, run in twins.groupby("run")]
    figures = {
        "runs": f"{len(runs)}",
        "commits": ", ".join(runs["commit"].unique()),
        "busy processes": ", ".join(map(str, runs["load"].unique())),
        "ratios a run": f"{shown.groupby('run').size().median():.0f}",
        "paired": f"{shown['paired'].mean():.0%}",
        "wall time, median": f"{runs['wall'].median():.0f} s ({runs['wall'].min():.0f} to {runs['wall'].max():.0f})",
        "share inside rounds, median": f"{runs['share'].median():.0%}",
        "half-width, median": f"{halves[shown.index].median():.1%}",
        "half-width, largest tenth above": f"{halves[shown.index].quantile(0.9):.1%}",
        "cycles, median": f"{shown['cycles'].median():.0f}",
        "spread from run to run, root mean square": f"{math.sqrt((spread**2).mean()):.1%}",
        "pairs of intervals that are disjoint": _share(disjoint),
        "pairs of words that contradict each other": _share(contradictory),
        "differences of two runs beyond their interval": _share(beyond),
        "ratios of a run with a word": f"{_decided_share(shown):.0%}",
        "LeNets: engine decided": _decided(shown, LENET, "compile"),
        "cost of SE in training decided": _decided(shown[shown["phase"] == "train"], "se_resnet18 ", "/ resnet18 "),
    }
    if not twins.empty:
        outside = (twins["low"] > 1) | (twins["high"] < 1)
        figures["A/A ratios outside their 95 % interval"] = _share(outside.tolist())
        figures["runs with a false word about A/A"] = f"{sum(false)} of {len(false)}"
    return figures


def _pairs(shown: pd.DataFrame) -> tuple[list[bool], list[bool], list[bool]]:
    """Return for each pair of runs of each ratio: are they disjoint, contradictory, and beyond their interval."""
    disjoint, contradictory, beyond = [], [], []
    for _, one in shown.groupby("ratio"):
        rows = zip(*(one[name] for name in ("value", "low", "high", "verdict")), strict=True)
        for first, second in itertools.combinations(rows, 2):
            disjoint.append(first[2] < second[1] or second[2] < first[1])
            contradictory.append({first[3], second[3]} == FALSE)
            upper, lower = (first, second) if first[0] > second[0] else (second, first)
            reach = math.hypot(math.log(upper[0] / upper[1]), math.log(lower[2] / lower[0]))
            beyond.append(math.log(upper[0] / lower[0]) > reach)
    return disjoint, contradictory, beyond


def _says_false(run: pd.DataFrame) -> bool:
    return bool(run["verdict"].isin(FALSE).any())


def _decided(shown: pd.DataFrame, *parts: str) -> str:
    """Return in how many runs all ratios whose name has these parts have a word."""
    chosen = shown[shown["ratio"].map(lambda name: all(part in name for part in parts)).astype(bool)]
    if chosen.empty:
        return "-"
    by_run = chosen["verdict"].isin([*FALSE, "same"]).groupby(chosen["run"])
    return f"{int(by_run.all().sum())} of {by_run.ngroups} runs ({_decided_share(chosen):.0%} of the ratios)"


def _decided_share(shown: pd.DataFrame) -> float:
    return float(shown["verdict"].isin([*FALSE, "same"]).mean())


def _share(cases: Sequence[bool]) -> str:
    return f"{sum(cases)} of {len(cases)} ({sum(cases) / len(cases):.1%})" if len(cases) else "-"


def _planted(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each planted network: its ratio, and how often it is said."""
    rows = []
    for name, one in frame[frame["kind"] == "other"].groupby("numerator"):
        said = one["verdict"] == "above"
        half = (np.log(one["high"] / one["low"]) / 2).median()
        rows.append(
            {
                "network": name,
                "runs": len(one),
                "busy processes": ", ".join(map(str, one["load"].unique())),
                "ratio, median": f"{one['value'].median():.3f}",
                "half-width, median": f"{half:.1%}",
                "said to be slower": f"{said.sum()} of {len(one)} ({said.mean():.0%})",
            }
        )
    return pd.DataFrame(rows)
