"""The options of a benchmark run, checked. PyTorch is loaded only where an option cannot be checked without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cnnperf.errors import OptionError
from cnnperf.records.tolerance import parse_tolerance
from cnnperf.suite.flags import OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from cnnperf.measure.sampler import Schedule
    from cnnperf.models.architecture import Architecture
    from cnnperf.records.case import Case
    from cnnperf.records.shards import Shard
    from cnnperf.runs.baseline import Baseline
    from cnnperf.suite.plan import Plan


@dataclass(frozen=True)
class Options:
    """The checked options of a run.

    Attributes:
        devices: Requested devices: `auto`, `cpu`, `cuda` or `cuda:N`.
        patterns: Requested architectures; empty means all in the catalog.
        axes: Texts of `--cnnperf-axis`.
        suite: Name of the suite.
        seconds: Budget of a case in seconds.
        interval: Wanted half-width of the interval, relative.
        smallest_difference: Smallest difference between two cases that matters, relative.
        input_kind: `synthetic` or `photos`.
        cpu_allocator: `retain` or `system`.
        asked_cudnn_benchmark: Whether cuDNN chooses convolutions by timing them; None for the default of the suite.
        processes: Number of processes that time each case.
        shard: Part of the cases to measure, or None for all.
        durations: Saved runs whose durations balance the shards, as typed; empty for none.
        baseline: Saved runs to compare with, as typed; empty for none.
        fail_over: Acceptable slowdowns as typed; without any, the comparison fails nothing.
    """

    devices: tuple[str, ...] = ("auto",)
    patterns: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    suite: str = "default"
    seconds: float = 1.1
    interval: float = 0.02
    smallest_difference: float = 0.02
    input_kind: str = "synthetic"
    cpu_allocator: str = "retain"
    asked_cudnn_benchmark: bool | None = None
    processes: int = 1
    shard: Shard | None = None
    durations: str = ""
    baseline: str = ""
    fail_over: tuple[str, ...] = ()
    _brought: dict[str, Architecture] = field(default_factory=dict, compare=False)

    @property
    def cudnn_benchmark(self) -> bool:
        """Whether cuDNN chooses convolutions by timing them: by default only in the suite practice."""
        return self.suite == "practice" if self.asked_cudnn_benchmark is None else self.asked_cudnn_benchmark

    def plan(self) -> Plan:
        """Return the plan for this machine.

        Raises:
            OptionError: If a device does not exist here, or a value of `--cnnperf-axis` is not valid.
        """
        from cnnperf.suite.plan import Plan, parse_overrides

        return Plan(self.suite, self.devices_here(), parse_overrides(self.axes))

    def schedule(self) -> Schedule:
        """Return the schedule of sampling.

        Raises:
            OptionError: If time or interval are out of range.
        """
        from cnnperf.suite.plan import schedule_for

        return schedule_for(self.suite, self.seconds, self.interval, self.smallest_difference)

    def devices_here(self) -> tuple[str, ...]:
        """Return the devices to use on this machine, each once.

        Raises:
            OptionError: If this machine or this build of PyTorch lacks a requested CUDA device.
        """
        from cnnperf.measure.devices import devices_for

        found = [name for wanted in self.devices for name in devices_for(wanted)]
        return tuple(dict.fromkeys(found))

    def portable(self) -> Options:
        """Return the options for another process, which resolves the user's own networks again by their names."""
        return replace(self, _brought={})

    def misses_cuda(self) -> bool:
        """Return whether `auto` found no CUDA device."""
        return "auto" in self.devices and not any(name.startswith("cuda") for name in self.devices_here())

    def find_baseline(self, storage: Path) -> Baseline | None:
        """Return the baseline of the run, or None.

        Args:
            storage: Folder of the saved runs.

        Raises:
            OptionError: If a percentage cannot be understood, or there is one without a baseline.
            RunFileError: If the baseline does not exist or cannot be read.
        """
        tolerance = parse_tolerance(self.fail_over, "--cnnperf-fail-over")
        if not self.baseline:
            if self.fail_over:
                raise OptionError("--cnnperf-fail-over needs --cnnperf-baseline, such as latest, to compare with")
            return None
        from cnnperf.runs.baseline import Baseline
        from cnnperf.runs.choose import choose_runs

        runs = choose_runs(self.baseline, storage, sound=True)
        return Baseline(runs, tolerance, fails=bool(self.fail_over))

    def find_durations(self, storage: Path) -> Mapping[Case, float]:
        """Return the seconds that each case took in the runs of `--cnnperf-durations`.

        Args:
            storage: Folder of the saved runs.

        Raises:
            OptionError: If durations are given without a shard.
            RunFileError: If the runs do not exist, cannot be read, or hold no durations.
        """
        if not self.durations:
            return {}
        if self.shard is None:
            raise OptionError("--cnnperf-durations needs --cnnperf-shard, such as 2/5: durations balance its parts")
        from cnnperf.runs.durations import read_durations

        return read_durations(self.durations, storage)

    def architectures(self) -> list[Architecture]:
        """Return the architectures to measure: the matching ones of the catalog, then the user's own.

        Raises:
            OptionError: If nothing matches a name or glob, or a user's factory cannot be used.
        """
        import cnnperf.fusion  # noqa: F401 - loads torch, completes the catalog
        from cnnperf.models.catalog import CATALOG, match

        if not self.patterns:
            return list(CATALOG.values())
        if not self._brought:  # resolving a user's factory calls it: once is enough
            self._brought.update({row.name: row for pattern in self.patterns for row in match(pattern)})
        return list(self._brought.values())


def parse_options(given: Mapping[str, tuple[str, ...]]) -> Options:
    """Parse and check the texts of the options.

    Args:
        given: Texts by option key; a missing key means the default.

    Raises:
        OptionError: If a text is not a valid value, or options contradict each other.
    """
    options = Options(
        **{option.field_name: option.value(given.get(option.key) or option.default) for option in OPTIONS}
    )
    if given:  # the defaults are valid, and checking them would load torch in every pytest run
        _check_buildable(options)
    return options


def _check_buildable(options: Options) -> None:
    """Build everything that the options name, so that a bad one is reported before anything is measured."""
    options.schedule()
    plan = options.plan()
    if options.patterns or plan.overrides:
        from cnnperf.measure.classes import count_classes

        for architecture in options.architectures():
            for size in {case.image_size for case in plan.cases(architecture)}:
                count_classes(architecture, size)
    if options.input_kind == "photos":
        from cnnperf.measure.images import check_photos

        check_photos()
