"""Identity of a machine: the facts of an environment that decide whether seconds compare, and no more."""

from __future__ import annotations

from collections.abc import Mapping

Scalar = str | int | float | bool | None

MOMENTARY = frozenset(
    {
        "load_average",
        "cpu_frequency_mhz",
        "gpu_clock_sm_mhz",
        "gpu_clock_memory_mhz",
        "gpu_power_w",
        "gpu_other_processes",
        "gpu_temperature_c",
        "gpu_throttle_reasons",
        "gpu_utilization_percent",
    }
)
"""Entries of the environment that change from moment to moment on one machine."""

CORES = "cores"
"""Number of cores that a process may use, derived from their list."""

PLACES = frozenset({"affinity", "CUDA_VISIBLE_DEVICES", "GOMP_CPU_AFFINITY"})
"""Entries that list which of a machine's cores or devices a scheduler gave to the job."""


def lasting_facts(environment: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the facts that runs must share for their seconds to compare.

    A scheduler gives each job other cores and devices of the same kind, so that their number counts and not their list.
    """
    facts = {name: value for name, value in environment.items() if name not in MOMENTARY | PLACES}
    affinity = environment.get("affinity")
    if isinstance(affinity, str):
        facts[CORES] = len(affinity.split(","))
    return facts
