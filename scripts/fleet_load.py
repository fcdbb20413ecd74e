"""Measure what a fleet's dataset takes at several sizes, and what that comes to at a million runs.

    python scripts/fleet_load.py --runs 1000 3000 10000 --cases 100

The runs of each size are spread over a year and over machines. Each figure is of a process of its own: wall time, and
the peak of its resident memory; the files are in the page cache. A million is on the line through the two largest
sizes, with as many machines. With more machines, a question about one of them grows with the runs of that one alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

MILLION = 10**6
WRITERS = 2
ALL, ONE, NOTHING = "all runs", "runs of the machine", "nothing"
PROGRAM = """
import contextlib, io, json, resource, time
begun, spent = time.perf_counter(), None
with contextlib.redirect_stdout(io.StringIO()):
{step}
seconds = time.perf_counter() - begun if spent is None else spent
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10]))
"""
APPEND = """
    from cnnperf.runs.fleet.append import append_runs
    from cnnperf.runs.fleet.location import open_location
    from cnnperf.testing import MadeHistory
    made = MadeHistory(runs={runs}, cases={cases}, rounds=5, machines={machines}, days=365 / {runs})
    numbers, spent = range({writer}, {runs}, {writers}), 0.0
    for some in (numbers[first : first + 50] for first in range(0, len(numbers), 50)):
        documents = [(f"{{number + 1:07}}_made", made.document(number)) for number in some]
        begun = time.perf_counter()
        list(append_runs(documents, open_location({place!r})))
        spent += time.perf_counter() - begun
    spent /= len(numbers)
"""
"""Making the documents is not timed."""

STEPS: Mapping[str, tuple[str, str]] = {
    "throughput of one case on one machine over the year": (
        """
    import cnnperf
    where = {{"machine": "Made CPU 1", "architecture": "network3", "phase": "train", "metric": "throughput"}}
    cnnperf.load_runs({place!r}, where=where, since="2026-01-01", until="2027-01-01")
""",
        ONE,
    ),
    "its history, searched for shifts and drawn": (
        """
    import altair, cnnperf
    frame = cnnperf.history({place!r}, "throughput", "network3 train cpu eager batch 8", machine="Made CPU 1")
    altair.Chart(frame[["time", "value"]]).mark_line().encode(x="time", y="value").save({place!r} + ".svg")
""",
        ONE,
    ),
    "summary of the latest run": (
        """
    from cnnperf.cli import main
    main(["show", "latest", "--runs", {place!r}])
""",
        ALL,
    ),
}


def main() -> None:
    """Read the arguments, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 3000, 10000], help="sizes (default: up to 10000)")
    parser.add_argument("--cases", type=int, default=100, help="of each run (default: 100)")
    parser.add_argument("--machines", type=int, default=5, help="that the runs are spread over (default: 5)")
    given = parser.parse_args()
    sizes = sorted(given.runs)
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(f"{folder}/{runs}", runs, given.cases, given.machines) for runs in sizes]
    header = ["", *(f"{runs:,} runs" for runs in sizes), "a million", "grows with"]
    print_row(header)
    print_row(["---", *["---:"] * (len(header) - 2), "---"])
    for name, (_, unit, cause) in found[0].items():
        values = [figures[name][0] for figures in found]
        million = values[-1] if cause == NOTHING else extrapolate(sizes, values)
        print_row([name, *(f"{written(value)} {unit}" for value in (*values, million)), cause])


def measure(place: str, runs: int, cases: int, machines: int) -> dict[str, tuple[float, str, str]]:
    """Make a dataset and return each figure with its unit and what it grows with."""
    size = {"runs": runs, "cases": cases, "machines": machines, "writers": WRITERS, "place": place}
    writers = [start(APPEND.format(writer=writer, **size)) for writer in range(WRITERS)]
    appended, memory = zip(*map(finish, writers), strict=True)
    files = [path.stat().st_size for path in Path(place).rglob("*.parquet")]
    figures = {
        "files": (len(files), "", ALL),
        "size on disk": (sum(files) / 2**20, "MiB", ALL),
        "appending a run": (sum(appended) / WRITERS, "s", NOTHING),
        "appending, memory with the generator": (max(memory), "MiB", NOTHING),
    }
    for name, (step, cause) in STEPS.items():
        seconds, peak = finish(start(step.format(place=place)))
        figures |= {name: (seconds, "s", cause), f"{name}, memory": (peak, "MiB", cause)}
        tell(f"{runs} runs: {name}: {seconds:.2f} s")
    return figures


def start(step: str) -> subprocess.Popen[str]:
    """Start a process that runs a step and says how long it took and what memory."""
    return subprocess.Popen([sys.executable, "-c", PROGRAM.format(step=step)], stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours


def finish(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Return the seconds and the MiB of a step.

    Raises:
        SystemExit: If it failed; its own message stands before.
    """
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit("a step failed")
    seconds, memory = json.loads(said)
    return seconds, memory


def extrapolate(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the value at a million on the line through the two largest sizes; with one size, through the origin."""
    (before, after), (low, high) = ([0, *sizes][-2:], [0.0, *values][-2:])
    return high + (high - low) / (after - before) * (MILLION - after)


def written(value: float) -> str:
    """Return a number with three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def print_row(cells: Sequence[str]) -> None:
    """Print a row of a Markdown table."""
    sys.stdout.write(f"| {' | '.join(cell.strip() for cell in cells)} |\n")


def tell(line: str) -> None:
    """Print progress."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
