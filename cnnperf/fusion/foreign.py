"""The Squeeze-and-Excitation modules of torchvision and timm, recognized without importing either.

Sources: torchvision.ops.SqueezeExcitation, https://docs.pytorch.org/vision/stable/generated/torchvision.ops.SqueezeExcitation.html;
timm.layers.SEModule and the SqueezeExcite of its EfficientNet blocks, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from cnnperf.fusion.excitation import Excitation, ExcitationWeights
from cnnperf.fusion.gate import gate_map
from cnnperf.fusion.modules import NotScriptable, has_hooks, is_traced, key_of

UNBATCHED = 3
"""Number of dimensions of a map without a batch."""


@dataclass(frozen=True)
class Names:
    """Names of the parts of a module, and requirements on its other attributes.

    Attributes:
        reduce: Name of the first product.
        activation: Name of the activation after it.
        expand: Name of the second product.
        gate: Name of the activation after that.
        plain: Names of other parts, each with the type that it must have.
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
"""Library and class name of each known module to the names of its parts."""

ACTIVATIONS = {"ReLU": "relu", "SiLU": "silu", "Swish": "silu"}
GATES = {"Sigmoid": "sigmoid", "Hardsigmoid": "hardsigmoid", "HardSigmoid": "hardsigmoid"}
"""Class name of an activation, of PyTorch or timm, to its name in `excitation.Excitation`."""

_LIBRARIES = ("torch", *dict.fromkeys(library for library, _ in FOREIGN))


class FusedForeignSE(NotScriptable, nn.Module):
    """An SE module of another library as one fused function, with the same parts, state_dict and hooks.

    Only `cnnperf.fusion.fuse` makes one, by changing the class of a module.
    """

    fused_from: type[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        """Gate a feature map.

        Args:
            x: N x C x H x W, or C x H x W if the library supports that.

        Returns:
            A map of the shape of x.
        """
        if is_traced(x):
            return cast(Tensor, cast(Any, self.fused_from).forward(self, x))
        excitation = _excitation_of(self, FOREIGN[key_of(self.fused_from)])
        return gate_map(x[None], excitation)[0] if x.dim() == UNBATCHED else gate_map(x, excitation)

    def extra_repr(self) -> str:
        """Return the name of the original class."""
        return f"from {self.fused_from.__module__}.{self.fused_from.__qualname__}"

    def weights(self) -> ExcitationWeights:
        """Return the weights of both products as matrices, C/r x C and C x C/r, and their biases."""
        reduce, expand, reduce_bias, expand_bias, *_ = _excitation_of(self, FOREIGN[key_of(self.fused_from)])
        return reduce.flatten(1), expand.flatten(1), reduce_bias, expand_bias


def is_plain_excitation(module: nn.Module) -> bool:
    """Return whether a module of `FOREIGN`, fused or not, has ReLU and the logistic sigmoid, as in the paper."""
    kind = module.fused_from if isinstance(module, FusedForeignSE) else type(module)
    *_, activation, gate = _excitation_of(module, FOREIGN[key_of(kind)])
    return (activation, gate) == ("relu", "sigmoid")


def reason_to_leave_foreign(module: nn.Module) -> str | None:
    """Return why a module of `FOREIGN` cannot be fused; None if it can."""
    return next((reason for reason in _reasons(module) if reason is not None), None)


def _reasons(module: nn.Module) -> Iterator[str | None]:
    """Yield a reason or None for each requirement; the later ones need the parts that the first ones check."""
    names = FOREIGN[key_of(type(module))]
    parts = (names.reduce, names.activation, names.expand, names.gate, *(name for name, _ in names.plain))
    for name in parts:
        if not isinstance(getattr(module, name, None), nn.Module):
            yield f"it has no {name}, unlike the supported version of {key_of(type(module))[0]}"
    for name in (names.reduce, names.expand):
        yield _product(module.get_submodule(name), name)
    yield _known(module.get_submodule(names.activation), names.activation, ACTIVATIONS)
    yield _known(module.get_submodule(names.gate), names.gate, GATES)
    for name, kind in names.plain:
        yield _plain(module.get_submodule(name), name, kind)
    for name in names.off:
        if getattr(module, name, False):
            yield f"its {name} is on"
    for name in parts:
        if has_hooks(module.get_submodule(name)):
            yield f"its {name} has hooks, which a fused form would not call"


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
    single = getattr(part, "output_size", 1) in (1, (1, 1))
    return None if type(part) is kind and single else f"its {name} is a {part}, not {kind.__name__}"
