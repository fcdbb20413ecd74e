"""Squeeze-and-Excitation alone on a GPU: which kernels run in which order, for every kind of `excitation.Excitation`.

Maps are in fp32, bf16 or fp16, all of one layout, contiguous or channels_last; weights, as matrices, and biases are in
fp32 and contiguous. Importing this module imports triton; `functions` does it at the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cnnperf.fusion.triton.kernels import scale_map, sum_map
from cnnperf.fusion.triton.launch import (
    Excited,
    Launch,
    block_of,
    launch_for,
    rows_of,
    sizes_of,
    small,
    tile_of,
    whole_of,
)
from cnnperf.fusion.triton.onchip import gate_sample, gate_sample_backward
from cnnperf.fusion.triton.pooled import excite_pooled, excite_pooled_backward
from cnnperf.fusion.triton.wide import excite_rows, excite_rows_backward

if TYPE_CHECKING:
    from cnnperf.fusion.excitation import Excitation


class Gradients(NamedTuple):
    """Gradients of x and of the weights, and of what goes into activation and gate, N x C/r and N x C.

    The sums over N of the last two are the gradients of the biases.
    """

    x: Tensor
    reduce: Tensor
    expand: Tensor
    into_activation: Tensor
    into_gate: Tensor


def se_forward(x: Tensor, excitation: Excitation, launch: Launch | None = None, *, apart: bool = False) -> Excited:
    """Do what `excitation.squeeze_and_excite` does: 2 passes in one launch where a sample's map is small, else 3 in 3.

    Args:
        x: N x C x H x W.
        excitation: Of any kind.
        launch: What starts the kernels.
        apart: Whether results must not share an allocation.

    Returns:
        The gated map and what the backward needs.
    """
    reduce, expand, reduce_bias, expand_bias, activation, name = excitation
    sizes, how = sizes_of(x, reduce)
    batch, channels, pixels, width, last = sizes
    silu, hard = activation == "silu", name == "hardsigmoid"
    if launch is None:
        launch = launch_for("se_forward", x, excitation[:4], width, silu, hard)
    of_channels, of_hidden = (batch, channels), (batch, width)
    squeezed, gate, hidden, slopes = block_of(
        x, torch.float32, of_channels, of_channels, of_hidden, of_hidden, apart=apart
    )
    out = torch.empty_like(x)
    results = (squeezed, hidden, slopes, gate)
    kept = Excited(out, squeezed, hidden, slopes, gate)
    # What a kind does not read is filled with any tensor.
    biases = (reduce if reduce_bias is None else reduce_bias, expand if expand_bias is None else expand_bias)
    weights, of_norm = (reduce, expand, *biases), (reduce,) * 4
    biased = {"reduce_biased": reduce_bias is not None, "expand_biased": expand_bias is not None}
    kind = {**biased, "silu": silu, "hard": hard}
    if how.held:
        launch(
            gate_sample,
            batch,
            *(x, x, *of_norm, *weights, *results, out, 0.0, channels, width, pixels),
            tail=False,
            **kind,
            **whole_of(how, last=last),
        )
        return kept
    parts, chunk = how.sums.parts, how.sums.chunk
    total = small(x, parts, batch, channels)
    launch(
        sum_map,
        how.sums.programs,
        *(x, x, total, batch, channels, pixels, parts, chunk),
        multiplied=False,
        **tile_of(how, how.sums, last=last),
    )
    launch(
        excite_pooled,
        how.sample_programs,
        *(total, *results, gate, gate, *of_norm, *weights, 0.0, batch, channels, width, pixels, parts),
        normalized=False,
        scaled=False,
        **kind,
        whole=not how.wide,
        **rows_of(how),
    )
    if how.wide:
        excite_rows(results, weights, sizes, how, launch, kind=kind)
    launch(
        scale_map,
        how.writes.programs,
        *(x, gate, gate, out, channels, pixels, how.writes.parts),
        moved=False,
        **tile_of(how, how.writes, last=last),
    )
    return kept


def se_backward(
    grad: Tensor,
    x: Tensor,
    kept: Excited,
    excitation: Excitation,
    launch: Launch | None = None,
    *,
    apart: bool = False,
) -> Gradients:
    """Compute the gradients: 3 passes in one launch where a sample's maps are small, else 4 in 3, and 2 products.

    Args:
        grad: Of the gated map, N x C x H x W.
        x: As in the forward.
        kept: What the forward gave; its `out` is not used.
        excitation: As in the forward; its biases are not used.
        launch: What starts the kernels.
        apart: Whether results must not share an allocation.

    Returns:
        The gradients.
    """
    reduce, expand, _, _, activation, name = excitation
    sizes, how = sizes_of(x, reduce)
    batch, channels, pixels, width, last = sizes
    kind = {"silu": activation == "silu", "hard": name == "hardsigmoid"}
    if launch is None:
        launch = launch_for("se_backward", x, (grad, *kept[1:], reduce, expand), width, *kind.values())
    # What is given back may be kept longer than what is not, but none of it is large.
    of_channels, of_hidden = (batch, channels), (batch, width)
    dexcited, dsqueezed, dhidden = block_of(x, torch.float32, of_channels, of_channels, of_hidden, apart=apart)
    dx = torch.empty_like(x)
    before, results = (kept.gate, kept.hidden, kept.slopes, reduce, expand), (dexcited, dhidden, dsqueezed)
    if how.held:
        launch(
            gate_sample_backward,
            batch,
            *(grad, x, *before, *results, dx, channels, width, pixels),
            **kind,
            **whole_of(how, last=last),
        )
    else:
        parts, chunk = how.sums.parts, how.sums.chunk
        total = small(x, parts, batch, channels)
        launch(
            sum_map,
            how.sums.programs,
            *(grad, x, total, batch, channels, pixels, parts, chunk),
            multiplied=True,
            **tile_of(how, how.sums, last=last),
        )
        launch(
            excite_pooled_backward,
            how.sample_programs,
            *(total, *before, *results, batch, channels, width, parts),
            **kind,
            whole=not how.wide,
            **rows_of(how),
        )
        if how.wide:
            of_excitation = (dexcited, dhidden, dsqueezed)
            products = (reduce, expand)
            excite_rows_backward(
                of_excitation, kept.hidden, kept.slopes, products, sizes, how, launch, silu=kind["silu"]
            )
        launch(
            scale_map,
            how.writes.programs,
            *(grad, kept.gate, dsqueezed, dx, channels, pixels, how.writes.parts),
            moved=True,
            **tile_of(how, how.writes, last=last),
        )
    return Gradients(dx, dhidden.t() @ kept.squeezed, dexcited.t() @ kept.hidden, dhidden, dexcited)
