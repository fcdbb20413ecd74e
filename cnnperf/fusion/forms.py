"""The forms in which the fused functions exist, and which one a tensor gets.

A form is a pair of functions with the signatures of `algebra.tail_forward` and `algebra.tail_backward`. Those that
`synchronized` uses take the last argument too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cnnperf.fusion import algebra, gpu, native, operators
from cnnperf.fusion.algebra import Forward, Gradients, Parameters


@dataclass(frozen=True)
class Form:
    """One implementation of the tail in training."""

    forward: Callable[..., Forward]
    backward: Callable[..., Gradients]


def fits_native(x: Tensor, *others: Tensor) -> bool:
    """Tell whether the C++ kernels take these maps: on the CPU, of one shape and a dtype that they know, not empty."""
    for one in others:
        if not (one.is_cpu and one.dtype is x.dtype and one.shape == x.shape):
            return False
    return x.is_cpu and x.dtype in native.DTYPES and x.numel() > 0 and native.available()


@cache
def compiled() -> Form:
    """Return the algebra compiled with torch.compile, forward and backward each one graph."""
    return Form(torch.compile(algebra.tail_forward), torch.compile(algebra.tail_backward))


TRITON = Form(gpu.tail_forward, gpu.tail_backward)
ALGEBRA = Form(algebra.tail_forward, algebra.tail_backward)


def fits_kernels(*maps: Tensor) -> bool:
    """Tell whether kernels of ours take these maps: C++ on the CPU, Triton on a GPU."""
    return gpu.fits(*maps) if maps[0].is_cuda else fits_native(*maps)


def form_for(x: Tensor, shortcut: Tensor) -> Form:
    """Return the form for maps that are not for C++: Triton on a GPU where it takes them, else the algebra."""
    if not x.is_cuda:
        return ALGEBRA
    return TRITON if gpu.fits(x, shortcut) else compiled()


def traced_forward(x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float) -> Forward:
    """Do what `algebra.tail_forward` does as one operator with a derivative, for use in a compilation."""
    return Forward(*operators.tail_training(x, shortcut, *parameters, eps))
