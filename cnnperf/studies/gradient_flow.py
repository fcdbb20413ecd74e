"""Gradients in deep stacks of blocks, with shortcuts and without: their size at each block, and their growth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from cnnperf.errors import OptionError
from cnnperf.models.initialization import he_initialize, seeded
from cnnperf.models.stacks import StackBlock
from cnnperf.stats.growth import Growth, fit_growth

LAYERS = 2
"""Convolutions of a block, each with its normalisation."""

FAMILIES: Mapping[str, bool] = {"plain": False, "residual": True}
"""Whether blocks have a shortcut, by family of stacks."""

SETTLING = 4
"""Number of batches over which running statistics are averaged."""

NORMALIZATIONS = ("batch", "running", "none")
INITIALIZATIONS: Mapping[str, Callable[[nn.Module], None]] = {"default": lambda _: None, "he": he_initialize}


@dataclass(frozen=True)
class Setting:
    """Stack of a study of gradient flow, and its input.

    Attributes:
        num_blocks: Number of blocks, of two convolutions each.
        normalization: `batch` (statistics of the batch, as in training), `running` (statistics of `SETTLING` earlier
            batches, as in evaluation) or `none`.
        initialization: `default` (PyTorch's) or `he`.
        batch: Number of images.
        channels: Channels of every block.
        image_size: Height and width in pixels.
        device: Device to compute on.
    """

    num_blocks: int = 10
    normalization: str = "batch"
    initialization: str = "default"
    batch: int = 1
    channels: int = 64
    image_size: int = 32
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            OptionError: If a name is unknown, or a number below 1.
        """
        for name, allowed in (("normalization", NORMALIZATIONS), ("initialization", tuple(INITIALIZATIONS))):
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name in ("num_blocks", "batch", "channels", "image_size"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class GradientFlow:
    """Gradients of one family of stacks, for several seeds.

    Attributes:
        family: `plain` or `residual`.
        setting: The stack and its input.
        seeds: Seeds of parameters and input.
        absolute: For each seed, the mean absolute gradient at the input of each block and at the output of the last.
        norms: For each seed, the root mean square of the gradient at the same positions.
    """

    family: str
    setting: Setting
    seeds: tuple[int, ...]
    absolute: tuple[tuple[float, ...], ...]
    norms: tuple[tuple[float, ...], ...]

    def __float__(self) -> float:
        """Return the mean absolute gradient at the input of the stack, averaged over the seeds."""
        return fmean(self.at_input())

    def at_input(self) -> list[float]:
        """Return the mean absolute gradient at the input of the stack for each seed."""
        return [series[0] for series in self.absolute]

    def layers(self) -> list[int]:
        """Return the number of layers between each position of `absolute` and the output."""
        blocks = self.setting.num_blocks
        return [LAYERS * (blocks - position) for position in range(blocks + 1)]

    def growth(self) -> Growth:
        """Fit the growth of the norm per layer within the stack, with its verdict."""
        return fit_growth(self.layers(), self.norms)


def compare_gradient_flow(
    num_blocks: int = 10,
    *,
    seed: int = 0,
    seeds: int = 10,
    normalization: str = "batch",
    initialization: str = "default",
    batch: int = 1,
    device: str = "cpu",
) -> tuple[GradientFlow, GradientFlow]:
    """Compare the gradients in a plain stack with those in a residual one.

    The loss is the sum over all outputs of the last block; gradients are those with respect to the inputs of the
    blocks. `float()` of a side is the mean absolute gradient at the input of the whole stack. A larger gradient is not
    a better one: the verdict of `GradientFlow.growth` says whether it is stable over depth.

    Args:
        num_blocks: Number of blocks, of two 3x3 convolutions with normalisation and ReLU each.
        seed: First seed of parameters and input.
        seeds: Number of successive seeds; a single one gives no interval, and therefore no verdict.
        normalization: `batch`, `running` or `none`; see `Setting`.
        initialization: `default` or `he`.
        batch: N of the input, which is normal noise of (N, 64, 32, 32); `measure_flow` takes other shapes.
        device: Device to compute on.

    Returns:
        The plain and the residual side.

    Raises:
        OptionError: If a value is not allowed; the message lists the allowed ones.
    """
    setting = Setting(num_blocks, normalization, initialization, batch, device=device)
    if seeds < 1:
        raise OptionError(f"seeds is at least 1, not {seeds}")
    plain, residual = (measure_flow(family, setting, range(seed, seed + seeds)) for family in FAMILIES)
    return plain, residual


def measure_flow(family: str, setting: Setting, seeds: Sequence[int]) -> GradientFlow:
    """Measure one family of stacks, one seed after the other."""
    absolute, norms = [], []
    for seed in seeds:
        gradients = list(_gradients(family, setting, seed))
        absolute.append(tuple(float(gradient.abs().mean()) for gradient in gradients))
        norms.append(tuple(float(gradient.square().mean().sqrt()) for gradient in gradients))
    return GradientFlow(family, setting, tuple(seeds), tuple(absolute), tuple(norms))


def _gradients(family: str, setting: Setting, seed: int) -> Iterator[Tensor]:
    """Yield the gradient at the input of each block and at the output of the last, in double precision."""
    with seeded(seed):
        blocks = [StackBlock(setting.channels, shortcut=FAMILIES[family]) for _ in range(setting.num_blocks)]
        stack = nn.Sequential(*blocks)
        INITIALIZATIONS[setting.initialization](stack)
        shape = (setting.batch, setting.channels, setting.image_size, setting.image_size)
        images = [torch.randn(shape) for _ in range(SETTLING + 1)]
    stack.to(setting.device)
    _normalize(blocks, setting, [batch.to(setting.device) for batch in images[1:]])
    maps = [images[0].to(setting.device).requires_grad_()]
    for block in blocks:
        maps.append(block(maps[-1]))
        maps[-1].retain_grad()
    maps[-1].sum().backward()
    for feature_map in maps:
        if feature_map.grad is None:
            raise RuntimeError("a feature map got no gradient, though the output depends on it")
        yield feature_map.grad.double()


def _normalize(blocks: Sequence[StackBlock], setting: Setting, images: Sequence[Tensor]) -> None:
    """Set the normalisation of the blocks; `images` are the batches for running statistics."""
    stack = nn.Sequential(*blocks)
    if setting.normalization == "none":
        for block in blocks:
            block.bn1 = block.bn2 = nn.Identity()  # type: ignore[assignment]  # of the same shape
    if setting.normalization == "running":
        for layer in stack.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # running statistics become the plain average over all batches
        with torch.no_grad():
            for batch in images:
                stack(batch)
        stack.eval()
