"""The worker of a side: a process that answers line by line, and how the gate treats one that does not."""

import io
import json
import sys

import pytest

from cnnperf.errors import CnnperfError
from cnnperf.gate import processes
from cnnperf.gate.processes import CannotMeasure, Process
from cnnperf.gate.sides import Side
from cnnperf.gate.worker import Worker, answer_all
from cnnperf.measure.case import Case

CASE = Case("lenet5", batch=2)


def side(folder):
    return Side("work tree", "0" * 40, False, folder)


@pytest.fixture
def scripted(monkeypatch, tmp_path):
    """Give a function that starts a process which runs these lines instead of the worker's."""

    def start(lines):
        script = tmp_path / "script.py"
        script.write_text(lines)
        monkeypatch.setattr(processes, "SCRIPT", script)
        return Process(side(tmp_path))

    return start


def test_a_worker_builds_places_and_times_a_case(tmp_path):
    with Process(side(tmp_path)) as worker:
        assert worker.ask("build", axes=CASE.axes(), input_kind="synthetic", seed=3, allocator="retain") == {}
        assert worker.ask("place") == {}
        answer = worker.ask("time", rounds=3, warm=1)
    assert len(answer["wall"]) == len(answer["cpu"]) == 3
    assert all(seconds > 0 for seconds in answer["wall"])


def test_a_worker_takes_the_code_of_its_side(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nprint('said by the side')\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))\n"
    )
    given = {
        "cnnperf_architecture": ["mine:make"],
        "cnnperf_axis": ["phase=forward", "engine=eager"],
        "cnnperf_device": ["cpu"],
    }
    with Process(side(tmp_path)) as worker:
        (axes,) = worker.ask("plan", given=given)["cases"]
        assert axes["architecture"] == "mine:make"
        assert worker.ask("build", axes=axes, input_kind="synthetic", seed=0, allocator="system") == {}


def test_an_error_of_the_side_s_code_is_an_answer_and_the_worker_lives_on():
    requests = [
        {"do": "plan", "given": {"cnnperf_suite": ["none"]}},
        {"do": "plan", "given": {"cnnperf_device": ["cpu"]}},
    ]
    written = io.StringIO()
    answer_all(Worker(), [json.dumps(one) for one in requests], written)
    first, second = map(json.loads, written.getvalue().splitlines())
    assert first["kind"] == "OptionError"
    assert "'none'" in first["error"]
    assert second["cases"]


def test_the_side_s_error_is_raised_with_its_kind(tmp_path):
    with Process(side(tmp_path)) as worker, pytest.raises(CannotMeasure, match="nonesuch") as caught:
        worker.ask("build", axes={"architecture": "nonesuch"}, input_kind="synthetic", seed=0, allocator="system")
    assert caught.value.kind == "OptionError"


def test_a_worker_that_dies_is_told_with_its_last_words(scripted):
    worker = scripted("import sys\nsys.stdin.readline()\nsys.exit('out of luck')")
    with worker, pytest.raises(CnnperfError, match="ended with status 1; it said: out of luck"):
        worker.ask("place")


def test_a_worker_that_was_killed_is_told(scripted):
    worker = scripted("import os, sys\nsys.stdin.readline()\nos.kill(os.getpid(), 9)")
    with worker, pytest.raises(CnnperfError, match="killed by signal 9 without a word"):
        worker.ask("place")


def test_a_worker_that_hangs_is_stopped(scripted, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    with scripted("import time\ntime.sleep(600)") as worker, pytest.raises(CnnperfError, match="no answer"):
        worker.ask("place")


def test_an_interpreter_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CnnperfError, match="/nowhere/python cannot be started"):
        Process(side(tmp_path), "/nowhere/python")


def test_workers_wait_without_spinning_and_ask_for_huge_pages_unless_told_otherwise(scripted, monkeypatch):
    names = sorted(processes.CALM)
    answer = f"{{n: os.environ[n] for n in {names}}}"
    lines = f"import json, os, sys\nsys.stdin.readline()\nprint(json.dumps({answer}), flush=True)"
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with scripted(lines) as worker:
        assert worker.ask("place") == processes.CALM | {"OMP_WAIT_POLICY": "ACTIVE"}


def test_the_gate_s_own_folder_is_not_where_a_side_s_modules_come_from(tmp_path):
    (tmp_path / "lockstep.py").write_text("raise SystemExit('the side has a module of that name too')")
    with Process(side(tmp_path)) as worker, pytest.raises(CannotMeasure):
        worker.ask("build", axes={"architecture": "gate:make"}, input_kind="synthetic", seed=0, allocator="system")
    assert sys.modules.get("lockstep") is None
