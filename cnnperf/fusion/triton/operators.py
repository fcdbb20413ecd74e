"""Implementations of the operators of `operators` on a GPU. Importing this module imports triton.

A compiler inserts the operators into its graph unchanged, with maps in the layout that it chose. Inductor does not see
the kernels themselves, for which it would copy maps into the layout of the trace. The results of an operator share no
memory, as PyTorch requires.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from cnnperf.fusion.algebra import Forward, Frozen, Parameters
from cnnperf.fusion.excitation import Excitation
from cnnperf.fusion.operators import LIBRARY
from cnnperf.fusion.triton import functions
from cnnperf.fusion.triton.launch import Excited
from cnnperf.fusion.triton.tail import Running

Given = dict[str, Any]
"""Arguments of an operator, by name in its schema."""


def tail_training(given: Given) -> tuple[Tensor, ...]:
    """Return the fields of `algebra.Forward`, and update running statistics if the arguments include them."""
    running = None
    if given.get("running_mean") is not None and given.get("running_var") is not None:
        fields = (given.get(name) for name in ("running_mean", "running_var", "batches", "momentum"))
        running = Running(*fields)  # type: ignore[arg-type]
    parameters = _fields_of(Parameters, given)
    x, shortcut, eps = given["x"], given["shortcut"], given["eps"]
    return tuple(functions.tail_forward(x, shortcut, parameters, eps, running=running, apart=True))


def tail_backward(given: Given) -> tuple[Any, ...]:
    """Return the fields of `algebra.Gradients`."""
    kept = Forward(given["x"], *(given[name] for name in Forward._fields[1:]))
    parameters = _fields_of(Parameters, given)
    return tuple(functions.tail_backward(given["grad"], given["x"], kept, parameters, given["eps"], apart=True))


def tail_scaling(given: Given) -> Tensor:
    """Return scale and shift, 2 x N x C."""
    return functions.tail_scaling(given["x"], given["squeezed"], _fields_of(Frozen, given), *_weights_of(given))


def tail_inference(given: Given) -> Tensor:
    """Return the output. Known means of x are not used, because a small sample is read only once anyway."""
    return functions.tail_inference(given["x"], given["shortcut"], _fields_of(Frozen, given), *_weights_of(given))


def se_forward(given: Given) -> tuple[Tensor, ...]:
    """Return the fields of `launch.Excited`."""
    return tuple(functions.se_forward(given["x"], _excitation_of(given), apart=True))


def se_backward(given: Given) -> tuple[Tensor, ...]:
    """Return the fields of `gate.Gradients`."""
    kept = Excited(given["x"], *(given[name] for name in Excited._fields[1:]))
    return tuple(functions.se_backward(given["grad"], given["x"], kept, _excitation_of(given), apart=True))


def _fields_of(record: Any, given: Given) -> Any:
    """Return a record of the arguments that are its fields; a field that is not an argument is None."""
    return record(*(given.get(name) for name in record._fields))


def _weights_of(given: Given) -> tuple[Tensor | None, ...]:
    return tuple(given.get(name) for name in ("reduce", "expand", "reduce_bias", "expand_bias"))


def _excitation_of(given: Given) -> Excitation:
    kind = {
        "activation": "silu" if given["silu"] else "relu",
        "gate": "hardsigmoid" if given["hard"] else "sigmoid",
    }
    return cast(Excitation, _fields_of(Excitation, given | kind))


IMPLEMENTATIONS: dict[str, Callable[[Given], Any]] = {
    "se_forward": se_forward,
    "se_training": se_forward,
    "se_backward": se_backward,
    "tail_forward": tail_training,
    "tail_training": tail_training,
    "tail_backward": tail_backward,
    "tail_scaling": tail_scaling,
    "tail_inference": tail_inference,
}
"""Operator to its implementation. On a GPU, a tail over several processes has no operators."""


def implementation_of(name: str) -> Callable[..., Any]:
    """Return the implementation of an operator as a function of its arguments in the order of its schema."""
    function = IMPLEMENTATIONS[name]
    names = [argument.name for argument in getattr(torch.ops.cnnperf, name).default._schema.arguments]  # noqa: SLF001

    def implementation(*given: Any, **others: Any) -> Any:
        return function(dict(zip(names, given, strict=False)) | others)

    return implementation


for _name in IMPLEMENTATIONS:
    LIBRARY.impl(_name, implementation_of(_name), "CUDA")
