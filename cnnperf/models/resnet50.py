"""ResNet-50 for images of 224 x 224 pixels and 1000 classes, with or without Squeeze-and-Excitation.

Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, table 1 (the 50-layer column) and
figure 5 right (the bottleneck), https://arxiv.org/abs/1512.03385; Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation
Networks", 2017, table 1 (SE-ResNet-50), https://arxiv.org/abs/1709.01507. The 3x3 convolution has the stride of a
stage, as in torchvision's "ResNet V1.5"; in the paper the 1x1 convolution before it does:
https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.resnet50.html.
"""

from functools import partial

import torch
from torch import Tensor, nn

from cnnperf.models.initialization import he_initialize
from cnnperf.models.resnet import WIDTH, SEFactory, projection
from cnnperf.models.squeeze_excitation import SEBlock

EXPANSION = 4
"""Ratio of a bottleneck's output channels to those of its 3x3 convolution (He et al., table 1)."""

CLASSES = 1000
"""Number of ImageNet classes."""

DEPTHS = (3, 4, 6, 3)
"""Number of bottlenecks in each stage (He et al., table 1)."""


class ResNet50(nn.Module):
    """ResNet-50: 25,557,032 parameters, or 28,088,024 with Squeeze-and-Excitation as `se_resnet50` has it.

    Sources: He et al., 2015, table 1; Hu et al., 2017, table 1; see the module.
    """

    def __init__(self, se_block: SEFactory | None = None) -> None:
        """Build the network; `se_block` builds each block's SE block, None omits them."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stage1 = stage(WIDTH, WIDTH, 1, DEPTHS[0], se_block)
        self.stage2 = stage(EXPANSION * WIDTH, 2 * WIDTH, 2, DEPTHS[1], se_block)
        self.stage3 = stage(EXPANSION * 2 * WIDTH, 4 * WIDTH, 2, DEPTHS[2], se_block)
        self.stage4 = stage(EXPANSION * 4 * WIDTH, 8 * WIDTH, 2, DEPTHS[3], se_block)
        self.fc = nn.Linear(EXPANSION * 8 * WIDTH, CLASSES)
        he_initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores, N x 1000 and not normalized, of images, N x 3 x H x W."""
        # Shapes at 224 x 224 images.
        x = torch.relu(self.bn1(self.conv1(images)))  # 64 x 112 x 112
        x = self.pool(x)  # 64 x 56 x 56
        x = self.stage1(x)  # 256 x 56 x 56
        x = self.stage2(x)  # 512 x 28 x 28
        x = self.stage3(x)  # 1024 x 14 x 14
        x = self.stage4(x)  # 2048 x 7 x 7
        x = x.mean(dim=(2, 3))
        scores: Tensor = self.fc(x)
        return scores


def resnet50() -> ResNet50:
    """Build ResNet-50, architecture `cnnperf.models.resnet50:resnet50`."""
    return ResNet50()


def se_resnet50() -> ResNet50:
    """Build SE-ResNet-50, architecture `cnnperf.models.resnet50:se_resnet50`.

    Both linear layers of each SE block have a bias, as in timm's seresnet50, which has as many parameters:
    https://github.com/huggingface/pytorch-image-models/blob/main/timm/layers/squeeze_excite.py.
    """
    return ResNet50(partial(SEBlock, bias=True))


def stage(in_channels: int, width: int, stride: int, depth: int, se_block: SEFactory | None) -> nn.Sequential:
    """Build `depth` bottlenecks, from N x in_channels x H x W to N x 4 width x H/stride x W/stride."""
    blocks = [Bottleneck(in_channels, width, stride, se_block)]
    blocks += [Bottleneck(EXPANSION * width, width, 1, se_block) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class Bottleneck(nn.Module):
    """Residual block of a 1x1, a 3x3 and a 1x1 convolution with BatchNorm and an optional SE block.

    Sources: He et al., 2015, figure 5 right; Hu et al., 2017, figure 3 (SE after the last BatchNorm and before the
    addition).
    """

    def __init__(self, in_channels: int, width: int, stride: int, se_block: SEFactory | None) -> None:
        """Build the block; width and stride are those of the 3x3 convolution, and `se_block` may be None."""
        super().__init__()
        channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.se = nn.Identity() if se_block is None else se_block(channels)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same_shape else projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x, N x in_channels x H x W, into N x 4 width x H/stride x W/stride, rounded up."""
        out: Tensor = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        return torch.relu(out + self.shortcut(x))
