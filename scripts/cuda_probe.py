"""Report what a machine with a CUDA device has, and whether the benchmarks work there: cuda_probe.py FILE.

Each question is asked by itself: one that fails is written down with its error, and the next is asked.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

SIZE = (64, 64, 32, 32)
ROUNDS = 50
PACKAGES = ("torch", "triton", "pytest", "pytest-benchmark", "pytest-xdist", "numpy", "pandas", "timm", "nvidia-ml-py")


def versions() -> dict[str, Any]:
    """Return versions of what is installed; None for what is not."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Any]:
    """Return the environment as runs save it."""
    from cnnperf.measure.environment import read_environment

    return dict(read_environment(cpu_allocator="system", input_kind="synthetic"))


def kernels() -> dict[str, Any]:
    """Return whether our kernels can be used, and how far one of Triton's is from PyTorch's result."""
    import torch

    from cnnperf.fusion.excitation import Excitation, squeeze_and_excite
    from cnnperf.fusion.native import build as native
    from cnnperf.fusion.triton import functions as gpu

    x = torch.randn(SIZE, device="cuda")
    excitation = Excitation(torch.randn(4, SIZE[1], device="cuda"), torch.randn(SIZE[1], 4, device="cuda"))
    found = {"native": native.available(), "triton": gpu.available()}
    exact = squeeze_and_excite(x.double(), Excitation(*(one.double() for one in excitation[:2])))
    error = (gpu.gate(x, excitation).double() - exact).norm() / exact.norm()
    return found | {"error": float(error)}


def host_time() -> dict[str, Any]:
    """Return the host's seconds for an operator of PyTorch, for SE in our kernels, and for SE operator by operator."""
    import torch

    from cnnperf.fusion.excitation import Excitation, squeeze_and_excite
    from cnnperf.fusion.triton import functions as gpu

    x = torch.randn(SIZE, device="cuda")
    excitation = Excitation(torch.randn(4, SIZE[1], device="cuda"), torch.randn(SIZE[1], 4, device="cuda"))
    calls: dict[str, Callable[[], Any]] = {
        "an operator": lambda: x + 1,
        "fused SE": lambda: gpu.gate(x, excitation),
        "textbook SE": lambda: squeeze_and_excite(x, excitation),
    }
    return {name: _enqueueing(call) for name, call in calls.items()}


def device_time() -> dict[str, Any]:
    """Return the device's seconds for a product of matrices behind a full queue, between events, and by the profiler.

    The profiler comes last, because it stays attached.
    """
    import torch

    from cnnperf.measure.clock import CudaClock
    from cnnperf.measure.device import device_latency

    weight = torch.randn(4096, 4096, device="cuda")

    class Product:
        def setup(self) -> None:
            pass

        def run(self) -> None:
            weight @ weight

    subject, clock = Product(), CudaClock(torch.device("cuda"))
    subject.run()
    own = device_latency(subject, clock)
    event = statistics.median(clock.read(subject.run).event or 0.0 for _ in range(9))
    return {"behind a queue": None if own is None else own.value, "events": event, "profiler": _profiled(subject.run)}


def load() -> dict[str, Any]:
    """Return clock, power, energy and slowdowns of the GPU under products of matrices."""
    import torch

    from cnnperf.measure.clock import CudaClock
    from cnnperf.measure.load import read_load
    from cnnperf.measure.nvml import Gpu

    device = torch.device("cuda", torch.cuda.current_device())
    gpu = Gpu.of(device)
    if gpu is None:
        return {"gpu": "NVML is not there; install nvidia-ml-py"}
    weight = torch.randn(4096, 4096, device="cuda")
    found = read_load(lambda: weight @ weight, CudaClock(device), gpu, latency=5e-3)
    values = {name: getattr(found, name) for name in ("sm_clock", "power", "energy")}
    numbers = {name: None if value is None else value.value for name, value in values.items()}
    return numbers | {"slowdowns": list(found.slowdowns)}


def ceilings() -> dict[str, Any]:
    """Return what the device does on a plain copy and on plain products."""
    import torch

    from cnnperf.measure.ceilings import measure_ceilings

    return dict(measure_ceilings(torch.device("cuda")))


def copies() -> dict[str, Any]:
    """Return the seconds of copying 512 images of 32 x 32 to the device."""
    import torch

    from cnnperf.measure.clock import clock_for
    from cnnperf.measure.transfers import measure_transfers

    device = torch.device("cuda")
    found = measure_transfers(torch.randn(512, 3, 32, 32), device, clock_for(device))
    return {name: value.value for name, value in found.items()}


QUESTIONS: tuple[Callable[[], dict[str, Any]], ...] = (
    versions,
    machine,
    kernels,
    host_time,
    load,
    ceilings,
    copies,
    device_time,
)
"""In their order; what attaches the profiler comes last."""


def _enqueueing(call: Callable[[], Any]) -> float:
    import torch

    seconds = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[ROUNDS // 5 :])


def _profiled(call: Callable[[], Any]) -> float:
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    return sum(event.device_time_total for event in profiler.key_averages()) / 1e6


def ask_all(questions: tuple[Callable[[], dict[str, Any]], ...]) -> dict[str, Any]:
    """Return the answer to each question by its name, or `error` with what it ended in."""
    answers: dict[str, Any] = {}
    for question in questions:
        try:
            answers[question.__name__] = question()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            answers[question.__name__] = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        print(question.__name__, json.dumps(answers[question.__name__], default=str), flush=True)  # noqa: T201 - a script
    return answers


def main(arguments: list[str]) -> int:
    """Ask all, write the answers to a file; return 1 where a question failed."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    os.environ.setdefault("TEARDOWN_CUPTI", "1")  # or the profiler would slow what follows in this process
    answers = ask_all(QUESTIONS)
    Path(arguments[0]).write_text(json.dumps(answers, indent=1, default=str), encoding="utf-8")
    return int(any("trace" in answer for answer in answers.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
