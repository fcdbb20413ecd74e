"""Stacks of equal blocks that differ only in having identity shortcuts or not.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, section 3.3 (plain and
residual networks) and figure 2 (the block), https://arxiv.org/abs/1512.03385. Unlike in the paper's networks,
all blocks have the same width and resolution, and the convolutions have a bias.
"""

import torch
from torch import Tensor, nn

from cnnperf.errors import OptionError
from cnnperf.models.initialization import he_initialize


class Stack(nn.Module):
    """Classifier of n equal blocks between a minimal stem and head.

    The stem is a 3x3 convolution with bias and a ReLU; the head is global average pooling and a linear layer.
    The number of parameters with n blocks at C channels does not depend on the shortcuts:

        n (18 C^2 + 6 C)    blocks: two convolutions of 9 C^2 + C and two BatchNorms of 2 C
        + 28 C              stem: 27 C + C
        + 10 C + 10         head

    Ten blocks at 64 channels have 743,562. Source: He et al., 2015, section 3.3,
    https://arxiv.org/abs/1512.03385.
    """

    def __init__(self, blocks: int = 10, channels: int = 64, *, shortcut: bool) -> None:
        """Build the network.

        Args:
            blocks: n, at least 1.
            channels: C, at least 1.
            shortcut: Whether each block adds its input before its last ReLU.

        Raises:
            OptionError: If `blocks` or `channels` is below 1.
        """
        super().__init__()
        if blocks < 1 or channels < 1:
            raise OptionError(
                f"a stack of {blocks} blocks at {channels} channels cannot be built; both must be at least 1"
            )
        self.stem = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.blocks = nn.Sequential(*(StackBlock(channels, shortcut=shortcut) for _ in range(blocks)))
        self.head = nn.Linear(channels, 10)
        he_initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores, N x 10 and not normalized, of images, N x 3 x H x W."""
        x = torch.relu(self.stem(images))
        x = self.blocks(x)
        x = x.mean(dim=(2, 3))
        scores: Tensor = self.head(x)
        return scores


class StackBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and ReLU, and an optional identity shortcut.

    At C channels it has 18 C^2 + 6 C parameters. Source: He et al., 2015, section 3.2, equation 1 with
    F = W2 relu(W1 x), https://arxiv.org/abs/1512.03385.
    """

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        """Build the block of C `channels`; with `shortcut`, the input is added before the last ReLU."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Transform a feature map x, N x C x H x W, into one of the same shape."""
        out: Tensor = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + x if self.shortcut else out)
