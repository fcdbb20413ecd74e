"""What can be asked of a scaling run, checked before the processes meet."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnperf.errors import OptionError
from cnnperf.measure.support import cpu_cores
from cnnperf.models.architecture import Architecture
from cnnperf.suite.plan import CPU_BATCH, CPU_BATCH_OTHERS, CUDA_BATCH, Plan

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
DEFAULT = ("lenet5", "resnet18", "se_resnet18_fused")
DESCRIPTION = """\
Train networks on 1, 2, 4, ... processes with DistributedDataParallel, all sizes in turn within one run, and tell how
throughput grows: with a batch for each process (weak scaling) and with one batch that they share (strong scaling), how
many bytes they exchange, how much of a step goes into waiting, and which process is the slowest.
"""
EPILOG = """\
examples:
  torchrun --standalone --nproc-per-node 2 -m cnnperf.scaling
  torchrun --standalone --nproc-per-node 4 -m cnnperf.scaling 'se_resnet18*' --device cuda --batch 512 --time 5
  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 -m cnnperf.scaling

Processes exchange by gloo on the CPU and by NCCL on CUDA, where each has a device of its own. Efficiency is against one
process with as many threads. The run is saved by the first process, as those of `pytest benchmarks` are.

exit status of each process (torchrun's own is 1 for any but 0):
  0  measured and saved
  1  a process died or did not answer within --timeout and ten seconds; what was measured is kept in a journal
  2  bad arguments, wrong results, nothing that could be measured, or a file that cannot be written
"""


@dataclass(frozen=True)
class Place:
    """Place of this process among all, as torchrun sets it.

    Attributes:
        rank: From 0, among all.
        size: Number of all.
        local_rank: From 0, among those of this machine.
        local_size: Number of those of this machine.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Place:
        """Read it from the environment.

        Raises:
            OptionError: If torchrun did not start this process.
        """
        wrong = [name for name in NUMBERS if not environment.get(name, "").isdecimal()]
        wrong += [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
        if wrong:
            raise OptionError(
                f"{wrong[0]} is not set as torchrun sets it: start it with `torchrun --standalone --nproc-per-node 2 "
                "-m cnnperf.scaling`"
            )
        return cls(*(int(environment[name]) for name in NUMBERS))


@dataclass(frozen=True)
class Request:
    """Parameters of a scaling run.

    Attributes:
        architectures: The networks.
        device: `cpu` or `cuda`.
        batch: Images of one process in weak scaling, and of all in strong scaling; None: by architecture and device.
        threads: Of each process.
        seconds: Budget of each way to train: alone, and for each larger number of processes weak and strong, each with
            and without communication.
        interval: Wanted half-width of the ratios, relative.
        timeout: Seconds that a process waits for another.
        storage: Folder of the runs.
        out: The run file, or None for one in the storage.
    """

    architectures: tuple[Architecture, ...]
    device: str = "cpu"
    batch: int | None = None
    threads: int = 1
    seconds: float = 1.0
    interval: float = 0.02
    timeout: float = 60.0
    storage: Path = Path(".benchmarks")
    out: Path | None = None

    def facts(self) -> dict[str, str]:
        """Return what all processes must agree on."""
        return {
            "architectures": ", ".join(row.name for row in self.architectures),
            "--device": self.device,
            "--batch": str(self.batch),
            "--threads": str(self.threads),
            "--time": str(self.seconds),
            "--interval": str(self.interval),
        }

    def batch_for(self, name: str, sizes: Sequence[int]) -> int:
        """Return the batch of one process, which each number of processes can share evenly.

        Raises:
            OptionError: If the batch that was given cannot be shared so.
        """
        common = math.lcm(*sizes)
        if self.batch is None:
            least = CUDA_BATCH if self.device == "cuda" else CPU_BATCH.get(name, CPU_BATCH_OTHERS)
            return math.ceil(least / common) * common
        if self.batch % common:
            raise OptionError(
                f"--batch {self.batch} cannot be shared evenly by {', '.join(map(str, sizes))} processes; take a "
                f"multiple of {common}"
            )
        return self.batch


def sizes_up_to(size: int) -> list[int]:
    """Return how many processes are measured: 1, 2, 4, ... and all."""
    return sorted({*(1 << power for power in range(size.bit_length()) if 1 << power <= size), size})


def local_path(text: str) -> Path:
    """Return a path that is given on the command line.

    Raises:
        argparse.ArgumentTypeError: If it is empty or a URL.
    """
    if not text or "://" in text:
        raise argparse.ArgumentTypeError(f"a path on this machine is needed, not {text!r}")
    return Path(text)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="cnnperf.scaling",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = made.add_argument, ", ".join(DEFAULT)
    add("architectures", nargs="*", metavar="NAME", help=f"names or globs over the catalog (default: {default})")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda where each process has one")
    add("--batch", type=int, metavar="N", help="of one process; shared by all in strong scaling (default: the suite's)")
    add("--threads", type=int, metavar="N", help="of each process (default: the machine's cores shared out)")
    add("--time", type=float, default=1.0, metavar="SECONDS", help="budget of each way to train (default: 1)")
    add("--interval", default="2%", metavar="PERCENT", help="wanted half-width of the ratios (default: 2%%)")
    add(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="after which a process is lost; more than a step takes (default: 60)",
    )
    add(
        "--runs",
        type=local_path,
        default=Path(".benchmarks"),
        metavar="FOLDER",
        help="of the run (default: .benchmarks)",
    )
    add("--out", type=local_path, metavar="FILE", help="the run file (default: a new one in the folder of the runs)")
    return made


def request_of(given: argparse.Namespace, place: Place) -> Request:
    """Check the arguments.

    Raises:
        OptionError: With one sentence for what cannot be used.
    """
    from cnnperf.models.catalog import match
    from cnnperf.records.tolerance import fraction_of

    for name, value in (("--batch", given.batch), ("--threads", given.threads)):
        if value is not None and value < 1:
            raise OptionError(f"{name} takes a whole number of at least 1, not {value}")
    for name, value in (("--time", given.time), ("--timeout", given.timeout)):
        if not 0 < value < math.inf:
            raise OptionError(f"{name} takes seconds above 0, not {value:g}")
    rows = {row.name: row for pattern in given.architectures or DEFAULT for row in match(pattern)}
    request = Request(
        architectures=tuple(rows.values()),
        device=_device(given.device, place),
        batch=given.batch,
        threads=given.threads or max(1, cpu_cores() // place.local_size),
        seconds=given.time,
        interval=fraction_of(given.interval, "--interval"),
        timeout=given.timeout,
        storage=given.runs,
        out=given.out,
    )
    if request.threads > (cores := cpu_cores()):
        raise OptionError(f"--threads {request.threads}: this process may use {cores} cores")
    for row in request.architectures:
        Plan().cases(row)
        request.batch_for(row.name, sizes_up_to(place.size))
    return request


def _device(wanted: str, place: Place) -> str:
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if devices >= place.local_size else "cpu"
    if wanted == "cuda" and devices < place.local_size:
        raise OptionError(
            f"--device cuda: {place.local_size} processes need as many CUDA devices, this machine has {devices}; "
            "start fewer, or use --device cpu"
        )
    return wanted
