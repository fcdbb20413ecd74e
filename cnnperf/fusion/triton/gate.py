"""Squeeze-and-Excitation alone on a GPU: the sequence of kernels for every kind of `excitation.Excitation`.

Maps are in fp32, bf16 or fp16, all of one layout, contiguous or channels_last. Weights are matrices; weights and biases
are in fp32 and contiguous. Importing this module imports triton; `functions` does so on the first call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cnnperf.fusion.excitation import Excitation, flags_of
from cnnperf.fusion.triton.kernels import scale_map
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
from cnnperf.fusion.triton.pooled import excite_pooled_backward
from cnnperf.fusion.triton.wide import excite_rows_backward, excite_sums, filled, kind_of, sum_pixels


class Gradients(NamedTuple):
    """Gradients of x, N x C x H x W, of both weights, and of the inputs of activation, N x C/r, and gate, N x C.

    The sums over N of the last two are the gradients of the biases.
    """

    x: Tensor
    reduce: Tensor
    expand: Tensor
    into_activation: Tensor
    into_gate: Tensor


def se_forward(x: Tensor, excitation: Excitation, launch: Launch | None = None, *, apart: bool = False) -> Excited:
    """Compute `excitation.squeeze_and_excite`: 2 passes in 1 launch if a sample's map is small, otherwise 3 in 3.

    Args:
        x: N x C x H x W.
        excitation: Excitation of any kind.
        launch: Launcher of the kernels; None for the usual one.
        apart: Whether results must not share an allocation.

    Returns:
        The gated map and the tensors for the backward.
    """
    sizes, tiling = sizes_of(x, excitation.reduce)
    batch, channels, pixels, width, last = sizes
    silu, hard = flags_of(excitation)
    if launch is None:
        launch = launch_for("se_forward", x, excitation[:4], width, silu, hard)
    of_channels, of_hidden = (batch, channels), (batch, width)
    squeezed, gate, hidden, slopes = block_of(
        x, torch.float32, of_channels, of_channels, of_hidden, of_hidden, apart=apart
    )
    out = torch.empty_like(x)
    results = (squeezed, hidden, slopes, gate)
    weights, kind = filled(excitation[:4]), kind_of(excitation[:4], silu=silu, hard=hard)
    if tiling.held:
        launch(
            gate_sample,
            batch,
            *(x, x, *weights, *weights, *results, out, 0.0, channels, width, pixels),  # the first weights are not read
            tail=False,
            **kind,
            **whole_of(tiling, last=last),
        )
    else:
        total = small(x, tiling.sums.parts, batch, channels)
        sum_pixels(x, None, total, sizes, tiling, launch)
        excite_sums(total, results, weights, sizes, tiling, launch, kind=kind)
        launch(
            scale_map,
            tiling.writes.programs,
            *(x, gate, gate, out, channels, pixels, tiling.writes.parts),
            moved=False,
            **tile_of(tiling, tiling.writes, last=last),
        )
    return Excited(out, squeezed, hidden, slopes, gate)


def se_backward(
    grad: Tensor,
    x: Tensor,
    saved: Excited,
    excitation: Excitation,
    launch: Launch | None = None,
    *,
    apart: bool = False,
) -> Gradients:
    """Compute the gradients: 3 passes in 1 launch if a sample's maps are small, otherwise 4 in 3, and 2 products.

    Args:
        grad: Gradient of the gated map, N x C x H x W.
        x: As in the forward.
        saved: Results of the forward; `out` is not used.
        excitation: As in the forward; its biases are not used.
        launch: Launcher of the kernels; None for the usual one.
        apart: Whether results must not share an allocation.
    """
    reduce, expand, *_ = excitation
    sizes, tiling = sizes_of(x, reduce)
    batch, channels, pixels, width, last = sizes
    silu, hard = flags_of(excitation)
    if launch is None:
        launch = launch_for("se_backward", x, (grad, *saved[1:], reduce, expand), width, silu, hard)
    kind = {"silu": silu, "hard": hard}
    # Temporary tensors share the allocation of results and may live as long, but they are small.
    of_channels, of_hidden = (batch, channels), (batch, width)
    dexcited, dsqueezed, dhidden = block_of(x, torch.float32, of_channels, of_channels, of_hidden, apart=apart)
    dx = torch.empty_like(x)
    before, results = (saved.gate, saved.hidden, saved.slopes, reduce, expand), (dexcited, dhidden, dsqueezed)
    if tiling.held:
        launch(
            gate_sample_backward,
            batch,
            *(grad, x, *before, *results, dx, channels, width, pixels),
            **kind,
            **whole_of(tiling, last=last),
        )
    else:
        total = small(x, tiling.sums.parts, batch, channels)
        sum_pixels(grad, x, total, sizes, tiling, launch)
        launch(
            excite_pooled_backward,
            tiling.sample_programs,
            *(total, *before, *results, batch, channels, width, tiling.sums.parts),
            **kind,
            whole=not tiling.wide,
            **rows_of(tiling),
        )
        if tiling.wide:
            excite_rows_backward(
                results, saved.hidden, saved.slopes, (reduce, expand), sizes, tiling, launch, silu=silu
            )
        launch(
            scale_map,
            tiling.writes.programs,
            *(grad, saved.gate, dsqueezed, dx, channels, pixels, tiling.writes.parts),
            moved=True,
            **tile_of(tiling, tiling.writes, last=last),
        )
    return Gradients(dx, dhidden.t() @ saved.squeezed, dexcited.t() @ saved.hidden, dhidden, dexcited)
