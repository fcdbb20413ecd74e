"""The Triton kernels are equal to float64 in Triton's interpreter, and a wrong coefficient in any of them is seen.

The interpreter must be on before triton is imported, so a process of its own runs whatever `interpreted` gets.
"""

import importlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from fusion_gpu import (
    BIASED,
    DTYPES,
    EPS,
    FORMATS,
    KINDS,
    PROBE,
    SHAPES,
    SMALL,
    SWEPT,
    check,
    check_backward,
    check_forward,
    check_gate,
    check_inference,
    check_scaling,
    check_statistics,
    check_training,
    distance,
    draw,
    exact_forward,
    excitation_of,
    frozen,
    given_to,
    moved_statistics,
    tail_tensors,
    wide,
)
from fusion_gpu_calls import PLANS, counters_after, operator, planned
from maps import Elsewhere
from torch.autograd.functional import vjp

from cnnperf.fusion import operators
from cnnperf.fusion.excitation import Excitation, squeeze_and_excite
from cnnperf.fusion.triton import functions as gpu

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux alone")]


def training(run, module):
    check_training(run, module, PROBE)


def parted(run, module):
    check_training(run, module, SWEPT)


def inference(run, module):
    check_inference(run, module, PROBE)
    check_inference(run, module, SWEPT)


def scaling(run, module):
    check_scaling(run, module, PROBE)


def counting(run, module):
    assert run(counters_after, module.tail_forward, module.tail_backward, *tail_tensors(PROBE)) == 0


def statistics(run, module):
    for momentum in (0.1, None):
        check_statistics(run, partial(moved_statistics, module.tail_forward), PROBE, momentum)


def by_rows(run, module):
    check_training(partial(run, planned, "products by rows"), module, PROBE)


def scaling_by_rows(run, module):
    check_scaling(partial(run, planned, "products by rows"), module, PROBE)


def gating_by_rows(run, module):
    check_gate(partial(run, planned, "products by rows"), module, SWEPT, KINDS[1])


def gating(run, module):
    for kind in KINDS:
        check_gate(run, module, PROBE, kind)


def swept_gating(run, module):
    check_gate(run, module, SWEPT, KINDS[1])


CHECKS = (
    *(training, parted, inference, scaling, counting, statistics, gating, swept_gating),
    *(by_rows, scaling_by_rows, gating_by_rows),
)

