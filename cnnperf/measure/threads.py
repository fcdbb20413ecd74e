"""The efficiency of CPU threads, from rounds with one and with several that ran side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cnnperf.measure.clock import Clock
from cnnperf.measure.paired import sample_together
from cnnperf.measure.sampler import Schedule, Subject
from cnnperf.records.metrics import Value

WAKING = 1 << 20  # numbers: enough for PyTorch to share them out, so that the threads are there before the clock runs


class OnThreads:
    """A subject that runs on a number of threads."""

    def __init__(self, subject: Subject, threads: int) -> None:
        """Take the subject, which is not compiled: generated code has its own number of threads."""
        self._subject, self._threads = subject, threads
        self._woken = torch.zeros(WAKING)

    def setup(self) -> None:
        """Set the number of threads and wake them, then do the subject's own set-up."""
        torch.set_num_threads(self._threads)
        self._woken.add_(1)
        self._subject.setup()

    def run(self) -> None:
        """Do the timed work."""
        self._subject.run()

    def relocate(self) -> None:
        """Put the subject at fresh addresses."""
        self._subject.relocate()


def thread_efficiencies(subjects: Mapping[int, Subject], clock: Clock, schedule: Schedule) -> dict[int, Value]:
    """Return throughput over that of one thread times the threads, T(1) / (n T(n)) with T the seconds of a call.

    Args:
        subjects: By number of threads, that of one among them; none is compiled.
        clock: Of the CPU.
        schedule: As for one case.

    Raises:
        WrongResult: If the clock jumped.
    """
    several = [threads for threads in sorted(subjects) if threads > 1]
    before = torch.get_num_threads()
    try:
        named = {str(threads): OnThreads(subjects[threads], threads) for threads in (*several, 1)}
        together = sample_together(named, clock, schedule)
    finally:
        torch.set_num_threads(before)
    return {threads: together.ratio("1", str(threads)).scaled(1 / threads) for threads in several}
