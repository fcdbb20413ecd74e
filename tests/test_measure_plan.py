"""From options to cases."""

import pytest

from cnnperf.errors import OptionError
from cnnperf.models.catalog import CATALOG, resolve
from cnnperf.records.case import AXES, PRECISIONS, Case
from cnnperf.suite.plan import CPU_BATCH_OTHERS, CUDA_BATCH, SHARED_BATCH, Plan, parse_overrides, schedule_for


def test_the_default_suite_on_a_cpu_has_every_phase_and_engine_once():
    cases = Plan().cases(resolve("resnet18"))
    assert {(case.phase, case.engine) for case in cases} == {
        (phase, engine) for phase in ("forward", "backward", "train") for engine in ("eager", "compile")
    }
    assert len(cases) == 6


def test_eager_comes_before_compiled_so_that_break_even_is_known():
    engines = [case.engine for case in Plan().cases(resolve("lenet5"))]
    assert engines == ["eager", "compile"] * 3


@pytest.mark.parametrize("name", list(CATALOG))
def test_where_both_devices_are_measured_they_share_the_cpu_s_batch_and_one_that_a_gpu_computes_for(name):
    cases = Plan(devices=("cpu", "cuda")).cases(resolve(name))
    on = {device: {case.batch for case in cases if case.device == device} for device in ("cpu", "cuda")}
    alone = {case.batch for case in Plan().cases(resolve(name))}
    assert on["cpu"] == alone | {SHARED_BATCH}
    assert on["cuda"] == on["cpu"] | {CUDA_BATCH}


@pytest.mark.parametrize(
    ("device", "precisions", "engines", "batch"),
    [
        ("cpu", {"fp32", "amp"}, {"eager", "compile"}, CPU_BATCH_OTHERS),
        ("cuda", {"tf32", "amp"}, {"eager", "compile", "cudagraphs"}, CUDA_BATCH),
    ],
)
def test_the_suite_practice_has_what_is_run_for_speed(device, precisions, engines, batch):
    cases = Plan(suite="practice", devices=(device,)).cases(resolve("resnet18"))
    practice = [case for case in cases if case.precision != "conv_tf32"]
    assert {case.precision for case in practice} == precisions
    assert {case.engine for case in practice} == engines
    assert {case.phase for case in cases} == {"forward", "train"}
    assert {case.layout for case in practice} == {"channels_last"}
    beside = {(case.layout, case.engine) for case in cases if case.precision == "conv_tf32"}
    assert beside == ({("contiguous", "eager")} if device == "cuda" else set())
    assert {case.batch for case in cases} == {batch}
    assert all(case.precision in PRECISIONS for case in cases)


def test_cuda_alone_fills_the_device():
    assert {case.batch for case in Plan(devices=("cuda:1",)).cases(resolve("lenet5"))} == {CUDA_BATCH}


def test_the_full_suite_adds_precisions_layouts_and_batch_one():
    cases = Plan(suite="full").cases(resolve("resnet18"))
    assert {case.layout for case in cases} == {"contiguous", "channels_last"}
    assert {case.precision for case in cases} == {"fp32", "bf16"}
    assert 1 in {case.batch for case in cases}


def test_an_override_replaces_the_values_of_its_axis_only():
    overrides = parse_overrides(["batch=2,4", "phase=train"])
    cases = Plan(overrides=overrides).cases(resolve("lenet5"))
    assert {case.batch for case in cases} == {2, 4}
    assert {case.phase for case in cases} == {"train"}
    assert {case.engine for case in cases} == {"eager", "compile"}


def test_an_override_given_twice_adds_up_without_repetition():
    assert parse_overrides(["batch=2", "batch=2,4"]) == {"batch": (2, 4)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch", "takes NAME=VALUE"),
        ("batch=0", "whole number of at least 1, not '0'"),
        ("batch=-3", "whole number of at least 1, not '-3'"),
        ("batch=", "whole number of at least 1, not ''"),
        ("engine=warp", "one of eager, compile, cudagraphs, replay, compile_replay, not 'warp'"),
        ("colour=red", "unknown axis 'colour'; the axes are phase"),
        ("device=cpu", "use --cnnperf-device"),
    ],
)
def test_a_bad_override_is_one_sentence(text, message):
    with pytest.raises(OptionError, match=message):
        parse_overrides([text])


def test_an_image_size_that_a_network_cannot_take_is_refused():
    with pytest.raises(OptionError, match="lenet5 takes images of 32 x 32 only, not 64"):
        Plan(overrides={"image_size": (64,)}).cases(resolve("lenet5"))


@pytest.mark.parametrize(("seconds", "interval"), [(0, 0.02), (-1, 0.02), (float("nan"), 0.02), (1, 0), (1, 1.5)])
def test_a_budget_or_interval_out_of_range_is_refused(seconds, interval):
    with pytest.raises(OptionError, match=r"--cnnperf-(time|interval) takes"):
        schedule_for("default", seconds, interval)


def test_a_case_is_its_axes_and_nothing_else():
    case = Case("lenet5", "train", batch=4)
    assert Case.from_axes(case.axes()) == case
    assert list(case.axes()) == [axis.name for axis in AXES]
    assert case.id().startswith("arch=lenet5-phase=train-device=cpu-engine=eager-")


def test_an_axis_that_an_old_file_lacks_takes_its_default():
    assert Case.from_axes({"architecture": "lenet5"}).image_size == 32


def test_an_axis_that_does_not_exist_is_refused():
    with pytest.raises(OptionError, match="unknown axis 'color'"):
        Case.from_axes({"color": "red"})
