"""The fused tail in training on a GPU: the sequence of kernels. The signatures are those of `algebra`.

Maps are in fp32, bf16 or fp16, all of one layout, contiguous or channels_last. Parameters and running statistics are
contiguous and in one of these dtypes, too. Tensors saved for the backward are in fp32, gradients of parameters in the
dtypes of the parameters. Importing this module imports triton; `functions` does so on the first call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cnnperf.fusion.algebra import Add, Forward, Gradients, Merge, Parameters
from cnnperf.fusion.triton.coefficients import find_coefficients
from cnnperf.fusion.triton.counters import counters_for
from cnnperf.fusion.triton.gradients import find_gate_gradients, pass_gradient
from cnnperf.fusion.triton.kernels import blend_maps, rectify_map
from cnnperf.fusion.triton.launch import Launch, block_of, launch_for, rows_of, sizes_of, tile_of
from cnnperf.fusion.triton.normalized import excite_normalized
from cnnperf.fusion.triton.plan import COLUMNS
from cnnperf.fusion.triton.statistics import find_batch_moments, sum_moments
from cnnperf.fusion.triton.wide import biased, excite_rows, excite_rows_backward, filled, kind_of


class Running(NamedTuple):
    """Running statistics that a forward updates.

    Attributes:
        mean: Running mean, C.
        variance: Running unbiased variance, C.
        batches: Number of batches so far, int64 without dimensions, or None if batches are not counted.
        momentum: Weight of the new batch; None for the cumulative average, which is not updated without a count.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor | None
    momentum: float | None


