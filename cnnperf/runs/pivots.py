"""The most frequently used tables of the tidy frame of `load_runs`.

The run is the outer level of the index of each table, so that runs are not mixed. Cases that were not measured are left
out. Ratios are those of medians; their intervals are in the reports.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cnnperf.runs.columns import AXIS_NAMES

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
    ratios = devices[cuda].rdiv(devices["cpu"], axis=0).dropna(how="all")
    return pd.DataFrame(ratios.unstack("batch"))


def compiled_over_eager(frame: pd.DataFrame) -> pd.DataFrame:
    """Return latency of eager over latency of each other engine (above 1: it pays), a column per engine."""
    engines = _table(frame, "latency", _others("engine"), "engine")
    if "eager" not in engines.columns:
        return pd.DataFrame()
    return engines.drop(columns="eager").rdiv(engines["eager"], axis=0).dropna(how="all")


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
    return (networks[costly] / networks[plain]).dropna().rename("ratio").unstack("phase")


def memory_split(frame: pd.DataFrame) -> pd.DataFrame:
    """Return bytes at the peak: a row per run and case, a column per part."""
    parts = frame[frame["metric"].isin(MEMORY_PARTS)]
    split = parts.pivot_table(index=["run", *AXIS_NAMES], columns="metric", values="value", observed=True)
    return split.reindex(columns=[part for part in MEMORY_PARTS if part in split.columns])


def _table(frame: pd.DataFrame, metric: str, rows: Sequence[str], column: str) -> pd.DataFrame:
    chosen = frame[(frame["metric"] == metric) & frame["architecture"].notna()]
    return chosen.pivot_table(index=["run", *rows], columns=column, values="value", observed=True)


def _others(axis: str) -> list[str]:
    return [name for name in AXIS_NAMES if name != axis]
