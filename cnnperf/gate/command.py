"""The gate as a command: options to sides, cases, counters, times and the result."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cnnperf.errors import CnnperfError
from cnnperf.gate.environments import interpreter_of
from cnnperf.gate.gate import BASE, CANDIDATE, CONTROL, Gate, Series, control_of, samples_of, verdict_of
from cnnperf.gate.processes import COMPILER_MODULES, EAGER_MODULES, CannotMeasure, Nursery, Peer, Process
from cnnperf.gate.saving import save_gate
from cnnperf.gate.sides import Repository, Side
from cnnperf.records.case import Case
from cnnperf.records.tolerance import Tolerance, parse_tolerance
from cnnperf.records.writing import check_folder
from cnnperf.runs.verdicts import CaseVerdict, Comparison, CounterChange, counter_changes, fingerprint_changes
from cnnperf.stats.sequential import Rule

Given = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Request:
    """Parameters of a gate.

    Attributes:
        base: Revision that is compared with.
        head: Revision that is compared, or None for the work tree.
        tolerance: Allowed slowdowns.
        seconds: Time budget for the measurement of time.
        given: Options of the suite by key, as texts.
        accepted: Counters that may get worse.
        base_python: Interpreter of the base, or `auto` for one in an environment of its own where dependencies differ.
        parts: What to compare, of `counters` and `time`.
        samples: Where to write all seconds, or None.
        save: Folder for a run file, or None.
    """

    base: str
    head: str | None = None
    tolerance: Tolerance = field(default_factory=lambda: parse_tolerance(()))
    seconds: float = 600.0
    given: Given = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    base_python: str = sys.executable
    parts: tuple[str, ...] = ("counters", "time")
    samples: Path | None = None
    save: Path | None = None


def run_gate(request: Request, folder: Path, tell: Callable[[str], None]) -> Comparison:
    """Compare the candidate with the base.

    Args:
        request: What is asked.
        folder: Somewhere in the repository; the same place below the checkout is where a side's Python code lies.
        tell: Takes lines of progress.

    Raises:
        CnnperfError: If a side does not exist, lacks cnnperf, or its worker dies.
    """
    begun = time.monotonic()
    if request.samples is not None:
        _save(request.samples, [])  # better told before ten minutes of measuring than after
    if request.save is not None:
        check_folder(request.save)
    repository = Repository(folder)
    with terminated_as_interrupted(), ExitStack() as stack:
        for tree in repository.remove_left_behind():
            tell(f"removed {tree}, which a gate that was killed had left behind")
        base = stack.enter_context(repository.checkout(request.base))
        candidate = (
            repository.work_tree() if request.head is None else stack.enter_context(repository.checkout(request.head))
        )
        if base.commit == candidate.commit and not candidate.dirty:
            tell("base and candidate are the same commit: what is measured is the gate itself")
        python = stack.enter_context(interpreter_of(base, candidate, request.base_python, tell))
        start = Starter({BASE: base, CANDIDATE: candidate, CONTROL: base}, {BASE: python, CONTROL: python})
        return _compare(request, start, tell, begun)


def _compare(request: Request, start: Starter, tell: Callable[[str], None], begun: float) -> Comparison:
    sides = start.sides
    shared, odd = _plan(request, start)
    rule = Rule(request.tolerance, cases=max(1, len(shared)))
    texts = {key: values[0] for key, values in request.given.items()}
    input_kind = texts.get("cnnperf_input", "synthetic")
    allocator = texts.get("cnnperf_cpu_allocator", "retain")
    environment: Mapping[str, Any] = {}
    if request.save is not None:  # better told before measuring where that fails
        with start(names=(CANDIDATE,)) as peers:
            answer = peers[CANDIDATE].ask("environment", input_kind=input_kind, allocator=allocator)
        environment = answer["environment"]
    counts = _count(shared, input_kind, start, tell) if "counters" in request.parts else Counts({}, {}, {})
    comparable = [case for case in shared if case not in counts.failed]
    gate = Gate(start, rule, time.monotonic() + request.seconds, input_kind, allocator, tell)
    series = gate.measure(comparable) if "time" in request.parts else []
    control = tuple(control_of(series, rule))
    if request.samples is not None:
        _save(request.samples, series)
    if request.save is not None:
        path = save_gate(request.save, series, (sides[BASE], sides[CANDIDATE]), environment, withdrawn=bool(control))
        tell(f"saved {path}")
    failed = [CaseVerdict(case, "not-comparable", reason) for case, reason in counts.failed.items()]
    return Comparison(
        base=sides[BASE].label(),
        candidate=sides[CANDIDATE].label(),
        rule=rule,
        cases=(*(verdict_of(one) for one in series), *failed, *odd),
        control=control,
        counted=len(counts.changes),
        counters=tuple(
            replace(one, accepted=one.name in request.accepted)
            for changes in counts.changes.values()
            for one in changes
        ),
        wrong={case.label(): reason for case, reason in counts.wrong.items()},
        seconds=time.monotonic() - begun,
    )


@dataclass(frozen=True)
class Starter:
    """Start workers of sides, those with one interpreter from one nursery.

    Attributes:
        sides: By name.
        pythons: Interpreter by name of the side, where it is not the gate's own.
        environment: Variables of the workers, or None for those of the gate.
    """

    sides: Mapping[str, Side]
    pythons: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None

    @contextmanager
    def __call__(self, compiles: bool = False, names: Sequence[str] | None = None) -> Iterator[dict[str, Peer]]:  # noqa: FBT001, FBT002 - it is a `Start`
        """Start a worker for each of the names, by default of all sides."""
        modules = COMPILER_MODULES if compiles else EAGER_MODULES
        with ExitStack() as stack:
            nurseries: dict[str, Nursery] = {}
            peers: dict[str, Peer] = {}
            for name in self.sides if names is None else names:
                python = self.pythons.get(name, sys.executable)
                if python not in nurseries:
                    nurseries[python] = stack.enter_context(Nursery(python, modules, self.environment))
                peers[name] = stack.enter_context(Process(nurseries[python], self.sides[name]))
            yield peers


def _plan(request: Request, start: Starter) -> tuple[list[Case], list[CaseVerdict]]:
    """Return the cases that both sides have, and verdicts on those that one side has."""
    found: dict[str, list[Case]] = {}
    given = {key: list(values) for key, values in request.given.items()}
    with start(names=(BASE, CANDIDATE)) as peers:
        for name, peer in peers.items():
            try:
                answer = peer.ask("plan", given=given)
            except CannotMeasure as error:
                raise CnnperfError(_why_no_plan(name, error)) from error
            found[name] = [Case.from_axes(axes) for axes in answer["cases"]]
    gone = [CaseVerdict(case, "gone", "the candidate lacks it") for case in found[BASE] if case not in found[CANDIDATE]]
    new = [CaseVerdict(case, "new", "the base lacks it") for case in found[CANDIDATE] if case not in found[BASE]]
    return [case for case in found[BASE] if case in found[CANDIDATE]], gone + new


def _why_no_plan(name: str, error: CannotMeasure) -> str:
    if error.kind == "ModuleNotFoundError":
        return (
            f"the {name} cannot be measured: {error}. It needs cnnperf and its dependencies: choose a base that has "
            "them, or name an interpreter that has them with --base-python"
        )
    return f"the {name} has no such cases: {error}"


@dataclass
class Counts:
    """Results of counting.

    Attributes:
        changes: By case that was counted on both sides, what differs.
        failed: Cases that a side cannot run, and why.
        wrong: Those of them where only the candidate fails.
    """

    changes: dict[Case, list[CounterChange]]
    failed: dict[Case, str]
    wrong: dict[Case, str]


def _count(cases: Sequence[Case], input_kind: str, start: Starter, tell: Callable[[str], None]) -> Counts:
    """Count every case on both sides, in processes that time nothing."""
    counts = Counts({}, {}, {})
    with start(any(case.compiled for case in cases), (BASE, CANDIDATE)) as peers:
        for index, case in enumerate(cases, start=1):
            tell(f"counters {index}/{len(cases)}: {case.label()}")
            _count_one(case, peers, input_kind, counts)
    return counts


def _count_one(case: Case, peers: Mapping[str, Peer], input_kind: str, counts: Counts) -> None:
    found: dict[str, Any] = {}
    for name, peer in peers.items():
        try:
            found[name] = peer.ask("count", axes=case.axes(), input_kind=input_kind)
        except CannotMeasure as error:
            counts.failed[case] = f"{name}: {error}"
            if name == CANDIDATE and error.kind == "WrongResult":
                counts.wrong[case] = str(error)
            return
    before, after = found[BASE], found[CANDIDATE]
    counts.changes[case] = [
        *counter_changes(case, before["counters"], after["counters"]),
        *fingerprint_changes(case, before["fingerprints"], after["fingerprints"]),
    ]


def _save(path: Path, series: Sequence[Series]) -> None:
    try:
        path.write_text(json.dumps({"cnnperf_gate": 1, "cases": list(samples_of(series))}), encoding="utf-8")
    except OSError as error:
        raise CnnperfError(f"{path}: the samples cannot be written: {error.strerror or error}") from error


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that worktrees are removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
