"""The gate from a request to its result: check out sides, plan cases, compare counters, then time."""

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
from cnnperf.gate.processes import COMPILER_MODULES, EAGER_MODULES, CannotMeasure, ForkServer, Peer, Process
from cnnperf.gate.saving import save_gate
from cnnperf.gate.sides import Repository, Side
from cnnperf.records.case import Case
from cnnperf.records.tolerance import Tolerance, parse_tolerance
from cnnperf.records.writing import check_folder
from cnnperf.runs.verdicts import CaseVerdict, Comparison, CounterChange, counter_changes, fingerprint_changes
from cnnperf.stats.sequential import Rule

MOST_NAMED = 5
"""Ignored files that an error names."""


@dataclass(frozen=True)
class Request:
    """Parameters of a gate.

    Attributes:
        base: Revision of the base.
        head: Revision of the candidate, or None for the work tree.
        tolerance: Largest acceptable slowdowns.
        budget: Seconds that timing may take.
        options: Options of the suite, as texts by key.
        accepted: Counters that may get worse.
        base_python: Interpreter of the base, or `auto` to create an environment for it if dependencies differ.
        parts: What to compare: `counters`, `time` or both.
        samples: File for the seconds of all rounds, or None.
        save: Folder for a run file, or None.
        base_exact: Whether the tip of the base is meant, and not the commit at which the candidate left it.
        prepare: Shell command to run in each checkout before measuring; empty for none.
    """

    base: str
    head: str | None = None
    tolerance: Tolerance = field(default_factory=lambda: parse_tolerance(()))
    budget: float = 600.0
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    base_python: str = sys.executable
    parts: tuple[str, ...] = ("counters", "time")
    samples: Path | None = None
    save: Path | None = None
    base_exact: bool = False
    prepare: str = ""


def run_gate(request: Request, folder: Path, progress: Callable[[str], None]) -> Comparison:
    """Compare the candidate with the base.

    Args:
        request: Parameters of the gate.
        folder: A folder in the repository. A side's code is imported from the same folder of its checkout.
        progress: Receives lines of progress.

    Raises:
        CnnperfError: If a side does not exist, lacks cnnperf, or its worker dies.
    """
    start_time = time.monotonic()
    if request.samples is not None:
        _write_samples(request.samples, [])  # fails before measuring, not ten minutes later
    if request.save is not None:
        check_folder(request.save)
    repository = Repository(folder)
    with terminated_as_interrupted(), ExitStack() as stack:
        for tree in repository.remove_left_behind():
            progress(f"removed {tree}, left behind by a gate that was killed")
        base = stack.enter_context(repository.checkout(_base_of(request, repository, progress)))
        candidate = (
            repository.work_tree() if request.head is None else stack.enter_context(repository.checkout(request.head))
        )
        for side in (base, candidate):
            if request.prepare and side.work_tree is not None:
                progress(f"preparing {side.label()}: {request.prepare}")
                side.prepare(request.prepare)
        if base.commit == candidate.commit and not candidate.dirty:
            progress("base and candidate are the same commit: only the gate itself is tested")
        python = stack.enter_context(interpreter_of(base, candidate, request.base_python, progress))
        start = Starter({BASE: base, CANDIDATE: candidate, CONTROL: base}, {BASE: python, CONTROL: python})
        return _compare(request, start, progress, start_time)


def _base_of(request: Request, repository: Repository, progress: Callable[[str], None]) -> str:
    """Return the revision to compare with: where the base has gone on, the commit at which the candidate left it."""
    tip, head = repository.resolve(request.base), repository.resolve(request.head or "HEAD")
    fork = None if request.base_exact else repository.merge_base(tip, head)
    if fork is None or fork == tip:
        return request.base
    progress(
        f"{request.base} has commits that the candidate lacks: the base is the commit at which the two parted, "
        f"{fork[:10]} (--base-exact takes the tip)"
    )
    return fork


