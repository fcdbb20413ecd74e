"""The backends of the fused functions, as a table: the first backend that takes the maps computes.

`takes(*maps)` of a backend returns the reason why it does not take these maps, or None. For maps that it takes, its
results must equal the textbook formula within the rounding of the maps' dtype, forward and backward. To add a backend,
insert a row into `BACKENDS` before those that it is faster than. Functions that it lacks are None.
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
from cnnperf.fusion.norm import BatchNorm, frozen, parameters_of, update_running_statistics, updates_statistics
from cnnperf.fusion.triton import functions as triton

Takes = Callable[..., str | None]
TrainTail = Callable[[Tensor, Tensor, BatchNorm, ExcitationWeights], Tensor | None]
InferTail = Callable[[Tensor, Tensor, BatchNorm, ExcitationWeights, Tensor | None], Tensor]
Gate = Callable[[Tensor, Excitation], Tensor]


@dataclass(frozen=True)
class Backend:
    """One way to compute the fused functions, for maps of N x C x H x W.

    Attributes:
        name: Short name.
        takes: Function from maps to the reason why they are not taken, or to None.
        gate: Squeeze-and-Excitation alone: `gate(x, excitation)` for an excitation whose weights are matrices, C/r x C
            and C x C/r. Returns N x C x H x W.
        train_tail: Tail in training, including the update of the running statistics:
            `train_tail(x, shortcut, norm, weights)`. Returns N x C x H x W, or None if it does not take BatchNorm's
            tensors; then `halves` computes the tail.
        infer_tail: Tail in inference: `infer_tail(x, shortcut, norm, weights, squeezed)`, where `squeezed` holds the
            means of x, N x C in float32, or is None. Returns N x C x H x W.
        halves: Forward and backward of the tail in training, with the signatures of `algebra.tail_forward` and
            `algebra.tail_backward`.
    """

    name: str
    takes: Takes
    gate: Gate
    train_tail: TrainTail | None = None
    infer_tail: InferTail | None = None
    halves: Halves | None = None


def _without_compiler(takes: Takes) -> Takes:
    def takes_eager(*tensors: Tensor) -> str | None:
        if torch.compiler.is_compiling():
            return "within torch.compile the kernels run as operators"
        return maps.not_readable(*tensors) or takes(*tensors)

    return takes_eager


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
    saved = Forward(*operators.tail_training(x, shortcut, *parameters, norm.eps))
    if updates_statistics(norm):
        update_running_statistics(norm, saved.mu, saved.variance, x.numel() // x.shape[1])
    return saved.out


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
    # Dynamo counts its recompile limit (8) per code object and specializes on the weights' shapes. The four widths of a
    # ResNet, in training and in inference, would reach the limit of one code object, so each width gets a copy.
    name = f"squeeze_and_excite_{channels}_{hidden}"
    code = squeeze_and_excite.__code__.replace(co_name=name)
    return cast(Gate, torch.compile(FunctionType(code, squeeze_and_excite.__globals__, name)))


@cache
def _compiled(function: Callable[..., object]) -> Callable[..., object]:
    return torch.compile(function)


def _compiled_forward(*arguments: object) -> Forward:
    return cast(Forward, _compiled(algebra.tail_forward)(*arguments))


def _compiled_backward(*arguments: object) -> Gradients:
    return cast(Gradients, _compiled(algebra.tail_backward)(*arguments))


def _takes_all(*_: Tensor) -> None:
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
    _without_compiler(_takes_all),
    _compiled_gate,
    halves=Halves(algebra.tail_forward, algebra.tail_backward),
)
TEXTBOOK = Backend("textbook", _takes_all, squeeze_and_excite)

BACKENDS = (NATIVE, TRITON, TRACED, COMPILED, ALGEBRA, TEXTBOOK)
"""All backends in the order of preference. The last takes all maps.

- `native`: C++ kernels for float32 and bfloat16 on the CPU.
- `triton`: Triton kernels for float32, bfloat16 and float16 on a GPU.
- `traced`: these kernels as operators in the graph of torch.compile, but not in that of torch.export.
- `compiled`: the formulas of `algebra` through torch.compile, on a GPU.
- `algebra`: the formulas of `algebra` operator by operator; only the gate is compiled.
- `textbook`: PyTorch's operators one by one, also for meta tensors, fake tensors and export.
"""

UNCHECKED = (ALGEBRA, TEXTBOOK)
"""Backends for weights of the wrong size, about which PyTorch's operators raise, and for maps under autocast."""

MERGING = (NATIVE, TRITON, ALGEBRA)
"""Backends whose halves can exchange statistics with other processes, which no compiled graph can."""


def backend_for(*tensors: Tensor, among: tuple[Backend, ...] = BACKENDS) -> Backend:
    """Return the first backend that takes maps of N x C x H x W, or else the last of `among`."""
    for backend in among[:-1]:
        if backend.takes(*tensors) is None:
            return backend
    return among[-1]
