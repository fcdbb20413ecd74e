"""The timer that lets pytest-benchmark record samples which were taken before."""

from __future__ import annotations


class Replay:
    """A timer for pytest-benchmark that returns samples which were taken before.

    pytest-benchmark reads its timer twice a round and keeps the difference: 0 and the sample.
    """

    __name__ = "cnnperf_replay"

    def __init__(self) -> None:
        """Start without samples."""
        self._readings: list[float] = []

    def load(self, seconds: list[float]) -> None:
        """Take the samples to return."""
        self._readings = [reading for sample in reversed(seconds) for reading in (sample, 0.0)]

    def __call__(self) -> float:
        """Return the next reading in seconds."""
        return self._readings.pop()