def _compare(request: Request, start: Starter, progress: Callable[[str], None], start_time: float) -> Comparison:
    sides = start.sides
    shared, unshared = _plan(request, start)
    rule = Rule(request.tolerance, cases=max(1, len(shared)))
    settings = _worker_settings(request.options)
    machine = {name: settings[name] for name in ("input_kind", "allocator")}
    environment: Mapping[str, Any] = {}
    if request.save is not None:  # fails before measuring
        with start(names=(CANDIDATE,)) as peers:
            answer = peers[CANDIDATE].ask("environment", **machine)
        environment = answer["environment"]
    counts = (
        _count(shared, settings["input_kind"], start, progress) if "counters" in request.parts else Counts({}, {}, {})
    )
    comparable = [case for case in shared if case not in counts.failed]
    gate = Gate(start, rule, time.monotonic() + request.budget, settings, progress)
    all_series = gate.measure(comparable) if "time" in request.parts else []
    control = tuple(control_of(all_series, rule))
    if request.samples is not None:
        _write_samples(request.samples, all_series)
    if request.save is not None:
        both = sides[BASE], sides[CANDIDATE]
        path = save_gate(request.save, all_series, both, environment, withdrawn=bool(control))
        progress(f"saved {path}")
    verdicts = [verdict_of(series) for series in all_series]
    verdicts += [CaseVerdict(case, "not-comparable", reason) for case, reason in counts.failed.items()]
    changes = [change for case_changes in counts.changes.values() for change in case_changes]
    return Comparison(
        base=sides[BASE].label(),
        candidate=sides[CANDIDATE].label(),
        rule=rule,
        cases=(*verdicts, *unshared),
        control=control,
        counted=len(counts.changes),
        counters=tuple(replace(change, accepted=change.name in request.accepted) for change in changes),
        wrong={case.label(): reason for case, reason in counts.wrong.items()},
        seconds=time.monotonic() - start_time,
    )


@dataclass(frozen=True)
class Starter:
    """Factory of workers; sides with the same interpreter share a fork server.

    Attributes:
        sides: Sides by name.
        pythons: Interpreter by name of the side, for sides whose interpreter is not the gate's.
        environment: Environment variables of the workers, or None for those of the gate.
    """

    sides: Mapping[str, Side]
    pythons: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None

    @contextmanager
    def __call__(self, compiles: bool = False, names: Sequence[str] | None = None) -> Iterator[dict[str, Peer]]:  # noqa: FBT001, FBT002 - it is a `Start`
        """Start a worker for each of the names, by default for all sides; `compiles` preloads the compiler."""
        modules = COMPILER_MODULES if compiles else EAGER_MODULES
        with ExitStack() as stack:
            servers: dict[str, ForkServer] = {}
            peers: dict[str, Peer] = {}
            for name in self.sides if names is None else names:
                python = self.pythons.get(name, sys.executable)
                if python not in servers:
                    servers[python] = stack.enter_context(ForkServer(python, modules, self.environment))
                peers[name] = stack.enter_context(Process(servers[python], self.sides[name]))
            yield peers


def _plan(request: Request, start: Starter) -> tuple[list[Case], list[CaseVerdict]]:
    """Return the cases that both sides have, and verdicts on those that only one side has."""
    cases: dict[str, list[Case]] = {}
    options = {key: list(values) for key, values in request.options.items()}
    with start(names=(BASE, CANDIDATE)) as peers:
        for name, peer in peers.items():
            try:
                answer = peer.ask("plan", options=options)
            except CannotMeasure as error:
                raise CnnperfError(_planning_error(name, start.sides[name], error)) from error
            cases[name] = [Case.from_axes(axes) for axes in answer["cases"]]
    base, candidate = cases[BASE], cases[CANDIDATE]
    gone = [CaseVerdict(case, "gone", "the candidate lacks it") for case in base if case not in candidate]
    new = [CaseVerdict(case, "new", "the base lacks it") for case in candidate if case not in base]
    return [case for case in base if case in candidate], gone + new


