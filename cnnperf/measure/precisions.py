"""The precisions: how numbers are held and multiplied, as a table. Adding one is adding a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

LOSS_SCALE = 2.0**10
"""Scale of a loss in fp16 that it begins with: gradients neither vanish nor overflow, so that no step is left out."""


@dataclass(frozen=True)
class Precision:
    """One row of the table.

    Attributes:
        dtype: Of parameters and images.
        autocast: Dtype that `torch.autocast` gives convolutions and products, or None without it.
        conv_tf32: Whether cuDNN may round what goes into a convolution to TF32.
        matmul_tf32: Whether matrix products may.
        operands: Precision of what convolutions and products read: a plain one, for counts and ceilings.
        cuda_only: Why a CPU has it not, or empty.
    """

    dtype: torch.dtype
    operands: str
    autocast: torch.dtype | None = None
    conv_tf32: bool = False
    matmul_tf32: bool = False
    cuda_only: str = ""

    @property
    def scales_loss(self) -> bool:
        """Whether training scales the loss, because small gradients would vanish in fp16."""
        return self.autocast is torch.float16

    def autocasting(self, device_type: str) -> AbstractContextManager[object]:
        """Return what a network and its loss run in; it can be entered again and again."""
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
"""Name on the axis `precision` to its row. `conv_tf32` is what PyTorch does by itself on CUDA."""

DTYPES = {name: precision.dtype for name, precision in PRECISIONS.items()}


def by_operands(values: Mapping[str, float]) -> dict[str, float]:
    """Return a number for each precision from one for each kind of operands."""
    return {name: values[precision.operands] for name, precision in PRECISIONS.items()}


@contextmanager
def allowed_tf32(precision: str) -> Iterator[None]:
    """Allow TF32 inside as a precision says, forbid it otherwise, and restore the flags.

    Both are PyTorch's older flags, which agree with each other in all versions; mixed with the newer
    `fp32_precision` they raise (https://docs.pytorch.org/docs/stable/notes/cuda.html, "TensorFloat-32").
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
    """Let cuDNN choose convolutions by trying them, or not, inside; and restore what was set."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
