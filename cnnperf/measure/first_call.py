"""The first call of a network that a user brings, before its state is noted."""

from __future__ import annotations

import torch
from torch import nn

from cnnperf.measure.outputs import main_tensor
from cnnperf.measure.task import Task
from cnnperf.models.modes import preserved_modes

INPUT_CHANGED = "input changed"
LOSS = "loss"


def first_call(model: nn.Module, task: Task, *, trains: bool) -> dict[str, str]:
    """Call a network once, so that buffers and lazy parameters get their shapes, and return what was seen.

    Args:
        model: Network in the mode of its phase.
        task: Inputs on the network's device, and target.
        trains: Whether the phase trains.

    Returns:
        Texts by the kind of finding: `input changed` if the call writes to its inputs, and `loss` if a phase that
        trains has no class scores to train on.

    Raises:
        TypeError: If the output has no floating-point tensor.
    """
    copied = task.copy(trains=False)
    with preserved_modes(), torch.no_grad():
        output = copied.call(model)
    seen = {}
    if not all(torch.equal(*pair) for pair in zip(copied.inputs, task.inputs, strict=True)):
        seen[INPUT_CHANGED] = "the network writes to its input, which is restored before each round, untimed"
    main = main_tensor(output)
    if trains and task.loss is None and not (output is main and task.scores(main)):
        what = "cross-entropy" if task.scores(main) else "mean square"
        shape = " x ".join(map(str, main.shape)) or "one number"
        seen[LOSS] = f"the loss is the {what} of the first floating-point tensor ({shape}) that the network returns"
    return seen
