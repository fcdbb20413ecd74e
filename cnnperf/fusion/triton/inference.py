"""The fused tail in inference on a GPU: the sequence of kernels. The signatures are those of `algebra`.

Maps are in fp32, bf16 or fp16, all of one layout, contiguous or channels_last. All other tensors are in fp32 and
contiguous. Importing this module imports triton; `functions` does so on the first call.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from cnnperf.fusion.algebra import Frozen
from cnnperf.fusion.triton.kernels import rectify_map
from cnnperf.fusion.triton.launch import Launch, block_of, launch_for, sizes_of, small, tile_of, whole_of
from cnnperf.fusion.triton.onchip import gate_sample
from cnnperf.fusion.triton.wide import Weights, excite_sums, filled, kind_of, sum_pixels


def tail_inference(
    x: Tensor,
    shortcut: Tensor,
    norm: Frozen,
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None = None,
    expand_bias: Tensor | None = None,
    launch: Launch | None = None,
) -> Tensor:
    """Compute `algebra.tail_inference`: 3 passes in 1 launch if a sample's map is small, otherwise 4 in 3."""
    *of_norm, eps = norm
    (batch, channels, pixels, width, last), tiling = sizes_of(x, reduce)
    weights = (reduce, expand, reduce_bias, expand_bias)
    if launch is None:
        launch = launch_for("tail_inference", x, (shortcut, *of_norm, *weights), width)
    if not tiling.held:
        gate = _pooled(x, norm, weights, launch, None)
        out = torch.empty_like(x)
        launch(
            rectify_map,
            tiling.writes.programs,
            *(x, shortcut, *of_norm, gate, out, out, eps, channels, pixels, tiling.writes.parts),
            masked=False,
            **tile_of(tiling, tiling.writes, last=last),
        )
        return out
    of_channels = (batch, channels)
    squeezed, gate, hidden = block_of(x, torch.float32, of_channels, of_channels, (batch, width))
    out = torch.empty_like(x)
    launch(
        gate_sample,
        batch,
        *(x, shortcut, *of_norm, *filled(weights), squeezed, hidden, hidden, gate, out, eps, channels, width, pixels),
        tail=True,
        **kind_of(weights),
        **whole_of(tiling, last=last),
    )
    return out


def tail_scaling(
    x: Tensor,
    squeezed: Tensor | None,
    norm: Frozen,
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None = None,
    expand_bias: Tensor | None = None,
    launch: Launch | None = None,
) -> Tensor:
    """Compute `algebra.tail_scaling` for a map: 1 pass, or none if its means, N x C, are given in `squeezed`.

    Returns:
        Scale and shift, 2 x N x C.
    """
    *of_norm, _ = norm
    weights = (reduce, expand, reduce_bias, expand_bias)
    if launch is None:
        launch = launch_for("tail_scaling", x, (squeezed, *of_norm, *weights), reduce.shape[0])
    scaling = small(x, 2, *x.shape[:2])
    _pooled(x, norm, weights, launch, scaling, squeezed)
    return scaling


def _pooled(
    x: Tensor, norm: Frozen, weights: Weights, launch: Launch, scaling: Tensor | None, means: Tensor | None = None
) -> Tensor:
    """Return the gate of a tail in inference, N x C, and write scale and shift into `scaling`, 2 x N x C, or None."""
    sizes, tiling = sizes_of(x, cast(Tensor, weights[0]))
    of_channels, of_hidden = (sizes.batch, sizes.channels), (sizes.batch, sizes.width)
    of_sums = [(tiling.sums.parts, *of_channels)] if means is None else []
    squeezed, gate, hidden, *sums = block_of(x, torch.float32, of_channels, of_channels, of_hidden, *of_sums)
    if means is None:
        (total,) = sums
        sum_pixels(x, None, total, sizes, tiling, launch)
    else:  # means are sums of one part and one pixel
        total, sizes = means, sizes._replace(pixels=1)
    results, kind = (squeezed, hidden, hidden, gate), kind_of(weights)
    both = None if scaling is None else tuple(scaling)
    excite_sums(total, results, filled(weights), sizes, tiling, launch, kind=kind, norm=norm, scaling=both)
    return gate