FAULTS = [
    ("kernels", "channels, block_c) / pixels\n", "channels, block_c) / (1.01 * pixels)\n", swept_gating),
    ("kernels", "(slope * factor)[:, None]", "(1.001 * slope * factor)[:, None]", training),
    ("kernels", "(shift * factor)[:, None]", "(1.001 * shift * factor)[:, None]", training),
    ("kernels", "= slope * through / pixels", "= 1.001 * slope * through / pixels", training),
    ("kernels", "+ tl.load(constant", "+ 1.001 * tl.load(constant", training),
    ("kernels", "value * slope[:, None]", "value * 1.001 * slope[:, None]", training),
    ("kernels", "+= second *", "+= 1.001 * second *", training),
    ("statistics", "products += value * value", "products += 1.001 * value * value", training),
    ("statistics", "- values * shifted * shifted", "- 1.001 * values * shifted * shifted", training),
    ("statistics", "tl.sum(origin, 1) + shifted", "0.999 * tl.sum(origin, 1) + shifted", training),
    ("statistics", "pixels - row // batch * chunk, chunk", "pixels, chunk", parted),
    ("normalized", "pixels - part * chunk, chunk", "pixels, chunk", parted),
    ("statistics", "within + values", "1.001 * within + values", training),
    ("statistics", "* between * between", "* 1.001 * between * between", training),
    ("normalized", "tl.sum(sums, 0) / pixels", "tl.sum(sums, 0) / (1.001 * pixels)", parted),
    ("normalized", "(own - centre) * slope + shift", "(own - centre) * slope + 0.999 * shift", training),
    ("statistics", "share * (centre - before)", "share * (1.001 * centre - before)", statistics),
    ("statistics", "(total / (total - 1))", "1.0", statistics),
    ("statistics", "1.0 / (tl.load(batches) + 1)", "1.0 / (tl.load(batches) + 2)", statistics),
    ("normalized", "tl.store(batches, tl.load(batches) + 1)", "tl.store(batches, tl.load(batches) + 2)", statistics),
    ("statistics", "else momentum", "else 1.001 * momentum", statistics),
    ("statistics", "== programs - 1", "== programs - 2", training),
    ("statistics", "tl.store(counter, 0)", "tl.store(counter, 1)", counting),
    ("gradients", "+ away * s1", "+ 1.001 * away * s1", training),
    ("gradients", "slope * s2 + tl", "1.001 * slope * s2 + tl", training),
    ("coefficients", "channels) + through", "channels) + 1.001 * through", training),
    ("coefficients", "through * away", "0.999 * through * away", training),
    ("coefficients", "-slope * inverse * weights / count", "-1.001 * slope * inverse * weights / count", training),
    ("coefficients", "-slope * biases / count", "-1.001 * slope * biases / count", training),
    ("coefficients", "- times_x * centre", "- 1.001 * times_x * centre", training),
    ("coefficients", "factors[:, :, None] *", "1.001 * factors[:, :, None] *", training),
    ("gradients", "value, 0.0)\n", "1.001 * value, 0.0)\n", training),
    ("excitation", "gradient * gate * (1 - gate)", "gradient * gate * (1.001 - gate)", training),
    ("excitation", "bias + row, mask=row < width", "bias + row, mask=row < width - 1", gating),
    ("excitation", "bias + row, mask=row < channels", "bias + row, mask=row < channels - 1", gating),
    ("excitation", "value / 6 + 0.5", "value / 6 + 0.501", gating),
    ("excitation", "gradient / 6", "gradient / 6.006", gating),
    ("excitation", "logistic * (1 + value", "logistic * (1.001 + value", gating),
    ("excitation", "- centre * slope", "- 1.001 * centre * slope", inference),
    ("excitation", "other=0.0) * factor, mask", "other=0.0) * 1.001 * factor, mask", scaling),
    ("excitation", "total += tl.load(partial", "total += 1.001 * tl.load(partial", parted),
    ("rows", "weights[None, :, :]", "1.001 * weights[None, :, :]", by_rows),
    ("rows", "mask=row < width, other=0.0)", "mask=row < width - 1, other=0.0)", gating_by_rows),
    ("rows", "expand_bias + row, mask=row < channels", "expand_bias + row, mask=row < channels - 1", gating_by_rows),
    ("rows", "> 0, value, 0.0)", "> 0, 1.001 * value, 0.0)", by_rows),
    ("rows", "tl.load(offset + places, mask=inside, other=0.0) * value", "value", scaling_by_rows),
    ("rows", "value *= tl.load(slopes", "value *= 1.001 * tl.load(slopes", gating_by_rows),
    ("pooled", "value * slope + shift", "value * slope + 1.001 * shift", scaling),
    ("pooled", "block_c) / pixels", "block_c) / (1.001 * pixels)", scaling),
    ("onchip", "shift[:, None]) * factor", "1.001 * shift[:, None]) * factor", inference),
]  # fmt: skip
if BIASED:
    FAULTS.append(("coefficients", "total += load_rows(source", "total += 1.001 * load_rows(source", training))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Give a package for each fault: the kernels with the fault in them."""
    folder, source = tmp_path_factory.mktemp("planted"), Path(gpu.__file__).parent
    for number, (module, right, wrong, _) in enumerate(FAULTS):
        package = folder / f"planted{number}"
        package.mkdir()
        for path in source.glob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.stem == module:
                assert right in text, f"{right!r} is not there to be changed"
                text = text.replace(right, wrong)
            text = text.replace("from cnnperf.fusion.triton", f"from planted{number}")
            (package / path.name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def interpreted(planted):
    """Give a function that calls another one in a process with Triton's interpreter."""

    def run(function, *given):
        assert __name__.encode() not in pickle.dumps(function), "the process cannot import a module of tests"
        return pool.submit(function, *given).result()

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(planted)  # a child that is spawned gets the path of its parent
        patch.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(gpu.available).result(), "these tests need triton"
            patch.delenv("TRITON_INTERPRET")
            yield run


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_training_equals_float64_in_each_shape_and_layout(interpreted, shape, layout):
    check_training(interpreted, gpu, shape, layout=layout)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_training_takes_maps_of_sixteen_bits(interpreted, dtype, layout):
    check_training(interpreted, gpu, (3, 20, 5, 3), dtype, layout)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_parameters_of_sixteen_bits_are_read_and_their_gradients_written_as_they_are(interpreted, dtype):
    check_training(interpreted, gpu, PROBE, dtype, small=dtype)


