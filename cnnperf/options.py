"""The options of a benchmark run: one table for command line, ini file and help, and their checked values.

Each option is also an ini key: `--cnnperf-device` is `cnnperf_device`. A value on the command line replaces the
ini file's. Checking loads PyTorch only where an option cannot be checked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cnnperf.allowance import parse_allowance
from cnnperf.errors import OptionError

if TYPE_CHECKING:
    from pathlib import Path

    from cnnperf.measure.plan import Plan
    from cnnperf.measure.sampler import Schedule
    from cnnperf.models.architecture import Architecture
    from cnnperf.runs.baseline import Baseline


MOST_PROCESSES = 100  # each holds PyTorch in memory


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
        of_runs: Whether it is about the runs of the benchmarks alone, and not about which cases there are.
    """

    name: str
    metavar: str
    default: tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    of_runs: bool = False

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
    Option("time", "SECONDS", ("1.0",), "measuring budget for one case in seconds", of_runs=True),
    Option(
        "interval",
        "PERCENT",
        ("2%",),
        "wanted half-width of the median's interval; a case ends when it is reached",
        of_runs=True,
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
        "processes",
        "N",
        ("1",),
        "time each case in so many processes, one after the other: without several, code cannot be told from process",
        of_runs=True,
    ),
    Option(
        "baseline",
        "RUN",
        (),
        "compare with saved runs: a file or folder, latest, latest~2, the number of a run, a commit, or a branch",
        of_runs=True,
    ),
    Option(
        "fail-over",
        "PERCENT",
        (),
        "end with exit status 1 where a case is surely slower than the baseline, by half of this or more, and with 3 "
        "where more than this cannot be excluded: 5%, or 'se_*=3%' for some cases",
        repeatable=True,
        of_runs=True,
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
        processes: In how many each case is timed.
        baseline: What the run is compared with, as typed; empty for nothing.
        fail_over: Allowed slowdowns as typed; with none the comparison fails nothing.
    """

    devices: tuple[str, ...] = ("auto",)
    patterns: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    suite: str = "default"
    seconds: float = 1.0
    interval: float = 0.02
    input_kind: str = "synthetic"
    cpu_allocator: str = "retain"
    processes: int = 1
    baseline: str = ""
    fail_over: tuple[str, ...] = ()
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
        from cnnperf.measure.devices import devices_for

        found = [name for wanted in self.devices for name in devices_for(wanted)]
        return tuple(dict.fromkeys(found))

    def portable(self) -> Options:
        """Return them for another process: a network of the user's is found anew there, by its name."""
        return replace(self, _brought={})

    def misses_cuda(self) -> bool:
        """Tell whether `auto` found no CUDA device."""
        return "auto" in self.devices and not any(name.startswith("cuda") for name in self.devices_here())

    def find_baseline(self, storage: Path) -> Baseline | None:
        """Return what the run is compared with, or None.

        Args:
            storage: Folder of the saved runs.

        Raises:
            OptionError: If a percentage cannot be understood, or there is one without a baseline.
            RunFileError: If the baseline does not exist or cannot be read.
        """
        allowance = parse_allowance(self.fail_over, "--cnnperf-fail-over")
        if not self.baseline:
            if self.fail_over:
                raise OptionError("--cnnperf-fail-over needs --cnnperf-baseline, such as latest, to compare with")
            return None
        from cnnperf.runs.baseline import Baseline
        from cnnperf.runs.choose import choose_runs

        runs = choose_runs(self.baseline, storage, sound=True)
        return Baseline(runs, allowance, fails=bool(self.fail_over))

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
        processes=_processes(texts["cnnperf_processes"][0]),
        baseline=next(iter(texts["cnnperf_baseline"]), ""),
        fail_over=texts["cnnperf_fail_over"],
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


def _processes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PROCESSES:
        raise OptionError(f"--cnnperf-processes takes a whole number from 1 to {MOST_PROCESSES}, not {text!r}")
    return int(text)


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


def read_given(read: Callable[[str], Any]) -> dict[str, tuple[str, ...]]:
    """Collect the texts that were given from a reader of values by key; empty values count as not given."""
    given: dict[str, tuple[str, ...]] = {}
    for option in OPTIONS:
        value = read(option.key)
        texts = (value,) if isinstance(value, str) else tuple(value or ())
        if any(texts):
            given[option.key] = tuple(text for text in texts if text)
    return given
