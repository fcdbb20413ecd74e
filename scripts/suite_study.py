"""Run the default suite again and again, and print how far the runs agree.

    python scripts/suite_study.py measure quiet --runs 10
    python scripts/suite_study.py measure loaded --runs 10 --load 1
    python scripts/suite_study.py measure plain --runs 10 --no-twins
    python scripts/suite_study.py measure old --runs 3 --no-twins --checkout ../cnnperf-before
    python scripts/suite_study.py planted --runs 40
    python scripts/suite_study.py tables results/suite-study/*.csv

`measure` enters every architecture of the default suite twice, the second time under another name (A/A): the true ratio
of the two is 1. `planted` measures LeNet-5 beside itself with 5 % and 10 % of its time added. Both append the ratios of
each run to `results/suite-study/NAME.csv` as soon as it is finished; run files go to `.benchmarks/suite-study/NAME`. Do
nothing else on the machine meanwhile. A run takes two minutes, and four with twins. Options of pytest follow a `--`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from suite_study_tables import tables

from cnnperf.records.case import Case
from cnnperf.records.files import read_run
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.durations import measured_share
from cnnperf.runs.run_ratios import ratios_of_run
from cnnperf.stats.paired import paired_ratio
from cnnperf.stats.simultaneous import verdicts_on

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "suite-study"
TWIN = "_again"
BLOCKS = (("lenet5", "lenet5_avg"), ("plain_stack", "residual_stack"), ("resnet18", "se_resnet18", "se_resnet18_fused"))
TWINS_SUITE = """
import dataclasses

import pytest

import cnnperf.fusion
from cnnperf.models.catalog import CATALOG, register
from cnnperf.suite import plan

for name in list(CATALOG):
    register(dataclasses.replace(CATALOG[name], name=name + "{twin}"))
    if name in plan.CPU_BATCH:
        plan.CPU_BATCH[name + "{twin}"] = plan.CPU_BATCH[name]
"""
TEST = """

@pytest.mark.cnnperf({names})
def test_{first}(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)
"""
PLANTED_NETWORKS = '''
"""LeNet-5 with a part of its own time added to each call."""

import statistics
import time

import torch

from cnnperf.models.lenet import LeNet5

BATCH = 128
CALLS = 200


def seconds_of_a_call(network):
    """Return the median seconds of an inference."""
    images, seconds = torch.randn(BATCH, 3, 32, 32), []
    with torch.inference_mode():
        for _ in range(CALLS):
            start = time.perf_counter()
            network(images)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


SECONDS = seconds_of_a_call(LeNet5(pooling="max").eval())


class Slowed(LeNet5):
    share = 0.0

    def __init__(self):
        super().__init__(pooling="max")

    def forward(self, images):
        if images.device.type == "cpu":
            end = time.perf_counter() + self.share * SECONDS
            while time.perf_counter() < end:
                pass
        return super().forward(images)


class Same(Slowed):
    pass


class SlowedBy5(Slowed):
    share = 0.05


class SlowedBy10(Slowed):
    share = 0.1
'''
PLANTED = ("Same", "SlowedBy5", "SlowedBy10")


def main() -> None:
    """Parse the command line and run one part of the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("measure", "planted"):
        one = commands.add_parser(command)
        if command == "measure":
            one.add_argument("name", help="name of the table, such as quiet")
            one.add_argument("--no-twins", action="store_true", help="run the suite as it is, without A/A")
            one.add_argument("--checkout", type=Path, default=ROOT, help="work tree whose suite is run")
        else:
            one.set_defaults(name="planted", no_twins=False, checkout=ROOT)
        one.add_argument("--runs", type=int, default=10)
        one.add_argument("--load", type=int, default=0, help="busy processes beside the suite")
    shown = commands.add_parser("tables")
    shown.add_argument("files", nargs="+", type=Path)
    own, _, options = " ".join(sys.argv[1:]).partition(" -- ")
    arguments = parser.parse_args(own.split())
    arguments.options = options.split()
    if arguments.command == "tables":
        print("\n\n".join(tables(arguments.files)))  # noqa: T201 - the output of a script
        return
    with busy(arguments.load):
        for number in range(1, arguments.runs + 1):
            run = run_suite(arguments)
            append(RESULTS / f"{arguments.name}.csv", rows_of(run, arguments.load))
            print(f"run {number} of {arguments.runs}: {run.wall_seconds:.0f} s", flush=True)  # noqa: T201


