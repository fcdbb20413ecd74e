"""Stacks of equal blocks, with or without identity shortcuts, and equal in everything else.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, section 3.3 (plain and
residual networks) and figure 2 (the block), https://arxiv.org/abs/1512.03385. Unlike in the paper's networks,
all blocks have the same width and resolution, and the convolutions have a bias.
"""

import torch
from torch import Tensor, nn

from cnnperf.errors import OptionError
from cnnperf.models.initialization import he_initialize


class StackBlock(nn.Module):
    """Apply two 3x3 convolutions with BatchNorm, ReLU between and after, and perhaps an identity shortcut.

    Source: He et al., 2015, section 3.2, equation 1 with F = W2 relu(W1 x),
    https://arxiv.org/abs/1512.03385. It has 18 C^2 + 6 C parameters at C channels.
    """

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        """Build the block.

        Args:
            channels: C, of input and output alike.
            shortcut: Whether the input is added before the last ReLU.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Transform a feature map.

        Args:
            x: N x C x H x W.

        Returns:
            N x C x H x W.
        """
        out: Tensor = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + x if self.shortcut else out)


class Stack(nn.Module):
    """Classify images with n equal blocks between the smallest stem and head that make them a classifier.

    The stem is one 3x3 convolution with bias and a ReLU, the head a global average pool and a linear layer.
    With n blocks at C channels it has, with or without shortcuts, this many parameters:

        n (18 C^2 + 6 C)    blocks: two convolutions 9 C^2 + C and two BatchNorms 2 C each
        + 28 C              stem: 27 C + C
        + 10 C + 10         head

    that is 743,562 for ten blocks at 64 channels. Source: He et al., 2015, section 3.3,
    https://arxiv.org/abs/1512.03385.
    """

    def __init__(self, blocks: int = 10, channels: int = 64, *, shortcut: bool) -> None:
        """Build the network.

        Args:
            blocks: n, at least 1.
            channels: C, at least 1.
            shortcut: Whether each block adds its input before its last ReLU.

        Raises:
            OptionError: There are no blocks or no channels.
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
        """Score each image for each class.

        Args:
            images: N x 3 x H x W.

        Returns:
            N x 10, not normalized.
        """
        x = torch.relu(self.stem(images))
        x = self.blocks(x)
        x = x.mean(dim=(2, 3))
        scores: Tensor = self.head(x)
        return scores
