"""The commands that read saved runs and print what is in them."""

from __future__ import annotations

import argparse

from cnnperf.commands.command import (
    RUN,
    Command,
    add_storage,
    complain,
    file_path,
    only_run,
    print_bytes,
    print_lines,
    runs_of,
    storage_place,
    tell,
    text_of,
)
from cnnperf.errors import OptionError, RunFileError
from cnnperf.exit_status import ExitStatus

KINDS = ("runs", "architectures", "metrics")
FORMATS = ("csv", "parquet", "github", "bencher")
STEP = 500
"""Runs appended from line to line of the progress."""

HISTORY_EPILOG = """\
examples:
  cnnperf history
  cnnperf history 'se_*' --metric peak_memory
  cnnperf history 'resnet18 train*' --least 5% --runs nightly
  cnnperf history resnet18 --runs s3://bucket/runs --machine 'AMD EPYC 7763' --since 2026-01-01

A line of the file of known shifts is COMMIT | METRIC | CASE | REASON. Shifts are told with it, and do not fail.

exit status:
  0  no change for the worse that lasts, or only known ones
  1  a change for the worse
  2  unknown arguments, or runs that cannot be read
  3  too few runs
"""
MERGE_EPILOG = """\
examples:
  pytest benchmarks --benchmark-save=shard --cnnperf-shard 1/2    # on one machine
  pytest benchmarks --benchmark-save=shard --cnnperf-shard 2/2    # on another one of the same kind
  cnnperf merge shards/ --out .benchmarks/0001_merged.json

Refused are shards of two commits, of unlike environments or of other cases, missing ones, and a case that is in two of
them with different results.
"""
EXPORT_EPILOG = """\
examples:
  cnnperf export > runs.csv
  cnnperf export .benchmarks --format parquet --out runs.parquet
  cnnperf export --parquet s3://bucket/runs                  # append all saved runs to a fleet's dataset
  cnnperf export latest --format github --out output.json    # for github-action-benchmark, customSmallerIsBetter
  cnnperf export latest --format bencher --out bencher.json  # for `bencher run --adapter json --file bencher.json`
"""


def _list(given: argparse.Namespace) -> int:
    from cnnperf.report.listing import architecture_lines, metric_lines, run_lines

    if given.what == "runs":
        from cnnperf.runs.storage import open_storage

        print_lines(run_lines(open_storage(given.runs).heads()))
    elif given.what == "metrics":
        print_lines(metric_lines())
    else:
        from cnnperf.suite.options import Options

        print_lines(architecture_lines((row.name, row.summary) for row in Options().architectures()))
    return ExitStatus.OK


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=KINDS, default="runs", help="default: runs")
    add_storage(parser)


def _show(given: argparse.Namespace) -> int:
    from cnnperf.report.devices import device_lines
    from cnnperf.report.layout import printable
    from cnnperf.report.terminal import render_run

    runs = runs_of(given.run_name, given)
    for name, run in runs:
        print_lines([f"run {printable(name)}", *render_run(run), ""])
    if len(runs) > 1:  # rows side by side; no ratio is made across runs
        print_lines(device_lines(runs))
    return ExitStatus.OK


def _repeat(given: argparse.Namespace) -> int:
    from cnnperf.report.repetition import repeat_lines
    from cnnperf.runs.repeat import repeat_of

    (_, first), (_, second) = only_run(given.first, given), only_run(given.second, given)
    repeat = repeat_of(first, second)
    print_lines(repeat_lines(repeat))
    return ExitStatus.OK if repeat.agree else ExitStatus.FAILED


def _figures(given: argparse.Namespace) -> int:
    from cnnperf.output import write_whole
    from cnnperf.report.figures import figures, replace_figures

    text = text_of(given.document)
    changed = replace_figures(text, figures(runs_of(given.run_name, given)))
    write_whole(given.document, changed)
    print_lines([f"{given.document}: {'the figures were already these' if changed == text else 'figures replaced'}"])
    return ExitStatus.OK


def _history(given: argparse.Namespace) -> int:
    from cnnperf.records.metrics import METRICS
    from cnnperf.records.tolerance import fraction_of
    from cnnperf.report.history import history_lines
    from cnnperf.runs.acknowledged import FILE, accept, read_acknowledged
    from cnnperf.runs.selection import parse_machine
    from cnnperf.runs.series import changes_of
    from cnnperf.runs.storage import read_series
    from cnnperf.stats.shifts import LEAST_RUNS

    least = fraction_of(given.least, "--least")
    wanted = parse_machine(given.machine, given.since, given.until)
    if given.metric not in METRICS:
        raise OptionError(f"--metric: there is no metric {given.metric!r}; the metrics are {', '.join(METRICS)}")
    path = given.acknowledged or FILE
    known = read_acknowledged(path) if given.acknowledged or path.exists() else []
    series = read_series(given.runs, given.metric, given.case, wanted)
    changes = accept(changes_of(series, least), known)
    print_lines(history_lines(series, changes, path))
    if any(change.fails for change in changes):
        return ExitStatus.FAILED
    searched = METRICS[given.metric].counter or any(len(one.points) >= LEAST_RUNS for one in series)
    return ExitStatus.OK if searched else ExitStatus.UNSURE


