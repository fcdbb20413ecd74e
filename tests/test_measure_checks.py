"""The table of findings: each fires on its evidence and says what was seen, what it means, what to do."""

from dataclasses import replace

import msgspec
import pytest

from cnnperf.measure.checks import CHECKS, Evidence, findings_of, machine_findings
from cnnperf.measure.clock import Reading
from cnnperf.measure.compilation import CompileFacts
from cnnperf.measure.device import DeviceFacts
from cnnperf.measure.memory import Memory
from cnnperf.measure.sampler import Samples, Schedule
from cnnperf.records.metrics import Value

MEMORY = Memory(100, 100, 0, 0, 0, 0)


def samples_of(medians, steady=True, cpu=1.0):
    groups = [[Reading(median, median * cpu)] * 3 for median in medians]
    return Samples(groups=groups, steady=steady, warmup_rounds=6)


def evidence(medians=(1.0,) * 8, **changes):
    steady, cpu = changes.pop("steady", True), changes.pop("cpu", 1.0)
    start = {
        "samples": samples_of(medians, steady, cpu),
        "schedule": Schedule(),
        "on_cuda": False,
        "memory": MEMORY,
    }
    return Evidence(**(start | changes))


def on_device(busy=0.95, **facts):
    return evidence(on_cuda=True, device=DeviceFacts({"device_busy": Value(busy)}, **facts))


BROKEN = CompileFacts(1.0, True, 2, 1, ("a reason",), 3)
FIRING = {
    "spread": evidence([0.8, 1.2, 0.7, 1.3, 1.0, 0.9, 1.1, 0.8]),
    "drift": evidence([1.0 + 0.01 * n for n in range(10)]),
    "warm-up": evidence(steady=False),
    "small sample": evidence([1.0, 1.0, 1.0]),
    "waiting": evidence(cpu=0.3),
    "stall": evidence([1.0] * 11 + [20.0]),
    "leak": evidence(memory=Memory(1, 1, 0, 0, 0, 0, leaked=8)),
    "launch-bound": on_device(busy=0.4),
    "graph break": evidence(compiled=BROKEN),
    "no CUDA graph": evidence(compiled=replace(BROKEN, graphs_skipped=1)),
    "unseen memory": evidence(memory=None),
    "recompiled": evidence(recompiles=1),
    "not compared": evidence(notes={"not compared": "the network draws random numbers"}),
    "work": evidence(notes={"work": "its work cannot be counted"}),
    "memory": evidence(memory=None, notes={"memory": "memory could not be measured"}),
    "placement": evidence(notes={"placement": "its tensors cannot be moved"}),
    "input changed": evidence(notes={"input changed": "the network writes to its input"}),
    "loss": evidence(notes={"loss": "the loss is the mean square"}),
    "device time": on_device(queued=False),
    "host-bound queue": on_device(queue_full=False),
    "above the ceiling": evidence(ceiling_fraction=Value(1.2, 1.1, 1.3)),
    "power cap": on_device(slowdowns=("power cap",)),
    "throttled": on_device(slowdowns=("hardware thermal slowdown",)),
}


def test_every_check_of_the_table_is_tried_here():
    assert {check.kind for check in CHECKS} == set(FIRING)


@pytest.mark.parametrize("kind", FIRING)
def test_a_check_fires_on_its_evidence(kind):
    found = {finding.kind: finding for finding in findings_of(FIRING[kind])}
    assert kind in found
    *texts, severity = msgspec.structs.astuple(found[kind])
    assert all(texts)
    assert severity is not None


def test_nothing_fires_on_clean_evidence():
    assert findings_of(evidence()) == []


def spread_of(half_width, **changes):
    """Return the finding about a latency of 1 s with such an interval, or None."""
    wide = evidence([1 - half_width] * 4 + [1.0] * 4 + [1 + half_width] * 4, **changes)
    return next((finding for finding in findings_of(wide) if finding.kind == "spread"), None)


def test_the_seconds_of_a_case_whose_ratios_end_the_sampling_may_be_less_precise():
    assert spread_of(0.08) is not None
    assert spread_of(0.08, ends_by_ratios=True) is None


def test_seconds_that_may_be_a_fifth_apart_are_a_finding_that_speaks_of_the_ratios():
    finding = spread_of(0.12, ends_by_ratios=True)
    assert finding.seen == "the seconds are known to ±12.0% only; its ratios have intervals of their own"
    assert finding.severity == pytest.approx(0.12)


def test_a_precision_that_was_not_asked_for_is_no_finding_in_a_block():
    assert spread_of(0.12, ends_by_ratios=True, schedule=Schedule(interval=0.05)) is None


def test_a_single_slow_group_at_the_end_is_no_drift():
    kinds = [finding.kind for finding in findings_of(evidence([1.0] * 11 + [1.2]))]
    assert "drift" not in kinds


def test_a_busy_device_is_not_launch_bound():
    assert findings_of(on_device()) == []


def test_a_loaded_machine_is_told_once_for_the_run():
    findings = machine_findings({"cpu_count": 2, "load_average": 3.5}, 1.0)
    assert [finding.kind for finding in findings] == ["loaded machine"]
    assert "3.5 on 2 CPUs" in findings[0].seen


def test_an_idle_machine_has_no_findings():
    assert machine_findings({"cpu_count": 2, "load_average": 0.2, "cpu_allocator": "retain"}, 0.9) == []


def test_other_processes_on_the_gpu_and_a_missing_memory_control_are_told():
    record = {"gpu_other_processes": 2, "cpu_allocator": "unavailable"}
    assert [finding.kind for finding in machine_findings(record, None)] == ["shared device", "allocator"]


@pytest.mark.parametrize(
    ("kind", "mild", "worse"),
    [
        ("waiting", evidence(cpu=0.4), evidence(cpu=0.1)),
        ("stall", evidence([1.0] * 11 + [20.0]), evidence([1.0] * 11 + [200.0])),
        ("small sample", evidence([1.0] * 4), evidence([1.0] * 2)),
        ("launch-bound", on_device(busy=0.6), on_device(busy=0.1)),
    ],
)
def test_of_two_findings_of_a_kind_the_worse_has_the_larger_severity(kind, mild, worse):
    first, second = ({one.kind: one.severity for one in findings_of(found)}[kind] for found in (mild, worse))
    assert first < second
