"""Input images: seeded noise, or crops of photographs."""

from __future__ import annotations

from functools import cache

import torch

from cnnperf.errors import OptionError
from cnnperf.extras import needs_extra
from cnnperf.records.case import Case

INPUT_KINDS = ("synthetic", "photos")
CHANNELS = 3


def images_for(case: Case, kind: str, seed: int = 0) -> torch.Tensor:
    """Return the images of a case, (N, 3, H, W) float32 on the CPU, with about zero mean and unit variance.

    Args:
        case: Case with N (`batch`) and H = W (`image_size`).
        kind: `synthetic` for seeded normal noise, `photos` for random crops of the photographs in scikit-learn.
        seed: Seed of the noise or of the crops.

    Raises:
        OptionError: If the kind does not exist, or the images are larger than the photographs.
        CnnperfError: If `kind` is `photos`, and scikit-learn or Pillow is missing.
    """
    makers = {"synthetic": _noise, "photos": _crops}
    if kind not in makers:
        raise OptionError(f"unknown input {kind!r}; choose one of {', '.join(INPUT_KINDS)}")
    return makers[kind](case.batch, case.image_size, torch.Generator().manual_seed(seed))


def check_photos() -> None:
    """Check that the photographs can be read.

    Raises:
        CnnperfError: If scikit-learn or Pillow is missing.
    """
    _photographs()


def _noise(batch: int, size: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, size, size, generator=generator)


def _crops(batch: int, size: int, generator: torch.Generator) -> torch.Tensor:
    photos = _photographs()
    height, width = photos.shape[-2:]
    if size > min(height, width):
        raise OptionError(f"photos are {height} x {width} pixels; image_size {size} does not fit, use synthetic input")
    crops = []
    for _ in range(batch):
        photo = _draw(len(photos), generator)
        top = _draw(height - size + 1, generator)
        left = _draw(width - size + 1, generator)
        crops.append(photos[photo, :, top : top + size, left : left + size])
    return torch.stack(crops)


def _draw(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))


@cache
def _photographs() -> torch.Tensor:
    """Return scikit-learn's two sample photographs (China, flower), (2, 3, 427, 640), normalized per channel."""
    with needs_extra("photos", "--cnnperf-input photos"):
        from sklearn.datasets import load_sample_images

        images = load_sample_images().images  # needs Pillow
    photos = torch.stack([torch.tensor(image) for image in images]).permute(0, 3, 1, 2).float()
    over = (0, 2, 3)
    return (photos - photos.mean(over, keepdim=True)) / photos.std(over, keepdim=True)
