"""What a command is, what its exit status means, and how it prints."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cnnperf.errors import CnnperfError, RunFileError

if TYPE_CHECKING:
    from cnnperf.runs import Run


RUN = "a file or folder of runs, latest, latest~2, the number of a run, a commit, or a branch"
STORAGE = Path(".benchmarks")
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "KINETO_LOG_LEVEL": "6"}
"""Threads that wait do not spin, and the profiler, by which memory is measured, does not write into the progress."""


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes:
        name: What is typed.
        help: One phrase, shown in the list of commands and in its own help.
        run: Takes the parsed arguments and returns the exit status.
        add: Adds the arguments and longer help.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    add: Callable[[argparse.ArgumentParser], None]


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add where saved runs are looked for."""
    parser.add_argument(
        "--runs",
        type=storage_place,
        default=STORAGE,
        metavar="FOLDER",
        help=f"where runs are saved: a folder, or the URL of a fleet's (default: {STORAGE})",
    )


def runs_of(text: str, given: argparse.Namespace) -> list[tuple[str, Run]]:
    """Return the runs that a text means."""
    from cnnperf.runs.choose import choose_runs

    return choose_runs(text, given.runs)


def only_run(text: str, given: argparse.Namespace) -> tuple[str, Run]:
    """Return the one run that a text means.

    Raises:
        RunFileError: If there are several.
    """
    return the_one(text, runs_of(text, given))


def the_one(text: str, runs: list[tuple[str, Run]]) -> tuple[str, Run]:
    """Return the run of a list that has to hold one; raises as `only_run` does."""
    if len(runs) > 1:
        raise RunFileError(f"{text}: {len(runs)} runs, one is needed; name one file, such as the one of {runs[-1][0]}")
    return runs[0]


def text_of(document: Path) -> str:
    """Return the text of a file.

    Raises:
        RunFileError: If it cannot be read.
    """
    try:
        return document.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{document}: cannot be read as text: {error}") from error


def print_lines(lines: Iterable[str]) -> None:
    """Print the answer; a reader who has seen enough, such as `head`, ends the printing and not the command.

    Raises:
        CnnperfError: If it cannot be written, such as to a full disk.
    """
    print_bytes("".join(f"{line}\n" for line in lines))


def print_bytes(content: str | bytes) -> None:
    """Print text, or bytes as they are; raises as `print_lines` does."""
    if sys.stdout is None:  # closed by who started this: nobody wants the answer
        return
    try:
        if isinstance(content, bytes):
            sys.stdout.buffer.write(content)
        else:
            sys.stdout.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        raise CnnperfError(f"the standard output cannot be written: {error.strerror}") from error


def tell(line: str) -> None:
    """Print progress, which is no part of the answer."""
    complain(line)


def quieten() -> None:
    """Set what a command that measures wants of PyTorch, before it is loaded, unless the environment says otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def complain(text: str) -> None:
    """Print to the standard error, without what moves the cursor of a terminal; a closed one is nobody to tell."""
    show(f"{text}\n")


def show(text: str) -> None:
    """Print as `complain` does, and leave the line open: the rest of it is still to come."""
    if sys.stderr is None:
        return
    shown = "".join(one if one.isprintable() or one in "\n\t" else "?" for one in text)
    try:
        sys.stderr.write(shown)
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)


def file_path(text: str) -> Path:
    """Return a path that is given on the command line.

    Raises:
        argparse.ArgumentTypeError: If it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path is needed, it is empty")
    return Path(text)


def storage_place(text: str) -> str | Path:
    """Return a folder, or a URL as it is: as a path it would lose a slash; raises as `file_path` does."""
    return text if "://" in text else file_path(text)


def _silence(stream: TextIO) -> None:
    """Let what is still to be written go nowhere: Python writes once more when it ends.

    See https://docs.python.org/3/library/signal.html#note-on-sigpipe.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def step_summary() -> Path:
    """Return the file that GitHub shows as the summary of a step.

    Raises:
        CnnperfError: If there is none.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        raise CnnperfError("--step-summary needs the variable GITHUB_STEP_SUMMARY, which GitHub sets; or use --md FILE")
    return Path(path)
