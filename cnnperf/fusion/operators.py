"""The kernels as operators of PyTorch, which torch.compile inserts into its graph unchanged.

This module declares the operators and the shapes of their results. `native.build` builds and loads their code for the
CPU, and `triton.operators` registers the code for CUDA of those that compiled graphs use. `tail_training` and
`se_training` have a derivative and are for compiled graphs. The others have none, which makes a call cheaper; eager
code calls them through autograd functions. In a compiled graph, Dynamo would make the gradient of an autograd function
contiguous, which costs two copies of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cnnperf.fusion import maps

LIBRARY = torch.library.Library("cnnperf", "FRAGMENT")

_EXCITATION = "Tensor reduce, Tensor expand"
_BIASES = "Tensor? reduce_bias, Tensor? expand_bias"
_SAVED_OF_SE = "Tensor squeezed, Tensor hidden, Tensor slopes, Tensor gate"
_KIND = "bool silu, bool hard"
_SAVED = "Tensor mask, Tensor mean, Tensor mu, Tensor variance, Tensor squeezed, Tensor hidden, Tensor gate"
_NORM = "Tensor weight, Tensor bias"
_WEIGHTS = f"{_EXCITATION}, {_BIASES}"
_PARAMETERS = f"{_NORM}, {_WEIGHTS}"
_RUNNING = "Tensor(a!)? running_mean=None, Tensor(b!)? running_var=None, Tensor(c!)? batches=None, float? momentum=None"
_MOMENTS = "Tensor mean, Tensor mu, Tensor variance"
_OF_BATCH = "Tensor mu, Tensor variance, Tensor gate, Tensor dsqueezed, Tensor weight"
_SUMS = "Tensor dweight, Tensor dbias"
_FROZEN = f"{_NORM}, Tensor mean, Tensor variance, float eps"


def _tensors(count: int) -> str:
    return f"({', '.join(['Tensor'] * count)})"


SCHEMAS = {
    "se_forward": f"(Tensor x, {_EXCITATION}, {_BIASES}, {_KIND}) -> {_tensors(5)}",
    "se_training": f"(Tensor x, {_EXCITATION}, {_BIASES}, {_KIND}) -> {_tensors(5)}",
    "se_backward": f"(Tensor grad, Tensor x, {_EXCITATION}, {_SAVED_OF_SE}, {_KIND}) -> {_tensors(5)}",
    "tail_forward": f"(Tensor x, Tensor shortcut, {_PARAMETERS}, float eps, {_RUNNING}) -> {_tensors(8)}",
    "tail_training": f"(Tensor x, Tensor shortcut, {_PARAMETERS}, float eps) -> {_tensors(8)}",
    "tail_backward": f"(Tensor grad, Tensor x, {_SAVED}, {_PARAMETERS}, float eps) -> {_tensors(8)}",
    "tail_moments": "(Tensor x) -> (Tensor, Tensor)",
    "tail_normalized": f"(Tensor x, Tensor shortcut, {_MOMENTS}, {_PARAMETERS}, float eps) -> {_tensors(5)}",
    "tail_sums": f"(Tensor grad, Tensor x, {_SAVED}, {_PARAMETERS}, float eps) -> {_tensors(8)}",
    "tail_blend": f"(Tensor passed, Tensor x, {_OF_BATCH}, {_SUMS}, float eps, float values) -> Tensor",
    "tail_scaling": f"(Tensor x, Tensor? squeezed, {_FROZEN}, {_WEIGHTS}) -> Tensor",
    "tail_inference": f"(Tensor x, Tensor shortcut, Tensor? squeezed, {_FROZEN}, {_WEIGHTS}) -> Tensor",
    "rectified_norm": f"(Tensor x, {_FROZEN}) -> {_tensors(2)}",
}
"""Operator to its arguments and results. Maps may have any layout; other tensors are in float32."""


def _se_forward(x: Tensor, reduce: Tensor, *_: Any) -> tuple[Tensor, ...]:
    of_channels, of_hidden = (x.shape[0], x.shape[1]), (x.shape[0], reduce.shape[0])
    return maps.like(x), *(reduce.new_empty(size) for size in (of_channels, of_hidden, of_hidden, of_channels))


def _se_backward(
    _: Tensor, x: Tensor, reduce: Tensor, expand: Tensor, squeezed: Tensor, hidden: Tensor, *__: Any
) -> Any:
    return maps.like(x), *(_contiguous(small) for small in (reduce, expand, hidden, squeezed))


def _tail_forward(x: Tensor, _: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, *__: Any) -> tuple[Tensor, ...]:
    del bias
    batch, channels = x.shape[:2]
    sizes = (
        (batch, channels),
        (channels,),
        (channels,),
        (batch, channels),
        (batch, reduce.shape[0]),
        (batch, channels),
    )
    small = (weight.new_empty(size) for size in sizes)
    return maps.like(x), maps.like(x, torch.uint8), *small


def _tail_backward(_: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return maps.like(x), maps.like(x), *_small_gradients(others)


def _small_gradients(others: tuple[Any, ...]) -> list[Tensor]:
    """Return tensors like the parameters and the excitation's biases, from a backward's arguments after `x`."""
    weight, bias, reduce, expand = others[7:11]
    biases = (reduce.new_empty(size) for size in reduce.shape)
    return [*(_contiguous(small) for small in (weight, bias, reduce, expand)), *biases]


def _tail_moments(x: Tensor) -> tuple[Tensor, ...]:
    return x.new_empty(x.shape[:2], dtype=torch.float32), x.new_empty(x.shape[:2], dtype=torch.float32)


def _tail_normalized(x: Tensor, shortcut: Tensor, *others: Any) -> tuple[Tensor, ...]:
    out, mask, _, _, _, *small = _tail_forward(x, shortcut, *others[3:])
    return out, mask, *small


def _tail_sums(_: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return maps.like(x), *_small_gradients(others), _contiguous(others[1])


def _tail_scaling(x: Tensor, _: Tensor | None, weight: Tensor, *__: Any) -> Tensor:
    return weight.new_empty(2, *x.shape[:2])


def _tail_blend(_: Tensor, x: Tensor, *__: Any) -> Tensor:
    return maps.like(x)


def _tail_inference(x: Tensor, *_: Any) -> Tensor:
    return maps.like(x)


def _contiguous(small: Tensor) -> Tensor:
    return small.new_empty(small.shape)


def _rectified_norm(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return maps.like(x), weight.new_empty(*x.shape[:2], 3, 3)


_RESULTS: dict[str, Callable[..., Any]] = {
    "se_forward": _se_forward,
    "se_training": _se_forward,
    "se_backward": _se_backward,
    "tail_forward": _tail_forward,
    "tail_training": _tail_forward,
    "tail_backward": _tail_backward,
    "tail_moments": _tail_moments,
    "tail_normalized": _tail_normalized,
    "tail_sums": _tail_sums,
    "tail_blend": _tail_blend,
    "tail_scaling": _tail_scaling,
    "tail_inference": _tail_inference,
    "rectified_norm": _rectified_norm,
}
"""Operator to a function that returns uninitialized tensors like its results."""

for _name, _schema in SCHEMAS.items():
    # Without the tag a compiler copies maps into the layout that they had when the network was traced, instead of that
    # of its convolutions.
    LIBRARY.define(_name + _schema, tags=(torch.Tag.flexible_layout,))
    torch.library.register_fake(f"cnnperf::{_name}", _RESULTS[_name], lib=LIBRARY)

se_forward = torch.ops.cnnperf.se_forward.default
se_training = torch.ops.cnnperf.se_training.default
se_backward = torch.ops.cnnperf.se_backward.default
tail_forward = torch.ops.cnnperf.tail_forward.default
tail_training = torch.ops.cnnperf.tail_training.default
tail_backward = torch.ops.cnnperf.tail_backward.default
tail_moments = torch.ops.cnnperf.tail_moments.default
tail_normalized = torch.ops.cnnperf.tail_normalized.default
tail_sums = torch.ops.cnnperf.tail_sums.default
tail_blend = torch.ops.cnnperf.tail_blend.default
tail_scaling = torch.ops.cnnperf.tail_scaling.default
tail_inference = torch.ops.cnnperf.tail_inference.default
rectified_norm = torch.ops.cnnperf.rectified_norm.default


def _save_tail(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, *parameters, ctx.eps = inputs
    ctx.save_for_backward(x, *output[1:], *parameters)


def _tail_gradients(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    maps.refuse_second_derivative()
    saved = ctx.saved_tensors
    return *of_present(tail_backward(grad, *saved, ctx.eps), saved[-2:]), None


def of_present(gradients: Sequence[Tensor | None], biases: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Replace the last two gradients of a tail, those of the biases, by None if there is no such bias."""
    *others, of_reduce, of_expand = gradients
    reduce_bias, expand_bias = biases
    return [*others, None if reduce_bias is None else of_reduce, None if expand_bias is None else of_expand]


def _save_se(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, silu, hard = inputs
    ctx.flags, ctx.biased = (silu, hard), [bias is not None for bias in tensors[3:]]
    ctx.save_for_backward(*tensors[:3], *output[1:])


def se_gradients(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    """Return the gradients of SE's map, weights, biases and flags, from a context that holds `se_forward`'s results."""
    maps.refuse_second_derivative()
    # The last two are the gradients of the inputs of activation and gate; their sums over N are those of the biases.
    *gradients, into_activation, into_gate = se_backward(grad, *ctx.saved_tensors, *ctx.flags)
    pairs = zip((into_activation, into_gate), ctx.biased, strict=True)
    return *gradients, *(gradient.sum(0) if biased else None for gradient, biased in pairs), None, None


torch.library.register_autograd("cnnperf::tail_training", _tail_gradients, setup_context=_save_tail, lib=LIBRARY)
torch.library.register_autograd("cnnperf::se_training", se_gradients, setup_context=_save_se, lib=LIBRARY)
