"""The Squeeze-and-Excitation block.

Source: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", 2017, section 3,
    https://arxiv.org/abs/1709.01507.
"""

import torch
from torch import Tensor, nn

from cnnperf.errors import OptionError


class SEBlock(nn.Module):
    """Gate that scales each channel by a function of the means of all channels.

    Source: Hu et al., 2017, section 3, equations 2 to 4, https://arxiv.org/abs/1709.01507. There are no biases by
    default, as in equation 3. At C channels and reduction r there are 2 C floor(C / r) parameters; biases add
    C + floor(C / r).
    """

    def __init__(self, channels: int, reduction: int = 16, *, bias: bool = False) -> None:
        """Build the block.

        Args:
            channels: C, the channels of input and output.
            reduction: r, the ratio of C to the hidden width; 16 by default in the paper.
            bias: Whether both linear layers have a bias, as in timm's networks.

        Raises:
            OptionError: If `reduction` is not from 1 to `channels`.
        """
        super().__init__()
        if not 1 <= reduction <= channels:
            raise OptionError(
                f"an SE block of {channels} channels cannot have reduction {reduction}; use one from 1 to {channels}"
            )
        self.reduce = nn.Linear(channels, channels // reduction, bias=bias)
        self.expand = nn.Linear(channels // reduction, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Scale a feature map x, N x C x H x W, by its gate; return the same shape."""
        squeezed = x.mean(dim=(2, 3))  # equation 2, N x C
        gate = torch.sigmoid(self.expand(torch.relu(self.reduce(squeezed))))  # equation 3, N x C
        return x * gate[:, :, None, None]  # equation 4
