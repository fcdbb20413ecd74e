"""The doctor on made machines: each ailment is seen where it is, and a healthy machine has none."""

import pytest

from cnnperf.measure import nvidia
from cnnperf.measure.doctor import CHECKS, Machine, examine
from cnnperf.measure.nvidia import ask
from cnnperf.report.listing import doctor_lines

CPU = "sys/devices/system/cpu"
HEALTHY = {
    "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n",
    "proc/cpuinfo": "flags\t\t: fpu avx2\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/intel_pstate/no_turbo": "1\n",
    f"{CPU}/smt/active": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
}


def machine(root, files=HEALTHY, environment=None, load=0.1, gpus=None):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Machine(
        root, {"OMP_WAIT_POLICY": "PASSIVE"} if environment is None else environment, 2, load, (gpus or {}).get
    )


def test_a_healthy_machine_has_nothing(tmp_path):
    assert examine(machine(tmp_path)) == []
    assert doctor_lines([], len(CHECKS)) == ["Nothing that disturbs measurements was found in 12 checks."]


@pytest.mark.parametrize(
    ("name", "text", "kind", "remedy"),
    [
        ("proc/meminfo", "MemAvailable: 1000 kB\n", "memory", "ps -eo rss"),
        ("proc/cpuinfo", "flags : fpu hypervisor\n", "virtual machine", "cnnperf gate"),
        (f"{CPU}/cpu0/cpufreq/scaling_governor", "powersave\n", "governor", "cpupower frequency-set -g performance"),
        (f"{CPU}/intel_pstate/no_turbo", "0\n", "boost", f"echo 1 | sudo tee /{CPU}/intel_pstate/no_turbo"),
        (f"{CPU}/cpufreq/boost", "1\n", "boost", f"echo 0 | sudo tee /{CPU}/cpufreq/boost"),
        (f"{CPU}/smt/active", "1\n", "hyperthreads", f"/{CPU}/smt/control"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n", "huge pages", "echo madvise"),
    ],
)
def test_an_ailment_is_told_with_the_command_that_mends_it(tmp_path, name, text, kind, remedy):
    (found,) = examine(machine(tmp_path, HEALTHY | {name: text}))
    assert found.kind == kind
    assert remedy in found.remedy


def test_load_and_spinning_threads_are_seen(tmp_path):
    assert [one.kind for one in examine(machine(tmp_path, environment={}, load=1.5))] == ["load", "spinning threads"]


def test_a_machine_that_tells_nothing_has_nothing(tmp_path):
    assert examine(machine(tmp_path, files={}, load=None)) == []


def test_every_line_of_the_report_fits_the_terminal(tmp_path):
    ill = {"proc/meminfo": "MemAvailable: 1 kB", "proc/cpuinfo": "flags : hypervisor", f"{CPU}/smt/active": "1"}
    lines = doctor_lines(examine(machine(tmp_path, ill, environment={}, load=9.0)), len(CHECKS))
    assert lines[0].startswith("5 of 12 checks found something")
    assert max(map(len, lines)) <= 100


HEALTHY_GPU = {
    "--query-gpu=index,persistence_mode": [["0", "Enabled"]],
    "--query-gpu=index,clocks_throttle_reasons.active": [["0", "0x0000000000000001"]],
    "--query-compute-apps=pid,process_name": [],
}


def test_a_healthy_gpu_has_nothing(tmp_path):
    assert examine(machine(tmp_path, gpus=HEALTHY_GPU)) == []


@pytest.mark.parametrize(
    ("query", "answer", "kind", "seen"),
    [
        ("--query-gpu=index,persistence_mode", [["0", "Enabled"], ["1", "Disabled"]], "GPU persistence", "on GPU 1"),
        ("--query-gpu=index,clocks_throttle_reasons.active", [["0", "0x0000000000000004"]], "GPU clocks", "GPU 0 are"),
        ("--query-compute-apps=pid,process_name", [["77", "/usr/bin/train"]], "GPU processes", "train (77)"),
    ],
)
def test_an_ailment_of_a_gpu_is_told(tmp_path, query, answer, kind, seen):
    (found,) = examine(machine(tmp_path, gpus=HEALTHY_GPU | {query: answer}))
    assert found.kind == kind
    assert seen in found.seen


def test_a_gpu_program_that_fails_hangs_or_is_missing_tells_nothing(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask("--query-gpu=index") is None
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    assert ask("--query-gpu=index") is None
    program.write_text("#!/bin/sh\necho '0, Enabled'\n")
    assert ask("--query-gpu=index,persistence_mode") == [["0", "Enabled"]]
    monkeypatch.setattr(nvidia, "TIMEOUT", 0)
    program.write_text("#!/bin/sh\nwhile :; do :; done\n")
    assert ask("--query-gpu=index") is None
