"""Catalog of architectures, and functions that find and build one by name.

The rows here are the textbook networks. Higher packages add their own with `register` and `register_prefix`;
importing `cnnperf.fusion` does so and completes the catalog.
"""

import copy
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from types import MappingProxyType

import torch
from torch import nn

from cnnperf.errors import OptionError
from cnnperf.models.architecture import Architecture
from cnnperf.models.brought import from_factory, from_timm
from cnnperf.models.initialization import seeded
from cnnperf.models.lenet import LeNet5
from cnnperf.models.parts import from_parts
from cnnperf.models.resnet import ResNet18
from cnnperf.models.spelling import did_you_mean
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.models.stacks import Stack

LENET = "LeCun et al., 1998, section II.B, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf"
"""Source of LeNet-5."""

STACK = "He et al., 2015, section 3.3, https://arxiv.org/abs/1512.03385"
"""Source of the plain and residual stacks."""

RESNET = "He et al., 2015, sections 3.3 and 4.2, https://arxiv.org/abs/1512.03385"
"""Source of ResNet-18 and its stem for small images."""

SENET = "Hu et al., 2017, section 3, https://arxiv.org/abs/1709.01507"
"""Source of Squeeze-and-Excitation."""

ARCHITECTURES = (
    Architecture(
        name="lenet5",
        build=partial(LeNet5, pooling="max"),
        summary="LeNet-5 with max pooling and ReLU",
        source=LENET,
        fixed_image_size=True,
    ),
    Architecture(
        name="lenet5_avg",
        build=partial(LeNet5, pooling="average"),
        summary="LeNet-5 with average pooling and ReLU, the control for lenet5",
        source=LENET,
        fixed_image_size=True,
    ),
    Architecture(
        name="plain_stack",
        build=partial(Stack, shortcut=False),
        summary="ten blocks of two 3x3 convolutions at 64 channels, without shortcuts",
        source=STACK,
        build_at=lambda width: Stack(channels=width, shortcut=False),
    ),
    Architecture(
        name="residual_stack",
        build=partial(Stack, shortcut=True),
        summary="ten blocks of two 3x3 convolutions at 64 channels, with identity shortcuts",
        source=STACK,
        build_at=lambda width: Stack(channels=width, shortcut=True),
    ),
    Architecture(
        name="resnet18",
        build=ResNet18,
        summary="ResNet-18 with the 3x3 stem for small images",
        source=RESNET,
        build_at=lambda width: ResNet18(width=width),
    ),
    Architecture(
        name="se_resnet18",
        build=partial(ResNet18, se_block=SEBlock),
        summary="resnet18 with Squeeze-and-Excitation in each block",
        source=SENET,
        build_at=lambda width: ResNet18(SEBlock, width),
    ),
)
"""Textbook networks, in the order of reports."""

_ROWS = {row.name: row for row in ARCHITECTURES}

CATALOG: Mapping[str, Architecture] = MappingProxyType(_ROWS)
"""All architectures by name, in the order of reports."""

_PREFIXES: dict[str, Callable[[str], Architecture]] = {"part:": from_parts, "timm:": from_timm}
"""Functions that resolve a whole name, by the prefix of the name."""


def register_prefix(prefix: str, resolver: Callable[[str], Architecture]) -> None:
    """Register the function that resolves all names with a prefix.

    Args:
        prefix: First part of the names, with its colon.
        resolver: Function that returns the architecture of such a name, or raises `OptionError`.

    Raises:
        OptionError: If the prefix is registered already.
    """
    if prefix in _PREFIXES:
        raise OptionError(f"prefix {prefix!r} is registered already; choose another")
    _PREFIXES[prefix] = resolver


def register(architecture: Architecture) -> None:
    """Add a row at the end of the catalog.

    Args:
        architecture: The row.

    Raises:
        OptionError: If the name is in the catalog already, or the reference is not.
    """
    if architecture.name in CATALOG:
        raise OptionError(f"architecture {architecture.name!r} is in the catalog already; choose another name")
    if architecture.reference is not None and architecture.reference not in CATALOG:
        raise OptionError(f"reference {architecture.reference!r} is not in the catalog; register it first")
    _ROWS[architecture.name] = architecture


def resolve(name: str) -> Architecture:
    """Find an architecture by name.

    Args:
        name: A name in the catalog, `part:NAME`, `timm:NAME`, `package.module:factory`, or a name with a registered
            prefix such as `fused:`. Factories and networks of timm are built once on trial when first resolved.

    Raises:
        OptionError: If there is no such architecture, or a user's network cannot be built.
    """
    for prefix, resolver in _PREFIXES.items():
        if name.startswith(prefix):
            return resolver(name)
    if ":" in name:
        return from_factory(name)
    if name not in CATALOG:
        raise OptionError(f"architecture {name!r} is unknown{did_you_mean(name, CATALOG)}; {_choices()}")
    return CATALOG[name]


def match(pattern: str) -> list[Architecture]:
    """Find all architectures that match a pattern.

    Args:
        pattern: A glob over the names in the catalog (`*`, `?`, `[...]`), or any name that `resolve` accepts.

    Returns:
        At least one architecture, in the catalog's order.

    Raises:
        OptionError: If the glob matches nothing, or `resolve` rejects the name.
    """
    if not any(wildcard in pattern for wildcard in "*?["):
        return [resolve(pattern)]
    matches = [row for name, row in CATALOG.items() if fnmatchcase(name, pattern)]
    if not matches:
        raise OptionError(f"no architecture matches {pattern!r}; {_choices()}")
    return matches


def create(architecture: str | Architecture, *, seed: int = 0, width: int = 0) -> nn.Module:
    """Build a network whose parameters depend on the seed alone, and restore PyTorch's generators.

    Args:
        architecture: A row, or a name that `resolve` accepts.
        seed: Seed of the parameters. It does not cover user factories that draw from other generators than PyTorch's
            on the CPU.
        width: Channels of the first layer, with all others in proportion; 0 for the width in the source.

    Returns:
        The network, on the CPU and in training mode.

    Raises:
        OptionError: If there is no such architecture, its width is fixed, or a user's network cannot be built.
    """
    row = resolve(architecture) if isinstance(architecture, str) else architecture
    check_width(row, width)
    if CATALOG.get(row.name) is row:
        return copy.deepcopy(_initialized(row, seed, width))
    return _built(row, seed, width)


@lru_cache(maxsize=4)
def _initialized(row: Architecture, seed: int, width: int) -> nn.Module:
    """Return a network of the catalog to copy: drawing the parameters of ResNet-18 takes ten times as long as that."""
    return _built(row, seed, width)


def _built(row: Architecture, seed: int, width: int) -> nn.Module:
    with seeded(seed):
        return row.build_at(width) if width and row.build_at else row.build()


def check_width(architecture: Architecture, width: int) -> None:
    """Check that an architecture can be built at a width; 0 is its own width and always allowed.

    Raises:
        OptionError: If the width of the architecture is fixed, or `width` is too small.
    """
    if width:
        hollow(architecture, width)


def hollow(architecture: Architecture, width: int) -> nn.Module:
    """Build an architecture at a width on the meta device, without memory; raise as `check_width` does."""
    if architecture.build_at is None:
        scalable = ", ".join(name for name, row in CATALOG.items() if row.build_at)
        raise OptionError(f"{architecture.name} has one width only, not {width}; those with others: {scalable}")
    with torch.device("meta"):
        return architecture.build_at(width)


def _choices() -> str:
    return f"choose from: {', '.join(CATALOG)}, package.module:factory, timm:NAME, part:NAME, fused:NAME"