def tail_forward(
    x: Tensor,
    shortcut: Tensor,
    parameters: Parameters,
    eps: float,
    merge: Merge | None = None,
    running: Running | None = None,
    launch: Launch | None = None,
    *,
    apart: bool = False,
) -> Forward:
    """Compute `algebra.tail_forward` in 3 launches: 4 passes and the mask.

    A very large batch takes one more launch, and many channels two more.

    Args:
        x: N x C x H x W.
        shortcut: N x C x H x W.
        parameters: Parameters of BatchNorm and excitation.
        eps: BatchNorm's eps.
        merge: Exchange of moments, if the batch is spread over processes; the caller then updates running statistics.
        running: Running statistics to update, or None.
        launch: Launcher of the kernels; None for the usual one.
        apart: Whether results must not share an allocation.

    Returns:
        The output and the tensors for the backward.
    """
    weight, bias, *weights = parameters
    sizes, tiling = sizes_of(x, parameters.reduce)
    batch, channels, pixels, width, last = sizes
    parts, chunk = tiling.sums.parts, tiling.sums.chunk
    tracked = () if running is None else (running.mean, running.variance, running.batches)
    if launch is None:
        launch = launch_for("tail_forward", x, (shortcut, *parameters, *tracked), width, _is_cumulative(running))
    of_channels, of_hidden, single = (batch, channels), (batch, width), parts == 1
    # The mean of a single part is that of the sample. Temporary tensors share the allocation of results, because they
    # are small compared with a map.
    partial = [of_channels] if single else [(parts, *of_channels)] * 2
    mean, squeezed, gate, hidden, mu, variance, *sums = block_of(
        x,
        torch.float32,
        of_channels,
        of_channels,
        of_channels,
        of_hidden,
        (channels,),
        (channels,),
        *partial,
        apart=apart,
    )
    means, squares = (mean, *sums) if single else sums
    out, mask = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
    statistics = _statistics_of(running, mu, variance)
    of_sums = (batch, channels, pixels, parts, chunk)
    kind = {"tracked": running is not None, "cumulative": _is_cumulative(running)}
    blocks = -(-channels // tiling.sums.block_c)
    launch(
        sum_moments,
        tiling.sums.programs,
        *(
            x,
            means,
            squares,
            counters_for(x, blocks) if tiling.concludes else means,
            mu,
            variance,
            *statistics,
            *of_sums,
        ),
        concluding=tiling.concludes,
        **kind,
        rows=tiling.rows,
        **tile_of(tiling, tiling.sums, last=last),
    )
    if not tiling.concludes:
        launch(
            find_batch_moments,
            tiling.columns,
            *(means, squares, mu, variance, *statistics, *of_sums),
            **kind,
            rows=tiling.block_n,
            block_c=COLUMNS,
        )
    if merge is not None:
        mu, variance = merge(mu, variance)
    given_weights = filled(weights)
    launch(
        excite_normalized,
        tiling.sample_programs,
        *(means, mean, mu, variance, squeezed, hidden, gate, weight, bias, *given_weights),
        *(statistics[2], eps, batch, channels, width, pixels, parts, chunk),
        counted=running is not None and running.batches is not None,
        single=single,
        whole=not tiling.wide,
        **biased(weights),
        **rows_of(tiling),
    )
    if tiling.wide:
        results = (squeezed, hidden, hidden, gate)
        excite_rows(results, given_weights, sizes, tiling, launch, kind=kind_of(weights))
    launch(
        rectify_map,
        tiling.writes.programs,
        *(x, shortcut, weight, bias, mu, variance, gate, out, mask, eps, channels, pixels, tiling.writes.parts),
        masked=True,
        **tile_of(tiling, tiling.writes, last=last),
    )
    return Forward(out, mask, mean, mu, variance, squeezed, hidden, gate)


def tail_backward(
    grad: Tensor,
    x: Tensor,
    saved: Forward,
    parameters: Parameters,
    eps: float,
    add: Add | None = None,
    launch: Launch | None = None,
    *,
    apart: bool = False,
) -> Gradients:
    """Compute `algebra.tail_backward` in 3 launches, or 6 with many channels: 6 passes and the mask.

    Args:
        grad: Gradient of the output, N x C x H x W.
        x: As in the forward.
        saved: Results of the forward; `out` is not used.
        parameters: As in the forward.
        eps: As in the forward.
        add: Exchange of sums, if the batch is spread over processes.
        launch: Launcher of the kernels; None for the usual one.
        apart: Whether results must not share an allocation.

    Returns:
        All gradients, including those of biases that the excitation does not have.
    """
    weight, bias, reduce, expand, *_ = parameters
    sizes, tiling = sizes_of(x, reduce)
    batch, channels, pixels, width, last = sizes
    parts, chunk = tiling.sums.parts, tiling.sums.chunk
    if launch is None:
        launch = launch_for("tail_backward", x, (grad, *saved[1:], weight, bias, reduce, expand), width)
    of_channels, of_hidden, sums = (batch, channels), (batch, width), (parts, batch, channels)
    plain, moved, dexcited, dsqueezed, dhidden, of_x, constant, first, second = block_of(
        x, torch.float32, *[of_channels] * 4, of_hidden, (channels,), (channels,), sums, sums
    )
    passed, dx = torch.empty_like(x), torch.empty_like(x)
    _, mask, mean, mu, variance, squeezed, hidden, gate = saved
    launch(
        pass_gradient,
        tiling.sums.programs,
        *(grad, mask, x, passed, first, second, counters_for(x, batch), mean, mu, variance, hidden, gate),
        *(weight, bias, reduce, expand, plain, moved, dexcited, dhidden, dsqueezed),
        *(eps, batch, channels, width, pixels, parts, chunk),
        ending=not tiling.wide,
        row_c=tiling.row_c,
        row_h=tiling.row_h,
        row_parts=tiling.row_parts,
        **tile_of(tiling, tiling.sums, last=last) | ({} if tiling.wide else {"num_warps": tiling.ending_warps}),
    )
    if tiling.wide:
        launch(
            find_gate_gradients,
            tiling.sample_programs,
            *(first, second, mean, mu, variance, gate, weight, bias, plain, moved, dexcited),
            *(eps, batch, channels, parts),
            row_c=tiling.row_c,
            row_parts=tiling.row_parts,
        )
        dexcitation = (dexcited, dhidden, dsqueezed)
        excite_rows_backward(dexcitation, hidden, hidden, (reduce, expand), sizes, tiling, launch, silu=False)
    gradients = _gradients_like(x, weight, bias, reduce, expand, apart=apart)
    launch(
        find_coefficients,
        tiling.products,
        *(plain, moved, dexcited, dhidden, dsqueezed, mean, mu, variance, squeezed, hidden, gate, weight),
        *(*gradients, of_x, constant, eps, batch, channels, width, pixels),
        block_n=tiling.product_n,
        block_c=tiling.product_c,
        block_h=tiling.product_h,
        num_warps=tiling.product_warps,
    )
    if add is not None:  # processes exchange sums between two launches
        *total, values = add(gradients[0], gradients[1])
        inverse = torch.rsqrt(variance + eps)
        of_x = -weight * inverse * inverse * total[0] / values
        constant = -weight * inverse * total[1] / values - of_x * mu
    launch(
        blend_maps,
        tiling.writes.programs,
        *(passed, x, weight, variance, gate, dsqueezed, of_x, constant, dx, eps, channels, pixels, tiling.writes.parts),
        **tile_of(tiling, tiling.writes, last=last),
    )
    return Gradients(dx, passed, *gradients)


def _is_cumulative(running: Running | None) -> bool:
    """Return whether running statistics are averages over all batches, which need a count of batches."""
    return running is not None and running.momentum is None and running.batches is not None


def _statistics_of(running: Running | None, mu: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return running mean and variance, number of batches and momentum; missing tensors are replaced and not read."""
    if running is None:
        return mu, variance, mu, 0.0
    batches = mu if running.batches is None else running.batches
    return running.mean, running.variance, batches, 0.0 if running.momentum is None else float(running.momentum)


def _gradients_like(
    x: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, expand: Tensor, *, apart: bool
) -> list[Tensor]:
    """Return new tensors like the parameters and both biases of the excitation, in one allocation if possible.

    All are small and live equally long.
    """
    width, channels = reduce.shape
    sizes = (weight.shape, bias.shape, reduce.shape, expand.shape, (width,), (channels,))
    dtypes = [parameter.dtype for parameter in (weight, bias, reduce, expand, reduce, expand)]
    if len(set(dtypes)) == 1 and not apart:
        return block_of(x, dtypes[0], *sizes)
    return [x.new_empty(size, dtype=dtype) for size, dtype in zip(sizes, dtypes, strict=True)]
