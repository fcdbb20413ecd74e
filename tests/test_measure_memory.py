"""The split of the peak, on scripted allocations and on real rounds."""

import pytest
import torch

from cnnperf.measure.memory import measure_memory
from cnnperf.measure.memory_split import Allocation, split_peak
from cnnperf.measure.work import count_work
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case


def workload_of(phase, engine="eager", architecture="lenet5"):
    workload = Workload(Case(architecture, phase, engine=engine, batch=2))
    workload.run_once()
    return workload


def test_the_peak_is_the_most_that_was_held_at_once():
    events = [Allocation(1, 100), Allocation(2, 50), Allocation(1, -100), Allocation(3, 60)]
    assert split_peak(events, [])["peak"] == 150


def test_a_block_from_before_the_round_is_not_subtracted():
    assert split_peak([Allocation(9, -500), Allocation(1, 100)], [])["peak"] == 100


def test_the_untimed_setup_holds_bytes_but_sets_no_peak():
    setup = [Allocation(1, 1000, counted=False), Allocation(1, -900, counted=False)]
    assert split_peak([*setup, Allocation(2, 10)], [])["peak"] == 10


def test_blocks_are_split_by_where_they_came_from_and_what_they_became():
    events = [Allocation(1, 100), Allocation(2, 30, "backward"), Allocation(3, 7, "backward")]
    split = split_peak(events, gradients=[2])
    assert (split["activations"], split["gradients"], split["other"]) == (100, 30, 7)


def test_only_the_last_block_at_a_reused_address_is_the_gradient():
    events = [Allocation(2, 500, "backward"), Allocation(2, -500, "backward"), Allocation(2, 30, "backward")]
    split = split_peak(events, gradients=[2])
    assert (split["gradients"], split["other"]) == (0, 500)


def test_what_a_round_never_frees_is_a_leak():
    assert split_peak([Allocation(1, 64), Allocation(2, 8), Allocation(2, -8)], [])["leaked"] == 64


@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_the_parts_add_up_to_the_peak(phase):
    memory = measure_memory(workload_of(phase))
    parts = (memory.parameters, memory.gradients, memory.optimizer, memory.activations, memory.other)
    assert sum(parts) == memory.peak
    assert memory.leaked == 0


@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_a_scaled_loss_is_no_leak(phase):
    workload = Workload(Case("lenet5", phase, precision="amp_fp16", batch=2))
    workload.run_once()
    assert measure_memory(workload).leaked == 0


def test_parameters_and_momentum_have_the_size_of_the_network():
    memory = measure_memory(workload_of("train"))
    assert memory.parameters == memory.optimizer == 62_006 * 4


@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_the_allocator_sees_at_least_what_tensors_show(phase):
    workload = workload_of(phase)
    assert measure_memory(workload).peak >= count_work(workload.case).live


def test_two_measurements_agree_to_the_last_byte():
    assert measure_memory(workload_of("train")) == measure_memory(workload_of("train"))


def test_a_tensor_kept_alive_is_seen_to_the_byte():
    workload = workload_of("forward")
    kept, run = [], workload.run

    def run_and_keep():
        run()
        kept.append(torch.empty(1000))

    workload.run = run_and_keep
    assert measure_memory(workload).leaked == 4000


def test_a_garbage_cycle_is_not_taken_for_a_leak():
    workload = workload_of("forward")
    run = workload.run
    spoiled = []

    def run_with_a_cycle():
        run()
        if not spoiled:
            spoiled.append(True)
            cycle = [torch.empty(1000)]
            cycle.append(cycle)

    workload.run = run_with_a_cycle
    assert measure_memory(workload).leaked == 0


def test_storage_that_two_tensors_share_counts_once():
    from cnnperf.measure.memory import tensor_bytes

    tensor = torch.empty(10)
    assert tensor_bytes([tensor, tensor[2:], tensor.view(2, 5)]) == 40
