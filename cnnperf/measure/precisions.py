"""Table of precisions: the types of stored numbers and of operands. Adding a precision is adding a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

LOSS_SCALE = 2.0**10
"""Initial scale of an fp16 loss, at which gradients neither vanish nor overflow, so that no step is skipped."""


@dataclass(frozen=True)
class Precision:
    """Row of the table.

    Attributes:
        dtype: Type of parameters and images.
        operands: Plain precision of the operands of convolutions and matrix products, for counts and ceilings.
        autocast: Operand type under `torch.autocast`; None without it.
        conv_tf32: Whether cuDNN may round the operands of convolutions to TF32.
        matmul_tf32: Whether the operands of matrix products may be rounded to TF32.
        cuda_only: Reason why a CPU lacks it; empty if it does not.
    """

    dtype: torch.dtype
    operands: str
    autocast: torch.dtype | None = None
    conv_tf32: bool = False
    matmul_tf32: bool = False
    cuda_only: str = ""

    @property
    def scales_loss(self) -> bool:
        """Whether training scales the loss, because small fp16 gradients would vanish."""
        return self.autocast is torch.float16

    def autocasting(self, device_type: str) -> AbstractContextManager[object]:
        """Return the context in which networks are called; it may be entered again after it is left, but not nested."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device_type, self.autocast)


_NO_TF32 = "TF32 is a mode of CUDA's matrix units; a CPU has none"
PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(torch.float32, "fp32"),
    "conv_tf32": Precision(torch.float32, "tf32", conv_tf32=True, cuda_only=_NO_TF32),
    "tf32": Precision(torch.float32, "tf32", conv_tf32=True, matmul_tf32=True, cuda_only=_NO_TF32),
    "bf16": Precision(torch.bfloat16, "bf16"),
    "fp16": Precision(torch.float16, "fp16"),
    "amp": Precision(torch.float32, "bf16", autocast=torch.bfloat16),
    "amp_fp16": Precision(torch.float32, "fp16", autocast=torch.float16),
}
"""Rows by value of the axis `precision`; `conv_tf32` is PyTorch's default on CUDA."""

DTYPES = {name: precision.dtype for name, precision in PRECISIONS.items()}


def by_operands(values: Mapping[str, float]) -> dict[str, float]:
    """Return a number for each precision from one for each precision of operands."""
    return {name: values[precision.operands] for name, precision in PRECISIONS.items()}


@contextmanager
def allowed_tf32(precision: str) -> Iterator[None]:
    """Allow or forbid TF32 inside the block as a precision requires; restore the flags after it.

    These are PyTorch's older flags, which work together in all versions; mixed with the newer `fp32_precision` they
    raise (https://docs.pytorch.org/docs/stable/notes/cuda.html, "TensorFloat-32").
    """
    row = PRECISIONS[precision]
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = row.matmul_tf32, row.conv_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


@contextmanager
def cudnn_benchmark(*, enabled: bool) -> Iterator[None]:
    """Set whether cuDNN benchmarks its convolution algorithms inside the block; restore the flag after it."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