def run_suite(arguments: argparse.Namespace) -> Run:
    """Run pytest once and return its run.

    Raises:
        SystemExit: If a case could not be measured.
    """
    storage = ROOT / ".benchmarks" / "suite-study" / arguments.name
    storage.mkdir(parents=True, exist_ok=True)
    before = set(storage.rglob("*.json"))
    suite, options = _suite(arguments, storage)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite), *options]
    command += ["--benchmark-autosave", f"--benchmark-storage={storage}", *arguments.options]
    paths = [str(arguments.checkout), str(storage)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, check=False, cwd=arguments.checkout, env=environment, capture_output=True, text=True)  # noqa: S603 - ours
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\npytest ended with status {done.returncode}")
    (path,) = set(storage.rglob("*.json")) - before
    return read_run(path)


def _suite(arguments: argparse.Namespace, storage: Path) -> tuple[Path, list[str]]:
    """Return the suite to run and its options, written first where it is not that of the work tree."""
    if arguments.no_twins:
        return arguments.checkout / "benchmarks", []
    folder = storage / "suite"
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text((ROOT / "benchmarks" / "conftest.py").read_text())
    if arguments.command == "planted":
        (storage / "planted_networks.py").write_text(PLANTED_NETWORKS)
        (folder / "test_own.py").write_text((ROOT / "benchmarks" / "test_own.py").read_text())
        networks = [f"--cnnperf-architecture=planted_networks:{name}" for name in PLANTED]
        axes = [f"--cnnperf-axis={axis}" for axis in ("phase=forward", "engine=eager", "batch=128")]
        return folder, [*networks, *axes]
    text = TWINS_SUITE.format(twin=TWIN)
    for names in BLOCKS:
        both = ", ".join(f'"{name}", "{name}{TWIN}"' for name in names)
        text += TEST.format(names=both, first=names[0])
    (folder / "test_twins.py").write_text(text)
    return folder, []


def rows_of(run: Run, load: int) -> list[dict[str, object]]:
    """Return a row for each ratio of a run: those that its report shows, and those of twins and planted networks."""
    cases = {record.case: record for record in run.cases}
    shown = {
        pair: ratio for pair, ratio in ratios_of_run(run).items() if not any(TWIN in case.architecture for case in pair)
    }
    others = dict(_others(cases))
    values = [ratio.value for ratio in shown.values()] + list(others.values())
    verdicts = verdicts_on(values)
    share = measured_share(run)
    facts = {"commit": run.commit, "load": load, "wall": run.wall_seconds, "share": share.share if share else None}
    return [
        {"run": run.time, **facts, "kind": "shown" if pair in shown else "other", **_name(*pair), **_ends(value)}
        | {"paired": shown[pair].paired if pair in shown else True, "verdict": verdict}
        for pair, value, verdict in zip([*shown, *others], values, verdicts, strict=True)
    ]


def _others(cases: dict[Case, CaseRecord]) -> Iterator[tuple[tuple[Case, Case], Value]]:
    """Yield the ratios of twins to their originals, and of planted networks to the one without a plant."""
    for case, record in cases.items():
        name = case.architecture
        original = name.removesuffix(TWIN) if name.endswith(TWIN) else "planted_networks:Same"
        other = cases.get(case.replace(architecture=original))
        if other is not None and other is not record and (name.endswith(TWIN) or name.startswith("planted")):
            yield (case, other.case), paired_ratio(record.groups, other.groups)


def _name(numerator: Case, denominator: Case) -> dict[str, object]:
    sides = (f"{case.architecture} {case.engine}" for case in (numerator, denominator))
    return {"phase": numerator.phase, **dict(zip(("numerator", "denominator"), sides, strict=True))}


def _ends(value: Value) -> dict[str, object]:
    return {"value": value.value, "low": value.low, "high": value.high, "cycles": value.rounds}


def append(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Append rows to a CSV file, which gets its header with the first ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.6g")


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep as many cores busy as there are processes."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
