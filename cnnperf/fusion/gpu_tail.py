"""The fused tail on a GPU: which kernels run in which order. The signatures are those of `algebra`.

Maps are in fp32, bf16 or fp16, all of one layout, contiguous or channels_last; all other tensors are in fp32 and
contiguous. Importing this module imports triton; `gpu` does it at the first call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnperf.fusion import algebra
from cnnperf.fusion.algebra import Add, Forward, Frozen, Gradients, Merge, Parameters
from cnnperf.fusion.gpu_kernels import blend_maps, pass_gradient, rectify_map, sum_map, sum_moments
from cnnperf.fusion.gpu_launch import Launch, directly, rows_of, sizes_of, small, tile_of, whole_of
from cnnperf.fusion.gpu_onchip import gate_sample
from cnnperf.fusion.gpu_plan import COLUMNS
from cnnperf.fusion.gpu_pooled import excite_pooled
from cnnperf.fusion.gpu_statistics import (
    excite_normalized,
    excite_normalized_backward,
    find_batch_moments,
    find_coefficients,
)

PLAIN = {"reduce_biased": False, "expand_biased": False, "silu": False, "hard": False}
"""The tail's excitation, which has neither biases nor SiLU; the pointers that stand for them are not read."""


def tail_forward(
    x: Tensor,
    shortcut: Tensor,
    parameters: Parameters,
    eps: float,
    launch: Launch = directly,
    merge: Merge | None = None,
) -> Forward:
    """Do what `algebra.tail_forward` does in 3 launches, or 4 for a large batch: 4 passes and the mask."""
    weight, bias, reduce, expand = parameters
    (batch, channels, pixels, width, last), how = sizes_of(x, reduce)
    parts, chunk = how.sums.parts, how.sums.chunk
    mean, squeezed, gate, origin, scale, offset = (small(x, batch, channels) for _ in range(6))
    mu, variance = (small(x, channels) for _ in range(2))
    first, second = (small(x, parts, batch, channels) for _ in range(2))
    hidden = small(x, batch, width)
    out, mask = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
    launch(sum_moments)[(how.sums.programs,)](
        *(x, origin, first, second, batch, channels, pixels, parts, chunk), **tile_of(how.sums, last=last)
    )
    alone = how.shares_moments and merge is None
    if not alone:
        launch(find_batch_moments)[(how.columns,)](
            *(origin, first, second, mu, variance, batch, channels, pixels, parts),
            block_n=how.block_n,
            block_c=COLUMNS,
        )
    if merge is not None:
        mu, variance = merge(mu, variance)
    launch(excite_normalized)[(batch,)](
        *(origin, first, second, mean, mu, variance, squeezed, hidden, gate, scale, offset),
        *(weight, bias, reduce, expand, eps, batch, channels, width, pixels, parts),
        known=not alone,
        block_n=how.few_n,
        **rows_of(how),
    )
    launch(rectify_map)[(how.writes.programs,)](
        *(x, shortcut, scale, offset, out, mask, channels, pixels, how.writes.parts),
        masked=True,
        **tile_of(how.writes, last=last),
    )
    return Forward(out, mask, mean, mu, variance, squeezed, hidden, gate)


