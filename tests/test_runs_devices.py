"""Which cases stand for a device, and what is compared with what: from made runs whose numbers are known."""

import math

import pytest
from documents import benchmark, document, finding, metric

from cnnperf.records.metrics import Value
from cnnperf.runs import parse_document
from cnnperf.runs.device_records import image_bytes
from cnnperf.runs.devices import DIFFERENT_MACHINES, DIFFERENT_RUNS, NO_LATENCY, device_blocks
from cnnperf.stats.ratio import total
from cnnperf.testing import MadeDevices

TF32 = {"precision": "tf32", "layout": "channels_last"}
AMP = {"precision": "amp", "layout": "channels_last"}


def blocks(*runs):
    return device_blocks([(f"run{number}", parse_document(one)) for number, one in enumerate(runs, start=1)])


def block(*benchmarks, **facts):
    (found,) = blocks(document(*benchmarks, **facts))
    return found


def rows(*benchmarks, **facts):
    return {row.role.name if row.case.device != "cpu" else "cpu": row for row in block(*benchmarks, **facts).rows}


def cuda(latency=1e-3, **how):
    return benchmark(latency=latency, device="cuda", **how)


def with_metrics(**values):
    return {name: {"value": value, "unit": ""} for name, value in values.items()}


def test_a_network_has_three_rows_on_cuda_and_the_engines_of_the_cpu():
    found = block(*MadeDevices().document()["benchmarks"])
    assert [(row.case.device, row.role.name, row.case.precision, row.case.engine) for row in found.rows] == [
        ("cuda", "strict fp32", "fp32", "eager"),
        ("cuda", "PyTorch's default", "conv_tf32", "eager"),
        ("cuda", "practice", "amp", "cudagraphs"),
        ("cpu", "CPU", "fp32", "compile"),
        ("cpu", "CPU eager", "fp32", "eager"),
    ]


def test_a_cpu_whose_fastest_engine_is_eager_has_one_row():
    found = block(benchmark(latency=1.0), benchmark(latency=2.0, engine="compile"), cuda())
    assert [(row.case.engine, row.chosen_from) for row in found.rows if row.case.device == "cpu"] == [("eager", 2)]


def test_a_run_of_the_cpu_alone_has_no_block():
    assert blocks(document(benchmark()), MadeDevices(devices=("cpu",)).document()) == []


def test_a_sweep_over_threads_of_the_cpu_is_no_row_beside_cuda():
    found = block(benchmark(latency=1.0), benchmark(latency=0.1, threads=4), cuda())
    assert [row.case.threads for row in found.rows] == [0, 0]


def test_a_network_has_a_block_for_each_phase_and_image_size():
    cases = [cuda(phase=phase, image_size=size) for phase in ("forward", "train") for size in (32, 224)]
    assert [(one.case.phase, one.case.image_size) for one in blocks(document(*cases))] == [
        ("forward", 32),
        ("forward", 224),
        ("train", 32),
        ("train", 224),
    ]


def test_practice_is_the_fastest_case_without_a_doubt():
    doubtful, sound, slow = (
        cuda(1e-3, engine="cudagraphs", findings=[finding()], **AMP),
        cuda(2e-3, engine="compile", **TF32),
        cuda(3e-3, engine="eager", **TF32),
    )
    row = rows(doubtful, sound, slow)["practice"]
    assert (row.case.precision, row.case.engine, row.chosen_from) == ("tf32", "compile", 3)


def test_being_launch_bound_is_no_reason_to_pass_the_fastest_case_over():
    launches = [finding("launch-bound", "the device computed during 30% of the call")]
    row = rows(cuda(1e-3, findings=launches, **AMP), cuda(2e-3, **TF32))["practice"]
    assert row.case.precision == "amp"
    assert row.doubts() == ["launch-bound: the device computed during 30% of the call"]


def test_of_doubtful_cases_alone_the_fastest_stands_with_its_doubt():
    row = rows(cuda(2e-3, findings=[finding()], **TF32), cuda(1e-3, findings=[finding()], **AMP))["practice"]
    assert row.case.precision == "amp"
    assert row.doubts() == ["spread: the median's interval is ±7.3%, wanted ±2.0%"]


@pytest.mark.parametrize(
    ("on_cpu", "on_cuda", "batch"),
    [((4, 64, 512), (4, 64, 512), 64), ((2, 16), (2, 16, 512), 16), ((2,), (64, 512), 64), ((), (8, 512), 512)],
)
def test_devices_are_compared_at_64_images_or_the_largest_batch_of_both(on_cpu, on_cuda, batch):
    cases = [benchmark(batch=size) for size in on_cpu] + [cuda(batch=size) for size in on_cuda]
    assert rows(*cases)["strict fp32"].case.batch == batch


