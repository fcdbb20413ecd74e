"""Rewriting of a network: every block with a known fused form gets that form."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

from torch import nn

from cnnperf.errors import CnnperfError
from cnnperf.fusion.block import FusedBasicBlock, FusedBottleneck, FusedTail
from cnnperf.fusion.foreign import FOREIGN, FusedForeignSE, reason_to_leave_foreign
from cnnperf.fusion.foreign_block import (
    FOREIGN_BLOCKS,
    FusedForeignBlock,
    block_key_of,
    reason_to_leave_foreign_block,
)
from cnnperf.fusion.modules import has_hooks, key_of
from cnnperf.fusion.norm import is_batch_norm
from cnnperf.fusion.se_block import FusedSEBlock
from cnnperf.models.parts import Tail
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.resnet50 import Bottleneck
from cnnperf.models.squeeze_excitation import SEBlock

FUSED_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    BasicBlock: FusedBasicBlock,
    Bottleneck: FusedBottleneck,
    Tail: FusedTail,
    SEBlock: FusedSEBlock,
}
"""Class of a module to the class that computes the same faster from the same attributes."""

LAST_NORMS: dict[type[nn.Module], str] = {BasicBlock: "bn2", Bottleneck: "bn3", Tail: "norm"}
"""Class of a block of this project to the name of the BatchNorm before its SE block."""

FUSED_FOREIGN = (FusedForeignSE, FusedForeignBlock)
"""Classes of fused modules of other libraries."""

_NAMES = tuple(dict.fromkeys(name for _, name in FOREIGN))


@dataclass(frozen=True)
class Fused:
    """A rewritten network and the changes made to it.

    Attributes:
        model: The network.
        fused: Names of the modules that now have a fused form.
        left: Name of each other module with Squeeze-and-Excitation to the reason why it is unchanged.
    """

    model: nn.Module
    fused: tuple[str, ...]
    left: dict[str, str]


def fuse(model: nn.Module, *, inplace: bool = False) -> Fused:
    """Fuse Squeeze-and-Excitation in a network: the blocks of this project, torchvision and timm.

    A fused block computes the same, with the same gradients, within the rounding of the maps' dtype. Shapes do not
    change. Only the class of a module changes: parameters, buffers, hooks and state_dict stay, and `unfuse` reverts it.
    Hooks registered later on the parts of a fused block are not called. A fused block has no second derivative: a
    backward with `create_graph=True` raises RuntimeError.

    Sources: Hu et al., "Squeeze-and-Excitation Networks", 2017, https://arxiv.org/abs/1709.01507; docs/fusion.md has
    the formulas of the fused forms.

    Args:
        model: Any network; a block that cannot be fused stays as it is.
        inplace: Whether to change the network itself rather than a deep copy.

    Returns:
        The network, the names of fused modules, and the names of the others with the reasons.

    Raises:
        CnnperfError: If the network cannot be copied.
    """
    model = model if inplace else _copied(model)
    fused, left = [], {}
    for name, module in model.named_modules():
        reason = _reason_to_leave(module)
        if reason is None:
            _fuse_module(module)
            fused.append(name)
        elif reason:
            left[name] = reason
    return Fused(model, tuple(fused), left)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # a module may refuse in any way
        reason = next(iter(str(error).splitlines()), "")
        raise CnnperfError(
            f"the network cannot be copied ({type(error).__name__}: {reason}); change it in place with "
            "fuse(model, inplace=True). Weight norm of torch.nn.utils.parametrizations can be copied"
        ) from error


def unfuse(model: nn.Module) -> nn.Module:
    """Restore the original class of every fused module, in place.

    Args:
        model: A network that `fuse` has changed, or any other network, which stays as it is.

    Returns:
        The same network.
    """
    plain = {fused: kind for kind, fused in FUSED_FORMS.items()}
    for module in model.modules():
        if isinstance(module, FUSED_FOREIGN):
            kind = module.fused_from
            del module.fused_from
            module.__class__ = kind  # type: ignore[assignment]  # the original class
        if type(module) in plain:
            module.__class__ = plain[type(module)]
    return model


def _fuse_module(module: nn.Module) -> None:
    kind = type(module)
    if kind in FUSED_FORMS:
        module.__class__ = FUSED_FORMS[kind]
        return
    module.__class__ = FusedForeignBlock if block_key_of(kind) in FOREIGN_BLOCKS else FusedForeignSE
    cast(FusedForeignSE | FusedForeignBlock, module).fused_from = kind


def _reason_to_leave(module: nn.Module) -> str | None:
    """Return None for a module that can be fused, an empty text for one without SE, and otherwise the reason."""
    kind = type(module)
    if kind in FUSED_FORMS.values() or kind in FUSED_FOREIGN:
        return "it is fused already"
    if isinstance(module, BasicBlock | Bottleneck | Tail):
        return _reason_to_leave_block(module)
    if block_key_of(kind) in FOREIGN_BLOCKS:
        return reason_to_leave_foreign_block(module)
    if isinstance(module, SEBlock):
        return _reason_to_leave_se(module)
    if key_of(kind) in FOREIGN:
        return reason_to_leave_foreign(module)
    library, name = key_of(kind)
    return f"the {name} of {library} is not known, only that of torchvision or timm" if name in _NAMES else ""


def _reason_to_leave_block(block: BasicBlock | Bottleneck | Tail) -> str | None:
    kind = type(block)
    if isinstance(block.se, nn.Identity):
        return ""
    if kind not in LAST_NORMS:
        known = next(base.__name__ for base in kind.__mro__ if base in LAST_NORMS)
        return f"{kind.__name__} is a subclass of {known}, which may compute something else"
    norm = block.get_submodule(LAST_NORMS[kind])
    if type(block.se) not in (SEBlock, FusedSEBlock):
        return f"its SE block is a {type(block.se).__name__}, which has no known fused form"
    if not is_batch_norm(norm):
        return f"its last normalization is a {type(norm).__name__}, not BatchNorm2d"
    if has_hooks(norm) or has_hooks(block.se):
        return "its BatchNorm or SE block has hooks, which a fused tail would not call"
    return _reason_to_leave_se(block.se)


def _reason_to_leave_se(se: nn.Module) -> str | None:
    """Return why an SE block is not determined by the weights and biases of its two products; None if it is."""
    kind = type(se)
    if kind not in (SEBlock, FusedSEBlock):
        return f"{kind.__name__} is a subclass of SEBlock, which may compute something else"
    for name in ("reduce", "expand"):
        product = se.get_submodule(name)
        if not isinstance(product, nn.Linear):
            return f"its {name} is a {type(product).__name__}, not a Linear"
        if has_hooks(product):
            return f"its {name} has hooks, which a fused form would not call"
        if type(product).forward is not nn.Linear.forward:
            return f"its {name} is a {type(product).__name__}, which may compute something else"
    return None
