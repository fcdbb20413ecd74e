"""Real images that a package ships: scikit-learn's handwritten digits, split by a seed.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, of which scikit-learn ships the 1,797 test images of 8 x 8 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnperf.extras import needs_extra

SHARES = {"training": 0.6, "validation": 0.2, "test": 0.2}


@dataclass(frozen=True)
class Part:
    """Images, (N, 3, H, W) float32, and their classes, (N,) int64."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.classes)

    def to(self, device: str) -> Part:
        """Return it on a device."""
        return Part(self.images.to(device), self.classes.to(device))


@dataclass(frozen=True)
class Split:
    """Three parts without an image in common.

    Attributes:
        training: What a network is trained on.
        validation: What is looked at during training.
        test: What is looked at once, at the end.
    """

    training: Part
    validation: Part
    test: Part

    def to(self, device: str) -> Split:
        """Return it on a device."""
        return Split(self.training.to(device), self.validation.to(device), self.test.to(device))


def split_digits(seed: int, image_size: int = 32) -> Split:
    """Return the digits split at random by a seed, 60 : 20 : 20, scaled bilinearly and normalised by the training part.

    Args:
        seed: Of the split.
        image_size: Height and width in pixels.

    Raises:
        CnnperfError: If scikit-learn is missing.
    """
    images, classes = _digits()
    images = F.interpolate(images, size=(image_size, image_size), mode="bilinear", align_corners=False)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    ends = [int(SHARES["training"] * len(order)), int((SHARES["training"] + SHARES["validation"]) * len(order))]
    training = images[order[: ends[0]]]
    images = ((images - training.mean()) / training.std()).expand(-1, 3, -1, -1).contiguous()
    return Split(*(Part(images[places], classes[places]) for places in order.tensor_split(ends)))


def check_digits() -> None:
    """Check that the images can be read.

    Raises:
        CnnperfError: If scikit-learn is missing.
    """
    _digits()


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """Return all images, (1797, 1, 8, 8), and their classes."""
    with needs_extra("study", "a study of digits"):
        from sklearn.datasets import load_digits
    found = load_digits()
    return torch.tensor(found.images, dtype=torch.float32)[:, None], torch.tensor(found.target, dtype=torch.int64)