def test_a_row_that_lacks_the_common_batch_stands_at_its_largest():
    found = rows(benchmark(batch=64), cuda(batch=64), cuda(batch=256, **AMP), cuda(batch=512, **AMP))
    assert found["practice"].case.batch == 512
    assert found["practice"].against_cpu.reason.startswith("no case on the CPU with the same")


def test_the_ratio_is_that_of_two_cases_that_differ_in_the_device_alone():
    found = rows(benchmark(latency=0.1, half=0.03), cuda(0.01, half=0.04)).pop("strict fp32").against_cpu
    assert found.ratio.value.value == pytest.approx(10)
    assert found.ratio.value.high == pytest.approx(10 * math.exp(math.hypot(math.log(1.03), math.log(1 / 0.96))))
    assert found.on_cpu.case.device == "cpu"


@pytest.mark.parametrize(
    "other",
    [
        {"batch": 32},
        {"phase": "train"},
        {"image_size": 64},
        {"precision": "bf16"},
        {"layout": "channels_last"},
        {"engine": "compile"},
        {"architecture": "resnet18"},
        {"threads": 4},
    ],
    ids=str,
)
def test_no_ratio_is_made_of_cases_that_differ_in_anything_else(other):
    (found,) = [
        row for one in blocks(document(benchmark(**other), cuda())) for row in one.rows if row.case.device == "cuda"
    ]
    assert found.against_cpu.ratio is None
    assert found.against_cpu.reason == "no case on the CPU with the same precision, layout, engine and batch"


@pytest.mark.parametrize(
    ("cpu", "reason"), [("Made CPU + Made GPU", DIFFERENT_RUNS), ("Other CPU", DIFFERENT_MACHINES)]
)
def test_no_ratio_is_made_across_runs(cpu, reason):
    ours = MadeDevices(devices=("cuda",)).document()
    theirs = MadeDevices(devices=("cpu",), cpu=cpu).document()
    (found,) = blocks(ours, theirs)
    assert {row.run for row in found.rows} == {"run1", "run2"}
    ratios = [row.against_cpu for row in found.rows if row.against_cpu is not None]
    assert all(one.ratio is None and not one.with_copies for one in ratios)
    assert ratios[0].reason == reason


def test_two_gpus_of_different_models_have_rows_of_their_own_and_no_ratio_of_the_other_machine():
    runs = [
        MadeDevices(gpu=f"GPU {name}", cpu=f"CPU {name}", gain=gain).document() for name, gain in (("A", 10), ("B", 20))
    ]
    (found,) = blocks(*runs)
    ratios = [row.against_cpu.ratio.value.value for row in found.rows if row.role.name == "strict fp32"]
    assert ratios == pytest.approx([0.64 / 0.0641, 0.64 / 0.0321])


def test_each_cuda_device_of_a_run_has_rows_and_a_ratio_of_its_own():
    found = block(benchmark(latency=1.0), cuda(0.1), benchmark(latency=0.2, device="cuda:1"))
    ratios = {row.case.device: row.against_cpu.ratio.value.value for row in found.rows if row.against_cpu is not None}
    assert ratios == {"cuda": pytest.approx(10), "cuda:1": pytest.approx(5)}


def test_four_times_of_a_call_are_read_by_name():
    row = rows(*MadeDevices(devices=("cuda",), batches=(64,)).document()["benchmarks"])["practice"]
    times = {name: seconds.value for name, seconds in row.times().items()}
    assert times == pytest.approx({"wall": 1e-3, "event": 0.9e-3, "device": 0.64 / 1200, "queued": 0.9e-3})


@pytest.mark.parametrize("odd", [None, math.nan, math.inf, 0.0, -1.0], ids=str)
def test_a_time_that_is_no_time_is_left_out(odd):
    values = with_metrics(latency=1e-3, event_latency=odd, device_latency=odd, queued_throughput=odd)
    assert list(rows(cuda(metrics=values))["strict fp32"].times()) == ["wall"]


def test_times_that_contradict_one_another_are_a_doubt():
    values = {
        "latency": metric("latency", 1e-3, 0.02),
        "event_latency": metric("event_latency", 2e-3, 0.02),
        "device_latency": metric("latency", 0.5e-3, 0.02),
    }
    assert rows(cuda(metrics=values))["strict fp32"].doubts() == [
        "times out of order: event surely exceeds wall, which contains it; they were not read in one state"
    ]


def test_a_doubt_about_the_cpu_stands_at_the_ratio_too():
    assert rows(benchmark(findings=[finding()]), cuda())["strict fp32"].doubts() == [
        "the CPU's side of the ratio: spread: the median's interval is ±7.3%, wanted ±2.0%"
    ]


