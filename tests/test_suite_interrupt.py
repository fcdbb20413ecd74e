"""Ctrl-C in the middle of a block, in pytest sessions of their own."""

import json

import pytest
from test_plugin import CONFTEST

from cnnperf import load_runs, load_samples
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
    calls = 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images):
        Network.calls += 1
        if Network.calls == {last}:
            raise KeyboardInterrupt
        return self.linear(images.mean((2, 3)))

class One(Network):
    pass

class Other(Network):
    pass
"""
OPTIONS = (
    "--cnnperf-time=5",
    "--cnnperf-interval=0.001%",
    "--cnnperf-axis=engine=eager",
    "--cnnperf-axis=batch=2",
    "--cnnperf-axis=phase=forward",
    "--cnnperf-device=cpu",
    "--benchmark-autosave",
    "-p",
    "no:cacheprovider",
)
BLOCK = ("--cnnperf-architecture=networks:One", "--cnnperf-architecture=networks:Other")
PATIENCE = 300  # seconds; a hang is a failure


def run(pytester, *arguments, last=4000):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_suite=SUITE)
    (pytester.path / "networks.py").write_text(NETWORKS.format(last=last))
    return pytester.runpytest_subprocess(*OPTIONS, *arguments, timeout=PATIENCE)


def test_an_interrupted_block_keeps_its_whole_cycles_beside_what_was_finished(pytester):
    result = run(pytester, "--cnnperf-architecture=lenet5", "--cnnperf-time=0.05", *BLOCK)
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


def test_without_any_finished_test_the_journal_keeps_the_whole_cycles(pytester):
    result = run(pytester, *BLOCK)
    result.stdout.fnmatch_lines(["*interrupted; * cycles of 2 cases are kept*", "the cases so far are kept in *"])
    frame = load_runs(pytester.path / ".benchmarks")
    assert set(frame.architecture) == {"networks:One", "networks:Other"}


def test_an_interrupt_before_the_first_cycle_keeps_what_was_finished(pytester):
    run(pytester, "--cnnperf-architecture=lenet5", "--cnnperf-time=0.05", *BLOCK, last=12)
    (path,) = (pytester.path / ".benchmarks").rglob("*.json")
    assert [entry["params"]["architecture"] for entry in json.loads(path.read_text())["benchmarks"]] == ["lenet5"]


@pytest.mark.parametrize(
    ("arguments", "architectures"),
    [(("-k", "One"), {"networks:One"}), (("-p", "no:randomly"), {"networks:One", "networks:Other"})],
    ids=["one case", "both"],
)
def test_what_is_selected_forms_the_block(pytester, arguments, architectures):
    run(pytester, *BLOCK, "--cnnperf-suite=smoke", *arguments, last=0)
    ((_, saved),) = read_runs(pytester.path / ".benchmarks")
    assert {record.case.architecture for record in saved.cases} == architectures
    assert {bool(record.block) for record in saved.cases} == {len(architectures) > 1}
