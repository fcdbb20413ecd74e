"""The options of a benchmark run: one table for command line, ini file and help, and their checked values.

Each option is also an ini key: `--cnnperf-device` is `cnnperf_device`. A value on the command line replaces the
ini file's. Checking loads PyTorch only where an option cannot be checked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnnperf.errors import OptionError

if TYPE_CHECKING:
    from cnnperf.measure.plan import Plan
    from cnnperf.measure.sampler import Schedule
    from cnnperf.models.architecture import Architecture


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
    """

    name: str
    metavar: str
    default: tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    repeatable: bool = False

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
        "a glob over the catalog, package.module:factory (a callable that returns an nn.Module), or timm:NAME; "
        "default: all in the catalog",
        repeatable=True,
    ),
    Option(
        "axis",
        "NAME=V[,V]",
        (),
        "replace the values of an axis: phase, engine, precision, layout, batch, image_size; "
        "default: by suite and device",
        repeatable=True,
    ),
    Option(
        "suite",
        "SUITE",
        ("default",),
        "smoke (each case a few rounds), default, or full (every precision and layout, and batch 1)",
        choices=("smoke", "default", "full"),
    ),
    Option("time", "SECONDS", ("1.0",), "measuring budget for one case in seconds"),
    Option(
        "interval",
        "PERCENT",
        ("2%",),
        "wanted half-width of the median's interval; a case ends when it is reached",
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
)


@dataclass(frozen=True)
class Options:
    """Hold the checked options of a run.

    Attributes:
        devices: As asked for: `auto`, `cpu`, `cuda` or `cuda:N`.
        patterns: Architectures as asked for; empty means all in the catalog.
        axes: The texts of `--cnnperf-axis`.
        suite: Name of the suite.
        seconds: Budget of a case in seconds.
        interval: Wanted half-width of the interval, relative.
        input_kind: `synthetic` or `photos`.
        cpu_allocator: `retain` or `system`.
    """

    devices: tuple[str, ...] = ("auto",)
    patterns: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    suite: str = "default"
    seconds: float = 1.0
    interval: float = 0.02
    input_kind: str = "synthetic"
    cpu_allocator: str = "retain"
    _brought: dict[str, Architecture] = field(default_factory=dict, compare=False)

    def plan(self) -> Plan:
        """Return the plan for this machine.

        Raises:
            OptionError: If a device does not exist here, or an axis cannot be overridden so.
        """
        from cnnperf.measure.plan import Plan, parse_overrides

        return Plan(self.suite, self.devices_here(), parse_overrides(self.axes))

    def schedule(self) -> Schedule:
        """Return the schedule of sampling.

        Raises:
            OptionError: If time or interval are out of range.
        """
        from cnnperf.measure.plan import schedule_for

        return schedule_for(self.suite, self.seconds, self.interval)

    def devices_here(self) -> tuple[str, ...]:
        """Return the devices to use on this machine, each once.

        Raises:
            OptionError: If a CUDA device is asked for that this machine or this build of PyTorch lacks.
        """
        found = [name for wanted in self.devices for name in _devices_for(wanted)]
        return tuple(dict.fromkeys(found))

    def misses_cuda(self) -> bool:
        """Tell whether `auto` found no CUDA device."""
        return "auto" in self.devices and not any(name.startswith("cuda") for name in self.devices_here())

    def architectures(self) -> list[Architecture]:
        """Return the architectures to measure: those of the catalog that match, then the user's own.

        Raises:
            OptionError: If a name or glob stands for nothing, or a user's factory cannot be used.
        """
        import cnnperf.fusion  # noqa: F401 - loads torch, completes the catalog
        from cnnperf.models.catalog import CATALOG, match

        if not self.patterns:
            return list(CATALOG.values())
        if not self._brought:  # a user's factory is tried when it is resolved: once is enough
            self._brought.update({row.name: row for pattern in self.patterns for row in match(pattern)})
        return list(self._brought.values())


def parse_options(given: Mapping[str, tuple[str, ...]]) -> Options:
    """Parse and check the texts of all options that were given.

    Args:
        given: Texts by option key; a missing key means the default.

    Raises:
        OptionError: With one sentence that says what was given and what is allowed.
    """
    texts = {option.key: given.get(option.key) or option.default for option in OPTIONS}
    for option in OPTIONS:
        _check_choice(option, texts[option.key])
    options = Options(
        devices=texts["cnnperf_device"],
        patterns=texts["cnnperf_architecture"],
        axes=texts["cnnperf_axis"],
        suite=texts["cnnperf_suite"][0],
        seconds=_seconds(texts["cnnperf_time"][0]),
        interval=_fraction(texts["cnnperf_interval"][0]),
        input_kind=texts["cnnperf_input"][0],
        cpu_allocator=texts["cnnperf_cpu_allocator"][0],
    )
    if given:
        _check_together(options)
    return options


def _check_together(options: Options) -> None:
    """Build everything that the options name, so that a bad one is told before anything is measured."""
    options.schedule()
    plan = options.plan()
    if options.patterns or plan.overrides:
        from cnnperf.measure.workload import count_classes

        for architecture in options.architectures():
            for size in {case.image_size for case in plan.cases(architecture)}:
                count_classes(architecture, size)
    if options.input_kind == "photos":
        from cnnperf.measure.images import check_photos

        check_photos()


def _check_choice(option: Option, texts: tuple[str, ...]) -> None:
    for text in texts:
        if option.choices and text not in option.choices:
            raise OptionError(f"{option.flag} takes one of {', '.join(option.choices)}, not {text!r}")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"--cnnperf-time takes seconds such as 1.0, not {text!r}") from None


def _fraction(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise OptionError(f"--cnnperf-interval takes a number such as 2% or 0.02, not {text!r}") from None


def _devices_for(wanted: str) -> tuple[str, ...]:
    kind, colon, index = wanted.partition(":")
    finders: dict[str, Callable[[str], tuple[str, ...]]] = {"auto": _auto, "cpu": _cpu, "cuda": _cuda}
    if kind not in finders or (colon and (kind != "cuda" or not index.isdecimal())):
        raise OptionError(f"--cnnperf-device takes auto, cpu, cuda or cuda:N, not {wanted!r}")
    return finders[kind](index)


def _auto(_: str) -> tuple[str, ...]:
    import torch

    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def _cpu(_: str) -> tuple[str, ...]:
    return ("cpu",)


def _cuda(index: str) -> tuple[str, ...]:
    import torch

    if not torch.backends.cuda.is_built():
        raise OptionError(
            f"--cnnperf-device cuda: this PyTorch ({torch.__version__}) was built without CUDA; install a build with "
            "CUDA, or use --cnnperf-device cpu"
        )
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or int(index or 0) >= count:
        name = f"cuda:{index}" if index else "cuda"
        raise OptionError(f"--cnnperf-device {name}: this machine has {count} CUDA devices that PyTorch can use")
    return (f"cuda:{index}" if index else "cuda",)


def read_given(read: Callable[[str], Any]) -> dict[str, tuple[str, ...]]:
    """Collect the texts that were given from a reader of values by key; empty values count as not given."""
    given: dict[str, tuple[str, ...]] = {}
    for option in OPTIONS:
        value = read(option.key)
        texts = (value,) if isinstance(value, str) else tuple(value or ())
        if any(texts):
            given[option.key] = tuple(text for text in texts if text)
    return given
