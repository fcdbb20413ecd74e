"""Several sets of inputs for one workload, so that no call finds its feature maps in a GPU's cache.

Together the sets are larger than the L2 cache. Each keeps the output and the gradients of its last call, so that the
next call writes them elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from cnnperf.errors import WrongResult
from cnnperf.measure.correctness import TOLERANCE
from cnnperf.measure.graph_replay import Capture, ReplayClock, Replayed, capture, sets_for
from cnnperf.measure.memory import tensor_bytes
from cnnperf.measure.task import Task
from cnnperf.measure.workload import Workload


@dataclass
class Rotation:
    """Workload whose calls take sets of inputs in turn.

    Attributes:
        workload: Workload of the case.
        sets: Number of sets.
    """

    workload: Workload
    sets: int
    _tasks: list[Task] = field(init=False)
    _outputs: list[torch.Tensor | None] = field(init=False)
    _present: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Allocate the other sets."""
        task = self.workload.task
        self._tasks = [task, *(task.copy(self.workload.case.trains) for _ in range(self.sets - 1))]
        self._outputs = [None] * self.sets

    def setup(self) -> None:
        """Drop what the last call on the present set left."""
        self._outputs[self._present] = None
        self.workload.release()
        self.workload.setup()

    def run(self) -> None:
        """Run one call on the present set."""
        self.workload.keep_output = True
        self.workload.run()
        self.workload.keep_output = False
        output = self.workload.output
        self._outputs[self._present] = None if output is None else output.detach()
        self.workload.output = None

    def turn(self) -> None:
        """Go on to the next set."""
        self._present = (self._present + 1) % self.sets
        self.workload.task = self._tasks[self._present]

    def results(self) -> list[torch.Tensor]:
        """Return what the last call on the first set left: the output, and in training the gradients of the maps."""
        left = (self._outputs[0], *(tensor.grad for tensor in self._tasks[0].inputs))
        return [tensor for tensor in left if tensor is not None]


def replayed(workload: Workload, make: Capture = capture) -> Replayed:
    """Return the calls of a part as replays of a CUDA graph over several sets of inputs.

    Args:
        workload: Workload of a part on a GPU, whose results are correct.
        make: Captures a function; tests pass a scripted one.

    Raises:
        UnsupportedCase: If the calls cannot be captured.
        WrongResult: If a replay writes something else than a call.
    """
    device, name = workload.images.device, workload.case.label()
    moved = tensor_bytes(workload.task.inputs) + tensor_bytes(
        [workload.images]
    )  # the output is as large as the first map
    sets = sets_for(moved, torch.cuda.get_device_properties(device).L2_cache_size)
    rotation = Rotation(workload, sets)
    rotation.setup()
    rotation.run()
    expected = [tensor.clone() for tensor in rotation.results()]
    with torch.cuda.device(device):
        calls = Replayed(name, rotation, sets, ReplayClock(device), make)
    for tensor in rotation.results():
        tensor.fill_(math.nan)
    calls.run()
    for tensor, right in zip(rotation.results(), expected, strict=True):
        error = float((tensor.double() - right.double()).norm() / right.double().norm())
        if not error <= TOLERANCE[workload.case.precision]:  # so that NaN is wrong too
            raise WrongResult(
                f"{name}: a replay is {error:.2g} of its norm away from a call, more than "
                f"{TOLERANCE[workload.case.precision]:.2g}; nothing was timed"
            )
    return calls
