"""The training step of one process among several, as a subject of sampling."""

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

TOLERANCE = 1e-4  # relative error of averaged gradients: only the order of a few additions differs


class Step:
    """A training step on this process's own batch; after `join`, with gradients averaged over a group of processes."""

    def __init__(self, case: Case, rank: int) -> None:
        """Build network, images and optimizer.

        Args:
            case: Case of each of `world_size` processes, on the device of this process.
            rank: Rank of this process, and the seed of its images.

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
        """Average gradients over a group of processes from now on; all of them have to join."""
        self._parallel = _parallel(self.workload, group)
        self.workload.network = cast(Network, self._parallel)

    def setup(self) -> None:
        """Do nothing: a training step needs no set-up."""

    def run(self) -> None:
        """Run one step."""
        if self._parallel is not None:
            # DistributedDataParallel keeps the setting of the previous step: after one without communication it would
            # not synchronize the buffers.
            self._parallel.require_forward_param_sync = True
        self.workload.run()

    def relocate(self) -> None:
        """Move all tensors of a step to fresh addresses, with their initial values."""
        self.workload.relocate()

    def run_silently(self) -> None:
        """Run one step without communication of gradients and buffers."""
        if self._parallel is None:
            self.workload.run()
            return
        self._parallel.require_forward_param_sync = False
        with self._parallel.no_sync():
            self.workload.run()

    def check_average(self) -> None:
        """Check that this process gets the mean of the gradients of all processes.

        Raises:
            WrongResult: If a gradient differs by more than `TOLERANCE`.
        """
        expected = self._gradients(self.run_silently)
        for gradient in expected.values():
            distributed.all_reduce(gradient, group=cast(DistributedDataParallel, self._parallel).process_group)
            gradient.div_(self.case.world_size)
        scale = max(float(gradient.norm()) for gradient in expected.values())
        for name, gradient in self._gradients(self.run).items():
            distance = float((gradient - expected[name]).norm())
            if not distance <= TOLERANCE * max(float(expected[name].norm()), 1e-2 * scale):
                raise WrongResult(
                    f"{self.case.label()}: the gradient of {name} differs by {distance:.3g} from the mean over the "
                    "processes; nothing was timed"
                )
        self.workload.reset()

    def _gradients(self, run: Callable[[], None]) -> dict[str, Tensor]:
        self.workload.reset()
        run()
        return {name: gradient.clone() for name, gradient in self.workload.gradients().items()}


class Silent:
    """The same step without communication; the difference in time is spent waiting."""

    def __init__(self, step: Step) -> None:
        """Wrap a step, with which the tensors are shared."""
        self._step = step

    def setup(self) -> None:
        """Do nothing."""

    def run(self) -> None:
        """Run one step without communication."""
        self._step.run_silently()

    def relocate(self) -> None:
        """Do nothing: the step relocates the shared tensors."""


def communicated_bytes(case: Case, group: Group) -> int:
    """Count the bytes that one process passes to collective operations in a step.

    They are the gradients in the buckets of DistributedDataParallel, counted by a communication hook, and the buffers
    (BatchNorm's running statistics) that the first process broadcasts. The bytes on the wire depend on the algorithm;
    a ring moves 2 (n - 1) / n times the gradients.

    Source: https://docs.pytorch.org/docs/stable/ddp_comm_hooks.html.
    """
    workload = Workload(case.replace(world_size=1))
    network, sizes = _parallel(workload, group), list[int]()

    # No annotations: those of a hook must be PyTorch's classes, not strings.
    network.register_comm_hook(None, lambda _, bucket: _counted(bucket, sizes, group))
    workload.network = cast(Network, network)
    for _ in range(2):  # DistributedDataParallel rebuilds its buckets after the first step
        sizes.clear()
        workload.run()
    return sum(sizes) + sum(buffer.nbytes for buffer in workload.model.buffers())


def _counted(bucket: Any, sizes: list[int], group: Group) -> torch.futures.Future[Tensor]:
    sizes.append(bucket.buffer().nbytes)
    return allreduce_hook(group, bucket)


def _parallel(workload: Workload, group: Group) -> DistributedDataParallel:
    device = workload.images.device
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(workload.model, device_ids=devices, process_group=group)
