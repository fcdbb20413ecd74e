"""The number of classes of a network."""

from __future__ import annotations

from functools import cache

import torch

from cnnperf.errors import OptionError
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import create

SCORE_DIMENSIONS = 2  # (N, classes)


@cache
def count_classes(architecture: Architecture, image_size: int) -> int:
    """Return the number of scores per image, by a trial call if the catalog does not have it; 0 for a part.

    Raises:
        OptionError: If the network has no parameters, fails in the trial, or returns another shape than (N, classes).
    """
    if architecture.classes is not None or architecture.maps:
        return architecture.classes or 0
    model = create(architecture).eval()
    if next(model.parameters(), None) is None:
        raise OptionError(f"architecture {architecture.name} has no parameters; name a network with trainable layers")
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            output = model(images)
    except Exception as error:  # a user's network may fail in any way
        raise OptionError(
            f"architecture {architecture.name} fails on images of shape {tuple(images.shape)}: {error}; "
            "set the size with --cnnperf-axis image_size=N"
        ) from error
    if not isinstance(output, torch.Tensor) or output.dim() != SCORE_DIMENSIONS:
        actual = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise OptionError(
            f"architecture {architecture.name} must turn images (N, 3, H, W) into class scores (N, classes), "
            f"not {actual}"
        )
    return int(output.shape[1])
