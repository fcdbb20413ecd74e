"""Precisions: flags that are set and set back, autocast, the scaled loss; and what CUDA graphs ask of a workload."""

import math

import pytest
import torch

from cnnperf.errors import UnsupportedCase
from cnnperf.measure import precisions
from cnnperf.measure.ceilings import ceiling_seconds
from cnnperf.measure.correctness import References, results_of
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.precisions import PRECISIONS, allowed_tf32, cudnn_benchmark
from cnnperf.measure.sampler import Schedule
from cnnperf.measure.support import check_supported
from cnnperf.measure.work import Work, count_work
from cnnperf.measure.workload import ISOLATION, Workload
from cnnperf.records import case as axes
from cnnperf.records.case import Case
from cnnperf.runs import verdicts

QUICK = Schedule(budget=0.0, warmup=0.0)


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_the_axis_and_the_table_are_one_list_and_every_precision_has_its_tolerances():
    assert tuple(PRECISIONS) == axes.PRECISIONS
    assert set(verdicts.TOLERANCE) == set(PRECISIONS)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("fp32", (False, False)), ("conv_tf32", (False, True)), ("tf32", (True, True)), ("amp", (False, False))],
)
def test_tf32_is_allowed_as_the_precision_says_and_set_back(precision, expected):
    before = flags()
    with allowed_tf32(precision):
        assert flags() == expected
    assert flags() == before


def test_conv_tf32_is_what_pytorch_does_by_itself():
    row = PRECISIONS["conv_tf32"]
    assert flags() == (row.matmul_tf32, row.conv_tf32)


def test_every_call_of_a_case_runs_with_its_flags():
    """The first round, the check against float64, the count of memory and the timed rounds."""
    seen = set()

    class Watched(Workload):
        def _call(self):
            seen.add((*flags(), torch.backends.cudnn.benchmark))
            return super()._call()

    laboratory = Laboratory(QUICK, cudnn_benchmark=True, make_workload=Watched)
    laboratory.measure(Case("lenet5", "train", batch=2))
    assert seen == {(False, False, True)}
    assert flags() == (False, True)
    assert not torch.backends.cudnn.benchmark


def test_cudnn_s_choice_is_set_back():
    with cudnn_benchmark(enabled=True):
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_under_amp_parameters_and_gradients_are_fp32_and_convolutions_are_not(phase):
    workload = Workload(Case("lenet5", phase, precision="amp", batch=4))
    convolution = next(module for module in workload.model.modules() if isinstance(module, torch.nn.Conv2d))
    dtypes = set()
    convolution.register_forward_hook(lambda *given: dtypes.add(given[-1].dtype))
    workload.run_once()
    assert dtypes == {torch.bfloat16}
    assert workload.images.dtype is torch.float32
    assert {parameter.dtype for parameter in workload.model.parameters()} == {torch.float32}
    assert {gradient.dtype for gradient in workload.gradients().values()} <= {torch.float32}
    assert References(Workload).verify(workload).relative_error < 0.1


@pytest.mark.parametrize("phase", ["backward", "train"])
def test_gradients_of_a_scaled_loss_are_given_as_those_of_the_loss(phase):
    scaled, plain = (Workload(Case("lenet5", phase, precision=name, batch=4)) for name in ("amp_fp16", "fp32"))
    for workload in (scaled, plain):
        workload.run_once()
    for name, gradient in results_of(plain).items():
        other = results_of(scaled)[name].float()
        assert float((other - gradient).norm()) <= 0.05 * float(gradient.norm()) + 1e-6, name


