"""Resolution of the option `--cnnperf-device` to devices of this machine."""

from __future__ import annotations

import torch

from cnnperf.errors import OptionError


def devices_for(choice: str, option: str = "--cnnperf-device") -> tuple[str, ...]:
    """Return the devices that an option selects; `auto` selects the CPU and, if there is one, the GPU.

    Args:
        choice: `auto`, `cpu`, `cuda` or `cuda:N`.
        option: Name of the option, for errors.

    Raises:
        OptionError: If the choice is none of these, or a CUDA device that this machine or PyTorch build lacks.
    """
    kind, colon, index = choice.partition(":")
    if choice == "cpu":
        return ("cpu",)
    if choice == "auto":
        return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if kind == "cuda" and (index.isdecimal() or not colon):
        return _cuda(index, option)
    raise OptionError(f"{option} takes auto, cpu, cuda or cuda:N, not {choice!r}")


def _cuda(index: str, option: str) -> tuple[str, ...]:
    if not torch.backends.cuda.is_built():
        raise OptionError(
            f"{option} cuda: this PyTorch ({torch.__version__}) was built without CUDA; install a build with CUDA, or "
            f"use {option} cpu"
        )
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or int(index or 0) >= count:
        name = f"cuda:{index}" if index else "cuda"
        raise OptionError(f"{option} {name}: this machine has {count} CUDA devices that PyTorch can use")
    return (f"cuda:{index}" if index else "cuda",)
