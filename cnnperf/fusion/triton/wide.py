"""Launches that several fused functions have in common: sums of a map, and the excitation.

Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from cnnperf.fusion.algebra import Frozen
from cnnperf.fusion.triton.kernels import sum_map
from cnnperf.fusion.triton.launch import Launch, Sizes, rows_of, tile_of
from cnnperf.fusion.triton.plan import Plan, Rows
from cnnperf.fusion.triton.pooled import excite_pooled
from cnnperf.fusion.triton.rows import find_gate, find_hidden, find_hidden_gradients, find_squeezed_gradients

Weights = Sequence[Tensor | None]
"""Weights of both products of an excitation, C/r x C and C x C/r, and their biases, C/r and C, or None."""


def filled(weights: Weights) -> tuple[Tensor, ...]:
    """Return weights and biases, with an arbitrary tensor, which is not read, in place of a missing bias."""
    reduce = cast(Tensor, weights[0])
    return tuple(reduce if tensor is None else tensor for tensor in weights)


def biased(weights: Weights) -> dict[str, bool]:
    """Return the constants of a kernel for the presence of both biases."""
    *_, reduce_bias, expand_bias = weights
    return {"reduce_biased": reduce_bias is not None, "expand_biased": expand_bias is not None}


def kind_of(weights: Weights, *, silu: bool = False, hard: bool = False) -> dict[str, bool]:
    """Return the constants of a kernel for an excitation, by default with ReLU and the sigmoid, as in a tail."""
    return {**biased(weights), "silu": silu, "hard": hard}


def sum_pixels(x: Tensor, other: Tensor | None, total: Tensor, sizes: Sizes, tiling: Plan, launch: Launch) -> None:
    """Write the sums of a map, or of its product with another map, in 1 launch.

    Args:
        x: N x C x H x W.
        other: Map to multiply by, N x C x H x W, or None.
        total: Results, parts x N x C.
        sizes: Sizes of the map.
        tiling: Plan for the map.
        launch: Launcher of the kernels.
    """
    batch, channels, pixels, _, last = sizes
    launch(
        sum_map,
        tiling.sums.programs,
        *(x, x if other is None else other, total, batch, channels, pixels, tiling.sums.parts, tiling.sums.chunk),
        multiplied=other is not None,
        **tile_of(tiling, tiling.sums, last=last),
    )


def excite_sums(  # noqa: PLR0913 - the tensors and constants of several kernels
    total: Tensor,
    results: Sequence[Tensor],
    weights: Sequence[Tensor],
    sizes: Sizes,
    tiling: Plan,
    launch: Launch,
    *,
    kind: dict[str, bool],
    norm: Frozen | None = None,
    scaling: Sequence[Tensor] | None = None,
) -> None:
    """Write squeezed means, hidden values and gate from sums of a map, in 1 launch, or in 3 with many channels.

    Args:
        total: Sums of the map, parts x N x C, or N x C.
        results: As in `excite_rows`.
        weights: As in `excite_rows`.
        sizes: Sizes of the map; the sums are divided by `pixels`.
        tiling: Plan for the map.
        launch: Launcher of the kernels.
        kind: As in `excite_rows`.
        norm: BatchNorm in inference to apply to the means, or None.
        scaling: Scale and offset to write, N x C each, that turn x into the gated map of `norm`, or None.
    """
    batch, channels, pixels, width, _ = sizes
    *of_norm, eps = (*weights, 0.0) if norm is None else norm  # without norm there are four tensors that are not read
    launch(
        excite_pooled,
        tiling.sample_programs,
        *(total, *results, *((results[3],) * 2 if scaling is None else scaling), *of_norm, *weights),
        *(eps, batch, channels, width, pixels, total.numel() // (batch * channels)),
        normalized=norm is not None,
        scaled=scaling is not None,
        **kind,
        whole=not tiling.wide,
        **rows_of(tiling),
    )
    if tiling.wide:
        excite_rows(results, weights, sizes, tiling, launch, kind=kind, scaling=scaling)


def excite_rows(
    results: Sequence[Tensor],
    weights: Sequence[Tensor],
    sizes: Sizes,
    tiling: Plan,
    launch: Launch,
    *,
    kind: dict[str, bool],
    scaling: Sequence[Tensor] | None = None,
) -> None:
    """Write hidden values and gate from squeezed means, in 2 launches.

    Args:
        results: Squeezed means, N x C, hidden values and slopes, N x C/r, and gate, N x C.
        weights: Weights and biases as `filled` returns them.
        sizes: Sizes of the map.
        tiling: Plan for the map.
        launch: Launcher of the kernels.
        kind: Constants as `kind_of` returns them.
        scaling: Scale and offset to multiply by the gate, N x C each, or None.
    """
    squeezed, hidden, slopes, gate = results
    reduce, expand, reduce_bias, expand_bias = weights
    of_map = (sizes.batch, sizes.channels, sizes.width)
    launch(
        find_hidden,
        tiling.to_hidden.programs,
        *(squeezed, hidden, slopes, reduce, reduce_bias, *of_map),
        reduce_biased=kind["reduce_biased"],
        silu=kind["silu"],
        **_blocks_of(tiling.to_hidden),
    )
    launch(
        find_gate,
        tiling.to_channels.programs,
        *(hidden, gate, *((gate, gate) if scaling is None else scaling), expand, expand_bias, *of_map),
        expand_biased=kind["expand_biased"],
        hard=kind["hard"],
        scaled=scaling is not None,
        **_blocks_of(tiling.to_channels),
    )


def excite_rows_backward(
    gradients: Sequence[Tensor],
    hidden: Tensor,
    slopes: Tensor,
    weights: Sequence[Tensor],
    sizes: Sizes,
    tiling: Plan,
    launch: Launch,
    *,
    silu: bool,
) -> None:
    """Write the gradients of the activation's input and of the squeezed means, in 2 launches.

    Args:
        gradients: Gradients of the gate's input, N x C, which is read, and of the activation's input, N x C/r, and the
            squeezed means, N x C, which are written.
        hidden: Hidden values after the activation, N x C/r.
        slopes: Derivatives of SiLU, N x C/r; not read with ReLU.
        weights: Weights of both products.
        sizes: Sizes of the map.
        tiling: Plan for the map.
        launch: Launcher of the kernels.
        silu: Whether the activation is SiLU.
    """
    dexcited, dhidden, dsqueezed = gradients
    reduce, expand = weights
    of_map = (sizes.batch, sizes.channels, sizes.width)
    launch(
        find_hidden_gradients,
        tiling.to_hidden.programs,
        *(dexcited, dhidden, hidden, slopes, expand, *of_map),
        silu=silu,
        **_blocks_of(tiling.to_hidden),
    )
    launch(
        find_squeezed_gradients,
        tiling.to_channels.programs,
        *(dhidden, dsqueezed, reduce, *of_map),
        **_blocks_of(tiling.to_channels),
    )


def _blocks_of(rows: Rows) -> dict[str, int]:
    return {"block_n": rows.block_n, "block_r": rows.block_r, "block_k": rows.block_k, "num_warps": rows.warps}
