"""Hold the fused forms of Squeeze-and-Excitation.

Importing this package adds its networks to `cnnperf.models.catalog.CATALOG`.
"""

from functools import partial

from cnnperf.fusion.se_block import FusedSEBlock
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import SENET, register
from cnnperf.models.resnet import ResNet18

ARCHITECTURES = (
    Architecture(
        name="se_resnet18_fused",
        build=partial(ResNet18, se_block=FusedSEBlock),
        summary="se_resnet18 with each Squeeze-and-Excitation block compiled",
        source=SENET,
        reference="se_resnet18",
    ),
)
"""The networks with fused blocks, in the order in which they are reported."""

for _architecture in ARCHITECTURES:
    register(_architecture)

__all__ = ["ARCHITECTURES", "FusedSEBlock"]
