"""The command that measures one architecture over a number: batch, threads, image size or width."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.commands.command import (
    Command,
    add_storage,
    file_path,
    print_lines,
    quieten,
    show,
    tell,
)
from cnnperf.errors import OptionError
from cnnperf.exit_status import ExitStatus
from cnnperf.extras import missing_package
from cnnperf.records.case import PHASES, PRECISIONS
from cnnperf.records.engines import ENGINES, USUAL_ENGINES

if TYPE_CHECKING:
    from cnnperf.suite.bench_run import BenchRun
    from cnnperf.suite.sweep import Sweep

EPILOG = """\
examples:
  cnnperf sweep resnet18 --over batch                      # doubled to the knee, or to the end of memory
  cnnperf sweep lenet5 --over batch --to-memory --phase forward
  cnnperf sweep resnet18 --over threads --phase train
  cnnperf sweep resnet18 --over image_size --values 32,64,128 --png figures

The knee is the first batch after which two doublings on end bring less throughput than --step by their medians. It is
sure where the whole interval of the first one is below the step.
The run is saved as any other: `cnnperf show`, `report`, `compare` and `history` read it.
"""
AXES = ("batch", "threads", "image_size", "width")
MOST = 2**24  # of anything: bytes of what has larger sizes are numbers that PyTorch cannot hold
PICTURES = ("altair", "vl_convert")


def _sweep(given: argparse.Namespace) -> int:
    quieten()
    values, step = _values(given.values), _step(given.step)
    _check_before(given)
    sweep = _planned(given, values, step)
    from cnnperf.records.writing import check_folder
    from cnnperf.suite.sweep import SweepRunner

    for folder in [*([] if given.out else [given.runs]), *_folders(given).values()]:
        check_folder(folder)
    session, path = _begin(given, sweep), _path(given)
    walk, interrupted = SweepRunner(sweep, session, show), False
    try:
        walk.run()
    except KeyboardInterrupt:
        interrupted = True
        tell("\ncnnperf: interrupted")
    except BaseException:
        tell(f"\ncnnperf: the cases so far are kept in {session.journal.path if session.journal else 'nothing'}")
        raise
    _save(session, path)
    print_lines([*session.summary(), "", f"wrote {path}"])
    _draw(session, given)
    return ExitStatus.INTERRUPTED if interrupted else ExitStatus.FAILED if walk.wrong else ExitStatus.OK


def _planned(given: argparse.Namespace, values: tuple[int, ...], step: float) -> Sweep:
    """Return the sweep that is meant; everything that could not be measured is told here."""
    import cnnperf.fusion  # noqa: F401 - completes the catalog
    from cnnperf.measure.devices import devices_for
    from cnnperf.measure.workload import count_classes
    from cnnperf.models.catalog import resolve
    from cnnperf.suite.sweep import Sweep, default_values

    row = resolve(given.architecture)
    devices = devices_for(given.device, "--device")
    if given.over == "threads" and given.device == "auto":
        devices = ("cpu",)
    sweep = Sweep(
        architecture=row,
        axis=given.over,
        values=values or default_values(given.over, row),
        phases=tuple(given.phase or ("forward", "train")),
        devices=devices,
        engines=tuple(given.engine or (USUAL_ENGINES if given.over == "batch" else USUAL_ENGINES[:1])),
        precision=given.precision,
        batch=given.batch,
        step=step,
        most=given.max_batch,
        to_memory=given.to_memory,
    )
    sweep.groups()
    count_classes(row, row.image_size)
    return sweep


def _begin(given: argparse.Namespace, sweep: Sweep) -> BenchRun:
    from cnnperf.records.commit import commit_info
    from cnnperf.suite.bench_run import BenchRun
    from cnnperf.suite.options import Options

    wanted = "cpu" if sweep.axis == "threads" else given.device
    options = Options((wanted,), (given.architecture,), suite="sweep", seconds=given.time)
    session = BenchRun.begin(options, planned=_count(sweep))
    session.step = sweep.step
    session.keep_journal(given.out.parent if given.out else given.runs, commit_info())
    return session


def _count(sweep: Sweep) -> int | None:
    """Return the number of cases; None where the batch is doubled until it shows."""
    return len(list(sweep.all_values())) * sum(map(len, sweep.groups())) if sweep.values else None


def _path(given: argparse.Namespace) -> Path:
    from cnnperf.records.writing import numbered_path

    return given.out or numbered_path(given.runs)


def _save(session: BenchRun, path: Path) -> None:
    from cnnperf.records.writing import save_run
    from cnnperf.runs.swept import with_sweeps

    save_run(path, with_sweeps(session.run()))
    if session.journal is not None:
        session.journal.close()


def _draw(session: BenchRun, given: argparse.Namespace) -> None:
    if not (given.png or given.svg):
        return
    from cnnperf.output import write_whole
    from cnnperf.report.sweep_charts import sweep_charts

    for chart in sweep_charts(session.run()):
        if given.png:
            write_whole(given.png / f"{chart.name}.png", chart.png())
        if given.svg:
            write_whole(given.svg / f"{chart.name}.svg", chart.svg())
        print_lines(f"wrote {folder / chart.name}.{kind}" for kind, folder in _folders(given).items())


def _folders(given: argparse.Namespace) -> dict[str, Path]:
    return {kind: folder for kind in ("png", "svg") if (folder := getattr(given, kind))}


def _check_before(given: argparse.Namespace) -> None:
    """Refuse what would fail only after minutes of work.

    Raises:
        CnnperfError: If a package is missing, or the run or its pictures could not be written.
        OptionError: If two options contradict each other, or a number is out of range.
    """
    missing = [name for name in PICTURES if _folders(given) and find_spec(name) is None]
    if missing:
        raise missing_package(", ".join(missing), "report", "a picture")
    from cnnperf.runs.fleet.location import is_dataset

    if is_dataset(given.runs):
        raise OptionError(
            f"--runs {given.runs}: a sweep is saved as a run file in a folder; `cnnperf export --parquet URL` sends it "
            "to a dataset afterwards"
        )
    _check_together(given)
    if not 0 < given.time < float("inf"):
        raise OptionError(f"--time takes seconds above 0, not {given.time:g}")
    if given.out is not None:
        from cnnperf.records.writing import check_out

        check_out(given.out)


def _check_together(given: argparse.Namespace) -> None:
    over_batch = given.over == "batch"
    doubled = over_batch and given.values is None
    of_doubling = {"--max-batch": given.max_batch, "--step": given.step, "--to-memory": given.to_memory or None}
    for option, value in of_doubling.items():
        if value is not None and not doubled:
            raise OptionError(f"{option} is about doubling the batch: it goes with --over batch, without --values")
    if over_batch and given.batch is not None:
        raise OptionError("--batch is of sweeps over something else than the batch; use --values or --max-batch")


def _values(text: str | None) -> tuple[int, ...]:
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and 1 <= int(word) <= MOST for word in words):
        raise OptionError(f"--values takes whole numbers from 1 to {MOST} such as 1,2,4, not {text!r}")
    return tuple(sorted({int(word) for word in words}))


def _step(text: str | None) -> float:
    from cnnperf.records.tolerance import fraction_of
    from cnnperf.runs.sweeps import STEP

    return STEP if text is None else fraction_of(text, "--step")


def _count_from_one(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MOST} is needed, not {text!r}")
    return int(text)


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    add = parser.add_argument
    add("architecture", metavar="ARCHITECTURE", help="of the catalog, package.module:factory, timm:NAME, or fused:NAME")
    add("--over", required=True, choices=AXES, help="what is varied")
    add("--values", metavar="N,N", help="its values (default: batch doubled; threads 1 to cores; by architecture)")
    add("--phase", action="append", choices=PHASES, help="repeatable (default: forward and train)")
    add("--device", default="auto", help="auto (the CPU, and CUDA where there is one), cpu, cuda or cuda:N")
    add("--engine", action="append", choices=tuple(ENGINES), help="repeatable (default: eager; over batch both)")
    add("--precision", default="fp32", choices=PRECISIONS, help="number format (default: fp32)")
    add("--batch", type=_count_from_one, metavar="N", help="of sweeps over something else (default: by architecture)")
    add("--time", type=float, default=1.0, metavar="S", help="seconds of rounds for each case (default: 1)")
    add("--step", metavar="PERCENT", help="less gain of throughput by doubling is the knee (default: 5%%)")
    add("--max-batch", type=_count_from_one, metavar="N", help="measure no larger batch (default: up to the knee)")
    add("--to-memory", action="store_true", help="look for the largest batch that fits also beyond the knee")
    add("--out", type=file_path, metavar="FILE", help="of the run (default: the next one where runs are saved)")
    add("--png", type=file_path, metavar="FOLDER", help="a picture of each sweep")
    add("--svg", type=file_path, metavar="FOLDER", help="a drawing of each sweep")
    add_storage(parser)


SWEEPING = (Command("sweep", "measure an architecture over batch, threads, size", _sweep, _sweep_arguments),)
