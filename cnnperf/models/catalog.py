"""The catalog: the table of architectures, and the ways to find and build one by its name.

The rows here are the textbook networks. A package above this one adds its own with `register` and `register_prefix`;
`cnnperf.fusion` does so when it is imported, after which the catalog is complete.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from types import MappingProxyType

import torch
from torch import nn

from cnnperf.errors import OptionError
from cnnperf.models.architecture import Architecture
from cnnperf.models.brought import from_factory, from_timm
from cnnperf.models.initialization import seeded
from cnnperf.models.lenet import LeNet5
from cnnperf.models.resnet import ResNet18
from cnnperf.models.spelling import did_you_mean
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.models.stacks import Stack

LENET = "LeCun et al., 1998, section II.B, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf"
"""Where LeNet-5 comes from."""

STACK = "He et al., 2015, section 3.3, https://arxiv.org/abs/1512.03385"
"""Where plain and residual networks come from."""

RESNET = "He et al., 2015, sections 3.3 and 4.2, https://arxiv.org/abs/1512.03385"
"""Where ResNet-18 and its stem for small images come from."""

SENET = "Hu et al., 2017, section 3, https://arxiv.org/abs/1709.01507"
"""Where Squeeze-and-Excitation comes from."""

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
"""The textbook networks, in the order in which they are reported."""

_ROWS = {row.name: row for row in ARCHITECTURES}

CATALOG: Mapping[str, Architecture] = MappingProxyType(_ROWS)
"""All architectures by name, in the order in which they are reported."""


_PREFIXES: dict[str, Callable[[str], Architecture]] = {"timm:": from_timm}
"""First part of a name to the function that resolves the whole name."""


def register_prefix(prefix: str, resolver: Callable[[str], Architecture]) -> None:
    """Let a function resolve all names that begin with a prefix.

    Args:
        prefix: The first part of the names, with its colon.
        resolver: Returns the architecture of such a name, or raises an `OptionError`.

    Raises:
        OptionError: If the prefix is taken.
    """
    if prefix in _PREFIXES:
        raise OptionError(f"prefix {prefix!r} is taken; choose another")
    _PREFIXES[prefix] = resolver


def register(architecture: Architecture) -> None:
    """Add a row at the end of the catalog.

    Args:
        architecture: The row; its name must be free and its reference, if any, in the catalog.

    Raises:
        OptionError: The name is taken, or the reference is not in the catalog.
    """
    if architecture.name in CATALOG:
        raise OptionError(f"architecture {architecture.name!r} is in the catalog already; choose another name")
    if architecture.reference is not None and architecture.reference not in CATALOG:
        raise OptionError(f"reference {architecture.reference!r} is not in the catalog; register it first")
    _ROWS[architecture.name] = architecture


def resolve(name: str) -> Architecture:
    """Find an architecture by its name.

    Args:
        name: A name in the catalog, `package.module:factory`, `timm:NAME`, or `fused:` before any of these. All but
            the first are built once, as a trial, when they are first resolved.

    Returns:
        The architecture.

    Raises:
        OptionError: There is no such architecture, or the user's own cannot be built.
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
    """Find all architectures that a pattern stands for.

    Args:
        pattern: A glob over the names in the catalog (`*`, `?`, `[...]`), or anything that `resolve` takes.

    Returns:
        The architectures in the catalog's order, at least one.

    Raises:
        OptionError: The glob matches nothing, or `resolve` refuses the name.
    """
    if not any(wildcard in pattern for wildcard in "*?["):
        return [resolve(pattern)]
    found = [row for name, row in CATALOG.items() if fnmatchcase(name, pattern)]
    if not found:
        raise OptionError(f"no architecture matches {pattern!r}; {_choices()}")
    return found


def create(architecture: str | Architecture, *, seed: int = 0, width: int = 0) -> nn.Module:
    """Build a network whose parameters depend on the seed alone, leaving PyTorch's generators as they are.

    Args:
        architecture: A row, or a name as `resolve` takes it.
        seed: The seed of the parameters. A user's factory that draws from any generator but PyTorch's on the
            CPU is not reproducible by it.
        width: Channels of its first layer, the others in proportion; 0 for those of its source.

    Returns:
        The network, on the CPU and in training mode.

    Raises:
        OptionError: There is no such architecture, it has one width only, or the user's own cannot be built.
    """
    row = resolve(architecture) if isinstance(architecture, str) else architecture
    check_width(row, width)
    with seeded(seed):
        return row.build_at(width) if width and row.build_at else row.build()


def check_width(architecture: Architecture, width: int) -> None:
    """Check that an architecture can be built at a width, by building it without memory.

    Raises:
        OptionError: If it has one width only, or cannot be so narrow.
    """
    if width:
        hollow(architecture, width)


def hollow(architecture: Architecture, width: int) -> nn.Module:
    """Build an architecture at a width on the meta device, without memory; raises as `check_width` does."""
    if architecture.build_at is None:
        able = ", ".join(name for name, row in CATALOG.items() if row.build_at)
        raise OptionError(f"{architecture.name} has one width only, not {width}; {able} have others")
    with torch.device("meta"):
        return architecture.build_at(width)


def _choices() -> str:
    return f"choose from: {', '.join(CATALOG)}, package.module:factory, timm:NAME, fused:NAME"
