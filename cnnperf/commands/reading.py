"""The commands that read saved runs, and `doctor`."""

from __future__ import annotations

import argparse

from cnnperf.commands.command import (
    RUN_HELP,
    Command,
    add_storage,
    file_path,
    only_run,
    print_bytes,
    print_error,
    print_lines,
    runs_of,
    storage_place,
)
from cnnperf.errors import OptionError, RunFileError
from cnnperf.exit_status import ExitStatus

KINDS = ("runs", "architectures", "metrics")
FORMATS = ("csv", "parquet", "github", "bencher")
PROGRESS_RUNS = 500
"""Number of appended runs between two lines of progress."""

HISTORY_EPILOG = """\
examples:
  cnnperf history
  cnnperf history 'se_*' --metric peak_memory
  cnnperf history 'resnet18 train*' --least 5% --runs nightly
  cnnperf history --metric ratio               # engines, devices and parts, across machines
  cnnperf history resnet18 --runs s3://bucket/runs --machine 'AMD EPYC 7763' --since 2026-01-01

Each line of the file of acknowledged shifts is COMMIT | METRIC | CASE | REASON. An acknowledged shift is printed with
its reason and does not fail.

exit status:
  0  no lasting change for the worse, or only acknowledged ones
  1  a lasting change for the worse
  2  invalid arguments, or runs that cannot be read
  3  too few runs
"""
MERGE_EPILOG = """\
examples:
  pytest benchmarks --benchmark-save=shard --cnnperf-shard 1/2    # on one machine
  pytest benchmarks --benchmark-save=shard --cnnperf-shard 2/2    # on another one of the same kind
  cnnperf merge shards/ --out .benchmarks/0001_merged.json

Shards are refused if their commits, environments or sets of cases differ, if a shard is missing, or if a case is in two
of them with different results.
"""
EXPORT_EPILOG = """\
examples:
  cnnperf export > runs.csv
  cnnperf export .benchmarks --format parquet --out runs.parquet
  cnnperf export --parquet s3://bucket/runs                  # append all saved runs to the dataset of a fleet
  cnnperf export latest --format github --out output.json    # for github-action-benchmark, customSmallerIsBetter
  cnnperf export latest --format bencher --out bencher.json  # for `bencher run --adapter json --file bencher.json`
"""


def _list(args: argparse.Namespace) -> int:
    from cnnperf.report.listing import architecture_lines, metric_lines, run_lines

    if args.what == "runs":
        from cnnperf.runs.storage import open_storage

        print_lines(run_lines(open_storage(args.runs).heads()))
    elif args.what == "metrics":
        print_lines(metric_lines())
    else:
        from cnnperf.suite.options import Options

        print_lines(architecture_lines((row.name, row.summary) for row in Options().architectures()))
    return ExitStatus.OK


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=KINDS, default="runs", help="what to list (default: runs)")
    add_storage(parser)


def _show(args: argparse.Namespace) -> int:
    from cnnperf.report.devices import device_lines
    from cnnperf.report.layout import printable
    from cnnperf.report.terminal import render_run

    runs = runs_of(args.run_name, args)
    for name, run in runs:
        print_lines([f"run {printable(name)}", *render_run(run), ""])
    if len(runs) > 1:  # rows side by side; runs have no ratios to each other
        print_lines(device_lines(runs))
    return ExitStatus.OK


def _repeat(args: argparse.Namespace) -> int:
    from cnnperf.report.repetition import repeat_lines
    from cnnperf.runs.repeat import repeat_of

    (_, first), (_, second) = (only_run(name, runs_of(name, args)) for name in (args.first, args.second))
    repeat = repeat_of(first, second)
    print_lines(repeat_lines(repeat))
    return ExitStatus.OK if repeat.agree else ExitStatus.FAILED


def _figures(args: argparse.Namespace) -> int:
    from cnnperf.output import write_whole
    from cnnperf.report.figures import figures, replace_figures

    try:
        old = args.document.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{args.document}: cannot be read as text: {error}") from error
    new = replace_figures(old, figures(runs_of(args.run_name, args)))
    write_whole(args.document, new)
    print_lines([f"{args.document}: figures {'are up to date' if new == old else 'replaced'}"])
    return ExitStatus.OK


def _history(args: argparse.Namespace) -> int:
    from cnnperf.records.metrics import METRICS, check_metric
    from cnnperf.records.tolerance import fraction_of
    from cnnperf.report.history import history_lines
    from cnnperf.runs.acknowledged import FILE, accept, read_acknowledged
    from cnnperf.runs.selection import parse_machine
    from cnnperf.runs.series import changes_of
    from cnnperf.runs.storage import read_series
    from cnnperf.stats.shifts import LEAST_RUNS

    least = fraction_of(args.least, "--least")
    machine = parse_machine(args.machine, args.since, args.until)
    check_metric(args.metric, "--metric")
    path = args.acknowledged or FILE
    acknowledged = read_acknowledged(path) if args.acknowledged or path.exists() else []
    all_series = read_series(args.runs, args.metric, args.case, machine)
    changes = accept(changes_of(all_series, least), acknowledged)
    print_lines(history_lines(all_series, changes, path))
    if any(change.fails for change in changes):
        return ExitStatus.FAILED
    enough = any(METRICS[line.metric].counter or len(line.points) >= LEAST_RUNS for line in all_series)
    return ExitStatus.OK if enough else ExitStatus.UNSURE


