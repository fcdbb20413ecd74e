"""The workers of a gate: processes that answer line by line, and how the gate treats one that does not."""

import io
import json
import os
import re
import select
import sys

import pytest

from cnnperf.errors import CnnperfError
from cnnperf.gate import processes
from cnnperf.gate.processes import WORKER_ENVIRONMENT, CannotMeasure, ForkServer, Process
from cnnperf.gate.sides import Side
from cnnperf.gate.worker import Worker, answer_all
from cnnperf.records.case import Case

pytestmark = pytest.mark.slow

CASE = Case("lenet5", batch=2)
OWN = {
    "cnnperf_architecture": ["mine:make"],
    "cnnperf_axis": ["phase=forward", "engine=eager"],
    "cnnperf_device": ["cpu"],
}
NETWORK = """
from torch import nn

print("said by the side")


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
"""


@pytest.fixture(scope="module")
def server():
    with ForkServer() as one:
        yield one


@pytest.fixture
def worker(server, tmp_path):
    """Give a function that starts a worker whose side has these lines as its module `mine`."""
    running = []

    def start(lines=""):
        (tmp_path / "mine.py").write_text(lines)
        running.append(Process(server, Side("work tree", "0" * 40, False, tmp_path)))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def is_alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_builds_places_and_times_a_case(worker):
    one = worker()
    assert one.ask("build", axes=CASE.axes(), input_kind="synthetic", seed=3, allocator="retain") == {}
    assert one.ask("place") == {}
    answer = one.ask("time", rounds=3, warm=1)
    assert len(answer["wall"]) == len(answer["cpu"]) == 3
    assert all(seconds > 0 for seconds in answer["wall"])


def test_a_worker_takes_the_code_of_its_side(worker):
    one = worker(NETWORK)
    (axes,) = one.ask("plan", options=OWN)["cases"]
    assert axes["architecture"] == "mine:make"
    assert one.ask("build", axes=axes, input_kind="synthetic", seed=0, allocator="system") == {}


def test_workers_of_two_sides_have_each_their_own_code(server, tmp_path):
    for name, outputs in (("first", 5), ("second", 7)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mine.py").write_text(NETWORK.replace("5)", f"{outputs})"))
    sides = [Side(name, "0" * 40, False, tmp_path / name) for name in ("first", "second")]
    axes = Case("mine:make", batch=2).axes()
    with Process(server, sides[0]) as first, Process(server, sides[1]) as second:
        prints = [one.ask("count", axes=axes, input_kind="synthetic")["counters"] for one in (first, second)]
    assert [one["parameters"] for one in prints] == [(3 * 32 * 32 + 1) * outputs for outputs in (5, 7)]


def test_an_error_of_the_side_s_code_is_an_answer_and_the_worker_lives_on():
    requests = [
        {"do": "plan", "options": {"cnnperf_suite": ["none"]}},
        {"do": "plan", "options": {"cnnperf_device": ["cpu"]}},
    ]
    written = io.StringIO()
    answer_all(Worker(), [json.dumps(one) for one in requests], written)
    first, second = map(json.loads, written.getvalue().splitlines())
    assert first["kind"] == "OptionError"
    assert "'none'" in first["error"]
    assert second["cases"]


def test_the_side_s_error_is_raised_with_its_kind(worker):
    with pytest.raises(CannotMeasure, match="nonesuch") as caught:
        worker().ask("build", axes={"architecture": "nonesuch"}, input_kind="synthetic", seed=0, allocator="system")
    assert caught.value.kind == "OptionError"


def test_a_worker_that_ends_is_told_with_its_last_words(worker):
    one = worker("import sys\nsys.exit('out of luck')")
    with pytest.raises(CnnperfError, match=r"worker of work tree ended with status 1; it printed: .*out of luck"):
        one.ask("plan", options=OWN)


def test_a_worker_that_was_killed_is_told(worker):
    one = worker("import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(CnnperfError, match="killed by signal 9"):
        one.ask("plan", options=OWN)


def test_a_worker_that_hangs_is_stopped(worker, monkeypatch):
    monkeypatch.setattr(processes, "ANSWER_TIMEOUT", 1.0)
    one = worker("import signal\nsignal.pause()")
    number = one._pid
    with pytest.raises(CnnperfError, match="no answer in 1 s"):
        one.ask("plan", options=OWN)
    assert not is_alive(number)


def test_a_worker_is_gone_after_it_was_stopped(worker):
    one = worker()
    number = one._pid
    assert is_alive(number)
    one.stop()
    assert not is_alive(number)


def test_workers_end_when_the_gate_is_gone(tmp_path):
    server = ForkServer()
    one = Process(server, Side("work tree", "0" * 40, False, tmp_path))
    watched = os.pidfd_open(one._pid)  # becomes readable when the process ends
    server.stop()
    one.stop()  # closes the sockets, as the system does for a gate that was killed
    assert select.select([watched], [], [], 10.0)[0], "the worker lives on"
    os.close(watched)


def test_an_interpreter_that_does_not_exist_is_named():
    with pytest.raises(CnnperfError, match="/nowhere/python cannot be started"):
        ForkServer("/nowhere/python")


def test_an_interpreter_that_cannot_run_the_worker_is_told_with_its_last_words(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho this is no Python >&2\nexit 3\n")
    python.chmod(0o755)
    with (
        ForkServer(str(python)) as server,
        pytest.raises(CnnperfError, match="status 3; it printed: this is no Python"),
    ):
        Process(server, Side("work tree", "0" * 40, False, tmp_path))


def test_workers_wait_without_spinning_and_ask_for_huge_pages_unless_told_otherwise(tmp_path):
    names = sorted(WORKER_ENVIRONMENT)
    (tmp_path / "mine.py").write_text(f"import os\nraise ValueError([os.environ[name] for name in {names}])")
    environment, side = {**os.environ, "OMP_WAIT_POLICY": "ACTIVE"}, Side("work tree", "0" * 40, False, tmp_path)
    expected = (
        WORKER_ENVIRONMENT
        | {name: os.environ[name] for name in WORKER_ENVIRONMENT if name in os.environ}
        | {"OMP_WAIT_POLICY": "ACTIVE"}
    )
    values = re.escape(str([expected[name] for name in names]))
    told = pytest.raises(CannotMeasure, match=values)
    with ForkServer(modules=(), environment=environment) as server, Process(server, side) as one, told:
        one.ask("plan", options=OWN)


def test_the_gate_s_own_folder_is_not_where_a_side_s_modules_come_from(worker):
    with pytest.raises(CannotMeasure):
        worker().ask(
            "build", axes={"architecture": "lockstep:Turn"}, input_kind="synthetic", seed=0, allocator="system"
        )
    assert sys.modules.get("lockstep") is None
