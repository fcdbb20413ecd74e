"""The commands `study` and `tour`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from cnnperf.commands.command import Command, check_packages, file_path, print_error, print_lines, set_environment
from cnnperf.errors import CnnperfError, OptionError
from cnnperf.exit_status import ExitStatus

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

Each study prints its answer and a table, and writes samples (CSV), table (Markdown) and figure (SVG, PNG). Studies of
training save each finished seed: after an interruption, the same command resumes. `cnnperf study NAME --help` lists the
options of a study. Needs the extra `study`: pip install "cnnperf[study]"
"""


DEPTHS = "5,10,20,30"
PACKAGES = ("altair", "tabulate", "tqdm", "vl_convert")
SEEDS, MINUTES = 10, 10.0
NORMALIZATIONS, INITIALIZATIONS = ("batch", "running", "none"), ("default", "he")


@dataclass(frozen=True)
class Study:
    """One study of the command line.

    Attributes:
        question: The question that it answers.
        add: Function that adds the study's own arguments to the parser.
        run: Function of the parsed arguments that runs the study.
    """

    question: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Outcome]


class Bar:
    """Progress bar of a study with the remaining time; it appears with the first call of a method."""

    def __init__(self, total: int, unit: str) -> None:
        """Prepare a bar of `total` parts, each called `unit`."""
        self._total, self._unit = total, unit
        self._bar: tqdm[NoReturn] | None = None

    def epoch(self) -> None:
        """Advance by one part."""
        self._shown().update()

    def skip(self, parts: int) -> None:
        """Remove parts that need not be done from the total."""
        self._total -= parts
        self._shown().total = self._total

    def note(self, text: str) -> None:
        """Show a text beside the bar."""
        self._shown().set_postfix_str(text)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the line of the bar."""
        if self._bar is not None:
            self._bar.close()

    def _shown(self) -> tqdm[NoReturn]:
        if self._bar is None:  # `not self._bar` is true for a bar without parts
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, unit=self._unit, file=sys.stderr, dynamic_ncols=True)
        return self._bar


def _study(args: argparse.Namespace) -> int:
    set_environment()
    _check_before(args)
    try:
        outcome = STUDIES[args.study].run(args)
    except KeyboardInterrupt:
        print_error(f"cnnperf: interrupted{_resume_text(args)}")
        return ExitStatus.INTERRUPTED
    written = outcome.write(args.out)
    print_lines([*outcome.answer, "", outcome.table(), "", outcome.where, *(f"wrote {path}" for path in written)])
    return ExitStatus.OK


def _check_before(args: argparse.Namespace) -> None:
    """Refuse what would otherwise fail after minutes of work.

    Raises:
        CnnperfError: If a package is missing, or the results could not be written.
    """
    check_packages(PACKAGES, "study", "a study")
    existing = next(path for path in (args.out, *args.out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise CnnperfError(f"--out {args.out}: {existing} is not a writable folder; choose another one")


def _resume_text(args: argparse.Namespace) -> str:
    path = args.out / f"{args.study}.seeds.jsonl"
    count = path.read_bytes().count(b"\n") - 1 if path.exists() else 0  # the first line holds the settings
    if count < 1:
        return ""
    seeds = "1 finished seed is" if count == 1 else f"{count} finished seeds are"
    condition = " without --restart" if getattr(args, "restart", False) else ""
    return f"; {seeds} saved in {path}; the same command{condition} resumes from there"


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    names = parser.add_subparsers(metavar="NAME", required=True, dest="study")
    for name, study in STUDIES.items():
        question = f"{study.question[0].upper()}{study.question[1:]}"
        subparser = names.add_parser(name, help=study.question, description=question)
        add = subparser.add_argument
        add("--seeds", type=int, default=SEEDS, metavar="N", help=f"number of seeds (default: {SEEDS})")
        add("--device", default="auto", help="auto (CUDA if present, else CPU), cpu, cuda or cuda:N (default: auto)")
        add("--out", type=file_path, default=FOLDER, metavar="FOLDER", help=f"folder of results (default: {FOLDER})")
        study.add(subparser)


def _flow(args: argparse.Namespace) -> Outcome:
    from cnnperf.measure.devices import devices_for
    from cnnperf.studies.gradient_flow import Setting
    from cnnperf.studies.run import flow_study

    depths = _whole_numbers(args.depths)
    device = devices_for(args.device, "--device")[-1]
    setting = Setting(
        normalization=args.normalization, initialization=args.initialization, batch=args.batch, device=device
    )
    with Bar(2 * len(set(depths)), "stack") as bar:
        return flow_study(depths, setting, args.seeds, bar)


def _flow_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = f"numbers of blocks of the stacks, at least two numbers (default: {DEPTHS})"
    add("--depths", default=DEPTHS, metavar="N,N", help=text)
    text = "BatchNorm with statistics of the batch, with running statistics, or none (default: batch)"
    add("--normalization", choices=NORMALIZATIONS, default="batch", help=text)
    text = "PyTorch's default, or He initialization (default: default)"
    add("--initialization", choices=INITIALIZATIONS, default="default", help=text)
    add("--batch", type=int, default=1, metavar="N", help="images in a batch (default: 1)")


def _training(args: argparse.Namespace) -> Outcome:
    from cnnperf.studies.run import Choice, training_study

    own = {name: value for name, value in vars(args).items() if name in {"width", "blocks", "channels"}}
    choice = Choice(args.seeds, args.out, args.epochs, args.device, 60 * args.minutes, args.restart, **own)
    with Bar(2 * choice.seeds * choice.epochs, "epoch") as bar:
        return training_study(args.study, choice, bar)


def _training_arguments(epochs: int, *own: tuple[str, int | None, str]) -> Callable[[argparse.ArgumentParser], None]:
    """Return the function that adds the arguments of a study of training.

    Args:
        epochs: Default number of epochs.
        own: Name, default and help text of each of the study's own arguments.
    """

    def add(parser: argparse.ArgumentParser) -> None:
        text = f"epochs of each training (default: {epochs})"
        parser.add_argument("--epochs", type=int, default=epochs, metavar="N", help=text)
        text = (
            f"time budget in minutes (default: {MINUTES:g}); a seed after the first begins only if it is expected to "
            "end within it"
        )
        parser.add_argument("--minutes", type=float, default=MINUTES, metavar="MINUTES", help=text)
        parser.add_argument("--restart", action="store_true", help="delete the finished seeds and start again")
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
        "how accurate do a plain and a residual deep stack become with the same training?",
        _training_arguments(
            6,
            ("blocks", 20, "blocks of two convolutions in a stack (default: 20)"),
            ("channels", 16, "channels of every block (default: 16)"),
        ),
        _training,
    ),
}
STUDYING = (
    Command("study", "answer a question about the architectures from data", _study, _study_arguments, EPILOG),
    Command("tour", "explain the architectures step by step, with their shapes and parameters", _tour),
)
