"""The facts of runs that decide which of them are in one series, and those that may change within it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnnperf.records.case import Case
from cnnperf.records.machine import Scalar, lasting_facts
from cnnperf.records.metrics import RATIOS
from cnnperf.runs.ratio_metrics import reference_of

SOFTWARE = ("torch", "python", "cuda", "cudnn", "gpu_driver", "system")
"""Facts that may change within a series. They are reported with a shift, because they may be its cause."""

PROCESSORS = ("cpu_model", "gpu_model")
"""Facts that may also change within a series of ratios between cases, and are reported as software is."""

ANCHORED = "anchor_ratio"

Environment = Mapping[str, Scalar]
Facts = tuple[tuple[str, Scalar], ...]


def shared_facts(case: Case, metric: str, machine: Facts) -> Facts:
    """Return the facts that all runs of a series share: for a ratio between cases its reference, else `machine`."""
    reference = reference_of(case, metric)
    return (("relative to", reference),) if reference else machine


def machine_of(environment: Environment, machine: str, anchor: str, metric: str) -> Facts:
    """Return the facts of a run that those of other machines do not share; the pinned commit for `anchor_ratio`."""
    if metric == ANCHORED:
        return (("relative to", anchor),)
    lasting = lasting_facts(environment).items()
    facts = sorted((name, value) for name, value in lasting if name not in SOFTWARE and value is not None)
    return tuple(facts) or (("machine", machine),)


def changeable(environment: Environment, metrics: Iterable[str]) -> Environment:
    """Return the facts of an environment that may change within a series of one of the metrics."""
    names = SOFTWARE if set(RATIOS).isdisjoint(metrics) else (*SOFTWARE, *PROCESSORS)
    return {name: environment[name] for name in names if name in environment}
