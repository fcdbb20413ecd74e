"""Measure what reading a long history takes, and print the table.

    python scripts/history_load.py --runs 2000 --cases 100

Each line is a process of its own: seconds of wall time, and the peak of its resident memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cnnperf.testing import MadeHistory

READ = "import cnnperf; frame = cnnperf.load_runs({folder!r}); said = len(frame)"
ADDED = "frame, cached, one run added"
MAIN = "from cnnperf.cli import main; said = main([{arguments}])"
STEPS: Mapping[str, str] = {
    "frame, nothing cached": READ,
    "frame, cached": READ,
    ADDED: READ,
    "size of the frame": f"{READ}; said = f'{{{{frame.memory_usage(deep=True).sum() / 2**20:.0f}}}} MiB'",
    "history of one case": MAIN.format(arguments="'history', 'network0', '--runs', {folder!r}"),
    "page of the latest run": MAIN.format(
        arguments="'report', 'latest', '--runs', {folder!r}, '--html', {folder!r} + '/page.html'"
    ),
}
PROGRAM = """
import contextlib, io, resource, time
begun = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    {step}
seconds = time.perf_counter() - begun
print(f"{{seconds:.1f}} s | {{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}} MiB | {{said}}")
"""


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="in the history (default: 2000)")
    parser.add_argument("--cases", type=int, default=100, help="of each run (default: 100)")
    given = parser.parse_args()
    made = MadeHistory(runs=given.runs, cases=given.cases)
    with tempfile.TemporaryDirectory() as folder:
        made.write(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        sys.stdout.write(
            f"{given.runs} runs of {given.cases} cases, {made.rounds} rounds each: {size:.0f} MiB of files\n\n"
        )
        sys.stdout.write("| step | time | peak memory | rows, size or status |\n| --- | ---: | ---: | ---: |\n")
        for name, step in STEPS.items():
            if name == ADDED:
                Path(folder, "9999_made.json").write_text(json.dumps(made.document(given.runs)), encoding="utf-8")
            code = PROGRAM.format(step=step.format(folder=folder))
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
            sys.stdout.write(f"| {name} | {done.stdout.strip()} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
