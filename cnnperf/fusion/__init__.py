"""Fused forms of Squeeze-and-Excitation.

Importing this package adds its networks to `cnnperf.models.catalog.CATALOG`.
"""

from cnnperf.fusion.architectures import PREFIX, from_fusion
from cnnperf.fusion.fuse import Fused, fuse, unfuse
from cnnperf.fusion.se_block import FusedSEBlock
from cnnperf.fusion.tail import fused_tail, textbook_tail
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import SENET, register, register_prefix
from cnnperf.models.resnet import WIDTH, ResNet18
from cnnperf.models.squeeze_excitation import SEBlock


def se_resnet18_fused(width: int = WIDTH) -> ResNet18:
    """Build `se_resnet18` with `width` channels in its first stage, and fuse the tail of each block."""
    model = ResNet18(SEBlock, width)
    fuse(model, inplace=True)
    return model


ARCHITECTURES = (
    Architecture(
        name="se_resnet18_fused",
        build=se_resnet18_fused,
        summary="se_resnet18 with the tail of each block (BatchNorm, SE, shortcut, ReLU) fused",
        source=SENET,
        build_at=se_resnet18_fused,
        reference="se_resnet18",
    ),
)
"""The networks with fused blocks, in the order of reports."""

for _architecture in ARCHITECTURES:
    register(_architecture)
register_prefix(PREFIX, from_fusion)

__all__ = ["ARCHITECTURES", "Fused", "FusedSEBlock", "fuse", "fused_tail", "textbook_tail", "unfuse"]
