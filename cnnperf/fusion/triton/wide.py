"""What launches give kernels of an excitation, and which kernels run in which order where it has many channels.

Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from cnnperf.fusion.triton.launch import Launch, Sizes
from cnnperf.fusion.triton.plan import Plan, Rows
from cnnperf.fusion.triton.rows import find_gate, find_hidden, find_hidden_gradients, find_squeezed_gradients

Weights = Sequence[Tensor | None]
"""Weights of both products of an excitation, and their biases or None."""


def filled(weights: Weights) -> tuple[Tensor, ...]:
    """Return weights and biases, and for a bias that is not there any tensor, which is not read."""
    reduce = cast(Tensor, weights[0])
    return tuple(reduce if one is None else one for one in weights)


def biased(weights: Weights) -> dict[str, bool]:
    """Return the constants of a kernel that say which biases there are."""
    *_, reduce_bias, expand_bias = weights
    return {"reduce_biased": reduce_bias is not None, "expand_biased": expand_bias is not None}


def kind_of(weights: Weights) -> dict[str, bool]:
    """Return the constants of a kernel for a tail's excitation, which has ReLU and the sigmoid."""
    return {**biased(weights), "silu": False, "hard": False}


def excite_rows(
    results: Sequence[Tensor],
    weights: Sequence[Tensor],
    sizes: Sizes,
    how: Plan,
    launch: Launch,
    *,
    kind: dict[str, bool],
    scaling: Sequence[Tensor] | None = None,
) -> None:
    """Write hidden values and gate from squeezed means, in 2 launches.

    Args:
        results: Squeezed means, N x C, hidden values and slopes, N x C/r, and gate, N x C.
        weights: Of both products, and their biases or any tensors.
        sizes: Of the map.
        how: The plan.
        launch: What starts the kernels.
        kind: Whether there are biases, `reduce_biased` and `expand_biased`, SiLU and the hard sigmoid.
        scaling: Scale and offset to multiply by the gate, N x C each.
    """
    squeezed, hidden, slopes, gate = results
    reduce, expand, reduce_bias, expand_bias = weights
    of_map = (sizes.batch, sizes.channels, sizes.width)
    launch(
        find_hidden,
        how.to_hidden.programs,
        *(squeezed, hidden, slopes, reduce, reduce_bias, *of_map),
        reduce_biased=kind["reduce_biased"],
        silu=kind["silu"],
        **_blocks_of(how.to_hidden),
    )
    launch(
        find_gate,
        how.to_channels.programs,
        *(hidden, gate, *((gate, gate) if scaling is None else scaling), expand, expand_bias, *of_map),
        expand_biased=kind["expand_biased"],
        hard=kind["hard"],
        scaled=scaling is not None,
        **_blocks_of(how.to_channels),
    )


def excite_rows_backward(
    gradients: Sequence[Tensor],
    hidden: Tensor,
    slopes: Tensor,
    weights: Sequence[Tensor],
    sizes: Sizes,
    how: Plan,
    launch: Launch,
    *,
    silu: bool,
) -> None:
    """Write the gradients of activation and squeezed means from those of the gate, in 2 launches.

    Args:
        gradients: Of what goes into the gate, N x C, and into the activation, N x C/r, and of squeezed means, N x C.
        hidden: After the activation, N x C/r.
        slopes: The derivative of SiLU, N x C/r, or any tensor.
        weights: Of both products.
        sizes: Of the map.
        how: The plan.
        launch: What starts the kernels.
        silu: Whether the activation is SiLU.
    """
    dexcited, dhidden, dsqueezed = gradients
    reduce, expand = weights
    of_map = (sizes.batch, sizes.channels, sizes.width)
    launch(
        find_hidden_gradients,
        how.to_hidden.programs,
        *(dexcited, dhidden, hidden, slopes, expand, *of_map),
        silu=silu,
        **_blocks_of(how.to_hidden),
    )
    launch(
        find_squeezed_gradients,
        how.to_channels.programs,
        *(dhidden, dsqueezed, reduce, *of_map),
        **_blocks_of(how.to_channels),
    )


def _blocks_of(rows: Rows) -> dict[str, int]:
    return {"block_n": rows.block_n, "block_r": rows.block_r, "block_k": rows.block_k, "num_warps": rows.warps}
