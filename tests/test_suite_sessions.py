"""Blocks in pytest sessions of their own: Ctrl-C in the middle of one, selection, order, and a member that fails."""

import json

import pytest
from test_plugin import CONFTEST

from cnnperf import load_samples
from cnnperf.runs import read_runs

pytestmark = pytest.mark.slow

SUITE = """
    import pytest

    @pytest.mark.cnnperf("lenet5")
    def test_first(cnnperf_case, cnnperf_measure):
        cnnperf_measure(cnnperf_case)

    @pytest.mark.cnnperf(own=True)
    def test_own(cnnperf_case, cnnperf_measure):
        cnnperf_measure(cnnperf_case)
"""
NETWORKS = """
import torch
from torch import nn

class Network(nn.Module):
    calls = training_calls = 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images):
        Network.calls += 1
        Network.training_calls += self.training
        if Network.calls == {last} or Network.training_calls == {last_training}:
            raise KeyboardInterrupt
        return self.linear(images.mean((2, 3)))

class One(Network):
    pass

class Other(Network):
    pass

class Broken(Network):
    def forward(self, images):
        return self.linear(images.mean((2, 3))) * float("nan")

class Raising(Network):
    def forward(self, images):
        if self.training:
            raise ValueError("no such layer")
        return self.linear(images.mean((2, 3)))

class RaisingLate(Network):
    def forward(self, images):
        Network.calls += 1
        if Network.calls > 1000:
            raise ValueError("no such layer any more")
        return self.linear(images.mean((2, 3)))

class Exiting(Network):
    def forward(self, images):
        if self.training:
            raise SystemExit("no such layer")
        return self.linear(images.mean((2, 3)))
"""
SHUFFLED = """

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(items):
        import random
        random.Random(3).shuffle(items)
"""
OPTIONS = (
    "--cnnperf-time=2",
    "--cnnperf-interval=0.001%",
    "--cnnperf-axis=engine=eager",
    "--cnnperf-axis=batch=2",
    "--cnnperf-axis=phase=forward",
    "--cnnperf-device=cpu",
    "--benchmark-autosave",
)
WITHOUT_CACHE = ("-p", "no:cacheprovider")
SMOKE = ("--cnnperf-suite=smoke",)
BLOCK = ("--cnnperf-architecture=networks:One", "--cnnperf-architecture=networks:Other")
PATIENCE = 300  # seconds; a hang is a failure


def run(pytester, *arguments, last=4000, last_training=-1, conftest=CONFTEST, cache=False):
    pytester.makeconftest(conftest)
    pytester.makepyfile(test_suite=SUITE)
    (pytester.path / "networks.py").write_text(NETWORKS.format(last=last, last_training=last_training))
    own = () if cache else WITHOUT_CACHE
    return pytester.runpytest_subprocess(*OPTIONS, *own, *arguments, timeout=PATIENCE)


def test_an_interrupted_block_keeps_its_whole_cycles_beside_what_was_finished(pytester):
    result = run(pytester, "--cnnperf-architecture=lenet5", *BLOCK)
    result.stdout.fnmatch_lines(["*interrupted; * cycles of 2 cases are kept*", "*KeyboardInterrupt*"])
    storage = pytester.path / ".benchmarks"
    ((_, saved),) = read_runs(storage)
    assert [record.case.architecture for record in saved.cases] == ["lenet5", "networks:One", "networks:Other"]
    one, other = saved.cases[1:]
    assert {one.stopped, other.stopped} == {"interrupted"}
    assert len(one.groups) == len(other.groups) >= 2
    assert one.block == other.block != ""
    assert not list(storage.glob("*.jsonl")), "everything is in the run file"
    assert set(load_samples(storage).architecture) == {"lenet5", "networks:One", "networks:Other"}


def test_the_whole_cycles_are_kept_without_any_finished_test(pytester):
    result = run(pytester, *BLOCK)
    result.stdout.fnmatch_lines(["*interrupted; * cycles of 2 cases are kept*"])
    ((_, saved),) = read_runs(pytester.path / ".benchmarks")
    assert [record.case.architecture for record in saved.cases] == ["networks:One", "networks:Other"]