def _worker_settings(given: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the arguments of `worker.Worker.build` for the texts of options, which are checked by the sides."""
    texts = {key: values[0] for key, values in given.items()}
    switch = texts.get("cnnperf_cudnn_benchmark")
    return {
        "input_kind": texts.get("cnnperf_input", "synthetic"),
        "allocator": texts.get("cnnperf_cpu_allocator", "retain"),
        "cudnn_benchmark": switch == "on" if switch else texts.get("cnnperf_suite") == "practice",
    }


def _planning_error(name: str, side: Side, error: CannotMeasure) -> str:
    if error.kind == "WrongSide":
        return f"the {name} cannot be measured: {error}"
    return _planning_reason(name, error) + _ignored_text(side)


def _ignored_text(side: Side) -> str:
    """Return what a checkout lacks of the work tree, which may be why its code cannot be imported."""
    ignored = [] if side.work_tree is None else Repository(side.work_tree).ignored_files()
    if not ignored:
        return ""
    more = f" and {len(ignored) - MOST_NAMED} more" if len(ignored) > MOST_NAMED else ""
    return (
        ". Files of the work tree that are ignored by git are not in the checkout of the commit: "
        f"{', '.join(ignored[:MOST_NAMED])}{more}. If the code needs them, make them there with --prepare COMMAND, "
        "such as 'python setup.py build_ext --inplace'"
    )


def _planning_reason(name: str, error: CannotMeasure) -> str:
    if error.kind in {"ModuleNotFoundError", "ImportError", "AttributeError"}:
        return (
            f"the {name} cannot be measured: {error}. It needs cnnperf, not too old for this gate, and its "
            "dependencies: choose a base that has them, or name an interpreter that has them with --base-python"
        )
    return f"the {name} has no such cases: {error}"


@dataclass
class Counts:
    """Results of counting.

    Attributes:
        changes: Differences between the sides, for each case that was counted on both.
        failed: Reasons by case that a side cannot run.
        wrong: Reasons by case for which only the candidate gives wrong results; all of them are in `failed` too.
    """

    changes: dict[Case, list[CounterChange]]
    failed: dict[Case, str]
    wrong: dict[Case, str]


def _count(cases: Sequence[Case], input_kind: str, start: Starter, progress: Callable[[str], None]) -> Counts:
    """Count every case on both sides, in processes that time nothing."""
    counts = Counts({}, {}, {})
    with start(any(case.compiled for case in cases), (BASE, CANDIDATE)) as peers:
        for index, case in enumerate(cases, start=1):
            progress(f"counters {index}/{len(cases)}: {case.label()}")
            _count_case(case, peers, input_kind, counts)
    return counts


def _count_case(case: Case, peers: Mapping[str, Peer], input_kind: str, counts: Counts) -> None:
    answers: dict[str, Any] = {}
    for name, peer in peers.items():
        try:
            answers[name] = peer.ask("count", axes=case.axes(), input_kind=input_kind)
        except CannotMeasure as error:
            counts.failed[case] = f"{name}: {error}"
            if name == CANDIDATE and error.kind == "WrongResult":
                counts.wrong[case] = str(error)
            return
    before, after = answers[BASE], answers[CANDIDATE]
    counts.changes[case] = [
        *counter_changes(case, before["counters"], after["counters"]),
        *fingerprint_changes(case, before["fingerprints"], after["fingerprints"]),
    ]


def _write_samples(path: Path, all_series: Sequence[Series]) -> None:
    try:
        path.write_text(json.dumps({"cnnperf_gate": 1, "cases": list(samples_of(all_series))}), encoding="utf-8")
    except OSError as error:
        raise CnnperfError(f"{path}: the samples cannot be written: {error.strerror or error}") from error


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, so that worktrees are removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
