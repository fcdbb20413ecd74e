"""Run the steps that a machine with a CUDA device is for, one after the other within a budget of time.

A step that is done is not done again: call it with the same folder until all are. One archive, DIR/cuda.tar.gz, holds
run files, logs and results of the tests; DIR/steps.json says what became of each step. Both are written anew each time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cuda_steps import STEPS, Command, Step

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE, REPORT = "cuda.tar.gz", "steps.json"
MOST_BYTES = 15 << 20  # of the archive: what is fetched from a machine one file at a time has such limits
GRACE = 20.0  # seconds for a step to save what it has before it is ended harder
PATIENCE = 2.0  # times a step's estimate
DONE, FAILED, TIMED_OUT, LEFT_OUT, SKIPPED, ENDED = "done", "failed", "timed out", "left out", "skipped", "interrupted"
SOME_FAILED, USAGE, NO_DEVICE, INTERRUPTED = 1, 2, 3, 130


@dataclass
class Outcome:
    """What became of a step.

    Attributes:
        name: Of the step.
        status: `done`, `failed`, `timed out`, `left out`, `skipped` (it was done before) or `interrupted`.
        seconds: Spent on it now.
        estimate: Seconds that it was expected to take.
        commands: As run.
    """

    name: str
    status: str
    seconds: float
    estimate: float
    commands: list[list[str]]


class Interrupted(Exception):  # noqa: N818 - no error: somebody asked for it
    """The run was asked to end."""


class Runner:
    """Run of steps into one folder."""

    def __init__(self, out: Path, budget: float, scale: float) -> None:
        """Begin to count.

        Args:
            out: Folder of all files.
            budget: Seconds for all steps.
            scale: Times which each estimate is taken.
        """
        self.out, self._scale = out, scale
        self._end = time.monotonic() + budget
        self.outcomes: list[Outcome] = []
        self._values = {"python": sys.executable, "out": str(out), "plugin": plugin(), "gpu_tests": ""}

    def run(self, step: Step) -> None:
        """Run one step, or say why not, and write archive and report anew."""
        estimate, left = step.estimate * self._scale, self._end - time.monotonic()
        marker = self.out / f"{step.name}.done"
        commands = [self._filled(command) for command in step.commands]
        outcome = Outcome(step.name, SKIPPED, 0.0, estimate, commands)
        self.outcomes.append(outcome)
        if marker.exists():
            say(f"== {step.name}: it was done before")
        elif estimate > left:
            outcome.status = LEFT_OUT
            say(f"== {step.name}: left out, it needs about {estimate:.0f} s and {max(0.0, left):.0f} s are left")
        else:
            self._try(step, outcome, min(PATIENCE * estimate, left))
            if outcome.status == DONE:
                marker.touch()
        self.write()
        if outcome.status == ENDED:
            raise Interrupted

    def write(self) -> None:
        """Write the report and the archive, each whole or not at all."""
        replace_file(self.out / REPORT, json.dumps([asdict(one) for one in self.outcomes], indent=1).encode())
        replace_file(self.out / ARCHIVE, archive_of(self.out))

    def _try(self, step: Step, outcome: Outcome, limit: float) -> None:
        start = time.monotonic()
        environment = {**os.environ, **caches(), **dict(step.environment), "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        (self.out / "logs").mkdir(exist_ok=True)
        outcome.status = DONE
        with (self.out / "logs" / f"{step.name}.log").open("ab") as log:
            for command in outcome.commands:
                say(f"== {step.name}: {' '.join(command)}")
                outcome.status = run_command(command, environment, log, start + limit)
                if outcome.status != DONE:
                    break
        outcome.seconds = time.monotonic() - start
        say(f"== {step.name}: {outcome.status} after {outcome.seconds:.0f} s")

    def _filled(self, command: Command) -> list[str]:
        words: list[str] = []
        for part in command:
            if part == "{plugin}":
                words += self._values["plugin"].split()
            elif part == "{gpu_tests}":
                words += gpu_tests()
            else:
                words.append(part.replace("{python}", sys.executable).replace("{out}", str(self.out)))
        return words


def run_command(command: list[str], environment: dict[str, str], log: IO[bytes], end: float) -> str:
    """Run a command in a process group of its own, copy its output to terminal and log, and return its status."""
    process = subprocess.Popen(  # noqa: S603 - the table's own commands
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    copier = threading.Thread(target=copy_output, args=(process.stdout, log), daemon=True)
    copier.start()
    try:
        status = DONE if process.wait(max(0.0, end - time.monotonic())) == 0 else FAILED
    except subprocess.TimeoutExpired:
        status = TIMED_OUT
        stop(process)
    except (KeyboardInterrupt, Interrupted):
        status = ENDED
        stop(process)
    copier.join(GRACE)
    return status


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process group: first as Ctrl-C does, upon which pytest saves what it has, then ever harder."""
    for signal_ in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_)
            process.wait(GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        # What the process started may outlive it, in the same group.
        if signal_ is not signal.SIGINT:
            return
    process.wait()


def copy_output(source: IO[bytes], log: IO[bytes]) -> None:
    """Copy lines to the log and the terminal as they come."""
    for line in source:
        log.write(line)
        log.flush()
        sys.stdout.write(line.decode(errors="replace"))
        sys.stdout.flush()


def archive_of(folder: Path) -> bytes:
    """Return an archive of a folder's files, without the largest where they are too much together."""
    files = sorted((path for path in folder.rglob("*") if path.is_file() and path.name != ARCHIVE), key=size_of)
    while True:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for path in files:
                archive.add(path, path.relative_to(folder))
        if content.tell() <= MOST_BYTES or not files:
            return content.getvalue()
        largest = files.pop()
        say(f"== {ARCHIVE}: {largest.relative_to(folder)} ({size_of(largest) >> 20} MiB) is left out, it is too large")


def size_of(path: Path) -> int:
    """Return the bytes of a file."""
    return path.stat().st_size


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the one that was there."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_bytes(content)
    new.replace(path)


def caches() -> dict[str, str]:
    """Return where compilers keep what they made: outside the folder, and the same at the next call on this machine."""
    folder = Path(tempfile.gettempdir()) / "cnnperf-cuda"
    names = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
    return {name: str(folder / sub) for name, sub in names.items() if name not in os.environ}


def plugin() -> str:
    """Return the option that loads the plugin; none where the package is installed, which loads it by itself."""
    from importlib.metadata import entry_points

    installed = any(entry.name == "cnnperf" for entry in entry_points(group="pytest11"))
    return "" if installed else "-p cnnperf.suite.plugin"


def gpu_tests() -> list[str]:
    """Return the files with tests of a device, so that no others are imported."""
    found = (path for path in (ROOT / "tests").glob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8"))
    return sorted(str(path.relative_to(ROOT)) for path in found if path.name != "test_gpu_tests.py")


def has_device() -> bool:
    """Return whether this Python has a PyTorch that sees a CUDA device."""
    code = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0  # noqa: S603


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - a script


def table(outcomes: list[Outcome]) -> str:
    """Return what became of each step, a line each."""
    lines = [f"{one.name:16} {one.status:12} {one.seconds:6.0f} s of about {one.estimate:.0f}" for one in outcomes]
    return "\n".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse and check the arguments; ends with status 2 and one sentence where they cannot be used."""
    steps = "\n".join(f"  {step.name:16} {step.estimate:4.0f} s  {step.what}" for step in STEPS)
    parser = argparse.ArgumentParser(
        prog="scripts/cuda.sh", description=__doc__, epilog=f"steps:\n{steps}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of all files; made where needed")
    parser.add_argument("--budget", type=float, default=1800.0, metavar="SECONDS", help="for all steps (default: 1800)")
    parser.add_argument("--scale", type=float, default=1.0, help="times each estimate, for a slower or faster machine")
    parser.add_argument("--resume", type=Path, metavar="ARCHIVE", help="unpack an earlier archive into DIR first")
    parser.add_argument("steps", nargs="*", metavar="STEP", help="those to do, in the table's order (default: all)")
    given = parser.parse_args(arguments)
    known = [step.name for step in STEPS]
    for name in given.steps:
        if name not in known:
            parser.error(f"unknown step {name!r}; the steps are {', '.join(known)}")
    for name in ("budget", "scale"):
        if not 0 < getattr(given, name) < float("inf"):
            parser.error(f"--{name} takes a number above 0, not {getattr(given, name):g}")
    if given.out.exists() and not given.out.is_dir():
        parser.error(f"--out {given.out} is a file; name a folder")
    if given.resume is not None and not (given.resume.is_file() and tarfile.is_tarfile(given.resume)):
        parser.error(f"--resume {given.resume} is no archive of this script")
    return given


def main(arguments: list[str]) -> int:
    """Run the steps that were asked for; return the exit status."""
    given = parse(arguments)
    if not has_device():
        print(  # noqa: T201
            f"scripts/cuda.sh: {sys.executable} has no torch that sees a CUDA device; set PYTHON to one that has",
            file=sys.stderr,
        )
        return NO_DEVICE
    out = given.out.resolve()
    for folder in ("runs", "shards"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    if given.resume is not None:
        with tarfile.open(given.resume) as archive:
            archive.extractall(out, filter="data")
    signal.signal(signal.SIGTERM, interrupt)
    runner, status = Runner(out, given.budget, given.scale), 0
    try:
        for step in STEPS:
            if not given.steps or step.name in given.steps:
                runner.run(step)
    except (KeyboardInterrupt, Interrupted):
        status = INTERRUPTED
    say(table(runner.outcomes))
    failed = any(one.status in {FAILED, TIMED_OUT} for one in runner.outcomes)
    return status or (SOME_FAILED if failed else 0)


def interrupt(*_: object) -> None:
    """End as Ctrl-C does."""
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
