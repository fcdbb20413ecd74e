"""The test of a case: it measures the case, or takes the result that an earlier test of the run has measured."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cnnperf.errors import CnnperfError, NetworkFailed, UnsupportedCase
from cnnperf.exit_status import ExitStatus
from cnnperf.records.commit import name_commit
from cnnperf.suite.collection import CASE, case_of
from cnnperf.suite.plugin_state import MARKER, REPLAY_KEY, STATE_KEY, storage_of

if TYPE_CHECKING:
    from cnnperf.records.case import Case
    from cnnperf.records.run import CaseRecord
    from cnnperf.suite.bench_run import BenchRun

UNSAFE = re.compile(r"[^\w.=-]+")
"""Characters that may not stand in the name of a file."""


def run_case(request: pytest.FixtureRequest, benchmark: Any, case: Case) -> None:
    """Measure a case and hand its samples to pytest-benchmark; only check its results where that is disabled.

    Args:
        request: Request of the fixture of the test.
        benchmark: Fixture of pytest-benchmark.
        case: The case.
    """
    run = _run(request)
    if benchmark.disabled:
        _check(run, case)
        benchmark(_nothing)
        return
    _measure(request, benchmark, run, case)


def _check(run: BenchRun, case: Case) -> None:
    """Check the results of a case without timing it; skip one that cannot run."""
    from cnnperf.measure.failures import converting_failures

    try:
        with converting_failures():
            run.laboratory.check(case)
    except (NetworkFailed, UnsupportedCase) as reason:
        pytest.skip(f"not checked: {reason}")


def _measure(request: pytest.FixtureRequest, benchmark: Any, run: BenchRun, case: Case) -> None:
    _write(request.config, run.announce(case))
    end: Callable[[str], Any] = pytest.skip
    try:
        measured = run.measure(case)
    except NetworkFailed as error:
        run.skip(case, str(error), failed=True)
        message = f"not measured: {error}; {_keep_traceback(request.config, run, case, error)}"
    except UnsupportedCase as reason:
        run.skip(case, str(reason))
        message = f"not measured: {reason}"
    except CnnperfError as error:
        message, end = str(error), partial(pytest.fail, pytrace=False)
    except KeyboardInterrupt:
        _write(request.config, f"interrupted{run.kept_cycles()}\n")
        for record in run.records:
            if record.case == case:  # with a benchmark, pytest-benchmark saves the run
                _replay(request, benchmark, record)
        raise
    except BaseException:
        _write(request.config, "failed\n")
        raise
    else:
        line = run.keep(measured, benchmark.fullname)
        _replay(request, benchmark, run.records[-1])
        _write(request.config, f"{line}\n")
        return
    _write(request.config, f"{message.splitlines()[0]}\n")
    end(message)


def _keep_traceback(config: pytest.Config, run: BenchRun, case: Case, error: NetworkFailed) -> str:
    """Write the traceback of a network beside the saved runs, or to the temporary folder, and return where it is."""
    folder = storage_of(config) if run.journal is not None else Path(tempfile.gettempdir()) / "cnnperf"
    path = folder / "tracebacks" / f"{UNSAFE.sub('-', case.id())}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(error.trace, encoding="utf-8")
    except OSError as reason:
        return f"its traceback could not be written: {reason}"
    return f"traceback in {path}"


def _replay(request: pytest.FixtureRequest, benchmark: Any, record: CaseRecord) -> None:
    """Hand the samples of a case to pytest-benchmark, with its record for other hooks that look at the benchmark."""
    from cnnperf.records.encoding import extra_info

    others = {name: value for name, value in (benchmark.params or {}).items() if name != CASE}
    benchmark.params = {**others, **record.case.axes()}  # for `--benchmark-group-by=param:batch`, and in the run file
    seconds = [second for group in record.groups for second in group]
    request.node.stash[REPLAY_KEY].load(seconds)
    benchmark.pedantic(_nothing, rounds=len(seconds))
    benchmark.extra_info.update(extra_info(record))


def _run(request: pytest.FixtureRequest) -> BenchRun:
    """Return the benchmark run; the first case begins it."""
    config, state = request.config, request.config.stash[STATE_KEY]
    if state.run is None:
        from cnnperf.suite.bench_run import BenchRun
        from cnnperf.suite.blocks import blocks_of

        items = [item for item in request.session.items if item.get_closest_marker(MARKER)]
        try:
            state.run = BenchRun.begin(state.options, len(items), state.baseline)
        except CnnperfError as error:
            pytest.exit(f"cnnperf: {error}", returncode=ExitStatus.UNUSABLE)
        state.run.runner.blocks = blocks_of((item.nodeid, case_of(item)) for item in items)
        state.run.runner.one_by_one = bool(config.getoption("maxfail"))
        state.run.write = state.progress.show_state
        state.run.of_cases = state.of_cases
        if any(config.getoption(f"benchmark_{name}") for name in ("autosave", "save", "json")):
            commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
            name_commit(commit)
            state.run.keep_journal(storage_of(config), commit)
    return state.run


def _write(config: pytest.Config, text: str) -> None:
    config.stash[STATE_KEY].progress.write(text)


def _nothing() -> None:
    """Do nothing: pytest-benchmark calls it while the samples are replayed."""
