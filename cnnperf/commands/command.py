"""What a command is, what its exit status means, and how it prints."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.errors import CnnperfError, RunFileError

if TYPE_CHECKING:
    from cnnperf.runs import Run

FINE = 0
DIFFERENT = 1
UNUSABLE = 2
UNTOLD = 3
INTERRUPTED = 130

RUN = "a file or folder of runs, latest, latest~2, the number of a run, a commit, or a branch"
STORAGE = Path(".benchmarks")


@dataclass(frozen=True)
class Command:
    """Describe one command.

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
        "--runs", type=Path, default=STORAGE, metavar="FOLDER", help=f"where runs are saved (default: {STORAGE})"
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
    runs = runs_of(text, given)
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
    """Print the answer."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def tell(line: str) -> None:
    """Print progress, which is no part of the answer."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def step_summary() -> Path:
    """Return the file that GitHub shows as the summary of a step.

    Raises:
        CnnperfError: If there is none.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        raise CnnperfError("--step-summary needs the variable GITHUB_STEP_SUMMARY, which GitHub sets; or use --md FILE")
    return Path(path)