def test_training_without_biases_of_the_excitation_equals_float64(interpreted):
    check_training(interpreted, gpu, PROBE, biased=False)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", PLANS)
def test_training_equals_float64_in_every_plan(interpreted, layout, name):
    check_training(partial(interpreted, planned, name), gpu, (5, 18, 4, 5), layout=layout)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gating_by_rows_equals_float64(interpreted, kind):
    check_gate(partial(interpreted, planned, "products by rows"), gpu, SWEPT, kind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inference_by_rows_equals_float64(interpreted, dtype):
    check_inference(partial(interpreted, planned, "products by rows"), gpu, SWEPT, dtype)
    check_scaling(partial(interpreted, planned, "products by rows"), gpu, PROBE, dtype)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_statistics_of_other_processes_are_taken_in_between_the_kernels(interpreted, shape, layout):
    x, shortcut, parameters, grad = tail_tensors(shape, layout=layout)
    parts = tuple(draw(shape[1], seed=seed).abs() + 0.5 for seed in (20, 21, 22, 23))
    other = Elsewhere(parts, x.numel() // shape[1])
    kept = interpreted(gpu.tail_forward, x, shortcut, parameters, EPS, other.merge)
    check_forward(kept, x, shortcut, parameters, other.merge)
    found = interpreted(gpu.tail_backward, grad, x, kept, parameters, EPS, other.add)
    check_backward(found, grad, x, kept, parameters, other.add)
    alone = interpreted(gpu.tail_backward, grad, x, kept, parameters, EPS)
    assert distance(alone.x, found.x) > SMALL  # what the other process knows matters


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counted", [True, False])
def test_running_statistics_move_as_those_of_the_norm(interpreted, momentum, dtype, counted):
    check_statistics(interpreted, partial(moved_statistics, gpu.tail_forward), PROBE, momentum, dtype, counted)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_move_in_a_launch_for_the_moments_too(interpreted, momentum, layout):
    function = partial(moved_statistics, partial(planned, "a launch for the moments", gpu.tail_forward))
    check_statistics(interpreted, function, PROBE, momentum, layout=layout)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 32, 8, 7), (2, 5, 1, 1), SWEPT])
def test_inference_equals_float64(interpreted, shape, dtype, layout):
    check_inference(interpreted, gpu, shape, dtype, layout)


@pytest.mark.parametrize("shape", [PROBE, SWEPT])
def test_inference_without_biases_of_the_excitation_equals_float64(interpreted, shape):
    check_inference(interpreted, gpu, shape, biased=False)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_scaling_of_inference_equals_float64(interpreted, known, dtype, layout):
    check_scaling(interpreted, gpu, SWEPT, dtype, layout, known)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("shape", "layout"), [((3, 20, 7, 7), "channels_last"), (SWEPT, "contiguous")])
def test_every_kind_of_excitation_equals_float64(interpreted, shape, layout, kind):
    check_gate(interpreted, gpu, shape, kind, layout=layout)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "layout"), [((2, 5, 1, 1), "contiguous"), (SWEPT, "channels_last")])
def test_gating_takes_each_dtype(interpreted, shape, layout, dtype):
    check_gate(interpreted, gpu, shape, KINDS[0], dtype, layout)


def test_a_large_mean_does_not_cancel_the_variance(interpreted):
    x, shortcut, parameters, _ = tail_tensors((4, 16, 6, 6), offset=1000.0)
    found = interpreted(gpu.tail_forward, x, shortcut, parameters, EPS)
    exact, _ = exact_forward(x, shortcut, parameters)
    assert distance(found.variance, exact.variance) <= SMALL
    assert distance(found.out, exact.out) <= 1e-3


def test_nothing_that_is_not_a_number_is_lost(interpreted):
    x, shortcut, parameters, _ = tail_tensors(PROBE)
    x[1, 2, 3, 3] = float("nan")
    out = interpreted(gpu.tail_inference, x, shortcut, frozen(PROBE[1]), *parameters[2:])
    assert out[1].isnan().all()
    assert not out[0].isnan().any()


