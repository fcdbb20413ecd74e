"""ResNet-18 for small images, with or without Squeeze-and-Excitation.

Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, table 1 (the 18-layer
column), section 3.3 (option B, projection shortcuts) and section 4.2 (the 3x3 stem for CIFAR-10),
https://arxiv.org/abs/1512.03385; Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", 2017, section
3.3 and figure 3, https://arxiv.org/abs/1709.01507.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnperf.errors import OptionError
from cnnperf.models.initialization import he_initialize

WIDTH = 64
"""Channels of the first stage in the paper."""

SEFactory = Callable[[int], nn.Module]
"""Function that builds a Squeeze-and-Excitation block from its number of channels, such as `SEBlock`."""


class ResNet18(nn.Module):
    """ResNet-18 for small images: 11,173,962 parameters, or 11,261,002 with Squeeze-and-Excitation.

    Work and parameters grow with the square of the width; a small width makes studies on a CPU feasible.

    Sources: He et al., 2015, table 1; Hu et al., 2017, section 3.3; see the module.
    """

    def __init__(self, se_block: SEFactory | None = None, width: int = WIDTH) -> None:
        """Build the network.

        Args:
            se_block: Builder of each block's SE block; None for a network without.
            width: Channels of the first stage, at least 1; each further stage has twice as many as the one before.

        Raises:
            OptionError: If `width` is below 1.
        """
        super().__init__()
        if width < 1:
            raise OptionError(f"a ResNet-18 of width {width} cannot be built; use at least 1 (the paper: {WIDTH})")
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stage1 = stage(width, width, 1, se_block)
        self.stage2 = stage(width, 2 * width, 2, se_block)
        self.stage3 = stage(2 * width, 4 * width, 2, se_block)
        self.stage4 = stage(4 * width, 8 * width, 2, se_block)
        self.fc = nn.Linear(8 * width, 10)
        he_initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores, N x 10 and not normalized, of images, N x 3 x H x W."""
        # Shapes at full width and 32 x 32 images.
        x = torch.relu(self.bn1(self.conv1(images)))  # 64 x 32 x 32
        x = self.stage1(x)  # 64 x 32 x 32
        x = self.stage2(x)  # 128 x 16 x 16
        x = self.stage3(x)  # 256 x 8 x 8
        x = self.stage4(x)  # 512 x 4 x 4
        x = x.mean(dim=(2, 3))
        scores: Tensor = self.fc(x)
        return scores


def stage(in_channels: int, channels: int, stride: int, se_block: SEFactory | None) -> nn.Sequential:
    """Build a stage of two blocks, from N x in_channels x H x W to N x channels x H/stride x W/stride."""
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride, se_block), BasicBlock(channels, channels, 1, se_block)
    )


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions with BatchNorm and an optional SE block.

    Sources: He et al., 2015, figure 5 left and equation 2; Hu et al., 2017, figure 3 (SE after the last
    BatchNorm and before the addition).
    """

    def __init__(self, in_channels: int, channels: int, stride: int, se_block: SEFactory | None) -> None:
        """Build the block; the stride is that of the first convolution, and `se_block` may be None."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = nn.Identity() if se_block is None else se_block(channels)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same_shape else projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x, N x in_channels x H x W, into N x channels x H/stride x W/stride, rounded up."""
        out: Tensor = torch.relu(self.bn1(self.conv1(x)))
        out = self.se(self.bn2(self.conv2(out)))
        return torch.relu(out + self.shortcut(x))


def projection(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Build a shortcut from N x in_channels x H x W to N x channels x H/stride x W/stride: 1x1 convolution, BatchNorm.

    Source: He et al., 2015, section 3.3, option B.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )
