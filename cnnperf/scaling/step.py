"""The training step of one process among several, as a subject to time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from cnnperf.errors import WrongResult
from cnnperf.measure.images import images_for
from cnnperf.measure.task import Task
from cnnperf.measure.workload import Network, Workload
from cnnperf.records.case import Case
from cnnperf.scaling.communicator import Group

TOLERANCE = 1e-4  # of averaged gradients: only the order of a few additions differs


class Step:
    """A training step on this process's own batch: alone, or with the mean of all gradients once it has joined."""

    def __init__(self, case: Case, rank: int) -> None:
        """Build network, images and optimizer.

        Args:
            case: What each of `world_size` processes does; its device is this process's.
            rank: Of this process: each has other images.

        Raises:
            UnsupportedCase: If the case cannot be run here.
        """
        self.case = case
        own = case.replace(world_size=1)
        self.workload = Workload(own)
        images = images_for(own, "synthetic", seed=rank).to(self.workload.images.device)
        self.workload.task = Task((images.contiguous(),), self.workload.task.target)
        self._parallel: DistributedDataParallel | None = None

    def join(self, group: Group) -> None:
        """Average gradients over a group of processes from now on; each of them has to join."""
        self._parallel = _parallel(self.workload, group)
        self.workload.network = cast(Network, self._parallel)

    def setup(self) -> None:
        """Do nothing: a step of training needs no set-up."""

    def run(self) -> None:
        """Do one step."""
        if self._parallel is not None:
            # DistributedDataParallel goes by the step before: after a silent one it leaves out the buffers.
            self._parallel.require_forward_param_sync = True
        self.workload.run()

    def relocate(self) -> None:
        """Put everything that a step touches at fresh addresses and restore its initial values."""
        self.workload.relocate()

    def run_silently(self) -> None:
        """Do one step in which gradients and buffers stay as they are in each process."""
        if self._parallel is None:
            self.workload.run()
            return
        self._parallel.require_forward_param_sync = False
        with self._parallel.no_sync():
            self.workload.run()

    def check_average(self) -> None:
        """See that every process gets the mean of all processes' gradients.

        Raises:
            WrongResult: If it does not.
        """
        expected = self._gradients(self.run_silently)
        for gradient in expected.values():
            distributed.all_reduce(gradient, group=cast(DistributedDataParallel, self._parallel).process_group)
            gradient.div_(self.case.world_size)
        found = self._gradients(self.run)
        scale = max(float(gradient.norm()) for gradient in expected.values())
        for name, gradient in found.items():
            distance = float((gradient - expected[name]).norm())
            if not distance <= TOLERANCE * max(float(expected[name].norm()), 1e-2 * scale):
                raise WrongResult(
                    f"{self.case.label()}: the gradient of {name} is {distance:.3g} away from the mean over the "
                    "processes; nothing was timed"
                )
        self.workload.reset()

    def _gradients(self, run: Callable[[], None]) -> dict[str, Tensor]:
        self.workload.reset()
        run()
        return {name: gradient.clone() for name, gradient in self.workload.gradients().items()}


class Silent:
    """The same step without communication; the difference is the time spent waiting."""

    def __init__(self, step: Step) -> None:
        """Take the step, whose memory is shared."""
        self._step = step

    def setup(self) -> None:
        """Do nothing."""

    def run(self) -> None:
        """Do one step without communication."""
        self._step.run_silently()

    def relocate(self) -> None:
        """Stay where the step is."""


def communicated_bytes(case: Case, group: Group) -> int:
    """Count the bytes that one process hands to collective operations in a step.

    That is what DistributedDataParallel puts into its buckets of gradients, counted by a hook of its own, and the
    buffers (BatchNorm's running statistics) that the first process gives to all. What crosses the wire depends on the
    algorithm; a ring moves 2 (n - 1) / n times the gradients.

    Source: https://docs.pytorch.org/docs/stable/ddp_comm_hooks.html.
    """
    workload = Workload(case.replace(world_size=1))
    network, seen = _parallel(workload, group), [0]

    # A hook's annotations must be PyTorch's own classes, not their names.
    network.register_comm_hook(None, lambda _, bucket: _counted(bucket, seen, group))
    workload.network = cast(Network, network)
    for _ in range(2):  # the buckets are laid out anew after the first step
        seen.append(0)
        workload.run()
    return seen[-1] + sum(buffer.nbytes for buffer in workload.model.buffers())


def _counted(bucket: Any, seen: list[int], group: Group) -> torch.futures.Future[Tensor]:
    seen[-1] += bucket.buffer().nbytes
    return allreduce_hook(group, bucket)


def _parallel(workload: Workload, group: Group) -> DistributedDataParallel:
    device = workload.images.device
    where: dict[str, Any] = {"device_ids": [device.index]} if device.type == "cuda" else {}
    return DistributedDataParallel(workload.model, process_group=group, **where)