def test_the_best_batch_is_that_of_the_largest_throughput_in_the_same_form():
    cases = [cuda(batch=batch, latency=seconds) for batch, seconds in ((8, 1.0), (64, 4.0), (512, 40.0))]
    best = rows(*cases, cuda(1e-6, batch=512, **AMP))["strict fp32"].best
    assert (best.record.case.batch, best.batches, best.at_edge) == (64, (8, 64, 512), False)


def test_a_best_batch_that_is_the_largest_measured_is_at_the_edge():
    assert rows(*(cuda(batch=batch) for batch in (8, 64, 512)))["strict fp32"].best.at_edge


def test_images_that_are_copied_in_each_call_lower_the_ratio():
    values = with_metrics(latency=1e-3, copy_pinned=1e-3, copy_pageable=3e-3)
    found = rows(benchmark(latency=8e-3), cuda(metrics=values))["strict fp32"]
    copied = {name: one.value for name, one in found.against_cpu.with_copies.items()}
    assert found.against_cpu.ratio.value.value == pytest.approx(8)
    assert copied == pytest.approx({"copy_pinned": 4, "copy_pageable": 2})
    shares = {name: one.value for name, one in found.copy_shares().items()}
    assert shares == pytest.approx({"copy_pinned": 1, "copy_pageable": 3})


def test_lenet_at_512_images_moves_6_megabytes():
    assert image_bytes(rows(cuda(batch=512))["strict fp32"].case) == 6_291_456


def test_the_halves_of_two_intervals_add_in_quadrature():
    assert total(Value(10, 7, 22), Value(20, 16, 25)) == Value(30, 25, 43)
    assert total(Value(10, 7, 22), Value(20)) == Value(30)
    assert math.isnan(total(Value(10), Value(0.0)).value)


def test_the_crossover_of_a_sweep_stands_in_the_block():
    cases = [benchmark(batch=batch, latency=batch * 1e-3, half=0.01) for batch in (1, 2, 4, 8)]
    cases += [cuda(3e-3, batch=batch, half=0.01) for batch in (1, 2, 4, 8)]
    ((run, rivals),) = block(*cases).crossovers
    assert run == "run1"
    assert rivals.crossover.batch.value == pytest.approx(3, rel=0.02)
    assert rivals.crossover.batch.low < 3 < rivals.crossover.batch.high


def test_a_shard_has_no_crossover():
    cases = [make(batch=batch) for batch in (1, 2, 4) for make in (benchmark, cuda)]
    assert block(*cases).crossovers != ()
    assert block(*cases, shard="1/2").crossovers == ()


def test_a_row_without_a_case_says_why():
    axes = cuda(**AMP)["extra_info"]["axes"]
    missing = block(cuda(), not_measured=[{"axes": axes, "reason": "out of memory"}]).missing
    assert [(one.role.name, one.reason) for one in missing] == [
        ("PyTorch's default", ""),
        ("practice", "out of memory"),
    ]


def test_the_reason_for_many_cases_holds_for_the_row():
    reasons = [{"axes": {"device": "cuda", "precision": "conv_tf32"}, "reason": "no TF32"}]
    assert [one.reason for one in block(cuda(), not_measured=reasons).missing] == ["no TF32", ""]


@pytest.mark.parametrize("odd", [None, math.nan, math.inf, 0.0, -1.0], ids=str)
def test_a_latency_that_is_no_time_is_a_missing_row_and_no_ratio(odd):
    values = {"latency": {"value": odd, "unit": "s"}}
    found = block(cuda(), cuda(metrics=values, **AMP), benchmark(metrics=values))
    assert [(one.role.name, one.reason) for one in found.missing][1] == ("practice", NO_LATENCY)
    assert found.rows[0].against_cpu.reason == f"on the CPU {NO_LATENCY}"


def test_a_cpu_case_that_failed_is_named_where_the_ratio_would_be():
    failed = [{"axes": benchmark()["extra_info"]["axes"], "reason": "wrong result"}]
    reason = rows(cuda(), not_measured=failed)["strict fp32"].against_cpu.reason
    assert reason == "on the CPU not measured: wrong result"


def test_a_precision_that_no_row_stands_for_is_kept_apart():
    found = block(cuda(), cuda(precision="fp8"))
    assert [case.precision for case in found.others] == ["fp8"]
    assert len(found.rows) == 1


def test_networks_that_several_processes_trained_have_no_row():
    record = cuda()
    record["extra_info"]["ranks"] = {"step": [[1.0], [1.0]]}
    assert blocks(document(record)) == []
