"""What the catalog knows about a network."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network: its name, how to build it, and what it takes.

    Attributes:
        name: The word for it in options, test ids and run files.
        build: Builds the network on the CPU, with parameters drawn from PyTorch's global generator.
        summary: What it is, in one line.
        source: Paper, section and URL, or where the user's own network comes from.
        image_size: Height and width of its images in pixels, where nothing else is asked for.
        channels: Channels of its images.
        classes: Number of scores it gives an image; None where it is not known before a call.
        fixed_image_size: Whether it takes images of `image_size` only.
        build_at: Builds it with so many channels in its first layer, and all others in proportion; None where it
            has one width only.
        reference: The textbook architecture with the same state_dict that it must equal; None where it is one
            itself.
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
    reference: str | None = None
