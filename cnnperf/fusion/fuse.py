"""Rewriting a network: every block whose fused form is known gets it, and says so."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from cnnperf.fusion.block import FusedBasicBlock
from cnnperf.fusion.foreign import (
    FOREIGN,
    FusedForeignSE,
    fuse_foreign,
    has_hooks,
    key_of,
    reason_to_leave_foreign,
    unfuse_foreign,
)
from cnnperf.fusion.norm import is_batch_norm
from cnnperf.fusion.se_block import FusedSEBlock
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.squeeze_excitation import SEBlock

FUSED_FORMS: dict[type[nn.Module], type[nn.Module]] = {BasicBlock: FusedBasicBlock, SEBlock: FusedSEBlock}
"""The class of a module that can be fused to the class that computes the same faster from the same attributes."""

_NAMES = tuple(dict.fromkeys(name for _, name in FOREIGN))


@dataclass(frozen=True)
class Fused:
    """Hold a rewritten network and what was done to it.

    Attributes:
        model: The network.
        fused: Names of the modules that have a fused form now.
        left: Name of each other module with Squeeze-and-Excitation, and why it was left as it was.
    """

    model: nn.Module
    fused: tuple[str, ...]
    left: dict[str, str]


def fuse(model: nn.Module, *, inplace: bool = False) -> Fused:
    """Give every block of a network whose fused form is known that form: this project's, torchvision's and timm's.

    Only the class of a module changes: parameters, buffers, hooks and state_dict stay, and `unfuse` takes it back.
    Hooks that are put on the parts of a fused block afterwards are not called.

    Args:
        model: Any network.
        inplace: Whether to change the network itself rather than a copy.

    Returns:
        The network, and the names of what was fused and of what was left, with reasons.
    """
    model = model if inplace else copy.deepcopy(model)
    fused, left = [], {}
    for name, module in model.named_modules():
        reason = _reason_to_leave(module)
        if reason is None:
            _fuse_module(module)
            fused.append(name)
        elif reason:
            left[name] = reason
    return Fused(model, tuple(fused), left)


def unfuse(model: nn.Module) -> nn.Module:
    """Take back what `fuse` did, in place, and return the network."""
    plain = {fused: kind for kind, fused in FUSED_FORMS.items()}
    for module in model.modules():
        if isinstance(module, FusedForeignSE):
            unfuse_foreign(module)
        if type(module) in plain:
            module.__class__ = plain[type(module)]
    return model


def _fuse_module(module: nn.Module) -> None:
    if type(module) in FUSED_FORMS:
        module.__class__ = FUSED_FORMS[type(module)]
    else:
        fuse_foreign(module)


def _reason_to_leave(module: nn.Module) -> str | None:
    """Return None for what can be fused, an empty text for what has nothing to do with SE, else the reason."""
    kind = type(module)
    if kind in FUSED_FORMS.values() or kind is FusedForeignSE:
        return "it is fused already"
    if isinstance(module, BasicBlock):
        return _reason_to_leave_block(module)
    if kind is SEBlock:
        return _reason_to_leave_se(module)
    if isinstance(module, SEBlock):
        return f"{kind.__name__} is a subclass of SEBlock, which may compute something else"
    if key_of(kind) in FOREIGN:
        return reason_to_leave_foreign(module)
    library, name = key_of(kind)
    return f"the {name} of {library} is not known, only that of torchvision or timm" if name in _NAMES else ""


def _reason_to_leave_block(block: BasicBlock) -> str | None:
    if isinstance(block.se, nn.Identity):
        return ""
    if type(block) is not BasicBlock:
        return f"{type(block).__name__} is a subclass of BasicBlock, which may compute something else"
    if type(block.se) not in (SEBlock, FusedSEBlock):
        return f"its SE block is a {type(block.se).__name__}, of which no fused form is known"
    if not is_batch_norm(block.bn2):
        return f"its last normalization is a {type(block.bn2).__name__}, not BatchNorm2d"
    if has_hooks(block.bn2) or has_hooks(block.se):
        return "its BatchNorm or SE block has hooks, which a fused tail would not call"
    return _reason_to_leave_se(block.se)


def _reason_to_leave_se(se: nn.Module) -> str | None:
    """Return why the two products of an SE block cannot be taken from their weights alone; None where they can."""
    for name in ("reduce", "expand"):
        product = se.get_submodule(name)
        if not isinstance(product, nn.Linear):
            return f"its {name} is a {type(product).__name__}, not a Linear"
        if has_hooks(product):
            return f"its {name} has hooks, which a fused form would not call"
        if type(product).forward is not nn.Linear.forward:
            return f"its {name} is a {type(product).__name__}, which may compute something else"
    return None