def test_blocks_that_are_sampled_in_turn_all_keep_their_whole_cycles(pytester):
    # In a visit of the training, after one of the other phase.
    result = run(pytester, *BLOCK, "--cnnperf-axis=phase=forward,train", last=-1, last_training=1500)
    result.stdout.fnmatch_lines(["*interrupted; * to * cycles of 4 cases are kept*"])
    records = saved_cases(pytester)
    assert sorted(record.case.phase for record in records) == ["forward"] * 2 + ["train"] * 2
    assert {record.stopped for record in records} == {"interrupted"}
    assert len(records) == len({record.case for record in records})


def test_an_interrupt_before_the_first_cycle_keeps_what_was_finished(pytester):
    run(pytester, "--cnnperf-architecture=lenet5", *BLOCK, "-x", last=12)
    (path,) = (pytester.path / ".benchmarks").rglob("*.json")
    assert [entry["params"]["architecture"] for entry in json.loads(path.read_text())["benchmarks"]] == ["lenet5"]


def saved_cases(pytester):
    ((_, saved),) = read_runs(pytester.path / ".benchmarks")
    return saved.cases


def test_a_case_selected_alone_is_measured_alone(pytester):
    run(pytester, *BLOCK, *SMOKE, "-k", "One").assert_outcomes(passed=1, deselected=2)
    (record,) = saved_cases(pytester)
    assert (record.case.architecture, record.block) == ("networks:One", "")


def test_in_any_order_of_the_tests_the_cases_of_a_block_are_measured_together(pytester):
    phases = "--cnnperf-axis=phase=forward,backward,train"
    run(pytester, *BLOCK, *SMOKE, phases, conftest=CONFTEST + SHUFFLED).assert_outcomes(passed=6)
    records = saved_cases(pytester)
    order = [record.case.phase for record in records]
    assert order != sorted(order), "the tests of the blocks were mixed"
    blocks = {record.block: set() for record in records}
    for record in records:
        blocks[record.block].add((record.case.architecture, record.case.phase))
    assert sorted(map(len, blocks.values())) == [2, 2, 2]


@pytest.mark.parametrize(
    ("network", "error", "failed"),
    [("Raising", "ValueError", 1), ("RaisingLate", "ValueError", 2), ("Exiting", "SystemExit", 1)],
)
def test_a_network_that_raises_an_error_takes_no_other_with_it(pytester, network, error, failed):
    networks = (f"--cnnperf-architecture=networks:{network}", "--cnnperf-architecture=lenet5")
    result = run(pytester, *networks, "--cnnperf-axis=phase=forward,train", "--cnnperf-time=0.2", last=-1)
    result.assert_outcomes(passed=4 - failed, skipped=failed)
    result.stdout.fnmatch_lines([f"*not measured: {error}: no such layer*(networks.py:*traceback in *"])
    traces = list((pytester.path / ".benchmarks" / "tracebacks").iterdir())
    assert len(traces) == failed
    assert all(f"raise {error}(" in trace.read_text() for trace in traces)
    assert [record.case.architecture for record in saved_cases(pytester)].count("lenet5") == 2


FAILING = ("--cnnperf-architecture=networks:Broken", "--cnnperf-architecture=networks:One")


def test_a_member_that_fails_its_check_fails_its_own_test_alone(pytester):
    result = run(pytester, *FAILING, *SMOKE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*holds NaN or infinity; nothing was timed*"])
    (record,) = saved_cases(pytester)
    assert (record.case.architecture, record.block) == ("networks:One", "")


def test_x_stops_after_the_member_that_fails_and_lf_runs_it_again(pytester):
    run(pytester, *FAILING, *SMOKE, "-x", cache=True).assert_outcomes(failed=1)
    again = run(pytester, *FAILING, *SMOKE, "--lf", cache=True)
    again.assert_outcomes(failed=1)
