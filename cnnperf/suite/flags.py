"""The table of options of a benchmark run, for command line, ini file and help.

Each option is also an ini key: `--cnnperf-device` is `cnnperf_device`. A value on the command line replaces the
ini file's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnperf.errors import OptionError
from cnnperf.records.case import AXES

if TYPE_CHECKING:
    from cnnperf.records.shards import Shard


MOST_PROCESSES = 100  # each holds PyTorch in memory


def first(texts: tuple[str, ...]) -> str:
    """Return the first text, or an empty text where there is none."""
    return texts[0] if texts else ""


def _seconds(texts: tuple[str, ...]) -> float:
    try:
        return float(texts[0])
    except ValueError:
        raise OptionError(f"--cnnperf-time takes seconds such as 1.0, not {texts[0]!r}") from None


def _fraction(option: str) -> Callable[[tuple[str, ...]], float]:
    """Return the parser of a relative number, given as a fraction or in percent."""

    def parse(texts: tuple[str, ...]) -> float:
        text = texts[0]
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            raise OptionError(f"--cnnperf-{option} takes a number such as 2% or 0.02, not {text!r}") from None

    return parse


def _switch(texts: tuple[str, ...]) -> bool | None:
    return texts[0] == "on" if texts else None


def _processes(texts: tuple[str, ...]) -> int:
    text = texts[0]
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PROCESSES:
        raise OptionError(f"--cnnperf-processes takes a whole number from 1 to {MOST_PROCESSES}, not {text!r}")
    return int(text)


def _shard(texts: tuple[str, ...]) -> Shard | None:
    from cnnperf.records.shards import parse_shard

    return parse_shard(texts[0]) if texts else None


@dataclass(frozen=True)
class Option:
    """One option of a benchmark run.

    Attributes:
        name: Name without the leading `--cnnperf-`.
        metavar: Placeholder of the value in the help text.
        default: Texts of the values when the option is not given.
        help: Help text, one phrase.
        choices: Valid values; empty where `parse` decides.
        repeatable: Whether the option may be given several times.
        pytest_only: Only for pytest runs; `cnnperf gate` does not accept it.
        field: Field of `Options` that holds the value; empty for one of the option's own name.
        parse: Converts the texts of all values into the value of the field.
    """

    name: str
    metavar: str
    default: tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    pytest_only: bool = False
    field: str = ""
    parse: Callable[[tuple[str, ...]], Any] = first

    def value(self, texts: tuple[str, ...]) -> Any:
        """Return the value for the field of `Options`.

        Args:
            texts: Texts from the command line or the ini file, else the default.

        Raises:
            OptionError: If a text is not a valid value.
        """
        for text in texts:
            if self.choices and text not in self.choices:
                raise OptionError(f"{self.flag} takes one of {', '.join(self.choices)}, not {text!r}")
        return self.parse(texts)

    @property
    def field_name(self) -> str:
        """Return the name of the field of `Options`."""
        return self.field or self.name.replace("-", "_")

    @property
    def key(self) -> str:
        """Return the name of the ini key and of the attribute that the command line fills."""
        return f"cnnperf_{self.name.replace('-', '_')}"

    @property
    def flag(self) -> str:
        """Return the flag on the command line."""
        return f"--cnnperf-{self.name}"


OPTIONS = (
    Option(
        "device",
        "DEVICE",
        ("auto",),
        "auto (CPU, and CUDA if present), cpu, cuda or cuda:N",
        repeatable=True,
        field="devices",
        parse=tuple,
    ),
    Option(
        "architecture",
        "NAME",
        (),
        "a glob over the catalog, package.module:factory (a callable that returns an nn.Module), timm:NAME, or fused: "
        "before a name, for that network with its Squeeze-and-Excitation fused; "
        "default: all in the catalog",
        repeatable=True,
        field="patterns",
        parse=tuple,
    ),
    Option(
        "axis",
        "NAME=V[,V]",
        (),
        "measure these values of an axis instead of the suite's; axes: "
        f"{', '.join(axis.name for axis in AXES if axis.overridable)}; default: by suite and device",
        repeatable=True,
        field="axes",
        parse=tuple,
    ),
    Option(
        "suite",
        "SUITE",
        ("default",),
        "smoke (each case a few rounds), default, full (every precision and layout, and batch 1), or practice (what is "
        "run for speed: tf32 or mixed precision, channels_last, compiled and in CUDA graphs)",
        choices=("smoke", "default", "full", "practice"),
    ),
    Option(
        "time",
        "SECONDS",
        ("1.1",),
        "seconds to spend on the timed calls of one case",
        pytest_only=True,
        field="seconds",
        parse=_seconds,
    ),
    Option(
        "interval",
        "PERCENT",
        ("2%",),
        "stop measuring early once the half-widths of the intervals of all ratios of a block of cases (for a case "
        "alone: of its median) are this small; the time that is left goes to later blocks",
        pytest_only=True,
        parse=_fraction("interval"),
    ),
    Option(
        "smallest-difference",
        "PERCENT",
        ("2%",),
        "smallest difference between two cases that matters; a ratio that surely differs less from 1 is called `same`",
        pytest_only=True,
        parse=_fraction("smallest-difference"),
    ),
    Option(
        "input",
        "KIND",
        ("synthetic",),
        "synthetic (seeded normal noise), or photos (crops of the photographs that scikit-learn ships)",
        choices=("synthetic", "photos"),
        field="input_kind",
    ),
    Option(
        "cpu-allocator",
        "POLICY",
        ("retain",),
        "retain: keep freed CPU memory in the process, as CUDA does; system: return it to the system",
        choices=("retain", "system"),
    ),
    Option(
        "cudnn-benchmark",
        "on|off",
        (),
        "let cuDNN time several algorithms for each convolution and take the fastest (CUDA); default: off, but on in "
        "the suite practice",
        choices=("on", "off"),
        field="asked_cudnn_benchmark",
        parse=_switch,
    ),
    Option(
        "processes",
        "N",
        ("1",),
        "measure every block of cases in N processes, one after the other; one process cannot separate a code change "
        "from process-to-process noise, and two show hardly any ratio as sure",
        pytest_only=True,
        parse=_processes,
    ),
    Option(
        "shard",
        "K/N",
        (),
        "measure part K of N of the cases, such as 2/5; each is in exactly one part, and `cnnperf merge` joins them",
        pytest_only=True,
        parse=_shard,
    ),
    Option(
        "durations",
        "RUN",
        (),
        "saved runs whose durations balance the parts of --cnnperf-shard; name the same runs on every machine",
        pytest_only=True,
    ),
    Option(
        "baseline",
        "RUN",
        (),
        "compare with saved runs: a file or folder, latest, latest~2, the number of a run, a commit or a branch",
        pytest_only=True,
    ),
    Option(
        "fail-over",
        "PERCENT",
        (),
        "largest acceptable slowdown against the baseline, such as 5%, or 'se_*=3%' for some cases; a significant "
        "slowdown of at least half of it ends with exit status 1, and with 3 where a larger one cannot be excluded",
        repeatable=True,
        pytest_only=True,
        parse=tuple,
    ),
)


def read_given(read: Callable[[str], Any]) -> dict[str, tuple[str, ...]]:
    """Return the texts of the options that were given, by key; an empty value counts as not given.

    Args:
        read: Returns the value of a key: a text, several texts, or None.
    """
    given: dict[str, tuple[str, ...]] = {}
    for option in OPTIONS:
        value = read(option.key)
        texts = (value,) if isinstance(value, str) else tuple(value or ())
        if any(texts):
            given[option.key] = tuple(text for text in texts if text)
    return given
