"""The timer that makes pytest-benchmark record samples that have been taken already."""

from __future__ import annotations


class Replay:
    """Timer for pytest-benchmark that replays samples.

    pytest-benchmark reads its timer twice a round and keeps the difference: 0 and the sample.
    """

    __name__ = "cnnperf_replay"

    def __init__(self) -> None:
        """Start without samples."""
        self._readings: list[float] = []

    def load(self, seconds: list[float]) -> None:
        """Set the samples to replay, in seconds."""
        self._readings = [reading for sample in reversed(seconds) for reading in (sample, 0.0)]

    def __call__(self) -> float:
        """Return the next reading in seconds."""
        return self._readings.pop()
