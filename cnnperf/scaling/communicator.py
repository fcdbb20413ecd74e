"""Communication between the processes that measure together."""

from __future__ import annotations

import os
import platform
from datetime import timedelta
from typing import Any, TypeVar

from torch import distributed
from torch.distributed.rendezvous import rendezvous

from cnnperf.scaling.arguments import Place
from cnnperf.scaling.monitor import Peer, StoreHeartbeats

T = TypeVar("T")
Group = Any  # distributed.ProcessGroup, which some builds of PyTorch lack


class Communicator:
    """Connection of a process that torchrun started to the others that measure with it.

    Measured communication uses gloo on the CPU and NCCL on CUDA. `barrier`, `all_gather` and `broadcast` always use
    gloo.

    Attributes:
        rank: Rank of this process, from 0.
        size: Number of processes.
        backend: `gloo` or `nccl`, for measured communication.
        peers: Host and process id of each process, by rank.
    """

    def __init__(self, place: Place, device: str, timeout: float) -> None:
        """Connect to the other processes.

        Args:
            place: Place of this process.
            device: `cpu` or `cuda`.
            timeout: Seconds to wait for another process, now and in every call.

        Raises:
            RuntimeError: If the others cannot be reached within the timeout.
        """
        self.rank, self.size, self.backend = place.rank, place.size, "nccl" if device == "cuda" else "gloo"
        self._timeout = timedelta(seconds=timeout)
        self._store, _, _ = next(iter(rendezvous("env://", timeout=self._timeout)))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            timeout=self._timeout,
            store=distributed.distributed_c10d.PrefixStore("cnnperf", self._store),
            rank=place.rank,
            world_size=place.size,
        )
        self._control = distributed.new_group(backend="gloo", timeout=self._timeout)
        self.peers: list[Peer] = self.all_gather((platform.node(), os.getpid()))

    def barrier(self) -> None:
        """Wait until every process has called this."""
        distributed.barrier(group=self._control)

    def all_gather(self, own: T) -> list[T]:
        """Return the values that all processes pass, by rank; every process has to call it."""
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, own, group=self._control)
        return values

    def broadcast(self, value: T) -> T:
        """Return the value that the first process passes; every process has to call it."""
        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self._control)
        return values[0]

    def subgroup(self, count: int) -> Group:
        """Return the group of the first `count` processes; every process has to call it."""
        # Without a timeout the group would have PyTorch's default of half an hour.
        return distributed.new_group(list(range(count)), timeout=self._timeout)

    def heartbeats(self) -> StoreHeartbeats:
        """Return the heartbeats of all processes, over a separate connection."""
        return StoreHeartbeats(self._store.clone(), self.size)

    def close(self) -> None:
        """Destroy the process group."""
        distributed.destroy_process_group()
