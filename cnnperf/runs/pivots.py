"""The most frequently used tables of the tidy frame of `load_runs`.

The run is the outer level of the index of each table, so that runs are not mixed. Cases that were not measured are left
out. A ratio is the paired one of cases that were measured side by side, if the frame has it, and else a quotient of
medians. `cnnperf.load_ratios` says which, and has the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cnnperf.runs.columns import AXIS_NAMES
from cnnperf.runs.pairs import QUESTIONS

MEMORY_PARTS = ("parameter_memory", "gradient_memory", "optimizer_memory", "activation_memory", "other_memory")


def throughput(frame: pd.DataFrame) -> pd.DataFrame:
    """Return images/s: a row per run, architecture, phase, device and engine, a column per batch."""
    return _table(frame, "throughput", ["architecture", "phase", "device", "engine"], "batch")


def cuda_over_cpu(frame: pd.DataFrame) -> pd.DataFrame:
    """Return latency on the CPU over latency on CUDA (above 1: CUDA is faster), a column per device and batch."""
    devices = _table(frame, "latency", _others("device"), "device")
    cuda = [name for name in devices.columns if str(name).startswith("cuda")]
    if "cpu" not in devices.columns or not cuda:
        return pd.DataFrame()
    quotients = devices[cuda].rdiv(devices["cpu"], axis=0).dropna(how="all")
    ratios = _paired_or(quotients, _table(frame, "device_ratio", _others("device"), "device"))
    return pd.DataFrame(ratios.unstack("batch"))


def compiled_over_eager(frame: pd.DataFrame) -> pd.DataFrame:
    """Return latency of eager over latency of each other engine (above 1: it pays), a column per engine."""
    engines = _table(frame, "latency", _others("engine"), "engine")
    if "eager" not in engines.columns:
        return pd.DataFrame()
    quotients = engines.drop(columns="eager").rdiv(engines["eager"], axis=0).dropna(how="all")
    return _paired_or(quotients, _table(frame, "engine_ratio", _others("engine"), "engine"))


def se_tax(frame: pd.DataFrame, costly: str = "se_resnet18", plain: str = "resnet18") -> pd.DataFrame:
    """Return latency with Squeeze-and-Excitation over latency without (above 1: it costs), a column per phase.

    Args:
        frame: Frame of `load_runs`.
        costly: Architecture with Squeeze-and-Excitation.
        plain: Architecture without.
    """
    networks = _table(frame, "latency", _others("architecture"), "architecture")
    if not {costly, plain} <= set(networks.columns):
        return pd.DataFrame()
    quotients = networks[[costly]].div(networks[plain], axis=0).dropna()
    paired = _table(frame, "part_ratio", _others("architecture"), "architecture")
    ratios = _paired_or(quotients, paired) if _is_question(costly, plain) else quotients
    return ratios[costly].rename("ratio").unstack("phase")


def memory_split(frame: pd.DataFrame) -> pd.DataFrame:
    """Return bytes at the peak: a row per run and case, a column per part."""
    parts = frame[frame["metric"].isin(MEMORY_PARTS)]
    split = parts.pivot_table(index=["run", *AXIS_NAMES], columns="metric", values="value", observed=True)
    return split.reindex(columns=[part for part in MEMORY_PARTS if part in split.columns])


def _table(frame: pd.DataFrame, metric: str, rows: Sequence[str], column: str) -> pd.DataFrame:
    chosen = frame[(frame["metric"] == metric) & frame["architecture"].notna()]
    return chosen.pivot_table(index=["run", *rows], columns=column, values="value", observed=True)


def _paired_or(quotients: pd.DataFrame, paired: pd.DataFrame) -> pd.DataFrame:
    """Return paired ratios, and quotients where there are none; cases without a quotient are left out."""
    return paired.reindex(index=quotients.index, columns=quotients.columns).fillna(quotients)


def _is_question(costly: str, plain: str) -> bool:
    return any((question.candidate, question.baseline) == (costly, plain) for question in QUESTIONS)


def _others(axis: str) -> list[str]:
    return [name for name in AXIS_NAMES if name != axis]
