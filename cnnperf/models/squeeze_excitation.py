"""The Squeeze-and-Excitation block.

Source: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", 2017, section 3,
    https://arxiv.org/abs/1709.01507.
"""

import torch
from torch import Tensor, nn

from cnnperf.errors import OptionError


class SEBlock(nn.Module):
    """Scale each channel by a gate computed from the means of all channels.

    Source: Hu et al., 2017, section 3, equations 2 to 4, https://arxiv.org/abs/1709.01507; by default without biases,
    as equation 3 is written. It has 2 C floor(C / r) parameters at C channels and reduction r, and C + floor(C / r)
    more with biases.
    """

    def __init__(self, channels: int, reduction: int = 16, *, bias: bool = False) -> None:
        """Build the block.

        Args:
            channels: C, of input and output alike.
            reduction: r, the ratio of C to the hidden width; the paper's default is 16.
            bias: Whether both products have a bias, as in timm's networks.

        Raises:
            OptionError: The reduction leaves no hidden unit or is not positive.
        """
        super().__init__()
        if not 1 <= reduction <= channels:
            raise OptionError(
                f"reduction {reduction} is impossible at {channels} channels; it must be from 1 to {channels}"
            )
        self.reduce = nn.Linear(channels, channels // reduction, bias=bias)
        self.expand = nn.Linear(channels // reduction, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a feature map.

        Args:
            x: N x C x H x W.

        Returns:
            N x C x H x W.
        """
        squeezed = x.mean(dim=(2, 3))  # equation 2, N x C
        gate = torch.sigmoid(self.expand(torch.relu(self.reduce(squeezed))))  # equation 3, N x C
        return x * gate[:, :, None, None]  # equation 4
