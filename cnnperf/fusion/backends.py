"""The backends of the fused functions: a table, walked in order. The first that takes the maps computes.

A backend answers `takes(*maps)` with the reason why it does not take these maps, or with None. What it takes must equal
the textbook formula within the rounding of the maps' dtype, forward and backward. To add one, write a row of `BACKENDS`
before those that it is faster than; a function that it does not have is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import cast

import torch
from torch import Tensor

from cnnperf.fusion import algebra, maps, operators
from cnnperf.fusion.algebra import Forward, Gradients
from cnnperf.fusion.excitation import Excitation, ExcitationWeights, flags_of, in_float32, squeeze_and_excite
from cnnperf.fusion.halves import Halves
from cnnperf.fusion.native import functions as native
from cnnperf.fusion.norm import BatchNorm, frozen, parameters_of, update_running_statistics
from cnnperf.fusion.triton import functions as triton

Takes = Callable[..., str | None]
TrainTail = Callable[[Tensor, Tensor, BatchNorm, ExcitationWeights], Tensor | None]
InferTail = Callable[[Tensor, Tensor, BatchNorm, ExcitationWeights, Tensor | None], Tensor]
Gate = Callable[[Tensor, Excitation], Tensor]


@dataclass(frozen=True)
class Backend:
    """One way to compute the fused functions.

    Attributes:
        name: Short name.
        takes: Returns why maps are not taken, or None.
        gate: Squeeze-and-Excitation alone, for an excitation whose weights are matrices.
        train_tail: The tail in training, running statistics included; it returns None where it does not take
            BatchNorm's tensors, and `halves` computes the tail then.
        infer_tail: The tail in inference, given the means of x or None.
        halves: Forward and backward of the tail in training.
    """

    name: str
    takes: Takes
    gate: Gate
    train_tail: TrainTail | None = None
    infer_tail: InferTail | None = None
    halves: Halves | None = None


def _without_compiler(takes: Takes) -> Takes:
    def takes_values(*given: Tensor) -> str | None:
        if torch.compiler.is_compiling():
            return "within torch.compile the kernels run as operators"
        return maps.not_readable(*given) or takes(*given)

    return takes_values


def _traced_takes(x: Tensor, *others: Tensor) -> str | None:
    if not torch.compiler.is_compiling():
        return "nothing is being compiled"
    if torch.compiler.is_exporting():
        return "an exported program must run without cnnperf"
    return triton.takes(x, *others) if x.is_cuda else native.takes(x, *others)


def _traced_gate(x: Tensor, excitation: Excitation) -> Tensor:
    return cast(Tensor, operators.se_training(x, *in_float32(excitation[:4]), *flags_of(excitation))[0])


def _traced_training(x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights) -> Tensor:
    parameters = parameters_of(norm, excitation, x)
    kept = Forward(*operators.tail_training(x, shortcut, *parameters, norm.eps))
    if norm.training and norm.track_running_stats:
        update_running_statistics(norm, kept.mu, kept.variance, x.numel() // x.shape[1])
    return kept.out


def _traced_inference(
    x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights, squeezed: Tensor | None
) -> Tensor:
    scale, shift = operators.tail_scaling(x, squeezed, *frozen(norm, x), *in_float32(excitation)).unbind()
    return algebra.apply_scaling(x.float(), shortcut, scale, shift).to(x.dtype)


def _cuda_takes(x: Tensor, *_: Tensor) -> str | None:
    return None if x.is_cuda else "the map is not on a GPU"


def _compiled_gate(x: Tensor, excitation: Excitation) -> Tensor:
    return _gate_of_width(*excitation.reduce.shape)(x, excitation)


@cache
def _gate_of_width(hidden: int, channels: int) -> Gate:
    # Dynamo counts its recompile limit (8) per code object and specializes on the weights' shapes: with one
    # code object the four widths of a ResNet, in training and in inference, would use it up. A copy gives
    # each width a limit of its own.
    name = f"squeeze_and_excite_{channels}_{hidden}"
    code = squeeze_and_excite.__code__.replace(co_name=name)
    return cast(Gate, torch.compile(FunctionType(code, squeeze_and_excite.__globals__, name)))


@cache
def _compiled(function: Callable[..., object]) -> Callable[..., object]:
    return torch.compile(function)


def _compiled_forward(*given: object) -> Forward:
    return cast(Forward, _compiled(algebra.tail_forward)(*given))


def _compiled_backward(*given: object) -> Gradients:
    return cast(Gradients, _compiled(algebra.tail_backward)(*given))


def _everything(*_: Tensor) -> None:
    return None


NATIVE = Backend(
    "native",
    _without_compiler(native.takes),
    native.gate,
    native.train_tail,
    native.infer_tail,
    Halves(native.tail_forward, native.tail_backward),
)
TRITON = Backend(
    "triton",
    _without_compiler(triton.takes),
    triton.gate,
    triton.train_tail,
    triton.infer_tail,
    Halves(triton.tail_forward, triton.tail_backward),
)
TRACED = Backend("traced", _traced_takes, _traced_gate, _traced_training, _traced_inference)
COMPILED = Backend(
    "compiled", _without_compiler(_cuda_takes), _compiled_gate, halves=Halves(_compiled_forward, _compiled_backward)
)
ALGEBRA = Backend(
    "algebra",
    _without_compiler(_everything),
    _compiled_gate,
    halves=Halves(algebra.tail_forward, algebra.tail_backward),
)
TEXTBOOK = Backend("textbook", _everything, squeeze_and_excite)

BACKENDS = (NATIVE, TRITON, TRACED, COMPILED, ALGEBRA, TEXTBOOK)
"""All backends, the fastest that takes a map first; the last takes everything."""

WITHOUT_KERNELS = (ALGEBRA, TEXTBOOK)
"""Backends for tensors that PyTorch's own operators must judge: weights of another size, or maps under autocast."""

MERGING = (NATIVE, TRITON, ALGEBRA)
"""Backends whose halves wait for other processes in the middle, which no compiled graph can."""


def backend_for(*given: Tensor, among: tuple[Backend, ...] = BACKENDS) -> Backend:
    """Return the first backend that takes maps of N x C x H x W; the last of those that are given takes the rest."""
    for backend in among[:-1]:
        if backend.takes(*given) is None:
            return backend
    return among[-1]
