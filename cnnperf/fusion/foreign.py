"""The Squeeze-and-Excitation modules of torchvision and timm, recognized without importing either.

Sources: torchvision.ops.SqueezeExcitation, https://docs.pytorch.org/vision/stable/generated/torchvision.ops.SqueezeExcitation.html;
timm.layers.SEModule and the SqueezeExcite of its EfficientNet blocks, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from cnnperf.fusion.excitation import Excitation, ExcitationWeights
from cnnperf.fusion.gate import gate_map
from cnnperf.fusion.modules import has_hooks, key_of

UNBATCHED = 3
"""Dimensions of a map without a batch."""


@dataclass(frozen=True)
class Names:
    """Names of the parts of a module, and the values that its other attributes must have.

    Attributes:
        reduce: The first product.
        activation: What follows it.
        expand: The second product.
        gate: What follows that.
        plain: Name of another attribute to the type it must be, for parts that compute something of their own.
        off: Names of attributes that must be absent or false.
    """

    reduce: str
    activation: str
    expand: str
    gate: str
    plain: tuple[tuple[str, type[nn.Module]], ...] = ()
    off: tuple[str, ...] = ()


FOREIGN = {
    ("torchvision", "SqueezeExcitation"): Names(
        "fc1", "activation", "fc2", "scale_activation", plain=(("avgpool", nn.AdaptiveAvgPool2d),)
    ),
    ("timm", "SEModule"): Names("fc1", "act", "fc2", "gate", plain=(("bn", nn.Identity),), off=("add_maxpool",)),
    ("timm", "SqueezeExcite"): Names("conv_reduce", "act1", "conv_expand", "gate"),
}
"""Library and class of each module that is known, and how it is made."""

ACTIVATIONS = {"ReLU": "relu", "SiLU": "silu", "Swish": "silu"}
GATES = {"Sigmoid": "sigmoid", "Hardsigmoid": "hardsigmoid", "HardSigmoid": "hardsigmoid"}
"""Names of the classes of an activation, PyTorch's and timm's, to what `excitation.Excitation` calls it."""

_LIBRARIES = ("torch", *dict.fromkeys(library for library, _ in FOREIGN))


class FusedForeignSE(nn.Module):
    """An SE module of another library as one fused function, with its parts, state_dict and hooks.

    A module becomes one by `cnnperf.fusion.fuse`, never by construction.
    """

    fused_from: type[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        """Gate a feature map.

        Args:
            x: N x C x H x W, or C x H x W where the library takes that.

        Returns:
            As x.
        """
        excitation = _excitation_of(self, FOREIGN[key_of(self.fused_from)])
        return gate_map(x[None], excitation)[0] if x.dim() == UNBATCHED else gate_map(x, excitation)

    def extra_repr(self) -> str:
        """Say what it was."""
        return f"from {self.fused_from.__module__}.{self.fused_from.__qualname__}"

    def weights(self) -> ExcitationWeights:
        """Return the weights of both products as matrices, C/r x C and C x C/r, and their biases."""
        reduce, expand, reduce_bias, expand_bias, *_ = _excitation_of(self, FOREIGN[key_of(self.fused_from)])
        return reduce.flatten(1), expand.flatten(1), reduce_bias, expand_bias


def is_plain_excitation(module: nn.Module) -> bool:
    """Return whether a module of `FOREIGN`, fused or not, has the ReLU and the logistic sigmoid of the paper."""
    kind = module.fused_from if isinstance(module, FusedForeignSE) else type(module)
    *_, activation, gate = _excitation_of(module, FOREIGN[key_of(kind)])
    return (activation, gate) == ("relu", "sigmoid")


def reason_to_leave_foreign(module: nn.Module) -> str | None:
    """Return why a module of `FOREIGN` cannot be fused; None where it can."""
    names = FOREIGN[key_of(type(module))]
    parts = (names.reduce, names.activation, names.expand, names.gate, *(name for name, _ in names.plain))
    missing = [name for name in parts if not isinstance(getattr(module, name, None), nn.Module)]
    if missing:
        return f"it has no {missing[0]}, as the version of {key_of(type(module))[0]} that is known has"
    reasons = (
        *(_product(module.get_submodule(name), name) for name in (names.reduce, names.expand)),
        _known(module.get_submodule(names.activation), names.activation, ACTIVATIONS),
        _known(module.get_submodule(names.gate), names.gate, GATES),
        *(_plain(module.get_submodule(name), name, kind) for name, kind in names.plain),
        *(f"its {name} is on" for name in names.off if getattr(module, name, False)),
        *(
            f"its {name} has hooks, which a fused form would not call"
            for name in parts
            if has_hooks(module.get_submodule(name))
        ),
    )
    return next((reason for reason in reasons if reason is not None), None)


def _excitation_of(module: nn.Module, names: Names) -> Excitation:
    reduce, expand = (cast(nn.Linear, module.get_submodule(name)) for name in (names.reduce, names.expand))
    activation, gate = (type(module.get_submodule(name)).__name__ for name in (names.activation, names.gate))
    biases = (reduce.bias, expand.bias)
    return Excitation(reduce.weight, expand.weight, *biases, ACTIVATIONS[activation], GATES[gate])


def _product(part: nn.Module, name: str) -> str | None:
    if type(part) is nn.Linear:
        return None
    if type(part) is not nn.Conv2d:
        return f"its {name} is a {type(part).__name__}, not a Linear or Conv2d"
    pointwise = (part.kernel_size, part.stride, part.groups) == ((1, 1), (1, 1), 1)
    if not pointwise or part.padding not in ((0, 0), "valid"):
        return f"its {name} is not a 1x1 convolution over all channels"
    return None


def _known(part: nn.Module, name: str, table: dict[str, str]) -> str | None:
    library, kind = key_of(type(part))
    if library in _LIBRARIES and kind in table:
        return None
    return f"its {name} is a {kind}; known are {', '.join(table)}"


def _plain(part: nn.Module, name: str, kind: type[nn.Module]) -> str | None:
    one = getattr(part, "output_size", 1) in (1, (1, 1))
    return None if type(part) is kind and one else f"its {name} is a {part}, not {kind.__name__}"
