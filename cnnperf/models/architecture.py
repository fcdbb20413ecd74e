"""A row of the catalog."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from cnnperf.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Name, builder and input of a network.

    Attributes:
        name: Name in options, test ids and run files.
        build: Function that builds the network on the CPU; its parameters come from PyTorch's global generator.
        summary: Description in one line.
        source: Paper, section and URL, or the origin of a user's network.
        image_size: Default height and width of the images in pixels.
        channels: Number of channels of the images, or of the feature maps of a part at its default width.
        classes: Number of scores per image; None if unknown before the first call.
        fixed_image_size: Whether `image_size` is the only size that the network accepts.
        build_at: Function that builds the network from the channel count of its first layer, with all others in
            proportion; None if the width is fixed.
        maps: Number of feature maps, N x `channels` x H x W, that a part of a network takes; 0 for a network, which
            takes images. The output of a part has the shape of its first map.
        reference: Name of the textbook architecture with the same state_dict and the same results; None for a textbook
            architecture.
        subject: Function that builds the network together with inputs of its own; None if it takes images.
        batch: Only batch of these inputs, the length of the first tensor; None if the batch is free.
    """

    name: str
    build: Callable[[], nn.Module]
    summary: str
    source: str
    image_size: int = 32
    channels: int = 3
    classes: int | None = 10
    fixed_image_size: bool = False
    build_at: Callable[[int], nn.Module] | None = None
    maps: int = 0
    reference: str | None = None
    subject: Callable[[], Subject] | None = None
    batch: int | None = None
