"""The script for machines with a CUDA device, on a Python that notes what it is asked and does as it is told."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent.parent / "scripts"
PATIENCE = 120  # seconds; a hang is a failure
FAKE = """\
#!{python}
import os, signal, sys
folder = {folder!r}
words = sys.argv[1:]
if words[:1] == ["-c"]:
    sys.exit({no_device})
if words[:1] and words[0].endswith("cuda.py"):
    os.execv({python!r}, [{python!r}, {starter!r}, *words[1:]])
with open(folder + "/calls", "a") as calls:
    calls.write(" ".join(words) + "\\n")
print("the output of", *words[:3], flush=True)
told = open(folder + "/told").read().split()
for kind, word in zip(told[::2], told[1::2]):
    if any(word in one for one in words):
        if kind == "fail":
            sys.exit(1)
        if kind == "write":
            open(folder + "/out/runs/large.json", "wb").write(os.urandom(17 << 20))
        if kind == "hang":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.mkfifo(folder + "/never") if not os.path.exists(folder + "/never") else None
            open(folder + "/never").read()
"""
STARTER = """\
import sys
sys.path.insert(0, {scripts!r})
import cuda
cuda.GRACE = 0.05
cuda.sys.executable = {fake!r}
sys.exit(cuda.main(sys.argv[1:]))
"""


class Machine:
    """A machine whose Python is a fake."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        self.tell()
        self.make()

    def make(self, no_device=0):
        fake, starter = self.folder / "python", self.folder / "start.py"
        starter.write_text(STARTER.format(scripts=str(SCRIPTS), fake=str(fake)))
        names = {"python": sys.executable, "folder": str(self.folder), "starter": str(starter), "no_device": no_device}
        fake.write_text(FAKE.format(**names))
        fake.chmod(0o755)

    def tell(self, *what):
        (self.folder / "told").write_text(" ".join(what))

    def start(self, *arguments):
        return subprocess.Popen(
            [SCRIPTS / "cuda.sh", "--out", self.out, *arguments],
            env={**os.environ, "PYTHON": str(self.folder / "python")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def statuses(self):
        return {one["name"]: one["status"] for one in json.loads((self.out / "steps.json").read_text())}

    def archived(self):
        with tarfile.open(self.out / "cuda.tar.gz") as archive:
            return set(archive.getnames())


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def steps():
    return load("cuda_steps").STEPS


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass asks for it
    spec.loader.exec_module(module)
    return module


def test_all_steps_run_in_the_order_of_the_table_and_are_not_run_again(machine, steps):
    status, output = machine.run("--budget=1e6")
    assert status == 0
    assert machine.statuses() == {step.name: "done" for step in steps}
    assert len(machine.calls()) == sum(len(step.commands) for step in steps)
    assert output.splitlines()[-1].startswith(f"{steps[-1].name} ")
    assert {"steps.json", "logs/probe.log", "probe.done"} <= machine.archived()
    calls = machine.calls()
    assert machine.run("--budget=1e6")[0] == 0
    assert set(machine.statuses().values()) == {"skipped"}
    assert machine.calls() == calls


def test_what_is_asked_of_pytest_and_cnnperf_is_complete(machine):
    machine.run("--budget=1e6")
    calls = machine.calls()
    assert not [call for call in calls if "{" in call]
    (tests,) = [call for call in calls if "-m gpu" in call]
    assert "tests/test_fusion_gpu_device.py" in tests
    assert "tests/test_report_page.py" not in tests
    assert {"--cnnperf-shard=1/2", "--cnnperf-shard=2/2"} == {
        word for call in calls for word in call.split() if "shard=" in word
    }


def test_a_step_whose_estimate_exceeds_what_is_left_is_not_begun_but_a_shorter_one_is(machine):
    status, output = machine.run("--budget=100", "probe", "tests", "suite-resnet")
    assert status == 0
    assert machine.statuses() == {"probe": "done", "tests": "left out", "suite-resnet": "done"}
    assert "tests: left out, it needs about 150 s and" in output


def test_a_step_that_fails_is_told_and_the_next_one_runs(machine):
    machine.tell("fail", "--cnnperf-shard=1/2")
    status, output = machine.run("--budget=1e6", "suite-resnet-1", "suite-resnet-2")
    assert status == 1
    assert machine.statuses() == {"suite-resnet-1": "failed", "suite-resnet-2": "done"}
    assert not (machine.out / "suite-resnet-1.done").exists()
    assert "the output of -m pytest" in (machine.out / "logs" / "suite-resnet-1.log").read_text()
    assert "the output of -m pytest" in output


def test_of_several_commands_of_a_step_the_first_that_fails_ends_it(machine):
    machine.tell("fail", "resnet18")
    machine.run("--budget=1e6", "sweep")
    assert machine.statuses() == {"sweep": "failed"}
    assert len(machine.calls()) == 1


def test_a_step_that_hangs_is_ended_and_the_next_one_runs(machine):
    machine.tell("hang", "cuda_probe")
    status, _ = machine.run("--budget=1e6", "--scale=0.01", "probe", "suite-resnet")
    assert status == 1
    assert machine.statuses() == {"probe": "timed out", "suite-resnet": "done"}


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_the_step_and_leaves_report_and_archive_whole(machine, signal_):
    machine.tell("hang", "-n")
    process = machine.start("--budget=1e6", "probe", "tests", "suite-resnet")
    for line in process.stdout:
        if "the output of -m pytest" in line:
            break
    process.send_signal(signal_)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert machine.statuses() == {"probe": "done", "tests": "interrupted"}
    assert "logs/tests.log" in machine.archived()


def test_an_archive_that_came_back_is_gone_on_from(machine, tmp_path):
    machine.run("--budget=1e6", "probe")
    (machine.out / "cuda.tar.gz").rename(tmp_path / "kept.tar.gz")
    for path in machine.out.rglob("*.done"):
        path.unlink()
    machine.run("--budget=1e6", f"--resume={tmp_path / 'kept.tar.gz'}", "probe")
    assert machine.statuses() == {"probe": "skipped"}


def test_what_makes_the_archive_too_large_is_left_out_by_name(machine):
    machine.tell("write", "merge")
    status, output = machine.run("--budget=1e6", "suite-resnet")
    assert status == 0
    assert "runs/large.json (17 MiB) is left out, it is too large" in output
    assert "runs/large.json" not in machine.archived()
    assert "logs/suite-resnet.log" in machine.archived()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["warp"], "unknown step 'warp'; the steps are probe, tests"),
        (["--budget=soon"], "invalid float value: 'soon'"),
        (["--budget=0"], "--budget takes a number above 0, not 0"),
        (["--scale=nan"], "--scale takes a number above 0, not nan"),
        (["--resume=nothing.tar.gz"], "--resume nothing.tar.gz is no archive of this script"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_before_anything_runs(machine, arguments, told):
    status, output = machine.run(*arguments)
    assert status == 2
    assert told in output
    assert machine.calls() == []


def test_a_file_for_a_folder_is_refused(machine):
    machine.out.write_text("")
    status, output = machine.run()
    assert status == 2
    assert "is a file; name a folder" in output


def test_without_a_device_nothing_is_begun(machine):
    machine.make(no_device=1)
    status, output = machine.run()
    assert status == 3
    assert "has no torch that sees a CUDA device; set PYTHON to one that has" in output
    assert not machine.out.exists()


def test_each_question_of_the_probe_is_asked_whatever_becomes_of_the_others(capsys):
    probe = load("cuda_probe")

    def broken():
        raise RuntimeError("no such thing")

    def sound():
        return {"answer": 1}

    answers = probe.ask_all((broken, sound))
    assert answers["sound"] == {"answer": 1}
    assert answers["broken"]["error"] == "RuntimeError: no such thing"
    assert "broken" in capsys.readouterr().out


def test_the_probe_writes_what_it_found_and_says_by_its_status_whether_all_worked(tmp_path):
    probe = load("cuda_probe")
    probe.QUESTIONS = (probe.versions,)
    assert probe.main([str(tmp_path / "probe.json")]) == 0
    assert json.loads((tmp_path / "probe.json").read_text())["versions"]["torch"]
    probe.QUESTIONS = (probe.kernels,)  # there is no device here
    if not importlib.import_module("torch").cuda.is_available():
        assert probe.main([str(tmp_path / "probe.json")]) == 1
    assert probe.main([]) == 2


def test_the_profiler_comes_last_in_the_probe():
    probe = load("cuda_probe")
    assert probe.QUESTIONS[-1] is probe.device_time
