"""The pytest plugin: options, the case fixtures and the hooks into pytest-benchmark.

Every pytest run of an environment imports this module, so it loads neither torch nor pandas; the packages that do
are imported when the first case of a benchmark is collected.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from cnnperf.errors import CnnperfError
from cnnperf.records.commit import name_commit
from cnnperf.suite.case_run import run_case
from cnnperf.suite.collection import CASE, case_of, cases_of, has_case, other_shards
from cnnperf.suite.flags import OPTIONS, read_given
from cnnperf.suite.options import Options, parse_options
from cnnperf.suite.plugin_state import MARKER, REPLAY_KEY, STATE_KEY, PluginState, storage_of
from cnnperf.suite.progress_line import ProgressLine
from cnnperf.suite.replay import Replay

if TYPE_CHECKING:
    from cnnperf.records.case import Case

MARKER_HELP = (
    "cnnperf(*architectures, own=False, part=''): measure these architectures: names or globs of the catalog, or "
    "networks of the user, package.module:factory; with own=True, all of the user's networks that "
    "--cnnperf-architecture names; with part='se', every form of this part of a network"
)


def options_of(config: pytest.Config) -> Options:
    """Return the checked options of a pytest run."""
    return config.stash[STATE_KEY].options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add every option of the table to the command line and to the ini file."""
    group = parser.getgroup("cnnperf", "cnnperf: performance of convolutional networks")
    for option in OPTIONS:
        default = ", ".join(option.default)
        text = option.help + (f" (default: {default})" if default else "")
        # argparse reads % as the start of a format.
        group.addoption(
            option.flag,
            dest=option.key,
            metavar=option.metavar,
            action="append" if option.repeatable else "store",
            default=None,
            help=text.replace("%", "%%"),
        )
        parser.addini(option.key, text, type=cast(Any, "args" if option.repeatable else "string"), default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything runs.

    Raises:
        pytest.UsageError: With one sentence; pytest exits with status 4.
    """
    config.addinivalue_line("markers", MARKER_HELP)
    try:
        name_commit({"id": "unknown"})  # a bad name is reported before anything is measured
        options = parse_options(read_given(lambda key: _value(config, key)))
        storage = storage_of(config)
        state = PluginState(
            options, options.find_baseline(storage), options.find_durations(storage), ProgressLine(config)
        )
        config.stash[STATE_KEY] = state
    except CnnperfError as error:
        raise pytest.UsageError(str(error)) from error


def configure_pytest_benchmark(config: pytest.Config) -> None:
    """Prepare pytest-benchmark for a suite of cnnperf; call it from `pytest_configure` in the suite's conftest.

    Raw samples are saved, because statistical tests need them later. The summary replaces pytest-benchmark's own table;
    `--benchmark-verbose` brings that back. OpenMP threads wait without spinning, unless the environment sets another
    policy: on a busy machine spinning threads made a call thirty times slower. The policy has to be set before torch is
    loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    config.option.benchmark_save_data = True
    config.option.benchmark_quiet = True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Turn the marker `cnnperf` into one test for each case.

    The only parameter is the case: names of axes, such as `device` and `batch`, are common names of users' fixtures.
    """
    marker = metafunc.definition.get_closest_marker(MARKER)
    if marker is None or CASE not in metafunc.fixturenames:
        return
    try:
        cases = cases_of(options_of(metafunc.config), marker)
    except CnnperfError as error:
        raise pytest.Collector.CollectError(str(error)) from error
    metafunc.parametrize(CASE, cases, ids=[case.id() for case in cases], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests without a case and cases of other shards, and give each case its replaying timer."""
    marked = [item for item in items if item.get_closest_marker(MARKER)]
    state = config.stash[STATE_KEY]
    dropped = [item for item in marked if not has_case(item)]
    selected = [item for item in marked if has_case(item)]
    if state.options.shard is not None and selected:
        elsewhere, state.of_cases = other_shards(selected, state.options.shard, state.durations)
        dropped += elsewhere
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        gone = set(map(id, dropped))
        items[:] = [item for item in items if id(item) not in gone]
    for item in selected:
        item.stash[REPLAY_KEY] = Replay()
        item.add_marker(pytest.mark.benchmark(timer=item.stash[REPLAY_KEY]))


@pytest.fixture
def cnnperf_case(request: pytest.FixtureRequest) -> Case:
    """Return the case of this test."""
    return case_of(request.node)


@pytest.fixture
def cnnperf_measure(request: pytest.FixtureRequest, benchmark: Any) -> Callable[[Case], None]:
    """Return a function that measures a case and hands its samples to pytest-benchmark."""
    return partial(run_case, request, benchmark)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Drop the momentary clock rate, which differs on one machine and would make every comparison warn."""
    for key in ("hz_actual", "hz_actual_friendly"):
        machine_info.get("cpu", {}).pop(key, None)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    """Take the commit of a checkout without git's folder from the environment."""
    name_commit(commit_info)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Write the record of the run into the document that pytest-benchmark saves."""
    state = config.stash[STATE_KEY]
    if state.run is not None:
        from cnnperf.records.encoding import complete
        from cnnperf.records.writing import add_interrupted

        run = state.run.finished(output_json["commit_info"])
        complete(output_json, run)
        add_interrupted(output_json, run)
        state.saved = True


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compare with the baseline, and delete the journal if pytest-benchmark, whose hook runs first, saved the run."""
    state = session.config.stash.get(STATE_KEY, None)
    if state is None or state.run is None:
        return
    if state.run.journal is not None and state.saved:
        state.run.journal.delete()
    status = state.run.end()
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = status


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the summary, or the reason why there is none."""
    state = config.stash[STATE_KEY]
    run = state.run
    reports = [report for kind in ("passed", "skipped") for report in terminalreporter.stats.get(kind, ())]
    tests = [report for report in reports if isinstance(report, pytest.TestReport)]  # a module can be skipped too
    if any(MARKER in test.keywords for test in tests) and _benchmarks_disabled(config):
        terminalreporter.section("cnnperf", sep="=")
        terminalreporter.write_line(
            "nothing was measured: pytest-benchmark is disabled (by --benchmark-disable, or because pytest-xdist runs "
            "tests side by side); run without -n and --benchmark-disable"
        )
        if state.baseline is not None:
            terminalreporter.write_line("and nothing was compared with the baseline")
    elif run is not None and (run.records or run.not_measured):
        terminalreporter.section("cnnperf", sep="=")
        for line in (*run.summary(), *run.comparison_lines()):
            terminalreporter.write_line(line)
        if run.journal is not None and run.journal.path.exists():
            terminalreporter.write_line(f"the cases so far are kept in {run.journal.path}")


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """Print no letter for a case: its progress line says more. Outcomes of other plugins (xfail, rerun) stay."""
    if not isinstance(report, pytest.TestReport) or MARKER not in report.keywords or report.when != "call":
        return None
    if report.outcome not in ("passed", "failed", "skipped") or hasattr(report, "wasxfail"):
        return None
    return report.outcome, "", report.outcome.upper()


def _value(config: pytest.Config, key: str) -> Any:
    given = config.getoption(key)
    return config.getini(key) if given is None else given


def _benchmarks_disabled(config: pytest.Config) -> bool:
    distributed = config.getoption("dist", "no") != "no"
    return distributed or (config.getoption("benchmark_disable") and not config.getoption("benchmark_enable"))


__all__ = ["CnnperfError", "configure_pytest_benchmark", "options_of"]
