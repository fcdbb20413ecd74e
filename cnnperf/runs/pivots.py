"""The tables that people need first, each one line from the tidy frame of `load_runs`.

All take the frame and return a frame with the run as the outer level of the index, so that of several runs none is
mixed with another. A case that was not measured is left out. Ratios are of medians; their intervals are in the reports.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cnnperf.runs.columns import AXIS_NAMES

MEMORY_PARTS = ("parameter_memory", "gradient_memory", "optimizer_memory", "activation_memory", "other_memory")


def throughput(frame: pd.DataFrame) -> pd.DataFrame:
    """Return images/s: a row a run, architecture, phase, device and engine, a column a batch."""
    return _table(frame, "throughput", ["architecture", "phase", "device", "engine"], "batch")


def cuda_over_cpu(frame: pd.DataFrame) -> pd.DataFrame:
    """Return latency on the CPU over latency on CUDA (above 1: CUDA is faster), a column a device and batch."""
    devices = _table(frame, "latency", _others("device"), "device")
    cuda = [name for name in devices.columns if str(name).startswith("cuda")]
    if "cpu" not in devices.columns or not cuda:
        return pd.DataFrame()
    ratios = devices[cuda].rdiv(devices["cpu"], axis=0).dropna(how="all")
    return pd.DataFrame(ratios.unstack("batch"))


def compiled_over_eager(frame: pd.DataFrame) -> pd.DataFrame:
    """Return latency of eager over latency of each other engine (above 1: it pays), a column an engine."""
    engines = _table(frame, "latency", _others("engine"), "engine")
    if "eager" not in engines.columns:
        return pd.DataFrame()
    return engines.drop(columns="eager").rdiv(engines["eager"], axis=0).dropna(how="all")


def se_tax(frame: pd.DataFrame, costly: str = "se_resnet18", plain: str = "resnet18") -> pd.DataFrame:
    """Return latency with Squeeze-and-Excitation over latency without (above 1: it costs), a column a phase.

    Args:
        frame: From `load_runs`.
        costly: The architecture with it.
        plain: The architecture without.
    """
    networks = _table(frame, "latency", _others("architecture"), "architecture")
    if not {costly, plain} <= set(networks.columns):
        return pd.DataFrame()
    return (networks[costly] / networks[plain]).dropna().rename("ratio").unstack("phase")


def memory_split(frame: pd.DataFrame) -> pd.DataFrame:
    """Return bytes at the peak: a row a run and case, a column a part."""
    parts = frame[frame["metric"].isin(MEMORY_PARTS)]
    split = parts.pivot_table(index=["run", *AXIS_NAMES], columns="metric", values="value", observed=True)
    return split.reindex(columns=[part for part in MEMORY_PARTS if part in split.columns])


def _table(frame: pd.DataFrame, metric: str, rows: Sequence[str], column: str) -> pd.DataFrame:
    chosen = frame[(frame["metric"] == metric) & frame["architecture"].notna()]
    return chosen.pivot_table(index=["run", *rows], columns=column, values="value", observed=True)


def _others(axis: str) -> list[str]:
    return [name for name in AXIS_NAMES if name != axis]
