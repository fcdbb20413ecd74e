"""The contrasts of the studies: pooling, Squeeze-and-Excitation, and shortcuts at depth."""

from __future__ import annotations

from functools import partial

from torch import nn

from cnnperf.errors import OptionError
from cnnperf.models.lenet import LeNet5
from cnnperf.models.resnet import ResNet18
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.models.stacks import Stack
from cnnperf.studies.contrast import Contrast
from cnnperf.studies.training import Recipe

REDUCTION, LEAST_HIDDEN = 16, 4
"""The reduction of the paper (Hu et al., 2017), and the hidden units that it gives the narrowest block at width 64."""


def pooling(epochs: int) -> Contrast:
    """Return the contrast of average pooling (base) and max pooling in LeNet-5."""
    builds = partial(LeNet5, "average"), partial(LeNet5, "max")
    return Contrast("pooling", "lenet5_avg", "lenet5", builds, Recipe(epochs), {})


def squeeze_excitation(epochs: int, width: int) -> Contrast:
    """Return the contrast of ResNet-18 without (base) and with Squeeze-and-Excitation.

    Args:
        epochs: Epochs of training.
        width: Channels of the first stage. Below the paper's 64, blocks keep at least `LEAST_HIDDEN` hidden units.

    Raises:
        OptionError: If the width is below `LEAST_HIDDEN`.
    """
    if width < LEAST_HIDDEN:
        raise OptionError(f"--width is at least {LEAST_HIDDEN}, not {width}; the paper's is 64")
    builds = partial(ResNet18, width=width), partial(ResNet18, _se_block, width)
    names = [name if width == 64 else f"{name}_w{width}" for name in ("resnet18", "se_resnet18")]  # noqa: PLR2004 - the catalog's
    return Contrast("squeeze-excitation", names[0], names[1], builds, Recipe(epochs), {"width": width})


def depth(epochs: int, blocks: int, channels: int) -> Contrast:
    """Return the contrast of plain (base) and residual stacks, on images of 16 x 16 pixels.

    Args:
        epochs: Epochs of training.
        blocks: Blocks of two convolutions in a stack.
        channels: Channels of every block.

    Raises:
        OptionError: If `blocks` or `channels` is below 1.
    """
    if blocks < 1 or channels < 1:
        raise OptionError(f"--blocks and --channels are at least 1, not {blocks} and {channels}")
    builds = partial(Stack, blocks, channels, shortcut=False), partial(Stack, blocks, channels, shortcut=True)
    facts = {"blocks": blocks, "channels": channels}
    base, candidate = (f"{family}_stack_{blocks}x{channels}" for family in ("plain", "residual"))
    return Contrast("depth", base, candidate, builds, Recipe(epochs, image_size=16), facts)


def _se_block(channels: int) -> nn.Module:
    return SEBlock(channels, min(REDUCTION, channels // LEAST_HIDDEN))
