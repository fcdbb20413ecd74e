"""Samples of several subjects in one run, round by round: what differs between two runs cancels in their ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval


@dataclass(frozen=True)
class PairedSamples:
    """Samples of subjects that were measured side by side.

    Attributes:
        groups: By subject, the seconds of each group; the n-th rounds of all subjects ran side by side.
        stopped: `interval` or `budget`: what ended the sampling.
    """

    groups: Mapping[str, list[list[float]]]
    stopped: str

    def per_call(self, calls: Mapping[str, int]) -> PairedSamples:
        """Return the samples of single calls.

        Args:
            calls: Number of calls in a round, by subject.
        """
        groups = {
            name: [[seconds / calls[name] for seconds in group] for group in of_name]
            for name, of_name in self.groups.items()
        }
        return replace(self, groups=groups)

    def latency(self, name: str) -> Value:
        """Return the median seconds of a subject with its interval."""
        return median_interval(self.groups[name])

    def ratio(self, numerator: str, denominator: str) -> Value:
        """Return the median ratio of paired rounds, with the interval over groups."""
        pairs = zip(self.groups[numerator], self.groups[denominator], strict=True)
        return median_interval([[a / b for a, b in zip(*pair, strict=True)] for pair in pairs])
