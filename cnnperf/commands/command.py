"""What the commands share: the row of their table, common arguments, and output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cnnperf.errors import CnnperfError, RunFileError
from cnnperf.extras import missing_package
from cnnperf.output import write_whole

if TYPE_CHECKING:
    from cnnperf.report.drawing import Chart
    from cnnperf.runs import Run


RUN_HELP = "file or folder of runs, latest, latest~2, the number of a run, a commit, or a branch"
STORAGE = Path(".benchmarks")
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "KINETO_LOG_LEVEL": "6"}
"""Variables of commands that measure: waiting threads do not spin, and the profiler (it measures memory) is quiet."""


def no_arguments(_: argparse.ArgumentParser) -> None:
    """Add no arguments."""


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes:
        name: Name on the command line.
        help: One phrase, shown in the list of commands and at the top of the command's own help.
        run: Function of the parsed arguments that returns the exit status.
        add: Function that adds the arguments to the parser.
        epilog: Text at the end of the command's own help, printed as it is.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    add: Callable[[argparse.ArgumentParser], None] = no_arguments
    epilog: str = ""


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add the option for the storage of saved runs."""
    parser.add_argument(
        "--runs",
        type=storage_place,
        default=STORAGE,
        metavar="FOLDER",
        help=f"folder of the saved runs, or URL of a fleet's dataset (default: {STORAGE})",
    )
    text = "refuse a folder with a damaged file, instead of leaving the file out with a warning"
    parser.add_argument("--strict", action="store_true", help=text)


def add_markdown(parser: argparse.ArgumentParser, md_help: str) -> None:
    """Add the options for output as Markdown."""
    parser.add_argument("--md", type=file_path, metavar="FILE", help=md_help)
    text = "append the Markdown to the file that GITHUB_STEP_SUMMARY names, which GitHub Actions shows"
    parser.add_argument("--step-summary", action="store_true", help=text)


def add_pictures(parser: argparse.ArgumentParser, content: str) -> None:
    """Add the options for folders of pictures; each picture shows one `content`."""
    for kind in ("png", "svg"):
        text = f"write a picture of each {content} there, as {kind.upper()}"
        parser.add_argument(f"--{kind}", type=file_path, metavar="FOLDER", help=text)


def runs_of(text: str, args: argparse.Namespace) -> list[tuple[str, Run]]:
    """Return the runs that a text names, each with its own name."""
    from cnnperf.runs.choose import choose_runs

    return choose_runs(text, args.runs)


def only_run(text: str, runs: list[tuple[str, Run]]) -> tuple[str, Run]:
    """Return the only one of the runs that a text names.

    Raises:
        RunFileError: If there are several.
    """
    if len(runs) > 1:
        raise RunFileError(f"{text} names {len(runs)} runs, but one is needed; name one file, such as {runs[-1][0]}")
    return runs[0]


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file and print its path; raises as `write_whole` does."""
    write_whole(path, content)
    print_lines([f"wrote {path}"])


def write_pictures(charts: Iterable[Chart], args: argparse.Namespace, theme: str = "light") -> None:
    """Write charts into the folders of `--png` and `--svg`."""
    for chart in charts:
        if args.png:
            write_file(args.png / f"{chart.name}.png", chart.png(theme))
        if args.svg:
            write_file(args.svg / f"{chart.name}.svg", chart.svg(theme))


def check_packages(packages: Sequence[str], extra: str, purpose: str) -> None:
    """Check before work such as `a study` that the packages of an extra are installed.

    Raises:
        CnnperfError: If a package is missing.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise missing_package(", ".join(missing), extra, purpose)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to the standard output; if its reader has ended, such as `head`, the command continues silently.

    Raises:
        CnnperfError: If the standard output cannot be written, for example because a disk is full.
    """
    print_bytes("".join(f"{line}\n" for line in lines))


def print_bytes(content: str | bytes) -> None:
    """Print text, or bytes unchanged; raises as `print_lines` does."""
    if sys.stdout is None:  # the parent process closed it
        return
    try:
        if isinstance(content, bytes):
            sys.stdout.buffer.write(content)
        else:
            sys.stdout.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        raise CnnperfError(f"the standard output cannot be written: {error.strerror}") from error


def set_environment() -> None:
    """Set the variables of `ENVIRONMENT` that are not set yet; call it before PyTorch is loaded."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def print_error(text: str) -> None:
    """Print errors or progress to the standard error, with `?` for control characters of the terminal."""
    write_error(f"{text}\n")


def write_error(text: str) -> None:
    """Print as `print_error` does, without ending the line."""
    if sys.stderr is None:
        return
    printable = "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)
    try:
        sys.stderr.write(printable)
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def file_path(text: str) -> Path:
    """Parse a path of the command line.

    Raises:
        argparse.ArgumentTypeError: If it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; name a file or a folder")
    return Path(text)


def storage_place(text: str) -> str | Path:
    """Parse a folder, or a URL, which as a path would lose a slash; raises as `file_path` does."""
    return text if "://" in text else file_path(text)


def _discard(stream: TextIO) -> None:
    """Discard all further output of a stream, because Python flushes it once more at exit.

    See https://docs.python.org/3/library/signal.html#note-on-sigpipe.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def step_summary() -> Path:
    """Return the file that GitHub Actions shows as the summary of a step.

    Raises:
        CnnperfError: If no file is set.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        raise CnnperfError(
            "--step-summary needs the variable GITHUB_STEP_SUMMARY, which GitHub Actions sets; elsewhere use --md FILE"
        )
    return Path(path)
