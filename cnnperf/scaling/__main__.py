"""Run the scaling benchmark in one of the processes that torchrun starts."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence

import torch

from cnnperf.commands.command import print_error, print_lines
from cnnperf.errors import CnnperfError, OptionError
from cnnperf.exit_status import ExitStatus
from cnnperf.records.writing import check_folder, check_out
from cnnperf.report.scaling import scaling_lines
from cnnperf.scaling.arguments import Place, Request, parser, request_of
from cnnperf.scaling.communicator import TorchrunCommunicator
from cnnperf.scaling.monitor import HeartbeatMonitor, MonitorThread, SignalThread, leave
from cnnperf.scaling.run import ScalingRun


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as one process of several, and return the exit status."""
    given = parser().parse_args(arguments)
    try:
        place = Place.here()
        request = request_of(given, place)
    except CnnperfError as error:
        if os.environ.get("RANK", "") in ("", "0"):  # one of many that all say the same
            print_error(f"cnnperf: {error}")
        return ExitStatus.UNUSABLE
    signals = SignalThread()
    signals.start()
    try:
        communicator = TorchrunCommunicator(place, request.device, request.timeout)
        _agree(communicator, request)
    except (RuntimeError, OSError) as error:
        print_error(f"cnnperf: process {place.rank}: the others cannot be reached: {_first_line(error)}")
        return ExitStatus.FAILED
    except CnnperfError as error:
        if place.rank == 0:
            print_error(f"cnnperf: {error}")
        return ExitStatus.UNUSABLE
    signals.stop()
    return _measure(
        ScalingRun(request, communicator, _device(place, request), print_error if place.rank == 0 else _nowhere)
    )


def _agree(communicator: TorchrunCommunicator, request: Request) -> None:
    """See that all processes were asked for the same, and that the first one can write what they find.

    Raises:
        CnnperfError: In every process, if not.
    """
    facts = communicator.all_gather(request.facts())
    for rank, own in enumerate(facts):
        unlike = [f"{name} {facts[0][name]} and {value}" for name, value in own.items() if value != facts[0][name]]
        if unlike:
            raise OptionError(
                f"processes 0 and {rank} would measure different things: {', '.join(unlike)}; give every machine the "
                "same arguments, and --device and --threads where machines differ"
            )
    if refusal := communicator.broadcast(_refusal(request) if communicator.rank == 0 else ""):
        raise CnnperfError(refusal)


def _refusal(request: Request) -> str:
    try:
        (check_out if request.out else check_folder)(request.out or request.storage)
    except CnnperfError as error:
        return str(error)
    return ""


def _device(place: Place, request: Request) -> torch.device:
    if request.device == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", place.local_rank)
    torch.cuda.set_device(device)
    return device


def _measure(run: ScalingRun) -> int:
    communicator, kept_in = run.communicator, run.begin()

    def tell(reason: str) -> None:
        print_error(f"\ncnnperf: {reason}; what was measured before is kept in {kept_in}, which `cnnperf show` reads")

    watch = MonitorThread(
        HeartbeatMonitor(communicator.rank, communicator.peers, run.request.timeout), communicator.signs(), tell
    )
    watch.start()
    try:
        run.measure()
        communicator.barrier()
    except CnnperfError as error:
        tell(f"process {communicator.rank}: {error}")
        watch.end(ExitStatus.UNUSABLE)
    except Exception as error:  # noqa: BLE001 - told, and the process ends
        if _is_loss(error):
            watch.miss(_first_line(error))
        tell(f"process {communicator.rank}: {traceback.format_exc()}")
        watch.end(ExitStatus.FAILED)
    watch.stop()
    communicator.leave()
    return _save(run) if communicator.rank == 0 else ExitStatus.OK


def _save(run: ScalingRun) -> int:
    try:
        path = run.save()
    except CnnperfError as error:
        print_error(f"cnnperf: {error}")
        return ExitStatus.UNUSABLE
    print_lines([*scaling_lines(run.record()), "", f"saved {path}"])
    return ExitStatus.OK if run.records else ExitStatus.UNUSABLE


def _is_loss(error: BaseException) -> bool:
    """Tell whether a process was missed: what the backends raise then has no class in common."""
    said = str(error).lower()
    known = isinstance(error, torch.distributed.DistError) or "gloo" in said or "connection" in said
    return isinstance(error, RuntimeError) and known


def _nowhere(_: str) -> None:
    """Tell nobody: the first process tells."""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


if __name__ == "__main__":
    leave(main())
