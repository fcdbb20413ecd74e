"""Questions about modules, of this project and of other libraries, that the rewriting of networks asks."""

from __future__ import annotations

from torch import nn


def key_of(kind: type[nn.Module]) -> tuple[str, str]:
    """Return the library of a module's class and the name of the class."""
    return kind.__module__.partition(".")[0], kind.__name__


def has_hooks(module: nn.Module) -> bool:
    """Return whether a call of a module, or its backward, runs more than its own code."""
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)  # noqa: SLF001 - there is no public way to ask
    return any(kinds)
