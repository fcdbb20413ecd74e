"""Run-file documents made from small tables, for the tests of everything that reads them."""

from __future__ import annotations

import json
from typing import Any

from cnnperf.records.case import Case
from cnnperf.records.metrics import METRICS, Value
from cnnperf.runs.forms import compared_cases
from cnnperf.stats.ratio import ratio as latency_ratio
from cnnperf.suite.blocks import blocks_of


def metric(name: str, value: float, half: float | None = None, rounds: int | None = None) -> dict[str, Any]:
    """Return the entry of a metric; `half` is the relative half-width of its interval."""
    entry: dict[str, Any] = {"value": value, "unit": METRICS[name].unit}
    if half is not None:
        entry |= {"low": value * (1 - half), "high": value * (1 + half)}
    return entry | ({} if rounds is None else {"rounds": rounds})


def benchmark(
    architecture: str = "lenet5",
    latency: float = 1e-3,
    half: float | None = 0.02,
    *,
    groups: list[list[float]] | None = None,
    metrics: dict[str, Any] | None = None,
    findings: list[dict[str, str]] | None = None,
    **axes: Any,
) -> dict[str, Any]:
    """Return one element of `benchmarks` as cnnperf has it saved."""
    point = {"phase": "forward", "device": "cpu", "engine": "eager", "precision": "fp32", "layout": "contiguous"}
    point = {"architecture": architecture, **point, "batch": 64, "image_size": 32, **axes}
    groups = [[latency, latency], [latency]] if groups is None else groups
    data = [seconds for group in groups for seconds in group]
    batch = point["batch"]
    values = {
        "latency": metric("latency", latency, half, len(data)),
        "throughput": metric("throughput", batch / latency, half),
        "peak_memory": metric("peak_memory", 12.5 * 2**20),
        "parameters": metric("parameters", 62006),
        "ceiling_fraction": metric("ceiling_fraction", 0.43, half),
    }
    return {
        "group": None,
        "name": f"test_{architecture}",
        "fullname": f"benchmarks/test_x.py::test_{architecture}",
        "params": point,
        "param": None,
        "extra_info": {
            "cnnperf": 1,
            "axes": point,
            "metrics": values if metrics is None else metrics,
            "groups": [len(group) for group in groups],
            "stopped": "interval",
            "findings": findings or [],
        },
        "stats": {"rounds": len(data), "median": latency, "data": data},
    }


def side_by_side(*benchmarks: dict[str, Any], cycles: int = 30, **ratio: float) -> list[dict[str, Any]]:
    """Return the benchmarks of each block as its members: with a name of the block, and their paired ratios.

    Args:
        benchmarks: Elements of `benchmark`.
        cycles: Number of cycles of each ratio.
        ratio: `value`, `low` and `high` of all ratios; without them, those of the quotient of the latencies.
    """
    cases = {Case.from_axes(each["extra_info"]["axes"]): each for each in benchmarks}
    blocks = blocks_of((each["fullname"].partition("::")[0], case) for case, each in cases.items())
    for case, each in cases.items():
        each["extra_info"] |= {"block": blocks[case].name, "ratios": []}
    for above, below in compared_cases(list(cases)):
        if blocks[above] is blocks[below]:
            values = (Value(**cases[case]["extra_info"]["metrics"]["latency"]) for case in (above, below))
            quotient = Value(**ratio) if ratio else latency_ratio(*values)
            over = {"value": quotient.value, "low": quotient.low, "high": quotient.high, "rounds": cycles}
            cases[above]["extra_info"]["ratios"].append({"axes": above.difference(below), "ratio": over})
    return list(benchmarks)


def foreign() -> dict[str, Any]:
    """Return an element of `benchmarks` that another suite wrote."""
    return {"name": "test_sort", "fullname": "test_sort.py::test_sort", "extra_info": {}, "stats": {"data": [0.1]}}


def finding(kind: str = "spread", seen: str = "the median's interval is ±7.3%, wanted ±2.0%") -> dict[str, str]:
    return {"kind": kind, "seen": seen, "meaning": "smaller differences are not seen", "remedy": "raise --cnnperf-time"}


def document(*benchmarks: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Return a run-file document; `facts` replace those of cnnperf."""
    environment = {"cpu_model": "Example CPU", "cpu_count": 2, "gpu_model": None, "torch": "2.13.0+cpu", "threads": 2}
    ours = {
        "schema": 1,
        "suite": "default",
        "environment": environment,
        "ceilings": {"cpu": {"copy_bandwidth": 1.23e10, "matmul_rate_fp32": 1.5e11}},
        "not_measured": [],
        "findings": [],
        "wall_seconds": 100.0,
        "compile_seconds": 20.0,
        "round_seconds": 60.0,
    }
    return {
        "machine_info": {"node": "example", "cpu": {"brand_raw": "Example CPU (TM)"}},
        "commit_info": {"id": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "benchmarks": list(benchmarks),
        "datetime": "2026-05-04T03:02:01.5+00:00",
        "version": "5.3.1",
        "cnnperf": ours | facts,
    }


def journal(whole: dict[str, Any]) -> str:
    """Return the text of the journal that a run leaves which was interrupted after the last case of the document."""
    head = {"cnnperf_journal": 1, **{key: value for key, value in whole.items() if key != "benchmarks"}}
    return "".join(json.dumps(entry) + "\n" for entry in (head, *whole["benchmarks"]))
