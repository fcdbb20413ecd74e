"""Building and loading of the C++ kernels, once per machine, with the compiler that torch.compile also needs.

Nothing is built before the first call. The library is stored in a cache folder. Its name is a hash of source, compiler,
CPU and version of PyTorch, so that another version or machine builds its own.
"""

from __future__ import annotations

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

DTYPES = (torch.float32, torch.bfloat16)
"""Dtypes of maps that the kernels read and write."""

_WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
_FLAGS = (
    *("-O3", "-march=native", *_WIDE, "-std=c++20", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"),
)
_SOURCES = ("operators.cpp", "kernels.h")


def available() -> bool:
    """Return whether the kernels can be used; if they cannot be built, warn once with the reason."""
    return _load() is None


# torch.compiler.assume_constant_result does the same, but would import Dynamo with every import of this package.
available._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001


def reason_unavailable() -> str | None:
    """Return why the kernels cannot be used and what to do about it; None if they can."""
    return _load()


@cache
def _load() -> str | None:
    """Build and load the kernels; if that fails, warn and return the reason."""
    reason = _build_and_load()
    if reason is not None:
        text = f"cnnperf's C++ kernels are not used: {reason}; PyTorch's own operators run instead"
        warnings.warn(text, stacklevel=4)
    return reason


def _build_and_load() -> str | None:
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None:
        return "there is no C++ compiler; install g++"
    try:
        path = _cache_folder() / f"kernels-{_fingerprint(compiler)}.so"
        if not path.exists():
            _build(compiler, path)
        torch.ops.load_library(str(path))
    except subprocess.CalledProcessError as error:
        return f"{compiler} did not build them: {(error.stderr.strip() or str(error)).splitlines()[0]}"
    except (OSError, RuntimeError, ValueError) as error:  # no compiler, no writable folder, no home, unpaired quotes
        return f"{compiler} did not build them: {error}"
    return None


def _build(compiler: str, path: Path) -> None:
    """Compile next to the target and then rename the result, so that no process loads an incomplete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    installed = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for name, source in _sources().items():
            Path(folder, name).write_bytes(source)
        built = Path(folder, "kernels.so")
        torch_flags = (f"-I{installed / 'include'}", f"-L{installed / 'lib'}", "-ltorch_cpu")
        command = [*shlex.split(compiler), *_FLAGS, str(Path(folder, _SOURCES[0])), "-o", str(built), *torch_flags]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - the user's own compiler
        built.replace(path)


def _sources() -> dict[str, bytes]:
    return {name: resources.files("cnnperf.fusion.native").joinpath(name).read_bytes() for name in _SOURCES}


def _fingerprint(compiler: str) -> str:
    parts = (compiler, *_FLAGS, platform.machine(), _cpu_model(), torch.__version__)
    return hashlib.sha256(b"".join(_sources().values()) + "\n".join(parts).encode()).hexdigest()[:16]


def _cpu_model() -> str:
    """Return a text that identifies the instructions of the CPU, for which -march=native builds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnperf"
