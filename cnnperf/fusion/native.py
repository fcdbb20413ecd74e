"""The C++ kernels: built once for this machine with the compiler that torch.compile needs too, then loaded.

Nothing is built before the first call. The library lies in a cache folder under a name made of the source, the compiler
and the CPU, so that another version or machine builds its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
"""The dtypes of maps that the kernels read and write, and how they are called there."""

_WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
_FLAGS = (
    *("-O3", "-march=native", *_WIDE, "-std=c++17", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"),
)
_SIZE, _POINTER, _FLOAT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
_SHAPE = (_SIZE,) * 5
_EXCITATION = (_POINTER, _POINTER, _SIZE)
_KIND = (_POINTER, _POINTER, _SIZE, _SIZE)
_NORM = (_POINTER, _POINTER, _FLOAT)
_SIGNATURES = {
    "se_forward": (*_SHAPE, _POINTER, *_EXCITATION, *_KIND, *(_POINTER,) * 6),
    "se_backward": (*_SHAPE, *(_POINTER,) * 2, *_EXCITATION, *_KIND, *(_POINTER,) * 8),
    "tail_forward": (*_SHAPE, *(_POINTER,) * 2, *_NORM, *_EXCITATION, *(_POINTER,) * 9),
    "tail_backward": (*_SHAPE, *(_POINTER,) * 3, *_NORM, *_EXCITATION, *(_POINTER,) * 13),
    "tail_inference": (*_SHAPE, *(_POINTER,) * 4, *_EXCITATION, *(_POINTER,) * 2),
}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # it ships no types
def available() -> bool:
    """Tell whether the kernels can be used here; where they cannot be built, a warning says why, once."""
    return _library() is not None


def call(name: str, x: Tensor, *arguments: Tensor | float | None) -> None:
    """Run a kernel on a map.

    Args:
        name: A key of the signatures, without the dtype.
        x: The map that gives shape, layout and dtype, N x C x H x W, contiguous or channels_last.
        arguments: What follows the shape in the kernel's signature; tensors are given by their address, None
            as that of nothing.

    Raises:
        RuntimeError: If the kernels could not be built.
    """
    batch, channels, height, width = x.shape
    shape = (batch, channels, height * width, 0 if x.is_contiguous() else 1, torch.get_num_threads())
    given = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
    getattr(_loaded(), f"{name}_{NAMES[x.dtype]}")(*shape, *given)


def _loaded() -> ctypes.CDLL:
    library = _library()
    if library is None:
        raise RuntimeError("the C++ kernels could not be built; ask `available()` first")
    return library


@cache
def _library() -> ctypes.CDLL | None:
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None:
        _warn("there is no C++ compiler; install g++")
        return None
    source = resources.files("cnnperf.fusion").joinpath("kernels.cpp").read_bytes()
    try:
        path = _cache_folder() / f"kernels-{_fingerprint(source, compiler)}.so"
        if not path.exists():
            _build(compiler, source, path)
        library = ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        _warn(f"{compiler} did not build them: {(error.stderr.strip() or str(error)).splitlines()[0]}")
        return None
    except (OSError, RuntimeError, ValueError) as error:  # no compiler, no folder to write to, no home, unpaired quotes
        _warn(f"{compiler} did not build them: {error}")
        return None
    for name, arguments in _SIGNATURES.items():
        for dtype in NAMES.values():
            function = getattr(library, f"{name}_{dtype}")
            function.argtypes, function.restype = arguments, None
    return library


def _warn(reason: str) -> None:
    warnings.warn(f"cnnperf's C++ kernels are not used: {reason}; PyTorch's own operators run instead", stacklevel=5)


def _build(compiler: str, source: bytes, path: Path) -> None:
    """Compile beside the target and move the result there, so that no process ever loads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        code, built = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        code.write_bytes(source)
        command = [*shlex.split(compiler), *_FLAGS, str(code), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - the user's own compiler
        built.replace(path)


def _fingerprint(source: bytes, compiler: str) -> str:
    parts = (compiler, *_FLAGS, platform.machine(), _cpu_model())
    return hashlib.sha256(source + "\n".join(parts).encode()).hexdigest()[:16]


def _cpu_model() -> str:
    """Return what tells CPUs with different instructions apart; -march=native builds for this one only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnperf"