def test_a_bit_of_the_mask_may_differ_only_where_the_sum_is_about_0():
    x, shortcut, parameters, _ = tail_tensors(PROBE)
    near, far = (1, 2, 3, 3), (0, 0, 0, 0)
    shortcut = shortcut.double()
    shortcut[near] -= exact_forward(x, shortcut, parameters)[1][near] - 1e-7
    kept, _ = exact_forward(x, shortcut, parameters)
    check_forward(kept._replace(mask=flipped(kept.mask, near)), x, shortcut, parameters)
    with pytest.raises(AssertionError):
        check_forward(kept._replace(mask=flipped(kept.mask, far)), x, shortcut, parameters)


def flipped(mask, place):
    mask = mask.clone()
    mask[place] = 1 - mask[place]
    return mask


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_wrong_coefficient_is_seen(interpreted, number):
    module, check_of_it = importlib.import_module(f"planted{number}.functions"), FAULTS[number][3]
    with pytest.raises(AssertionError):
        check_of_it(interpreted, module)


@pytest.mark.parametrize("check_of_it", CHECKS)
def test_without_a_fault_the_same_checks_pass(interpreted, check_of_it):
    check_of_it(interpreted, gpu)


def test_the_differentiable_form_of_gating_gives_the_textbook_s_gradient(interpreted):
    x, _, _, grad = tail_tensors(PROBE)
    excitation = excitation_of(PROBE[1], *KINDS[1])
    found = interpreted(vjp, partial(gpu.gate, excitation=excitation), x, grad)
    exact = vjp(partial(squeeze_and_excite, excitation=Excitation(*wide(*excitation))), *wide(x, grad))
    check(found, exact, torch.float32)


def test_a_second_derivative_is_refused_in_words(interpreted):
    x, _, _, grad = tail_tensors(PROBE)
    function = partial(gpu.gate, excitation=excitation_of(PROBE[1], *KINDS[0]))
    with pytest.raises(RuntimeError, match="no second derivative"):
        interpreted(partial(vjp, create_graph=True), function, x, grad)


def test_the_operators_do_what_the_functions_do(interpreted):
    same = partial(torch.testing.assert_close, rtol=0, atol=0)
    x, shortcut, parameters, grad = tail_tensors(PROBE)
    given = given_to(operators.tail_training, parameters)
    kept = interpreted(gpu.tail_forward, x, shortcut, parameters, EPS)
    same(interpreted(operator, "tail_training", x, shortcut, *given, EPS), tuple(kept))
    same(interpreted(operator, "tail_forward", x, shortcut, *given, EPS), tuple(kept))
    backward = interpreted(gpu.tail_backward, grad, x, kept, parameters, EPS)
    same(interpreted(operator, "tail_backward", grad, x, *kept[1:], *given, EPS), tuple(backward))
    norm, weights = frozen(PROBE[1]), given[2:]
    scaling = interpreted(gpu.tail_scaling, x, None, norm, *weights)
    same(interpreted(operator, "tail_scaling", x, None, *norm, *weights), scaling)
    out = interpreted(gpu.tail_inference, x, shortcut, norm, *weights)
    same(interpreted(operator, "tail_inference", x, shortcut, None, *norm, *weights), out)
    excitation = excitation_of(PROBE[1], *KINDS[1])
    excited = interpreted(gpu.se_forward, x, excitation)
    same(interpreted(operator, "se_forward", x, *excitation[:4], True, False), tuple(excited))
    gradients = interpreted(gpu.se_backward, grad, x, excited, excitation)
    given = (grad, x, *excitation[:2], *excited[1:], True, False)
    same(interpreted(operator, "se_backward", *given), tuple(gradients))


def test_without_triton_the_module_loads_and_says_that_no_kernel_is_available():
    code = (
        "import sys; sys.modules['triton'] = None; from cnnperf.fusion.triton import functions; "
        "sys.exit(functions.available())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TRITON_INTERPRET": "1"})


def test_maps_on_the_cpu_are_not_for_these_kernels():
    assert gpu.takes(torch.zeros(2, 3, 4, 4)) == "the map is not on a GPU"
