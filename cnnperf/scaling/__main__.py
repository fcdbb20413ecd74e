"""Run the scaling benchmark in one of the processes that torchrun starts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import torch

from cnnperf.commands.command import FINE, INTERRUPTED, UNUSABLE, complain, print_lines
from cnnperf.errors import CnnperfError
from cnnperf.report.scaling import scaling_lines
from cnnperf.runs.document import parse_document
from cnnperf.saving import check_folder
from cnnperf.scaling.arguments import Place, parser, request_of
from cnnperf.scaling.crew import ENDED, LOST, Joined
from cnnperf.scaling.run import ScalingRun

LOST_STATUS = 1


class Terminated(Exception):  # noqa: N818 - what torchrun does to the others when one process has ended
    """Report that torchrun asks this process to end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as one process of several, and return the exit status."""
    given = parser().parse_args(arguments)
    try:
        place = Place.here()
        request = request_of(given, place)
        if place.rank == 0:
            check_folder(request.out.parent if request.out else request.storage)
    except CnnperfError as error:
        return _refuse(error)
    device = torch.device(request.device, place.local_rank) if request.device == "cuda" else torch.device("cpu")
    signal.signal(signal.SIGTERM, _end)
    try:
        crew = Joined(place, request.device, request.timeout)
    except (RuntimeError, OSError) as error:
        complain(f"cnnperf: process {place.rank}: the others cannot be reached: {_first_line(error)}")
        return LOST_STATUS
    run = ScalingRun(request, crew, device, complain if place.rank == 0 else _nowhere)
    return _measure(run)


def _measure(run: ScalingRun) -> int:
    crew, kept_in = run.crew, ""
    try:
        run.begin()
        kept_in = crew.share(str(run.journal.path) if run.journal else "")
        run.measure()
        crew.meet()
        crew.leave()
        return _save(run) if crew.rank == 0 else FINE
    except CnnperfError as error:
        return _end_all(run, f"process {crew.rank}: {error}", UNUSABLE)
    except KeyboardInterrupt:
        return _end_all(run, "interrupted" if crew.rank == 0 else "", INTERRUPTED)
    except (RuntimeError, Terminated) as error:
        if not _is_loss(error):
            crew.take_leave(ENDED)
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's haste would cut short what is told
        told = crew.take_leave(LOST)
        if told:
            complain(f"cnnperf: {told}{_kept(kept_in)}")
        return LOST_STATUS
    except BaseException:
        crew.take_leave(ENDED)
        raise


def _save(run: ScalingRun) -> int:
    path = run.save()
    print_lines([*scaling_lines(parse_document(run.document())), "", f"saved {path}"])
    return FINE


def _end_all(run: ScalingRun, told: str, status: int) -> int:
    if told:
        complain(f"cnnperf: {told}{_kept(str(run.journal.path) if run.journal and run.benchmarks else '')}")
    run.crew.take_leave(ENDED)
    return status


def _kept(journal: str) -> str:
    return f"; what was measured before is kept in {journal}, which `cnnperf show` reads" if journal else ""


def _is_loss(error: BaseException) -> bool:
    """Tell whether a process was missed: what the backends raise then has no class in common."""
    said = str(error).lower()
    return isinstance(error, Terminated | torch.distributed.DistError) or "gloo" in said or "connection" in said


def _refuse(error: CnnperfError) -> int:
    if os.environ.get("RANK", "0") == "0":  # one of many that all say the same
        complain(f"cnnperf: {error}")
    return UNUSABLE


def _end(*_: object) -> None:
    raise Terminated


def _nowhere(_: str) -> None:
    """Tell nobody: the first process tells."""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
