"""The metrics: a table of every quantity that a run file may hold. To add a metric, add a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from cnnperf.errors import OptionError
from cnnperf.records.case import Count


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    Attributes:
        name: The JSON key and the value in the column `metric`.
        unit: SI unit; `1` for a plain count, `ratio` for a quotient.
        better: `lower`, `higher` or `neither`.
        counter: Whether two runs of one commit must agree to the last digit.
        meaning: Phrase for tables and help texts.
    """

    name: str
    unit: str
    better: str
    counter: bool
    meaning: str


_TABLE = (
    Metric("latency", "s", "lower", False, "median seconds of one call, synchronized before and after"),
    Metric("anchor_ratio", "ratio", "lower", False, "latency over that of a pinned commit, in turns in one job"),
    Metric("engine_ratio", "ratio", "higher", False, "latency in eager mode over that with the engine, side by side"),
    Metric("device_ratio", "ratio", "higher", False, "latency on the CPU over that on CUDA, side by side"),
    Metric("part_ratio", "ratio", "lower", False, "latency with a part over that without it, side by side"),
    Metric("graph_latency", "s", "lower", False, "median seconds of the forward and loss that a backward call undoes"),
    Metric("throughput", "images/s", "higher", False, "batch over latency"),
    Metric("call_rate", "calls/s", "higher", False, "calls over their time, where the input is no batch of images"),
    Metric("queued_throughput", "images/s", "higher", False, "images/s where calls follow one another (CUDA)"),
    Metric("event_latency", "s", "lower", False, "median seconds between CUDA events around one call"),
    Metric(
        "device_busy",
        "ratio",
        "higher",
        False,
        "device_latency over event_latency; low means launch-bound",
    ),
    Metric("device_latency", "s", "lower", False, "seconds on the device of a call that is all in its queue (CUDA)"),
    Metric("copy_pinned", "s", "lower", False, "seconds to copy the images of a call from pinned memory to the GPU"),
    Metric("copy_pageable", "s", "lower", False, "seconds to copy the images of a call from usual memory to the GPU"),
    Metric("sm_clock", "Hz", "neither", False, "clock of the GPU's multiprocessors while calls follow one another"),
    Metric("power", "W", "neither", False, "power of the GPU while calls follow one another"),
    Metric("energy", "J/image", "lower", False, "energy of the GPU, or of the CPU's packages, for one image"),
    Metric("cpu_busy", "ratio", "neither", False, "CPU seconds of the process over wall seconds of a call"),
    Metric(
        "peak_memory",
        "B",
        "lower",
        True,
        "most bytes held at once: resident tensors and the allocator's peak",
    ),
    Metric("parameter_memory", "B", "lower", True, "bytes of parameters and buffers at the peak"),
    Metric("gradient_memory", "B", "lower", True, "bytes of parameter gradients at the peak"),
    Metric("optimizer_memory", "B", "lower", True, "bytes of optimizer state at the peak"),
    Metric("activation_memory", "B", "lower", True, "bytes allocated in the forward pass and alive at the peak"),
    Metric("other_memory", "B", "lower", True, "images, targets and temporaries at the peak"),
    Metric(
        "reserved_memory",
        "B",
        "lower",
        False,
        "most bytes that CUDA's caching allocator holds in a round",
    ),
    Metric("live_tensor_memory", "B", "lower", True, "most bytes of tensors alive between operators (eager)"),
    Metric("saved_memory", "B", "lower", True, "bytes that the forward keeps for the backward (eager)"),
    Metric("leaked_memory", "B", "lower", True, "bytes that a finished round leaves behind"),
    Metric("operators", "1", "lower", True, "operators that one call runs (eager)"),
    Metric("moved", "B", "lower", True, "bytes that compiled kernels read and write, as the compiler counts them"),
    Metric("parameters", "1", "neither", True, "number of parameters"),
    Metric(
        "flop",
        "flop",
        "lower",
        True,
        "floating-point operations of convolutions and matrix products in a call",
    ),
    Metric("traffic", "B", "lower", True, "bytes that convolutions and matrix products must read and write"),
    Metric("flop_rate", "flop/s", "higher", False, "flop over latency"),
    Metric("ceiling_fraction", "ratio", "higher", False, "time at the nearer ceiling over latency"),
    Metric("relative_error", "ratio", "lower", False, "distance of outputs and gradients to float64"),
    Metric("compile_cold", "s", "lower", False, "seconds of compilation with an empty compile cache"),
    Metric("compile_warm", "s", "lower", False, "seconds of compilation with a filled compile cache"),
    Metric("graphs", "1", "lower", True, "graphs captured for one call"),
    Metric("graph_breaks", "1", "lower", True, "graph breaks"),
    Metric("uncompiled", "1", "lower", True, "1 where a compiled case runs without any graph"),
    Metric("recompiles", "1", "lower", True, "compilations after the first call"),
    Metric("kernels", "1", "lower", True, "kernels that the compiler generated for one call"),
    Metric("weak_efficiency", "ratio", "higher", False, "images/s of n processes over n times one's, a batch each"),
    Metric("strong_efficiency", "ratio", "higher", False, "images/s of n processes over n times one's, a batch shared"),
    Metric("communicated", "B", "lower", True, "bytes that one process hands to collective operations in a step"),
    Metric("communication_share", "ratio", "lower", False, "part of a step that is gone without communication"),
    Metric("break_even", "1", "lower", False, "calls after which compilation has paid for itself against eager"),
    Metric("knee_batch", "images", "neither", False, "first batch after which doubling surely brings little"),
    Metric("largest_batch", "images", "higher", False, "largest batch whose call fits into memory"),
    Metric("engine_crossover", "images", "neither", False, "batch from which on compiled is faster than eager"),
    Metric("device_crossover", "images", "neither", False, "batch from which on CUDA is faster than the CPU"),
    Metric("thread_efficiency", "ratio", "higher", False, "throughput over that of one thread times the threads"),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _TABLE}