def test_each_training_step_under_a_scaled_loss_is_taken_and_the_scale_begins_anew():
    workload = Workload(Case("lenet5", "train", precision="amp_fp16", batch=4))
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    workload.run_once()
    assert any(not torch.equal(*pair) for pair in zip(before, workload.model.parameters(), strict=True))
    workload.scaler.update(3.0)
    workload.restore()
    workload.run_once()
    assert workload.scaler.get_scale() == precisions.LOSS_SCALE


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["forward", "train"])
def test_the_fused_network_is_right_under_amp(phase):
    measured = Laboratory(QUICK).measure(Case("se_resnet18_fused", phase, precision="amp", batch=2, width=16))
    assert math.isfinite(measured.values["relative_error"].value)
    assert "live_tensor_memory" not in measured.values  # the copies of weights are not followed


def test_work_and_ceilings_are_those_of_what_is_multiplied():
    amp, bf16 = (count_work(Case("resnet18", precision=name)) for name in ("amp", "bf16"))
    assert (amp.flop, amp.traffic) == (bf16.flop, bf16.traffic)
    assert amp.live == count_work(Case("resnet18")).live  # a forecast of memory must not be too low
    ceilings = {"copy_bandwidth": 1e9, "matmul_rate_fp32": 1.0, "matmul_rate_tf32": 10.0, "matmul_rate_bf16": 100.0}
    work = Work(parameters=0, flop=1000, traffic=0, live=0)
    seconds = {name: ceiling_seconds(work, ceilings, name) for name in ("fp32", "conv_tf32", "tf32", "amp")}
    assert seconds == {"fp32": 1000.0, "conv_tf32": 100.0, "tf32": 100.0, "amp": 10.0}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"precision": "tf32"}, "tf32: TF32 is a mode of CUDA's matrix units"),
        ({"precision": "conv_tf32"}, "conv_tf32: TF32 is a mode"),
        ({"engine": "cudagraphs"}, "CUDA graphs need a CUDA device; on the CPU the engine is compile"),
    ],
)
def test_what_a_cpu_lacks_is_said_in_one_sentence(changes, reason):
    with pytest.raises(UnsupportedCase, match=reason):
        check_supported(Case("lenet5", **changes))


def test_with_cuda_graphs_nothing_moves_and_each_call_begins_a_step(monkeypatch):
    begun = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    monkeypatch.setattr("cnnperf.measure.workload.check_supported", lambda _: None)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(options) or model)
    workload = Workload(Case("lenet5", "train", engine="cudagraphs", batch=2))
    workload.compile()
    assert compiled == [{"dynamic": False, "mode": "reduce-overhead", **ISOLATION}]
    workload.run_once()
    tensors = [*workload.model.parameters(), workload.images, *workload.optimizer_state()]
    places, start = [tensor.data_ptr() for tensor in tensors], Workload(Case("lenet5", "train", batch=2))
    workload.relocate()
    assert [tensor.data_ptr() for tensor in tensors] == places
    assert all(map(torch.equal, workload.model.parameters(), start.model.parameters()))
    assert begun == [1]


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["eager", "compile", "cudagraphs"])
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_every_precision_and_engine_is_measured_on_a_device(precision, engine):
    laboratory = Laboratory(QUICK)
    for phase in ("forward", "train"):
        case = Case("resnet18", phase, device="cuda", engine=engine, precision=precision, batch=8, width=16)
        measured = laboratory.measure(case)
        assert measured.values["device_latency" if precision != "amp_fp16" else "event_latency"].value > 0
        assert ("peak_memory" in measured.values) == (engine != "cudagraphs")


@pytest.mark.gpu
def test_on_a_device_cpu_and_cuda_are_measured_side_by_side():
    on_cpu = Case("lenet5", batch=2)
    on_cuda = on_cpu.replace(device="cuda")
    found = Laboratory(Schedule(budget=0.05)).measure_block("block", [on_cpu, on_cuda], [(on_cpu, on_cuda)])
    cpu, cuda = (found[case].record("test") for case in (on_cpu, on_cuda))
    assert cpu.block == cuda.block == "block"
    assert cpu.over(cuda).value > 0
    assert "event_latency" in cuda.values
    assert "event_latency" not in cpu.values
