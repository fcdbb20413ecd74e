"""From the device that a person asks for to those of this machine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cnnperf.errors import OptionError


def devices_for(wanted: str, option: str = "--cnnperf-device") -> tuple[str, ...]:
    """Return the devices that are meant, such as `cpu` and `cuda`.

    Args:
        wanted: `auto`, `cpu`, `cuda` or `cuda:N`.
        option: Its name, for errors.

    Raises:
        OptionError: If it is none of these, or a CUDA device that this machine or this build of PyTorch lacks.
    """
    kind, colon, index = wanted.partition(":")
    finders: dict[str, Callable[[str, str], tuple[str, ...]]] = {"auto": _auto, "cpu": _cpu, "cuda": _cuda}
    if kind not in finders or (colon and (kind != "cuda" or not index.isdecimal())):
        raise OptionError(f"{option} takes auto, cpu, cuda or cuda:N, not {wanted!r}")
    return finders[kind](index, option)


def _auto(_: str, __: str) -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def _cpu(_: str, __: str) -> tuple[str, ...]:
    return ("cpu",)


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
