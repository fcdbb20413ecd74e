"""Communication between the processes that measure together."""

from __future__ import annotations

import os
import platform
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from torch import distributed
from torch.distributed.rendezvous import rendezvous

from cnnperf.scaling.arguments import Place
from cnnperf.scaling.monitor import Peer

T = TypeVar("T")
Group = Any  # distributed.ProcessGroup, which a build of PyTorch may lack


class Communicator(Protocol):
    """One of the processes that measure together."""

    @property
    def rank(self) -> int:
        """Rank of this process, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def barrier(self) -> None:
        """Wait until every process has called this."""

    def all_gather(self, own: T) -> list[T]:
        """Return what every process gives, by rank, in every process."""

    def broadcast(self, value: T) -> T:
        """Return what the first process gives, in every process."""


class TorchrunCommunicator:
    """One of the processes that torchrun started.

    What is measured crosses by gloo on the CPU and NCCL on CUDA; meeting and telling is done by gloo in any case.
    """

    def __init__(self, place: Place, device: str, timeout: float) -> None:
        """Join the others.

        Raises:
            RuntimeError: If they cannot be reached within the timeout, which is in seconds.
        """
        self.rank, self.size, self.backend = place.rank, place.size, "nccl" if device == "cuda" else "gloo"
        self._waiting = timedelta(seconds=timeout)
        self._store, _, _ = next(iter(rendezvous("env://", timeout=self._waiting)))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            timeout=self._waiting,
            store=distributed.distributed_c10d.PrefixStore("cnnperf", self._store),
            rank=place.rank,
            world_size=place.size,
        )
        self._control = distributed.new_group(backend="gloo", timeout=self._waiting)
        self.peers: list[Peer] = self.all_gather((platform.node(), os.getpid()))

    def barrier(self) -> None:
        """Wait until every process has called this."""
        distributed.barrier(group=self._control)

    def all_gather(self, own: T) -> list[T]:
        """Return what every process gives, by rank, in every process."""
        everyone: list[Any] = [None] * self.size
        distributed.all_gather_object(everyone, own, group=self._control)
        return everyone

    def broadcast(self, value: T) -> T:
        """Return what the first process gives, in every process."""
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def subgroup(self, count: int) -> Group:
        """Return the group of the first processes, so many; every process has to ask for it."""
        # A timeout of its own, or it would be half an hour.
        return distributed.new_group(list(range(count)), timeout=self._waiting)

    def signs(self) -> StoreHeartbeats:
        """Return the signs of life of all processes, by a connection of their own."""
        return StoreHeartbeats(self._store.clone(), self.size)

    def leave(self) -> None:
        """Destroy the process group."""
        distributed.destroy_process_group()


class StoreHeartbeats:
    """Heartbeats of all processes in the store that torchrun keeps."""

    def __init__(self, store: Any, size: int) -> None:
        """Take the store and the number of processes."""
        self._store, self._keys = store, [f"cnnperf/sign/{rank}" for rank in range(size)]

    def leave(self, rank: int, sign: str) -> None:
        """Leave a sign for the others."""
        self._store.set(self._keys[rank], sign)

    def read(self) -> list[str]:
        """Return the last sign of each process, each of which has left one."""
        return [sign.decode() for sign in self._store.multi_get(self._keys)]
