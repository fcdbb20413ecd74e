"""CPU quotas of control groups: read in both versions, named by the doctor, and kept with each run."""

import sys

import pytest

from cnnperf.measure.checks import machine_findings
from cnnperf.measure.control_groups import cpu_quota, throttled_periods
from cnnperf.measure.doctor import Machine, examine
from cnnperf.measure.environment import read_environment


def system(root, **files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2 = {"proc/self/cgroup": "0::/pod/box", "sys/fs/cgroup/pod/box/cpu.max": "max 100000"}
V1 = {
    "proc/self/cgroup": "4:memory:/docker/box\n3:cpu,cpuacct:/docker/box\n0::/",
    "sys/fs/cgroup/cpu,cpuacct/docker/box/cpu.cfs_quota_us": "150000",
    "sys/fs/cgroup/cpu,cpuacct/docker/box/cpu.cfs_period_us": "100000",
}


def test_the_tightest_quota_of_all_groups_counts(tmp_path):
    system(tmp_path, **V2, **{"sys/fs/cgroup/pod/cpu.max": "200000 100000", "sys/fs/cgroup/cpu.max": "400000 100000"})
    assert cpu_quota(tmp_path) == 2


def test_the_first_version_of_control_groups_has_quotas_too(tmp_path):
    assert cpu_quota(system(tmp_path, **V1)) == 1.5


def test_the_first_version_is_found_below_the_name_of_each_controller(tmp_path):
    moved = {name.replace("cpu,cpuacct/", "cpu/"): text for name, text in V1.items()}
    assert cpu_quota(system(tmp_path, **moved)) == 1.5


@pytest.mark.parametrize(
    "files",
    [
        {},
        V2,
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": ""},
        {**V1, "sys/fs/cgroup/cpu,cpuacct/docker/box/cpu.cfs_quota_us": "-1"},
        {"proc/self/cgroup": "4:memory:/docker/box", "sys/fs/cgroup/memory/docker/box/cpu.max": "1 1"},
    ],
)
def test_without_a_limit_there_is_no_quota(tmp_path, files):
    assert cpu_quota(system(tmp_path, **files)) is None


def test_a_container_whose_groups_begin_at_its_own_root_has_the_quota_of_that_root(tmp_path):
    system(tmp_path, **{"proc/self/cgroup": "0::/docker/0123", "sys/fs/cgroup/cpu.max": "50000 100000"})
    assert cpu_quota(tmp_path) == 0.5


def test_throttled_periods_are_counted(tmp_path):
    stat = "nr_periods 4567\nnr_throttled 3115\nthrottled_usec 5"
    system(tmp_path, **V2, **{"sys/fs/cgroup/pod/box/cpu.stat": stat})
    assert throttled_periods(tmp_path) == 3115
    assert throttled_periods(tmp_path / "elsewhere") is None


def doctor(root, cpus, **environment):
    machine = Machine(root, {"OMP_WAIT_POLICY": "PASSIVE", **environment}, cpus, 0.0, lambda _: None)
    return {finding.kind: finding for finding in examine(machine)}


def test_the_doctor_names_a_quota_below_the_number_of_threads_and_the_remedy(tmp_path):
    stat = {"sys/fs/cgroup/cpu.stat": "nr_throttled 3115"}
    system(tmp_path, **{"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, **stat)
    finding = doctor(tmp_path, 64)["CPU quota"]
    assert finding.seen == (
        "the control group allows the time of 2.5 CPUs, but PyTorch starts 64 threads; it has stopped this process's "
        "group in 3115 periods so far"
    )
    assert "OMP_NUM_THREADS=2" in finding.remedy
    assert "CPU quota" not in doctor(tmp_path, 64, OMP_NUM_THREADS="2")
    assert "CPU quota" not in doctor(tmp_path, 2)


def test_a_run_that_was_throttled_says_so():
    before = {"cpu_quota": 2.0, "threads": 64}
    (finding,) = machine_findings(before, None, 7)
    assert (finding.kind, finding.seen) == (
        "CPU quota",
        "the kernel stopped the process in 7 periods: 64 threads share the time of 2 CPUs",
    )
    assert machine_findings(before, None, 0) == []
    assert machine_findings(before, None) == []


def test_a_run_records_its_quota():
    assert "cpu_quota" in read_environment(cpu_allocator="retain", input_kind="synthetic")


def test_a_tracer_is_recorded_and_said(monkeypatch):
    from cnnperf.measure.environment import tracer

    def trace(*_):
        return None

    monkeypatch.setattr(sys, "gettrace", lambda: trace)
    assert tracer() == __name__
    (finding,) = machine_findings({"tracer": "coverage"}, None)
    assert finding.seen == "coverage traces the Python code of the process"
