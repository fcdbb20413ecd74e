"""The commands of the studies, and the tour through the architectures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from cnnperf.commands.command import Command, file_path, print_lines, quieten, tell
from cnnperf.errors import CnnperfError, OptionError
from cnnperf.exit_status import ExitStatus
from cnnperf.extras import missing_package

if TYPE_CHECKING:
    from tqdm import tqdm

    from cnnperf.studies.outcome import Outcome

FOLDER = Path("studies")
EPILOG = """\
examples:
  cnnperf study gradient-flow
  cnnperf study pooling --seeds 20
  cnnperf study squeeze-excitation --width 32 --minutes 60
  cnnperf study depth --blocks 30

Each prints its answer and table, and writes samples (CSV), table (Markdown) and figure (SVG, PNG). Studies of training
keep each finished seed: interrupt one, and the same command goes on. Needs `pip install "cnnperf[study]"`.
"""


DEPTHS = "5,10,20,30"
PACKAGES = ("altair", "tabulate", "tqdm", "vl_convert")
SEEDS, MINUTES = 10, 10.0
NORMALIZATIONS, INITIALIZATIONS = ("batch", "running", "none"), ("default", "he")


@dataclass(frozen=True)
class Study:
    """One study of the command line.

    Attributes:
        question: Which it answers.
        add: Adds its own arguments.
        run: Does it.
    """

    question: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Outcome]


class Bar:
    """Progress bar of a study with the remaining time, from its first part on."""

    def __init__(self, total: int, unit: str) -> None:
        """Get ready."""
        from tqdm import tqdm

        self._total = total
        self._make: Callable[[int], tqdm[NoReturn]] = lambda total: tqdm(
            total=total, unit=unit, file=sys.stderr, dynamic_ncols=True
        )
        self._bar: tqdm[NoReturn] | None = None

    def epoch(self) -> None:
        """Note that a part has ended."""
        self._shown().update()

    def skip(self, parts: int) -> None:
        """Note parts that need not be done."""
        self._total -= parts
        self._shown().total = self._total

    def note(self, text: str) -> None:
        """Note what happens."""
        self._shown().set_postfix_str(text)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()

    def _shown(self) -> tqdm[NoReturn]:
        if self._bar is None:  # a bar of nothing is false
            self._bar = self._make(self._total)
        return self._bar


def _study(given: argparse.Namespace) -> int:
    quieten()
    _check_before(given)
    try:
        outcome = STUDIES[given.study].run(given)
    except KeyboardInterrupt:
        tell(f"cnnperf: interrupted{_kept(given)}")
        return ExitStatus.INTERRUPTED
    written = outcome.write(given.out)
    print_lines([*outcome.answer, "", outcome.table(), "", outcome.where, *(f"wrote {path}" for path in written)])
    return ExitStatus.OK


def _check_before(given: argparse.Namespace) -> None:
    """Refuse what would fail only after minutes of work.

    Raises:
        CnnperfError: If a package is missing, or the results could not be written.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise missing_package(", ".join(missing), "study", "a study")
    above = next(path for path in (given.out, *given.out.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise CnnperfError(f"--out {given.out}: {above} is no folder that can be written to; choose another one")


def _kept(given: argparse.Namespace) -> str:
    path = given.out / f"{given.study}.seeds.jsonl"
    count = path.read_bytes().count(b"\n") - 1 if path.exists() else 0  # a line of settings comes first
    how = " without --restart" if getattr(given, "restart", False) else ""
    told = "1 finished seed is" if count == 1 else f"{count} finished seeds are"
    return f"; {told} kept in {path}, and the same command{how} goes on" if count > 0 else ""


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    names = parser.add_subparsers(metavar="NAME", required=True, dest="study")
    for name, study in STUDIES.items():
        question = f"{study.question[0].upper()}{study.question[1:]}"
        one = names.add_parser(name, help=study.question, description=question)
        add = one.add_argument
        add("--seeds", type=int, default=SEEDS, metavar="N", help=f"how many (default: {SEEDS})")
        add("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N (default: auto)")
        add("--out", type=file_path, default=FOLDER, metavar="FOLDER", help=f"of the results (default: {FOLDER})")
        study.add(one)


def _flow(given: argparse.Namespace) -> Outcome:
    from cnnperf.measure.devices import devices_for
    from cnnperf.studies.gradient_flow import Setting
    from cnnperf.studies.run import flow_study

    depths = _whole_numbers(given.depths)
    device = devices_for(given.device, "--device")[-1]
    how = {"normalization": given.normalization, "initialization": given.initialization, "batch": given.batch}
    with Bar(2 * len(set(depths)), "stack") as bar:
        return flow_study(depths, Setting(**how, device=device), given.seeds, bar)


def _flow_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--depths", default=DEPTHS, metavar="N,N", help=f"numbers of blocks, at least two (default: {DEPTHS})")
    help_text = "statistics of the batch, running ones, or no normalisation (default: batch)"
    add("--normalization", choices=NORMALIZATIONS, default="batch", help=help_text)
    add("--initialization", choices=INITIALIZATIONS, default="default", help="PyTorch's, or He's (default: default)")
    add("--batch", type=int, default=1, metavar="N", help="images (default: 1)")


def _training(given: argparse.Namespace) -> Outcome:
    from cnnperf.studies.run import Choice, training_study

    own = {name: getattr(given, name) for name in ("width", "blocks", "channels") if hasattr(given, name)}
    choice = Choice(given.seeds, given.out, given.epochs, given.device, 60 * given.minutes, given.restart, **own)
    with Bar(2 * choice.seeds * choice.epochs, "epoch") as bar:
        return training_study(given.study, choice, bar)


def _training_arguments(epochs: int, *own: tuple[str, int | None, str]) -> Callable[[argparse.ArgumentParser], None]:
    """Return what adds the arguments of a study of training, and its own: name, default and help of each."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--epochs", type=int, default=epochs, metavar="N", help=f"of training (default: {epochs})")
        told = f"after the first, no seed begins that would end later (default: {MINUTES:g})"
        parser.add_argument("--minutes", type=float, default=MINUTES, metavar="M", help=told)
        parser.add_argument("--restart", action="store_true", help="throw finished seeds away")
        for name, default, text in own:
            parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)

    return add


def _whole_numbers(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise OptionError(f"--depths takes whole numbers such as {DEPTHS}, not {text!r}")
    return [int(word) for word in words]


def _tour(_: argparse.Namespace) -> int:
    from cnnperf.studies.tour import tour_lines

    print_lines(tour_lines())
    return ExitStatus.OK


def _nothing(_: argparse.ArgumentParser) -> None:
    """Take no arguments."""


WIDTH_HELP = "channels of the first stage; the paper's is 64 (default: 64 on CUDA, 16 on the CPU)"
STUDIES: Mapping[str, Study] = {
    "gradient-flow": Study("do skip connections keep gradients healthy at depth?", _flow_arguments, _flow),
    "pooling": Study("does max pooling beat average pooling in LeNet-5?", _training_arguments(15), _training),
    "squeeze-excitation": Study(
        "does Squeeze-and-Excitation pay for itself in ResNet-18?",
        _training_arguments(6, ("width", None, WIDTH_HELP)),
        _training,
    ),
    "depth": Study(
        "how far do a plain and a residual deep stack come with the same training?",
        _training_arguments(
            6, ("blocks", 20, "of two convolutions (default: 20)"), ("channels", 16, "of every block (default: 16)")
        ),
        _training,
    ),
}
STUDYING = (
    Command("study", "answer a question about the architectures from data", _study, _study_arguments),
    Command("tour", "walk through the architectures with their shapes and parameters", _tour, _nothing),
)
