"""Real images without a download: scikit-learn's handwritten digits, split by a seed.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49. scikit-learn ships its 1,797 test images of 8 x 8 pixels.
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
    """Images and their classes.

    Attributes:
        images: (N, 3, H, W), float32.
        classes: (N,), int64, from 0 to 9.
    """

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.classes)

    def to(self, device: str) -> Part:
        """Return a copy on a device."""
        return Part(self.images.to(device), self.classes.to(device))


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the images.

    Attributes:
        training: Images to train on.
        validation: Images for the accuracy during training.
        test: Images for the accuracy at the end; used once.
    """

    training: Part
    validation: Part
    test: Part

    def to(self, device: str) -> Split:
        """Return a copy on a device."""
        return Split(self.training.to(device), self.validation.to(device), self.test.to(device))


def split_digits(seed: int, image_size: int = 32) -> Split:
    """Return the digits, split at random 60 : 20 : 20.

    Images are scaled bilinearly, and normalised by mean and standard deviation of the training part.

    Args:
        seed: Seed of the split.
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
    return Split(*(Part(images[indices], classes[indices]) for indices in order.tensor_split(ends)))


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
    digits = load_digits()
    return torch.tensor(digits.images, dtype=torch.float32)[:, None], torch.tensor(digits.target, dtype=torch.int64)