def _history_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, HISTORY_EPILOG
    add = parser.add_argument
    add("case", nargs="?", default="*", metavar="CASE", help="a glob over architectures or labels (default: all)")
    add("--metric", default="latency", help="which (default: latency); anchor_ratio goes on from machine to machine")
    add("--least", default="2.5%", metavar="PERCENT", help="smallest shift that matters (default: 2.5%%)")
    text = "text file of shifts that people know of (default: acknowledged-shifts.txt, where there is one)"
    add("--machine", metavar="NAME", help="only runs of this one, named as in the frame (default: all)")
    add("--since", metavar="TIME", help="only runs from then on, such as 2026-01-31")
    add("--until", metavar="TIME", help="only runs before then")
    add("--acknowledged", type=file_path, metavar="FILE", help=text)
    add_storage(parser)


def _export(given: argparse.Namespace) -> int:
    from cnnperf.output import write_whole
    from cnnperf.report.export import FORMATS as WRITERS

    if given.parquet is not None:
        return _append(given)
    name = given.run_name or "latest"
    runs = runs_of(name, given)
    if not any(run.cases or run.not_measured or run.foreign for _, run in runs):
        raise RunFileError(f"{name}: no cases to export; `cnnperf show {name}` tells what is there")
    content = WRITERS[given.format or FORMATS[0]](runs)
    if given.out is not None:
        write_whole(given.out, content)
    else:
        print_bytes(content)
    return ExitStatus.OK


def _append(given: argparse.Namespace) -> int:
    """Append to a dataset, by default all saved runs: one that an earlier job could not send is not lost so."""
    from cnnperf.runs.choose import choose_documents
    from cnnperf.runs.fleet.append import append_runs
    from cnnperf.runs.fleet.location import open_location
    from cnnperf.runs.storage import open_storage

    if given.format or given.out:
        raise OptionError("--parquet appends to a dataset; --format and --out make a file: give the one or the others")
    location, damaged = open_location(given.parquet), list[RunFileError]()
    if given.run_name:
        saved = choose_documents(given.run_name, given.runs, damaged.append)
    else:
        saved = open_storage(given.runs).documents(damaged=damaged.append)
    appended, there = 0, 0
    for new in append_runs(saved, location):
        appended, there = appended + new, there + (not new)
        if not (appended + there) % STEP:
            tell(f"{appended} runs appended, {there} were there already")
    print_lines([f"{location.text}: {appended} runs appended, {there} were there already"])
    for error in damaged:
        complain(f"cnnperf: {error}")
    return ExitStatus.UNUSABLE if damaged else ExitStatus.OK


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXPORT_EPILOG
    add = parser.add_argument
    add("run_name", nargs="?", metavar="RUN", help=f"{RUN} (default: latest; with --parquet all saved runs)")
    add("--format", choices=FORMATS, help=f"default: {FORMATS[0]}")
    add("--out", type=file_path, metavar="FILE", help="default: the standard output")
    text = "append to a fleet's dataset: a folder, or a URL such as s3://bucket/runs; a run that is there is left alone"
    add("--parquet", type=storage_place, metavar="URL", help=text)
    add_storage(parser)


def _merge(given: argparse.Namespace) -> int:
    from cnnperf.records.writing import save_document
    from cnnperf.runs.merge import merge_runs

    document = merge_runs(given.shards, allow_missing=given.allow_missing)
    save_document(given.out, document)
    print_lines([f"wrote {given.out}: {len(document['benchmarks'])} cases"])
    return ExitStatus.OK


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, MERGE_EPILOG
    parser.add_argument("shards", nargs="+", type=file_path, metavar="SHARD", help="a run file, or a folder of them")
    parser.add_argument("--out", type=file_path, required=True, metavar="FILE", help="the run file to write")
    parser.add_argument("--allow-missing", action="store_true", help="merge though a shard is missing")


def _doctor(_: argparse.Namespace) -> int:
    from cnnperf.measure.doctor import CHECKS, Machine, examine
    from cnnperf.report.listing import doctor_lines

    print_lines(doctor_lines(examine(Machine.here()), len(CHECKS)))
    return ExitStatus.OK


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", nargs="?", default="latest", metavar="RUN", help=f"{RUN} (default: latest)")
    add_storage(parser)


def _repeat_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(name, metavar=name.upper(), help=RUN)
    add_storage(parser)


def _figures_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("document", type=file_path, metavar="DOCUMENT", help="such as README.md")
    _add_run(parser)


def _nothing(_: argparse.ArgumentParser) -> None:
    """Take no arguments."""


READING = (
    Command("list", "list saved runs, the architectures, or the metrics", _list, _list_arguments),
    Command("show", "print the summary of runs, as the benchmarks did at their end", _show, _add_run),
    Command(
        "repeat",
        "check that two runs of one commit have equal counters, and print both times",
        _repeat,
        _repeat_arguments,
    ),
    Command(
        "figures",
        "write the tables of runs into a Markdown document, between its marks for figures",
        _figures,
        _figures_arguments,
    ),
    Command(
        "history",
        "find level shifts over all saved runs, and the commits in which they happened",
        _history,
        _history_arguments,
    ),
    Command("export", "write runs in the formats of others", _export, _export_arguments),
    Command("merge", "join the run files of one suite's shards", _merge, _merge_arguments),
    Command("doctor", "tell what on this machine disturbs measurements, and what mends it", _doctor, _nothing),
)
