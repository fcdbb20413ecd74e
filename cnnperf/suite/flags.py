"""The table of options of a benchmark run, for command line, ini file and help.

Each option is also an ini key: `--cnnperf-device` is `cnnperf_device`. A value on the command line replaces the
ini file's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnnperf.records.case import AXES


@dataclass(frozen=True)
class Option:
    """Describe one option.

    Attributes:
        name: Without the leading `--cnnperf-`.
        metavar: Placeholder of the value in the help text.
        default: Values when nothing is given, as text.
        help: One phrase.
        choices: The values that exist, or an empty tuple.
        repeatable: Whether it may be given several times.
        pytest_only: Only for pytest runs; `cnnperf gate` does not accept it.
    """

    name: str
    metavar: str
    default: tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    pytest_only: bool = False

    @property
    def key(self) -> str:
        """Return the name of the ini key and of the attribute that the command line fills."""
        return f"cnnperf_{self.name.replace('-', '_')}"

    @property
    def flag(self) -> str:
        """Return the flag on the command line."""
        return f"--cnnperf-{self.name}"


OPTIONS = (
    Option("device", "DEVICE", ("auto",), "auto (CPU, and CUDA if present), cpu, cuda or cuda:N", repeatable=True),
    Option(
        "architecture",
        "NAME",
        (),
        "a glob over the catalog, package.module:factory (a callable that returns an nn.Module), timm:NAME, or fused: "
        "before a name, for that network with its Squeeze-and-Excitation fused; "
        "default: all in the catalog",
        repeatable=True,
    ),
    Option(
        "axis",
        "NAME=V[,V]",
        (),
        f"values of an axis instead of the suite's: {', '.join(axis.name for axis in AXES if axis.overridable)}; "
        "default: by suite and device",
        repeatable=True,
    ),
    Option(
        "suite",
        "SUITE",
        ("default",),
        "smoke (each case a few rounds), default, full (every precision and layout, and batch 1), or practice (what is "
        "run for speed: tf32 or mixed precision, channels_last, compiled and in CUDA graphs)",
        choices=("smoke", "default", "full", "practice"),
    ),
    Option("time", "SECONDS", ("1.0",), "measuring budget for one case in seconds", pytest_only=True),
    Option(
        "interval",
        "PERCENT",
        ("2%",),
        "wanted half-width of the median's interval; a case ends when it is reached",
        pytest_only=True,
    ),
    Option(
        "input",
        "KIND",
        ("synthetic",),
        "synthetic (seeded normal noise), or photos (crops of the photographs that scikit-learn ships)",
        choices=("synthetic", "photos"),
    ),
    Option(
        "cpu-allocator",
        "POLICY",
        ("retain",),
        "retain freed CPU memory in the process, as CUDA does, or leave it to the system",
        choices=("retain", "system"),
    ),
    Option(
        "cudnn-benchmark",
        "on|off",
        (),
        "let cuDNN choose each convolution by trying (CUDA); default: off, and on in the suite practice",
        choices=("on", "off"),
    ),
    Option(
        "processes",
        "N",
        ("1",),
        "time each case in N processes, one after the other; one process cannot separate a code change from "
        "process-to-process noise",
        pytest_only=True,
    ),
    Option(
        "shard",
        "K/N",
        (),
        "measure part K of N of the cases, such as 2/5; each is in exactly one part, and `cnnperf merge` joins them",
        pytest_only=True,
    ),
    Option(
        "durations",
        "RUN",
        (),
        "saved runs by whose durations the parts are made equally long: the same ones on every machine",
        pytest_only=True,
    ),
    Option(
        "baseline",
        "RUN",
        (),
        "compare with saved runs: a file or folder, latest, latest~2, the number of a run, a commit, or a branch",
        pytest_only=True,
    ),
    Option(
        "fail-over",
        "PERCENT",
        (),
        "end with exit status 1 where a case is surely slower than the baseline, by half of this or more, and with 3 "
        "where more than this cannot be excluded: 5%, or 'se_*=3%' for some cases",
        repeatable=True,
        pytest_only=True,
    ),
)


def read_given(read: Callable[[str], Any]) -> dict[str, tuple[str, ...]]:
    """Collect the texts that were given from a reader of values by key; empty values count as not given."""
    given: dict[str, tuple[str, ...]] = {}
    for option in OPTIONS:
        value = read(option.key)
        texts = (value,) if isinstance(value, str) else tuple(value or ())
        if any(texts):
            given[option.key] = tuple(text for text in texts if text)
    return given
