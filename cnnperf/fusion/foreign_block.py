"""The residual blocks of timm, recognized without importing it, with the tail of each as one fused function.

Source: timm/models/resnet.py of https://github.com/huggingface/pytorch-image-models, whose blocks are those of ResNet,
ResNeXt and their variants with Squeeze-and-Excitation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn

from cnnperf.fusion.block import Layer, fused_block
from cnnperf.fusion.foreign import FOREIGN, FusedForeignSE, is_plain_excitation, reason_to_leave_foreign
from cnnperf.fusion.modules import NotScriptable, has_hooks, is_traced, key_of
from cnnperf.fusion.norm import is_batch_norm

FOREIGN_BLOCKS = {("timm.models.resnet", "BasicBlock"): 2, ("timm.models.resnet", "Bottleneck"): 3}
"""Module and class name of each known block to its number of convolutions.

The convolutions are called conv1, conv2, ..., their BatchNorms bn1, bn2, ..., and the activations after these act1,
act2, .... The last activation follows the addition of the shortcut.
"""

IDENTITIES = ("aa", "drop_block", "drop_path")
"""Parts of a block that must be absent or the identity: anti-aliasing, and two kinds of dropout."""


class FusedForeignBlock(NotScriptable, nn.Module):
    """Residual block of another library with a fused tail and the same parts, state_dict and hooks.

    Only `cnnperf.fusion.fuse` makes one, by changing the class of a block.
    """

    fused_from: type[nn.Module]
    downsample: nn.Module | None

    def forward(self, x: Tensor) -> Tensor:
        """Transform a feature map; the shapes are those of the original block."""
        if is_traced(x):
            return cast(Tensor, cast(Any, self.fused_from).forward(self, x))
        count = FOREIGN_BLOCKS[block_key_of(self.fused_from)]
        shortcut = self.downsample
        se = cast(FusedForeignSE, self.get_submodule("se"))
        return fused_block(x, _layers_of(self, count), se, _same if shortcut is None else shortcut)

    def extra_repr(self) -> str:
        """Return the name of the original class."""
        return f"from {self.fused_from.__module__}.{self.fused_from.__qualname__}"


def block_key_of(kind: type[nn.Module]) -> tuple[str, str]:
    """Return the module and the name of a class, a key of `FOREIGN_BLOCKS` for a known block."""
    return kind.__module__, kind.__name__


def reason_to_leave_foreign_block(block: nn.Module) -> str | None:
    """Return why the tail of a block of `FOREIGN_BLOCKS` cannot be fused; None if it can, "" if it has no SE."""
    if getattr(block, "se", None) is None:
        return ""
    return next((reason for reason in _reasons(block) if reason is not None), None)


def _reasons(block: nn.Module) -> Iterator[str | None]:
    """Yield a reason or None for each requirement; the later ones need the parts that the first ones check."""
    count = FOREIGN_BLOCKS[block_key_of(type(block))]
    indices = range(1, count + 1)
    for name in (f"{part}{index}" for part in ("conv", "bn", "act") for index in indices):
        if not isinstance(getattr(block, name, None), nn.Module):
            yield f"it has no {name}, unlike the supported version of timm"
    for name in IDENTITIES:
        yield _no_identity(block, name)
    for index in indices:
        yield _no_relu(block.get_submodule(f"act{index}"), f"act{index}")
    yield _not_for_a_tail(block.get_submodule(f"bn{count}"), f"bn{count}")
    yield _se_not_for_a_tail(block.get_submodule("se"))


def _no_identity(block: nn.Module, name: str) -> str | None:
    part = getattr(block, name, None)
    if part is None or (type(part) is nn.Identity and not has_hooks(part)):
        return None
    return f"its {name} is a {type(part).__name__}, which a fused tail would skip"


def _no_relu(part: nn.Module, name: str) -> str | None:
    if type(part) is not nn.ReLU:
        return f"its {name} is a {type(part).__name__}, not ReLU"
    return _hooked(part, name)


def _not_for_a_tail(norm: nn.Module, name: str) -> str | None:
    if not is_batch_norm(norm):
        return f"its last normalization is a {type(norm).__name__}, not BatchNorm2d alone"
    return _hooked(norm, name)


def _se_not_for_a_tail(se: nn.Module) -> str | None:
    if not isinstance(se, FusedForeignSE):
        if key_of(type(se)) not in FOREIGN:
            return f"its se is a {type(se).__name__}, which has no known fused form"
        reason = reason_to_leave_foreign(se)
        if reason is not None:
            return f"its se cannot be fused: {reason}"
    if not is_plain_excitation(se):
        return "the activation and gate of its se are not ReLU and Sigmoid, which a fused tail needs"
    return _hooked(se, "se")


def _hooked(part: nn.Module, name: str) -> str | None:
    return f"its {name} has hooks, which a fused tail would not call" if has_hooks(part) else None


def _layers_of(block: nn.Module, count: int) -> tuple[Layer, ...]:
    names = ((f"conv{index}", f"bn{index}") for index in range(1, count + 1))
    return tuple((block.get_submodule(conv), cast(nn.BatchNorm2d, block.get_submodule(norm))) for conv, norm in names)


def _same(x: Tensor) -> Tensor:
    return x
