"""The machine of a run, its ceilings, and the share of the time that was measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnnperf.records.machine import Scalar
from cnnperf.records.run import Run
from cnnperf.report.layout import wrap
from cnnperf.runs.durations import measured_share
from cnnperf.units import format_duration, format_percent, format_quantity

LEAST_MEASURED = 0.6
"""Least share of a run's time, apart from compilation, that should be spent in timed rounds."""

Write = Callable[[Scalar], str]

# Texts by name in the environment record; what is not in the record is left out.
_CPU: Mapping[str, Write] = {
    "cpu_model": str,
    "cpu_count": lambda value: f"{value} CPU{_plural(value)}",
    "threads": lambda value: f"{value} thread{_plural(value)}",
    "torch": "torch {}".format,
    "cpu_allocator": "CPU memory {}".format,
    "input": "{} input".format,
}
_GPU: Mapping[str, Write] = {
    "gpu_model": str,
    "gpu_driver": "driver {}".format,
    "cuda": "CUDA {}".format,
    "cudnn": "cuDNN {}".format,
}
_RATE = "matmul_rate_"


def machine_lines(run: Run) -> list[str]:
    """Return `machine_facts` in lines for a terminal."""
    return [line for fact in machine_facts(run) for line in wrap(fact)]


def machine_facts(run: Run) -> list[str]:
    """Return the machine with the suite, the GPU, and the ceilings of each device, one text each."""
    cpu = _written(run.environment, _CPU)
    suite = [f"{run.suite} suite"] if run.suite else []
    facts = [f"machine: {', '.join([*cpu, *suite])}"] if cpu or suite else []
    if run.environment.get("gpu_model"):
        facts.append(f"GPU: {', '.join(_written(run.environment, _GPU))}")
    for device, rates in run.ceilings.items():
        facts += [f"ceilings of {device}: {', '.join(_ceiling(*item) for item in rates.items())}"] if rates else []
    return facts


def effort_lines(run: Run) -> list[str]:
    """Return the numbers of cases and rounds, and the share of the time that was measuring."""
    planned = "" if run.planned is None else f" of {run.planned} planned"
    cases = "case" if len(run.cases) == 1 and run.planned is None else "cases"
    lines = ["", f"{len(run.cases)}{planned} {cases} measured{_rounds(run)}"]
    measured = measured_share(run)
    if measured is None:
        return lines
    compiling = run.compile_seconds or 0.0
    apart = f" (compilation {format_duration(compiling)} apart)" if compiling > 0 else ""
    durations = f"{format_duration(measured.rounds)} of {format_duration(measured.total)}{apart}"
    lines.append(f"rounds took {durations}: {format_percent(measured.share)} measured")
    if measured.share < LEAST_MEASURED:
        lines.append(
            f"  under {format_percent(LEAST_MEASURED)}: most time went into set-up, checks and warm-up; "
            "raise --cnnperf-time"
        )
    return lines


def _plural(count: Scalar) -> str:
    return "" if count == 1 else "s"


def _rounds(run: Run) -> str:
    counts = [record.values["latency"].rounds for record in run.cases if "latency" in record.values]
    known = sorted(count for count in counts if count is not None)
    if not known:
        return ""
    few, many = known[0], known[-1]
    return f", {few} rounds each" if few == many else f", {few} to {many} rounds each"


def _written(environment: Mapping[str, Scalar], table: Mapping[str, Write]) -> list[str]:
    facts = {name: environment.get(name) for name in table}
    return [table[name](value) for name, value in facts.items() if value is not None]


def _ceiling(name: str, rate: float) -> str:
    if name.startswith(_RATE):
        return f"matmul {name.removeprefix(_RATE)} {format_quantity(rate, 'flop/s')}"
    return f"{name.removesuffix('_bandwidth')} {format_quantity(rate, 'B/s')}"
