"""The processes that measure together: how they meet, tell each other numbers, and notice that one is lost."""

from __future__ import annotations

import os
import platform
import signal
import time
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from torch import distributed
from torch.distributed.rendezvous import rendezvous

from cnnperf.scaling.arguments import Place

GRACE = 5.0  # seconds for every process to say that it has seen the end
LOST, ENDED = "lost", "ended"

T = TypeVar("T")
Group = Any  # distributed.ProcessGroup, which a build of PyTorch may lack


class Crew(Protocol):
    """Be one of the processes that measure together."""

    @property
    def rank(self) -> int:
        """Return which one this is, from 0."""

    @property
    def size(self) -> int:
        """Return how many there are."""

    def meet(self) -> None:
        """Wait until every process is here."""

    def gather(self, own: T) -> list[T]:
        """Return what every process gives, by rank, in every process."""

    def share(self, value: T) -> T:
        """Return what the first process gives, in every process."""


class Joined:
    """Be a process of a run that torchrun started.

    What is measured crosses by gloo on the CPU and NCCL on CUDA; meeting and telling is done by gloo in any case.
    """

    def __init__(self, place: Place, device: str, timeout: float) -> None:
        """Join the others.

        Raises:
            RuntimeError: If they cannot be reached within the timeout, which is in seconds.
        """
        self.rank, self.size = place.rank, place.size
        waiting = timedelta(seconds=timeout)
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        self.backend = "nccl" if device == "cuda" else "gloo"
        self._store, _, _ = next(iter(rendezvous("env://", timeout=waiting)))
        store = distributed.distributed_c10d.PrefixStore("cnnperf", self._store)
        distributed.init_process_group(backend, timeout=waiting, store=store, rank=place.rank, world_size=place.size)
        self._waiting = waiting
        self._control = distributed.new_group(backend="gloo", timeout=waiting)
        self.people: list[tuple[str, int]] = self.gather((platform.node(), os.getpid()))

    def meet(self) -> None:
        """Wait until every process is here."""
        distributed.barrier(group=self._control)

    def gather(self, own: T) -> list[T]:
        """Return what every process gives, by rank, in every process."""
        everyone: list[Any] = [None] * self.size
        distributed.all_gather_object(everyone, own, group=self._control)
        return everyone

    def share(self, value: T) -> T:
        """Return what the first process gives, in every process."""
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def first(self, count: int) -> Group:
        """Return the group of the first processes, so many; every process has to ask for it."""
        return distributed.new_group(list(range(count)), timeout=self._waiting)  # its own default is half an hour

    def leave(self) -> None:
        """Part from the others in peace."""
        distributed.destroy_process_group()

    def take_leave(self, reason: str) -> str:
        """Tell the others that this process ends before its time, and end those that do not answer.

        Args:
            reason: `LOST` where another process was missed, `ENDED` where this one has told why.

        Returns:
            What there is to say, by the first process that is left, about those that are not; else nothing.
        """
        self._store.set(f"left/{self.rank}", reason)
        deadline = time.monotonic() + GRACE
        missing = self._missing()
        while any(self._may_answer(rank) for rank in missing) and time.monotonic() < deadline:
            time.sleep(0.1)
            missing = self._missing()
        left = [rank for rank in range(self.size) if rank not in missing]
        if self.rank != left[0]:
            return ""
        if not missing:
            told = any(self._store.get(f"left/{rank}") == ENDED.encode() for rank in left)
            return "" if told else "the connection between the processes broke, though all of them live"
        return "; ".join(self._end(rank) for rank in missing)

    def _missing(self) -> list[int]:
        return [rank for rank in range(self.size) if not self._store.check([f"left/{rank}"])]

    def _may_answer(self, rank: int) -> bool:
        """Tell whether a process lives, as far as that can be seen from here."""
        host, pid = self.people[rank]
        if host != platform.node():
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _end(self, rank: int) -> str:
        """End a process of this machine that hangs, and return what is known of it."""
        host, pid = self.people[rank]
        if host != platform.node():
            return f"process {rank} ({pid} on {host}) does not answer"
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return f"process {rank} (pid {pid}) died"
        return f"process {rank} (pid {pid}) did not answer and was ended"
