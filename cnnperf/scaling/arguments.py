"""The arguments of a scaling run, checked before the processes connect."""

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
Train networks on 1, 2, 4, ... and all processes with DistributedDataParallel, in turns within one run.

The summary has the throughput and efficiency of weak scaling (every process has the whole batch) and strong scaling
(the processes share the batch), the bytes that are exchanged, the share of a step spent waiting, and the slowest
process.
"""
EPILOG = """\
examples:
  torchrun --standalone --nproc-per-node 2 -m cnnperf.scaling
  torchrun --standalone --nproc-per-node 4 -m cnnperf.scaling 'se_resnet18*' --device cuda --batch 512 --time 5
  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 -m cnnperf.scaling

Processes communicate by gloo on the CPU and by NCCL on CUDA, where each process has its own device. Efficiency is
relative to one process with as many threads. The first process saves the run like those of `pytest benchmarks`.

exit status of each process (torchrun's own is 1 for any but 0):
  0  measured and saved
  1  a process died, or did not answer within --timeout and ten seconds; the cases measured so far are in a journal
  2  invalid arguments, wrong results, nothing that could be measured, or a file that cannot be written
"""


@dataclass(frozen=True)
class Place:
    """Place of this process among all, as torchrun sets it.

    Attributes:
        rank: Rank among all processes, from 0.
        size: Number of all processes.
        local_rank: Rank among the processes of this machine, from 0.
        local_size: Number of processes of this machine.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Place:
        """Read the place from the variables of torchrun, https://docs.pytorch.org/docs/stable/elastic/run.html.

        Raises:
            OptionError: If torchrun did not start this process.
        """
        invalid = [name for name in NUMBERS if not environment.get(name, "").isdecimal()]
        invalid += [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
        if invalid:
            raise OptionError(
                f"torchrun did not set the variable {invalid[0]}: run `torchrun --standalone --nproc-per-node 2 -m "
                "cnnperf.scaling`"
            )
        return cls(*(int(environment[name]) for name in NUMBERS))


@dataclass(frozen=True)
class Request:
    """Parameters of a scaling run.

    Attributes:
        architectures: The networks.
        device: `cpu` or `cuda`.
        batch: Images of one process in weak scaling, and of all in strong scaling; None: by architecture and device.
        threads: Threads of each process.
        budget: Seconds for each way to train: on one process, and on each larger number of processes weak and strong,
            each with and without communication.
        interval: Target half-width of the ratios, relative.
        timeout: Seconds that a process waits for another.
        storage: Folder of the runs.
        out: Run file, or None for a new one in the storage.
    """

    architectures: tuple[Architecture, ...]
    device: str = "cpu"
    batch: int | None = None
    threads: int = 1
    budget: float = 1.0
    interval: float = 0.02
    timeout: float = 60.0
    storage: Path = Path(".benchmarks")
    out: Path | None = None

    def facts(self) -> dict[str, str]:
        """Return the arguments that have to be equal in all processes, as texts by name."""
        return {
            "architectures": ", ".join(row.name for row in self.architectures),
            "--device": self.device,
            "--batch": str(self.batch),
            "--threads": str(self.threads),
            "--time": str(self.budget),
            "--interval": str(self.interval),
        }

    def batch_for(self, name: str, sizes: Sequence[int]) -> int:
        """Return the batch of one process of an architecture, a multiple of each of the numbers of processes.

        Raises:
            OptionError: If `batch` is not such a multiple.
        """
        common = math.lcm(*sizes)
        if self.batch is None:
            least = CUDA_BATCH if self.device == "cuda" else CPU_BATCH.get(name, 2 * CPU_BATCH_OTHERS)  # two share it
            return math.ceil(least / common) * common
        if self.batch % common:
            raise OptionError(
                f"--batch {self.batch} cannot be shared evenly by {', '.join(map(str, sizes))} processes; use a "
                f"multiple of {common}"
            )
        return self.batch


def sizes_up_to(size: int) -> list[int]:
    """Return the numbers of processes that are measured: 1, 2, 4, ... and `size`."""
    return [*(1 << power for power in range((size - 1).bit_length())), size]


def local_path(text: str) -> Path:
    """Parse a path of the command line.

    Raises:
        argparse.ArgumentTypeError: If it is empty or a URL.
    """
    if not text or "://" in text:
        raise argparse.ArgumentTypeError(f"a path on this machine is needed, not {text!r}")
    return Path(text)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="cnnperf.scaling",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    text = f"architectures of the catalog, as names or globs (default: {', '.join(DEFAULT)})"
    add("architectures", nargs="*", metavar="NAME", help=text)
    text = "device of all processes (default: auto, which is cuda if each process has its own device, else cpu)"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    text = "images of one process in weak scaling, of all processes in strong scaling (default: the suite's batch)"
    add("--batch", type=int, metavar="N", help=text)
    text = "threads of each process (default: the machine's cores divided by its processes)"
    add("--threads", type=int, metavar="N", help=text)
    text = "time budget of each way to train in seconds (default: 1)"
    add("--time", type=float, default=1.0, metavar="SECONDS", help=text)
    text = "target half-width of the ratios; sampling ends when all reach it (default: 2%%)"
    add("--interval", default="2%", metavar="PERCENT", help=text)
    text = "seconds after which a process that does not answer is lost; must exceed a step (default: 60)"
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help=text)
    text = "folder of the saved runs (default: .benchmarks)"
    add("--runs", type=local_path, default=Path(".benchmarks"), metavar="FOLDER", help=text)
    text = "run file to write (default: a new one in the folder --runs)"
    add("--out", type=local_path, metavar="FILE", help=text)
    return parser


def request_of(args: argparse.Namespace, place: Place) -> Request:
    """Build the request from parsed arguments.

    Raises:
        OptionError: If an argument is invalid, or does not fit the number of processes or this machine.
    """
    from cnnperf.models.catalog import match
    from cnnperf.records.tolerance import fraction_of

    for name, value in (("--batch", args.batch), ("--threads", args.threads)):
        if value is not None and value < 1:
            raise OptionError(f"{name} takes a whole number of at least 1, not {value}")
    for name, value in (("--time", args.time), ("--timeout", args.timeout)):
        if not 0 < value < math.inf:
            raise OptionError(f"{name} takes seconds above 0, not {value:g}")
    rows = {row.name: row for pattern in args.architectures or DEFAULT for row in match(pattern)}
    cores = cpu_cores()
    request = Request(
        architectures=tuple(rows.values()),
        device=_device(args.device, place),
        batch=args.batch,
        threads=args.threads or max(1, cores // place.local_size),
        budget=args.time,
        interval=fraction_of(args.interval, "--interval"),
        timeout=args.timeout,
        storage=args.runs,
        out=args.out,
    )
    if request.threads > cores:
        raise OptionError(f"--threads {request.threads}: this process may use only {cores} cores")
    for row in request.architectures:
        Plan().cases(row)
        request.batch_for(row.name, sizes_up_to(place.size))
    return request


def _device(device: str, place: Place) -> str:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count >= place.local_size else "cpu"
    if device == "cuda" and count < place.local_size:
        raise OptionError(
            f"--device cuda: {place.local_size} processes need as many CUDA devices, this machine has {count}; "
            "start fewer processes, or use --device cpu"
        )
    return device
