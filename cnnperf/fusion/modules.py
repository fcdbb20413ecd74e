"""Properties of modules that decide whether they can be fused, and their original forms while they are traced."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from cnnperf.errors import CnnperfError


def key_of(kind: type[nn.Module]) -> tuple[str, str]:
    """Return the library of a module's class and the name of the class."""
    return kind.__module__.partition(".")[0], kind.__name__


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module has forward or backward hooks, which its fused form would not call."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)  # noqa: SLF001 - PyTorch has no public way to list them
    return any(hooks)


def is_traced(x: object) -> bool:
    """Return whether a call is recorded by `torch.fx.symbolic_trace` or `torch.jit.trace`.

    What they record has to run without this package, and a symbolic trace has no values to choose a kernel by.
    """
    return isinstance(x, torch.fx.Proxy) or (not torch.compiler.is_compiling() and cast(Any, torch.jit).is_tracing())


class NotScriptable:
    """Mixin of fused modules, whose sources `torch.jit.script` cannot compile.

    Returning the original module from the hook is no way out: PyTorch would write it into the user's network.
    """

    def __prepare_scriptable__(self) -> nn.Module:
        """Refuse to be compiled by `torch.jit.script`, with what to do instead.

        Raises:
            CnnperfError: Always.
        """
        raise CnnperfError(
            f"use unfuse() before torch.jit.script, which cannot compile {type(self).__name__}: "
            "torch.jit.script(cnnperf.fusion.unfuse(copy.deepcopy(network))); the state_dict is the same"
        )
