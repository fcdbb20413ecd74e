"""Properties of modules that decide whether they can be fused."""

from __future__ import annotations

from torch import nn


def key_of(kind: type[nn.Module]) -> tuple[str, str]:
    """Return the library of a module's class and the name of the class."""
    return kind.__module__.partition(".")[0], kind.__name__


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module has forward or backward hooks, which its fused form would not call."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)  # noqa: SLF001 - PyTorch has no public way to list them
    return any(hooks)
