"""The number of classes of a network, found by a trial call before anything is measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from cnnperf.errors import OptionError
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import create
from cnnperf.models.initialization import seeded
from cnnperf.models.modes import preserved_modes
from cnnperf.models.subject import Subject

SCORE_DIMENSIONS = 2  # (N, classes)
TRIAL_BATCH = 2


@cache
def count_classes(architecture: Architecture, image_size: int) -> int:
    """Return the number of scores per image, by a trial call if the catalog does not have it.

    Returns:
        The number; 0 for a part, and for a network whose output is no tensor of shape (N, classes).

    Raises:
        OptionError: If the network has no parameters, or fails in the trial.
    """
    if architecture.classes is not None or architecture.maps:
        return architecture.classes or 0
    if architecture.subject:
        _try_subject(architecture, architecture.subject)
        return 0
    model = create(architecture).eval()
    if next(model.parameters(), None) is None:
        raise OptionError(f"architecture {architecture.name} has no parameters; name a network with trainable layers")
    shape = (TRIAL_BATCH, 3, image_size, image_size)
    images = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    try:
        with preserved_modes(), torch.no_grad():
            output = model(images)
    except Exception as error:  # a user's network may fail in any way
        raise OptionError(
            f"architecture {architecture.name} fails on images of shape {shape}: {error}; "
            "set the size with --cnnperf-axis image_size=N"
        ) from error
    if not isinstance(output, torch.Tensor) or output.dim() != SCORE_DIMENSIONS or len(output) != TRIAL_BATCH:
        return 0
    return int(output.shape[1])


def _try_subject(architecture: Architecture, build: Callable[[], Subject]) -> None:
    """Call a network once with its own inputs; raise OptionError if that fails."""
    with preserved_modes(), seeded(0):
        subject = build()
    args, kwargs = subject.arguments()
    try:
        with preserved_modes(), torch.no_grad():
            subject.model.eval()(*args, **kwargs)
    except Exception as error:  # a user's network may fail in any way
        raise OptionError(f"architecture {architecture.name} fails on the inputs of its Subject: {error}") from error
