"""The layout of a run file: pytest-benchmark's JSON with cnnperf's additions.

Reading decodes these types and writing encodes them. `T` is the type of the parts that are decoded later or belong to
other suites: `msgspec.Raw` if JSON is read, `Any` if plain Python values are read.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec

from cnnperf.records.case import Case, Count
from cnnperf.records.finding import Finding
from cnnperf.records.machine import Scalar
from cnnperf.records.metrics import Value
from cnnperf.records.run import NotMeasured, Over

SCHEMA = 2
"""Schema of the run files that this version writes, and the newest schema that it reads."""

JOURNAL_SCHEMA = 1
"""Schema of journals, in their first line."""

JOURNAL_KEY = "cnnperf_journal"
JOURNAL_SUFFIX = ".journal.jsonl"

T = TypeVar("T")
NO_DATA, NO_INFO = msgspec.Raw(b"[]"), msgspec.Raw(b"{}")


class Stats(msgspec.Struct, Generic[T]):
    """The statistics of a benchmark that are read; `data` holds the seconds of all rounds."""

    median: float | None = None
    rounds: Count | None = None
    data: T = NO_DATA  # type: ignore[assignment]  # the default suits both types


class Benchmark(msgspec.Struct, Generic[T]):
    """One element of `benchmarks`."""

    extra_info: T = NO_INFO  # type: ignore[assignment]  # the default suits both types
    name: str | None = None
    fullname: str | None = None
    stats: Stats[T] = msgspec.field(default_factory=Stats)


class CaseInfo(msgspec.Struct, omit_defaults=True):
    """The part `extra_info` of a benchmark that cnnperf measured; `CaseRecord` documents its fields."""

    cnnperf: Count  # the schema
    axes: Case
    metrics: dict[str, Value]
    groups: tuple[Count, ...] = ()
    stopped: str = ""
    findings: tuple[Finding, ...] = ()
    processes: tuple[float, ...] = ()
    seconds: float | None = None
    ranks: dict[str, tuple[tuple[float, ...], ...]] = {}
    block: str = ""
    ratios: tuple[Over, ...] = ()


class Mark(msgspec.Struct):
    """The keys of `extra_info` that show which suite a benchmark belongs to."""

    cnnperf: Any = None
    cnnperf_fusion: Any = None  # a cell of schema 1


class Facts(msgspec.Struct, omit_defaults=True):
    """The part `cnnperf` of a run file; `Run` documents its fields."""

    schema: Count = 0  # always written, because SCHEMA is not 0
    suite: str = ""
    planned: Count | None = None
    smallest_difference: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    step: float | None = None
    shard: str = ""
    of_cases: str = ""
    anchor: str = ""
    regressed: str = ""
    hosts: tuple[str, ...] = ()
    environment: dict[str, Scalar] = {}
    ceilings: dict[str, dict[str, float]] = {}
    not_measured: tuple[NotMeasured, ...] = ()
    findings: tuple[Finding, ...] = ()
    wall_seconds: float | None = None
    compile_seconds: float | None = None
    round_seconds: float | None = None


class File(msgspec.Struct, Generic[T]):
    """A run file."""

    benchmarks: list[Benchmark[T]]
    datetime: Any = None
    commit_info: dict[str, Any] = {}
    machine_info: dict[str, Any] | None = None
    cnnperf: Facts | None = None