def tail_backward(
    grad: Tensor,
    x: Tensor,
    kept: Forward,
    parameters: Parameters,
    eps: float,
    launch: Launch = directly,
    add: Add | None = None,
) -> Gradients:
    """Do what `algebra.tail_backward` does in 4 launches and 2 matrix products: 6 passes and the mask."""
    weight, bias, reduce, expand = parameters
    (batch, channels, pixels, width, last), how = sizes_of(x, reduce)
    parts, chunk = how.sums.parts, how.sums.chunk
    plain, moved, dexcited, dsqueezed, of_passed, constant = (small(x, batch, channels) for _ in range(6))
    first, second = (small(x, parts, batch, channels) for _ in range(2))
    dhidden, of_x = small(x, batch, width), small(x, channels)
    dweight, dbias = small(x, channels), small(x, channels)
    passed, dx = torch.empty_like(x), torch.empty_like(x)
    launch(pass_gradient)[(how.sums.programs,)](
        *(grad, kept.mask, x, kept.mean, passed, first, second, batch, channels, pixels, parts, chunk),
        **tile_of(how.sums, last=last),
    )
    launch(excite_normalized_backward)[(batch,)](
        *(first, second, kept.mean, kept.mu, kept.variance, kept.hidden, kept.gate, weight, bias, reduce, expand),
        *(plain, moved, dexcited, dhidden, dsqueezed, eps, batch, channels, width, parts),
        **rows_of(how),
    )
    if add is None:
        launch(find_coefficients)[(how.columns,)](
            *(plain, moved, dsqueezed, kept.mean, kept.mu, kept.variance, kept.gate, weight),
            *(dweight, dbias, of_passed, of_x, constant, eps, batch, channels, pixels),
            block_n=how.block_n,
            block_c=COLUMNS,
        )
    else:  # the sums leave this process between two launches, so that what is N x C is done by PyTorch
        dweight, dbias = algebra.norm_gradients(kept, plain, moved, dsqueezed, eps)
        *sums, values = add(dweight, dbias)
        sizes = (pixels, values)
        of_passed, of_x, constant = algebra.coefficients(kept, weight, dsqueezed, (sums[0], sums[1]), sizes, eps)
    launch(blend_maps)[(how.writes.programs,)](
        *(passed, x, of_passed, of_x, constant, dx, channels, pixels, how.writes.parts),
        **tile_of(how.writes, last=last),
    )
    return Gradients(dx, passed, dweight, dbias, dhidden.t() @ kept.squeezed, dexcited.t() @ kept.hidden)


def tail_inference(
    x: Tensor, shortcut: Tensor, norm: Frozen, reduce: Tensor, expand: Tensor, launch: Launch = directly
) -> Tensor:
    """Do what `algebra.tail_inference` does: 3 passes in one launch where a sample's map is small, else 4 in 3."""
    weight, bias, mean, variance, eps = norm
    (batch, channels, pixels, width, last), how = sizes_of(x, reduce)
    out = torch.empty_like(x)
    if how.held:
        squeezed, gate, hidden = small(x, batch, channels), small(x, batch, channels), small(x, batch, width)
        launch(gate_sample)[(batch,)](
            *(x, shortcut, weight, bias, mean, variance, reduce, expand, reduce, expand),
            *(squeezed, hidden, hidden, gate, out, eps, channels, width, pixels),
            tail=True,
            **PLAIN,
            **whole_of(how, last=last),
        )
        return out
    scale, offset = tail_scaling(x, norm, reduce, expand, launch)
    launch(rectify_map)[(how.writes.programs,)](
        *(x, shortcut, scale, offset, out, out, channels, pixels, how.writes.parts),
        masked=False,
        **tile_of(how.writes, last=last),
    )
    return out


def tail_scaling(x: Tensor, norm: Frozen, reduce: Tensor, expand: Tensor, launch: Launch = directly) -> Tensor:
    """Return what `algebra.tail_scaling` does as one tensor of 2 x N x C: 1 pass in 2 launches.

    Args:
        x: N x C x H x W.
        norm: BatchNorm.
        reduce: C/r x C.
        expand: C x C/r.
        launch: Makes a kernel launchable: `launch(kernel)[grid](...)`.
    """
    weight, bias, mean, variance, eps = norm
    (batch, channels, pixels, width, last), how = sizes_of(x, reduce)
    parts, chunk = how.sums.parts, how.sums.chunk
    squeezed, gate = (small(x, batch, channels) for _ in range(2))
    hidden, total, scaling = small(x, batch, width), small(x, parts, batch, channels), small(x, 2, batch, channels)
    launch(sum_map)[(how.sums.programs,)](
        *(x, x, total, batch, channels, pixels, parts, chunk), multiplied=False, **tile_of(how.sums, last=last)
    )
    launch(excite_pooled)[(batch,)](
        *(total, squeezed, hidden, hidden, gate, scaling[0], scaling[1], weight, bias, mean, variance),
        *(reduce, expand, reduce, expand, eps, batch, channels, width, pixels, parts),
        normalized=True,
        **PLAIN,
        **rows_of(how),
    )
    return scaling
