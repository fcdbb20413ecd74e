"""The end of memory, foreseen from files of a made system and from made processes."""

import pytest
import torch

from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.memory_forecast import CODE, LUMPS, MARGIN, SMALLEST, STEEPEST, Forecast, Process, process_memory
from cnnperf.measure.sampler import Schedule
from cnnperf.measure.work import count_work
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case
from cnnperf.testing import ScriptedClock

GIB = 2**30
CASE = Case("lenet5", batch=64)


def system(root, groups="", files=None):
    """Write the files of a machine on which 8 GiB are available to a process that holds 1 GiB and held 2."""
    written = {
        "proc/self/status": f"Name:\tx\nVmHWM:\t{2 * 2**20} kB\nVmRSS:\t{2**20} kB\n",
        "proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n",
        "proc/self/cgroup": groups,
        **(files or {}),
    }
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return process_memory(root)


def test_without_limits_a_process_may_hold_what_is_available_to_the_machine(tmp_path):
    assert system(tmp_path) == Process(GIB, 2 * GIB, 9 * GIB)


def test_the_limit_of_a_control_group_counts_without_pages_that_can_be_dropped(tmp_path):
    files = {
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": f"{GIB}\n",
        "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }
    assert system(tmp_path, "0::/a/b\n", files).may_hold == GIB + 2 * GIB


def test_the_first_version_of_control_groups_counts_too(tmp_path):
    files = {
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
    }
    assert system(tmp_path, "3:cpu:/job\n4:memory:/job\n0::/\n", files).may_hold == 2 * GIB


def test_a_system_that_does_not_tell_foresees_nothing(tmp_path):
    assert process_memory(tmp_path) is None
    forecast = Forecast(lambda: None)
    forecast.learn(CASE, 1e6)
    assert forecast.refusal(CASE) == ""
    assert forecast.blind


class Made:
    """A process whose memory the test sets; `room` is what it may hold beside the 100 MiB that it starts with."""

    START = 100 * 2**20

    def __init__(self, room):
        self.held, self.may_hold = self.START, self.START + room

    def __call__(self):
        return Process(self.held, self.held, self.may_hold)


def live_at(batch):
    return count_work(Case("lenet5", batch=batch)).live


def test_the_first_case_is_refused_where_the_worst_that_was_seen_would_not_fit():
    enough = (CODE + SMALLEST * live_at(1) + STEEPEST * (live_at(64) - live_at(1))) / (1 - MARGIN)
    assert Forecast(Made(enough * 1.001)).refusal(CASE) == ""
    assert "it would run out of memory" in Forecast(Made(enough * 0.999)).refusal(CASE)


def test_the_next_case_is_foreseen_from_what_the_last_one_made_the_process_hold():
    need = LUMPS * 2 * 500e6
    for room, refused in ((need * 1.001, False), (need * 0.999, True)):
        process = Made(room / (1 - MARGIN))
        forecast = Forecast(process)
        process.held += 500e6
        forecast.learn(Case("lenet5", batch=2048), live_at(2048))
        assert bool(forecast.refusal(Case("lenet5", batch=4096))) is refused


def test_what_a_small_case_took_is_not_thought_to_grow_with_the_batch():
    process = Made(GIB)
    forecast = Forecast(process)
    process.held += 300 * 2**20  # code that was loaded
    forecast.learn(Case("lenet5", batch=1), live_at(1))
    assert forecast.refusal(Case("lenet5", batch=256)) == ""
    assert forecast.refusal(Case("lenet5", batch=2048))


def test_cases_side_by_side_need_at_most_the_sum_of_what_each_needs():
    enough = (CODE + 2 * (SMALLEST * live_at(1) + STEEPEST * (live_at(64) - live_at(1)))) / (1 - MARGIN)
    assert Forecast(Made(enough * 1.001)).refusal(CASE, 2) == ""
    assert Forecast(Made(enough * 0.999)).refusal(CASE, 2)
    assert Forecast(Made(enough * 0.999)).refusal(CASE) == ""


@pytest.mark.parametrize(("members", "asked", "factor"), [(1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 1, 1)])
def test_what_a_block_took_is_needed_by_each_of_its_cases_and_by_as_many(members, asked, factor):
    need = LUMPS * 2 * factor * 500e6
    for room, refused in ((need * 1.001, False), (need * 0.999, True)):
        process = Made(room / (1 - MARGIN))
        forecast = Forecast(process)
        process.held += 500e6
        forecast.learn(Case("lenet5", batch=2048), live_at(2048), members)
        assert bool(forecast.refusal(Case("lenet5", batch=4096), asked)) is refused


def test_a_refusal_names_need_and_room():
    reason = Forecast(Made(GIB)).refusal(Case("resnet18", "train", batch=4096))
    assert "about 581 GiB" in reason
    assert "only 922 MiB may be used; 10% of the memory is kept free" in reason


def test_a_case_within_what_the_process_has_held_before_is_never_refused():
    process = Made(20 * 2**20)
    forecast = Forecast(process)
    assert forecast.refusal(CASE)
    process.held += 10**9
    assert forecast.refusal(CASE) == ""


def test_a_call_fits_by_its_counted_bytes():
    live = count_work(CASE).live
    forecast = Forecast(Made(3.01 * live / (1 - MARGIN)))
    forecast.learn(CASE, 3 * live)
    assert forecast.fits(CASE)
    assert not forecast.fits(Case("lenet5", batch=128))


def exhausted(most):
    """Return a laboratory whose workloads run out of a GPU's memory above a batch."""

    def make(case):
        workload = Workload(case)
        if case.batch > most:
            workload.run = out_of_memory
        return workload

    def out_of_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    return Laboratory(Schedule(budget=0.0), make_clock=lambda _: ScriptedClock(0.01), make_workload=make)


def test_a_batch_fits_until_the_allocator_has_no_more():
    laboratory = exhausted(most=4)
    assert laboratory.fits(Case("lenet5", "train", batch=4))
    assert not laboratory.fits(Case("lenet5", "train", batch=5))
    assert laboratory.fits(Case("lenet5", "train", batch=3))


def test_after_an_attempt_the_caches_of_the_gpu_are_handed_back(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    laboratory = exhausted(most=0)
    monkeypatch.setattr(
        laboratory,
        "_run_two_rounds",
        lambda case: Laboratory._run_two_rounds(laboratory, Case("lenet5", batch=case.batch)),
    )
    assert not laboratory.fits(Case("lenet5", device="cuda"))
    assert emptied == [True]