RATIOS = ("engine_ratio", "device_ratio", "part_ratio")
"""Metrics that compare a case with another case of its run. A change of either case changes them."""

GROUPS: Mapping[str, tuple[str, ...]] = {"ratio": RATIOS}
"""Metrics by a common name."""


def metrics_named(name: str) -> tuple[str, ...]:
    """Return the metrics of a common name, or the metric of its own name."""
    return GROUPS.get(name, (name,))


def check_metric(name: str, option: str) -> None:
    """Refuse a name that is neither that of a metric nor a common name of several.

    Args:
        name: Name that the user gave.
        option: Name of the option or argument.

    Raises:
        OptionError: If there is no such metric; the message lists all names.
    """
    if name not in METRICS and name not in GROUPS:
        known = ", ".join((*METRICS, *GROUPS))
        raise OptionError(f"{option}: there is no metric {name!r}; the metrics are {known}")


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measured value with its interval.

    Attributes:
        value: Number in the SI unit of its metric.
        low: Lower end of the interval; None for a value without an interval, such as a counter.
        high: Upper end of the interval, or None.
        rounds: Number of rounds behind the value, or None.
        unit: Unit as in a run file; empty for a value that is not part of a record.
    """

    value: float
    low: float | None = None
    high: float | None = None
    rounds: Count | None = None
    unit: str = ""

    def scaled_inverse(self, numerator: float) -> Value:
        """Return `numerator / value` with its interval, such as images/s from seconds."""
        low = None if self.high is None else numerator / self.high
        high = None if self.low is None else numerator / self.low if self.low else math.inf
        return Value(numerator / self.value, low, high, self.rounds)

    def scaled(self, factor: float) -> Value:
        """Return the value and its interval times a positive number."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Value(self.value * factor, low, high, self.rounds)

    @property
    def half_width(self) -> float:
        """Half the width of the interval over the value; NaN without an interval."""
        if self.low is None or self.high is None or self.value == 0:
            return math.nan
        return (self.high - self.low) / 2 / self.value


def with_units(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return values, by metric name, with the units of their metrics."""
    return {name: msgspec.structs.replace(value, unit=METRICS[name].unit) for name, value in values.items()}
