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
from cnnperf.scaling.communicator import Communicator
from cnnperf.scaling.monitor import HeartbeatMonitor, MonitorThread, SignalThread, exit_now
from cnnperf.scaling.run import ScalingRun


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as one process of several, and return the exit status."""
    args = parser().parse_args(arguments)
    try:
        place = Place.here()
        request = request_of(args, place)
    except CnnperfError as error:
        if os.environ.get("RANK", "") in ("", "0"):  # all processes have the same error
            print_error(f"cnnperf: {error}")
        return ExitStatus.UNUSABLE
    signals = SignalThread()
    signals.start()
    try:
        communicator = Communicator(place, request.device, request.timeout)
        _check_agreement(communicator, request)
    except (RuntimeError, OSError) as error:
        print_error(f"cnnperf: process {place.rank}: the other processes cannot be reached: {_first_line(error)}")
        return ExitStatus.FAILED
    except CnnperfError as error:
        if place.rank == 0:
            print_error(f"cnnperf: {error}")
        return ExitStatus.UNUSABLE
    signals.stop()
    progress = print_error if place.rank == 0 else lambda _: None
    return _measure(ScalingRun(request, communicator, _device(place, request), progress))


def _check_agreement(communicator: Communicator, request: Request) -> None:
    """Check that all processes have the same arguments, and that the first one can write the run file.

    Raises:
        CnnperfError: If not, in every process.
    """
    facts = communicator.all_gather(request.facts())
    for rank, own in enumerate(facts):
        different = [f"{name} {facts[0][name]} and {value}" for name, value in own.items() if value != facts[0][name]]
        if different:
            raise OptionError(
                f"processes 0 and {rank} would measure different things: {', '.join(different)}; give all machines the "
                "same arguments, including --device and --threads if the machines differ"
            )
    if error := communicator.broadcast(_writing_error(request) if communicator.rank == 0 else ""):
        raise CnnperfError(error)


def _writing_error(request: Request) -> str:
    """Return why the run file cannot be written, empty if it can."""
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
    communicator, journal = run.communicator, run.begin()

    def report(reason: str) -> None:
        print_error(f"\ncnnperf: {reason}; the cases measured so far are in {journal}, which `cnnperf show` reads")

    monitor = HeartbeatMonitor(communicator.rank, communicator.peers, run.request.timeout)
    watchdog = MonitorThread(monitor, communicator.heartbeats(), report)
    watchdog.start()
    try:
        run.measure()
        communicator.barrier()
    except CnnperfError as error:
        report(f"process {communicator.rank}: {error}")
        watchdog.end(ExitStatus.UNUSABLE)
    except Exception as error:  # noqa: BLE001 - reported, and the process ends
        if _is_loss(error):
            watchdog.await_cause(_first_line(error))
        report(f"process {communicator.rank}: {traceback.format_exc()}")
        watchdog.end(ExitStatus.FAILED)
    watchdog.stop()
    communicator.close()
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
    """Return whether an error means that another process was lost; the backends have no common class for it."""
    text = str(error).lower()
    known = isinstance(error, torch.distributed.DistError) or "gloo" in text or "connection" in text
    return isinstance(error, RuntimeError) and known


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


if __name__ == "__main__":
    exit_now(main())
