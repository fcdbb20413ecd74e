"""Efficiency of CPU threads, from interleaved rounds with one and with several threads."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cnnperf.measure.clock import Clock
from cnnperf.measure.paired import sample_together
from cnnperf.measure.sampler import Schedule, Subject
from cnnperf.records.metrics import Value

WAKING = 1 << 20  # elements: enough for PyTorch to use all threads, so that they exist before the timed call


class OnThreads:
    """Subject with a number of threads."""

    def __init__(self, subject: Subject, threads: int) -> None:
        """Wrap a subject that is not compiled: generated code has its own number of threads."""
        self._subject, self._threads = subject, threads
        self._woken = torch.zeros(WAKING)

    def setup(self) -> None:
        """Set the number of threads and wake them at the first round of a turn, and set up the subject."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
            self._woken.add_(1)
        self._subject.setup()

    def run(self) -> None:
        """Do the timed work."""
        self._subject.run()

    def relocate(self) -> None:
        """Move the subject to fresh addresses."""
        self._subject.relocate()


def thread_efficiencies(subjects: Mapping[int, Subject], clock: Clock, schedule: Schedule) -> dict[int, Value]:
    """Return the parallel efficiency T(1) / (n T(n)) of each number n above 1, with T(n) the seconds of a call.

    Args:
        subjects: Subjects by number of threads, including 1; none is compiled.
        clock: Clock of the CPU.
        schedule: Schedule, as for one case.

    Raises:
        WrongResult: If a reading of the clock is not positive or not finite.
    """
    several = [threads for threads in sorted(subjects) if threads > 1]
    before = torch.get_num_threads()
    try:
        named = {str(threads): OnThreads(subjects[threads], threads) for threads in (*several, 1)}
        together = sample_together(named, clock, schedule)
    finally:
        torch.set_num_threads(before)
    return {threads: together.ratio("1", str(threads)).scaled(1 / threads) for threads in several}
