"""The command `sweep`, which measures one architecture over batch, threads, image size or width."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.commands.command import (
    Command,
    add_pictures,
    add_storage,
    check_packages,
    file_path,
    print_error,
    print_lines,
    set_environment,
    write_error,
    write_pictures,
)
from cnnperf.errors import OptionError
from cnnperf.exit_status import ExitStatus
from cnnperf.records.case import PHASES, PRECISIONS
from cnnperf.records.engines import NETWORK_ENGINES, USUAL_ENGINES

if TYPE_CHECKING:
    from cnnperf.suite.bench_run import BenchRun
    from cnnperf.suite.sweep import Sweep

EPILOG = """\
examples:
  cnnperf sweep resnet18 --over batch                      # doubled up to the knee, or until memory is exhausted
  cnnperf sweep lenet5 --over batch --to-memory --phase forward
  cnnperf sweep resnet18 --over threads --phase train
  cnnperf sweep resnet18 --over image_size --values 32,64,128 --png figures

The knee is the first batch from which two successive doublings each raise the median throughput by less than --step.
It is certain if the whole confidence interval of the first gain is below --step.
The run is saved like any other: `cnnperf show`, `report`, `compare` and `history` read it.
"""
AXES = ("batch", "threads", "image_size", "width")
MOST = 2**24  # largest value of any axis: sizes in bytes beyond it overflow PyTorch's integers
PICTURES = ("altair", "vl_convert")


def _sweep(args: argparse.Namespace) -> int:
    set_environment()
    values, step = _values(args.values), _step(args.step)
    _check_before(args)
    sweep = _plan(args, values, step)
    from cnnperf.records.writing import check_folder, numbered_path
    from cnnperf.suite.sweep import SweepRunner

    for folder in (None if args.out else args.runs, args.png, args.svg):
        if folder:
            check_folder(folder)
    session, path = _begin(args, sweep), args.out or numbered_path(args.runs)
    runner, interrupted = SweepRunner(sweep, session, write_error), False
    try:
        runner.run()
    except KeyboardInterrupt:
        interrupted = True
        print_error("\ncnnperf: interrupted")
    except BaseException:
        if session.journal is not None:
            print_error(f"\ncnnperf: the cases measured so far are in {session.journal.path}")
        raise
    _save(session, path)
    print_lines([*session.summary(), "", f"wrote {path}"])
    _draw(session, args)
    if interrupted:
        return ExitStatus.INTERRUPTED
    return ExitStatus.FAILED if runner.wrong or (session.failures and not session.records) else ExitStatus.OK


def _plan(args: argparse.Namespace, values: tuple[int, ...], step: float) -> Sweep:
    """Return the sweep; raises an error if a part of it cannot be measured."""
    import cnnperf.fusion  # noqa: F401 - completes the catalog
    from cnnperf.measure.classes import count_classes
    from cnnperf.measure.devices import devices_for
    from cnnperf.models.catalog import resolve
    from cnnperf.suite.sweep import Sweep, default_values

    row = resolve(args.architecture)
    devices = devices_for(args.device, "--device")
    if args.over == "threads" and args.device == "auto":
        devices = ("cpu",)
    sweep = Sweep(
        architecture=row,
        axis=args.over,
        values=values or default_values(args.over, row),
        phases=tuple(args.phase or ("forward", "train")),
        devices=devices,
        engines=tuple(args.engine or (USUAL_ENGINES if args.over == "batch" else USUAL_ENGINES[:1])),
        precision=args.precision,
        batch=args.batch,
        step=step,
        most=args.max_batch,
        to_memory=args.to_memory,
    )
    sweep.groups()
    count_classes(row, row.image_size)
    return sweep


def _begin(args: argparse.Namespace, sweep: Sweep) -> BenchRun:
    from cnnperf.records.commit import commit_info
    from cnnperf.suite.bench_run import BenchRun
    from cnnperf.suite.options import Options

    device = "cpu" if sweep.axis == "threads" else args.device
    options = Options((device,), (args.architecture,), suite="sweep", seconds=args.time)
    session = BenchRun.begin(options, planned=_count(sweep))
    session.step = sweep.step
    session.keep_journal(args.out.parent if args.out else args.runs, commit_info())
    return session


def _count(sweep: Sweep) -> int | None:
    """Return the number of cases; None if the batch is doubled, because the end is not known."""
    return len(list(sweep.all_values())) * sum(map(len, sweep.groups())) if sweep.values else None


def _save(session: BenchRun, path: Path) -> None:
    from cnnperf.records.writing import save_run
    from cnnperf.runs.ratio_metrics import with_ratios
    from cnnperf.runs.sweeps import with_sweeps

    save_run(path, with_ratios(with_sweeps(session.run())))
    if session.journal is not None:
        session.journal.delete()


def _draw(session: BenchRun, args: argparse.Namespace) -> None:
    if args.png or args.svg:
        from cnnperf.report.sweep_charts import sweep_charts

        write_pictures(sweep_charts(session.run()), args)


def _check_before(args: argparse.Namespace) -> None:
    """Refuse what would otherwise fail after minutes of work.

    Raises:
        CnnperfError: If a package is missing, or the run could not be written.
        OptionError: If two options contradict each other, or a number is out of range.
    """
    if args.png or args.svg:
        check_packages(PICTURES, "report", "a picture")
    from cnnperf.runs.fleet.location import is_dataset

    if is_dataset(args.runs):
        raise OptionError(
            f"--runs {args.runs}: a sweep is saved as a run file in a folder; `cnnperf export --parquet URL` appends "
            "it to a dataset afterwards"
        )
    _check_combination(args)
    if not 0 < args.time < float("inf"):
        raise OptionError(f"--time takes seconds above 0, not {args.time:g}")
    if args.out is not None:
        from cnnperf.records.writing import check_out

        check_out(args.out)


def _check_combination(args: argparse.Namespace) -> None:
    over_batch = args.over == "batch"
    doubling = over_batch and args.values is None
    doubling_options = {"--max-batch": args.max_batch, "--step": args.step, "--to-memory": args.to_memory or None}
    for option, value in doubling_options.items():
        if value is not None and not doubling:
            raise OptionError(f"{option} only applies to doubling the batch: use --over batch without --values")
    if over_batch and args.batch is not None:
        raise OptionError("--batch does not apply to --over batch; use --values or --max-batch")


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
    add = parser.add_argument
    text = "a name of the catalog, package.module:factory, timm:NAME, or fused:NAME"
    add("architecture", metavar="ARCHITECTURE", help=text)
    add("--over", required=True, choices=AXES, help="axis to vary")
    text = "values of the axis (default: batch is doubled from 1; threads 1 to all cores; others by architecture)"
    add("--values", metavar="N,N", help=text)
    add("--phase", action="append", choices=PHASES, help="phase to measure; repeatable (default: forward and train)")
    add("--device", default="auto", help="auto (CPU, and CUDA if present), cpu, cuda or cuda:N (default: auto)")
    usual = " and ".join(USUAL_ENGINES)
    text = f"engine to measure; repeatable (default: {usual} over batch, else {USUAL_ENGINES[0]})"
    add("--engine", action="append", choices=NETWORK_ENGINES, help=text)
    add("--precision", default="fp32", choices=PRECISIONS, help="number format (default: fp32)")
    text = "batch of a sweep over another axis (default: by architecture)"
    add("--batch", type=_count_from_one, metavar="N", help=text)
    text = "time budget of each case in seconds (default: 1)"
    add("--time", type=float, default=1.0, metavar="SECONDS", help=text)
    text = "gain in throughput by a doubling of the batch, below which the knee is reached (default: 5%%)"
    add("--step", metavar="PERCENT", help=text)
    add("--max-batch", type=_count_from_one, metavar="N", help="largest batch to measure (default: up to the knee)")
    add("--to-memory", action="store_true", help="double the batch beyond the knee, up to the largest that fits")
    add("--out", type=file_path, metavar="FILE", help="run file to write (default: a new one in the folder --runs)")
    add_pictures(parser, "sweep")
    add_storage(parser)


HELP = "measure an architecture over batch, threads, image size or width"
SWEEPING = (Command("sweep", HELP, _sweep, _sweep_arguments, EPILOG),)
