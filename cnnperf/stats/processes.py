"""Ratios of several processes, which differ by more than the cycles of one process show.

Two processes of one commit place code, heap and compiled kernels differently, and a ratio that one process measures
within 1 % may be 5 % higher in the next. The process is therefore the outer level of the sample: one datum a process.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from cnnperf.records.metrics import Value
from cnnperf.stats.paired import freedom_of, quantile
from cnnperf.stats.ratio import exp


def ratio_over_processes(ratios: Sequence[Value]) -> Value:
    """Return the ratio of two cases that several processes have measured.

    The estimate is the mean of the logs of the ratios. The interval is that of Student's t from their spread, with one
    degree of freedom less than there are processes: it holds the spread between processes and, because the mean of each
    has the noise of its cycles, also that within them. Of few processes the spread may be small by chance. The interval
    is therefore at least that of independent cycles without any spread between processes, whose standard error is the
    root of the sum of the squared errors over the number of processes. The wider of two intervals covers at least as
    often as the first.

    Judge it with `len(ratios) - 1` degrees of freedom. Where the interval of the cycles is the wider one, these are
    fewer than it has, so that probabilities beyond its ends are overestimated.

    Args:
        ratios: Paired ratio of each process, at least two.

    Returns:
        The ratio with its 95 % interval; `rounds` is the number of cycles of all processes. The interval is unbounded
        where that of a process is.

    Raises:
        ValueError: If there are fewer than two ratios.
    """
    count = len(ratios)
    if count < 2:  # noqa: PLR2004 - one process shows no spread between processes
        raise ValueError(f"a ratio over processes takes the ratios of at least 2, not {count}")
    logs = [math.log(ratio.value) for ratio in ratios]
    middle = statistics.fmean(logs)
    between = quantile(count - 1) * statistics.stdev(logs) / math.sqrt(count)
    freedoms = [freedom_of(ratio.rounds or 0) for ratio in ratios]
    errors = [_standard_error(ratio, freedom) for ratio, freedom in zip(ratios, freedoms, strict=True)]
    within = quantile(sum(freedoms)) * math.hypot(*errors) / count
    reach = max(between, within)
    return Value(
        math.exp(middle), math.exp(middle - reach), exp(middle + reach), sum(ratio.rounds or 0 for ratio in ratios)
    )


def _standard_error(ratio: Value, freedom: float) -> float:
    """Return the standard error of the log of a ratio; infinity if its interval is unbounded or missing."""
    if freedom < 1 or not ratio.low or not ratio.high or not math.isfinite(ratio.high):
        return math.inf
    return math.log(ratio.high / ratio.low) / 2 / quantile(freedom)