def _history_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "case", nargs="?", default="*", metavar="CASE", help="glob over architectures or labels of cases (default: all)"
    )
    text = (
        "a metric of `cnnperf list metrics`, or `ratio` for all that compare two cases of a run (default: latency); "
        "series of ratios continue across machines"
    )
    add("--metric", default="latency", help=text)
    add("--least", default="2.5%", metavar="PERCENT", help="smallest shift to report (default: 2.5%%)")
    add("--machine", metavar="NAME", help="only runs of this machine, as `cnnperf export` names it (default: all)")
    add("--since", metavar="TIME", help="only runs at or after this time, such as 2026-01-31")
    add("--until", metavar="TIME", help="only runs before this time")
    text = "text file of acknowledged shifts (default: acknowledged-shifts.txt, if it exists)"
    add("--acknowledged", type=file_path, metavar="FILE", help=text)
    add_storage(parser)


def _export(args: argparse.Namespace) -> int:
    from cnnperf.output import write_whole
    from cnnperf.report.export import FORMATS as WRITERS

    if args.parquet is not None:
        return _append(args)
    name = args.run_name or "latest"
    runs = runs_of(name, args)
    if not any(run.cases or run.not_measured or run.foreign for _, run in runs):
        raise RunFileError(f"{name}: no cases to export; `cnnperf show {name}` prints what the run has")
    content = WRITERS[args.format or FORMATS[0]](runs)
    if args.out is not None:
        write_whole(args.out, content)
    else:
        print_bytes(content)
    return ExitStatus.OK


def _append(args: argparse.Namespace) -> int:
    """Append runs to a dataset, by default all saved ones, so that a run that an earlier job could not send is sent."""
    from cnnperf.runs.choose import choose_documents
    from cnnperf.runs.fleet.append import append_runs
    from cnnperf.runs.fleet.location import open_location
    from cnnperf.runs.storage import open_storage

    if args.format or args.out:
        raise OptionError("--parquet appends to a dataset, --format and --out write a file: use one or the other")
    location, damaged = open_location(args.parquet), list[RunFileError]()
    if args.run_name:
        saved = choose_documents(args.run_name, args.runs, damaged.append)
    else:
        saved = open_storage(args.runs).documents(damaged=damaged.append)
    appended, present = 0, 0
    for is_new in append_runs(saved, location):
        appended, present = appended + is_new, present + (not is_new)
        if not (appended + present) % PROGRESS_RUNS:
            print_error(f"{appended} runs appended, {present} were there already")
    print_lines([f"{location.text}: {appended} runs appended, {present} were there already"])
    for error in damaged:
        print_error(f"cnnperf: {error}")
    return ExitStatus.UNUSABLE if damaged else ExitStatus.OK


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_name", nargs="?", metavar="RUN", help=f"{RUN_HELP} (default: latest; with --parquet all saved runs)")
    add("--format", choices=FORMATS, help=f"format of the file (default: {FORMATS[0]})")
    add("--out", type=file_path, metavar="FILE", help="file to write (default: the standard output)")
    text = (
        "append to the dataset of a fleet instead: a folder, or a URL such as s3://bucket/runs; runs that it already "
        "has are skipped"
    )
    add("--parquet", type=storage_place, metavar="URL", help=text)
    add_storage(parser)


def _merge(args: argparse.Namespace) -> int:
    from cnnperf.records.writing import save_document
    from cnnperf.runs.merge import merge_runs

    document = merge_runs(args.shards, allow_missing=args.allow_missing)
    save_document(args.out, document)
    print_lines([f"wrote {args.out}: {len(document['benchmarks'])} cases"])
    return ExitStatus.OK


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", nargs="+", type=file_path, metavar="SHARD", help="run file, or folder of run files")
    parser.add_argument("--out", type=file_path, required=True, metavar="FILE", help="run file to write")
    parser.add_argument("--allow-missing", action="store_true", help="merge even if a shard is missing")


def _doctor(_: argparse.Namespace) -> int:
    from cnnperf.measure.doctor import CHECKS, Machine, examine
    from cnnperf.report.listing import doctor_lines

    print_lines(doctor_lines(examine(Machine.here()), len(CHECKS)))
    return ExitStatus.OK


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", nargs="?", default="latest", metavar="RUN", help=f"{RUN_HELP} (default: latest)")
    add_storage(parser)


def _repeat_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(name, metavar=name.upper(), help=RUN_HELP)
    add_storage(parser)


def _figures_arguments(parser: argparse.ArgumentParser) -> None:
    text = "Markdown file with the lines `<!-- figures:begin -->` and `<!-- figures:end -->`, such as README.md"
    parser.add_argument("document", type=file_path, metavar="DOCUMENT", help=text)
    _add_run(parser)


READING = (
    Command("list", "list saved runs, the architectures, or the metrics", _list, _list_arguments),
    Command("show", "print the summary of saved runs, as pytest printed it", _show, _add_run),
    Command(
        "repeat",
        "check that two runs of one commit have equal counters, and print both times",
        _repeat,
        _repeat_arguments,
    ),
    Command(
        "figures",
        "replace the tables between the marks of a Markdown document with those of saved runs",
        _figures,
        _figures_arguments,
    ),
    Command(
        "history",
        "find level shifts over all saved runs, and the commits in which they began",
        _history,
        _history_arguments,
        HISTORY_EPILOG,
    ),
    Command(
        "export",
        "write saved runs as CSV, Parquet or the JSON of other tools, or append them to a dataset",
        _export,
        _export_arguments,
        EXPORT_EPILOG,
    ),
    Command("merge", "join the run files of the shards of one run", _merge, _merge_arguments, MERGE_EPILOG),
    Command("doctor", "report what disturbs measurements on this machine, and how to fix it", _doctor),
)
