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

Arguments = dict[str, Any]
"""Arguments of an operator, by name in its schema."""


def tail_training(args: Arguments) -> tuple[Tensor, ...]:
    """Return the fields of `algebra.Forward`, and update running statistics if the arguments include them."""
    running = None
    if args.get("running_mean") is not None and args.get("running_var") is not None:
        fields = (args.get(name) for name in ("running_mean", "running_var", "batches", "momentum"))
        running = Running(*fields)  # type: ignore[arg-type]
    parameters = _fields_of(Parameters, args)
    x, shortcut, eps = args["x"], args["shortcut"], args["eps"]
    return tuple(functions.tail_forward(x, shortcut, parameters, eps, running=running, apart=True))


def tail_backward(args: Arguments) -> tuple[Any, ...]:
    """Return the fields of `algebra.Gradients`."""
    saved = Forward(args["x"], *(args[name] for name in Forward._fields[1:]))
    parameters = _fields_of(Parameters, args)
    return tuple(functions.tail_backward(args["grad"], args["x"], saved, parameters, args["eps"], apart=True))


def tail_scaling(args: Arguments) -> Tensor:
    """Return scale and shift, 2 x N x C."""
    return functions.tail_scaling(args["x"], args["squeezed"], _fields_of(Frozen, args), *_weights_of(args))


def tail_inference(args: Arguments) -> Tensor:
    """Return the output. Known means of x are not used, because a small sample is read only once anyway."""
    return functions.tail_inference(args["x"], args["shortcut"], _fields_of(Frozen, args), *_weights_of(args))


def se_forward(args: Arguments) -> tuple[Tensor, ...]:
    """Return the fields of `launch.Excited`."""
    return tuple(functions.se_forward(args["x"], _excitation_of(args), apart=True))


def se_backward(args: Arguments) -> tuple[Tensor, ...]:
    """Return the fields of `gate.Gradients`."""
    saved = Excited(args["x"], *(args[name] for name in Excited._fields[1:]))
    return tuple(functions.se_backward(args["grad"], args["x"], saved, _excitation_of(args), apart=True))


def _fields_of(record: Any, args: Arguments) -> Any:
    """Return a record of the arguments that are its fields; a field that is not an argument is None."""
    return record(*(args.get(name) for name in record._fields))


def _weights_of(args: Arguments) -> tuple[Tensor | None, ...]:
    return tuple(args.get(name) for name in ("reduce", "expand", "reduce_bias", "expand_bias"))


def _excitation_of(args: Arguments) -> Excitation:
    kind = {
        "activation": "silu" if args["silu"] else "relu",
        "gate": "hardsigmoid" if args["hard"] else "sigmoid",
    }
    return cast(Excitation, _fields_of(Excitation, args | kind))


IMPLEMENTATIONS: dict[str, Callable[[Arguments], Any]] = {
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

    def implementation(*args: Any, **named: Any) -> Any:
        return function(dict(zip(names, args, strict=False)) | named)

    return implementation


for _name in IMPLEMENTATIONS:
    LIBRARY.impl(_name, implementation_of(_name), "CUDA")
