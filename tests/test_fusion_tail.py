"""The fused tail of a residual block: equal to the textbook in value and gradient, in every form.

Errors are norms of the difference from a float64 reference, relative to the reference's norm; inputs are rounded to the
tested dtype first.
"""

import __future__

import copy
import inspect
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maps import EPS, FORMATS, TOLERANCE, passes
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from cnnperf.fusion import algebra, operators
from cnnperf.fusion.algebra import Frozen, Parameters
from cnnperf.fusion.backends import ALGEBRA, COMPILED
from cnnperf.fusion.halves import Halves, Tail
from cnnperf.fusion.maps import not_for_excitation
from cnnperf.fusion.native import build as native
from cnnperf.fusion.native.functions import Tail as NativeTail
from cnnperf.fusion.tail import fused_tail, textbook_tail
from cnnperf.models.squeeze_excitation import SEBlock

KERNELS = "the C++ kernels"
SHAPES = [(3, 32, 8, 7), (9, 16, 1, 1), (1, 48, 5, 5), (5, 20, 3, 4), (4, 70, 2, 9), (2, 64, 33, 31)]
BIASED = [(False, False), (True, True), (True, False), (False, True)]
BOTTLENECKS = [(2, 256, 56, 56), (2, 512, 28, 28), (2, 1024, 14, 14), (2, 2048, 7, 7)]  # those of SE-ResNet-50
LARGE = [(4, 64, 128, 144), (3, 67, 151, 149)]  # over 8 MiB in bf16, with vectors that are aligned and that are not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


def tensors(shape, dtype=torch.float64, layout="contiguous", offset=0.0, seed=0, biased=(False, False)):
    """Give x, shortcut, parameters and the gradient of the output; both products may have biases."""
    generator = torch.Generator().manual_seed(seed)
    channels = shape[1]
    wide_block = channels >= BOTTLENECKS[0][1]
    hidden = channels // 16 if wide_block else max(1, channels // 4)
    # So many terms of unit variance would saturate every gate.
    scales = (channels**-0.5, hidden**-0.5) if wide_block else (1.0, 1.0)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    maps = [(draw(*shape) + offset * (index == 0)).to(dtype) for index in range(3)]
    x, shortcut, grad = (one.contiguous(memory_format=FORMATS[layout]) for one in maps)
    small = (draw(channels).abs() + 0.5, draw(channels), draw(hidden, channels), draw(channels, hidden))
    small = (*small[:2], scales[0] * small[2], scales[1] * small[3])
    biases = (draw(size) if given else None for size, given in zip((hidden, channels), biased, strict=True))
    wide = torch.promote_types(torch.float32, dtype)
    return x, shortcut, each(lambda one: one.to(wide), Parameters(*small, *biases)), grad


def each(change, parameters):
    """Give the parameters of a tail changed, but for biases that are not there."""
    return Parameters(*(None if one is None else change(one) for one in parameters))


def leaves_of(*given):
    """Give copies that autograd follows, None where there is none, and those of them that are there."""
    leaves = [None if one is None else one.detach().clone().requires_grad_() for one in given]
    return leaves, [one for one in leaves if one is not None]


def textbook(x, shortcut, parameters):
    weight, bias, reduce, expand, reduce_bias, expand_bias = parameters
    y = nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=EPS)
    hidden = torch.relu(nn.functional.linear(y.mean((2, 3)), reduce, reduce_bias))
    gate = torch.sigmoid(nn.functional.linear(hidden, expand, expand_bias))
    return torch.relu(y * gate[:, :, None, None] + shortcut)


def exact_results(x, shortcut, parameters, grad):
    leaves, present = leaves_of(x.double(), shortcut.double(), *each(torch.Tensor.double, parameters))
    out = textbook(leaves[0], leaves[1], leaves[2:])
    return [out.detach(), *torch.autograd.grad(out, present, grad.double())]


def tail_of(form, *leaves):
    """Run the tail in training by two halves, or in the C++ kernels."""
    return NativeTail.apply(EPS, (), *leaves) if form is KERNELS else Tail.apply(form, EPS, None, *leaves)[0]


def results_of(form, x, shortcut, parameters, grad):
    leaves, present = leaves_of(x, shortcut, *parameters)
    out = tail_of(form, *leaves)
    return [out.detach(), *torch.autograd.grad(out, present, grad)]


def distances(found, exact):
    largest = max(float(one.norm()) for one in exact[1:])
    return [
        float((a.double() - b).norm()) / max(float(b.norm()), 1e-3 * largest) for a, b in zip(found, exact, strict=True)
    ]


def check(form, *given_tensors):
    x, *_ = given_tensors
    errors = distances(results_of(form, *given_tensors), exact_results(*given_tensors))
    assert max(errors) <= TOLERANCE[x.dtype], errors


@pytest.fixture(scope="module")
def kernels():
    assert native.available(), "these tests need g++"
    return KERNELS


@pytest.mark.parametrize("biased", BIASED)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_algebra_equals_autograd_in_float64(shape, biased):
    check(ALGEBRA.halves, *tensors(shape, biased=biased))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES + LARGE)
def test_the_kernels_equal_float64_in_each_shape_dtype_and_layout(kernels, shape, dtype, layout):
    check(kernels, *tensors(shape, dtype, layout))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", BOTTLENECKS)
def test_tails_of_bottlenecks_equal_float64_in_the_kernels_and_the_algebra(kernels, shape, layout):
    given_tensors = tensors(shape, torch.float32, layout, biased=(True, True))
    exact = exact_results(*given_tensors)
    for form in (kernels, ALGEBRA.halves):
        errors = distances(results_of(form, *given_tensors), exact)
        assert max(errors) <= TOLERANCE[torch.float32], (form, errors)


@pytest.mark.parametrize("shape", BOTTLENECKS)
def test_tails_of_bottlenecks_equal_float64_compiled(shape):
    torch.compiler.reset()
    check(COMPILED.halves, *tensors(shape, torch.float32, biased=(True, True)))


@pytest.mark.parametrize("biased", BIASED[1:])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernels_equal_float64_with_biases_of_either_product(kernels, shape, dtype, layout, biased):
    check(kernels, *tensors(shape, dtype, layout, biased=biased))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*(st.integers(1, limit) for limit in (4, 70, 9, 9))),
    layout=st.sampled_from(sorted(FORMATS)),
    offset=st.sampled_from([0.0, 30.0]),
    seed=st.integers(0, 1000),
    biased=st.sampled_from(BIASED),
)
def test_the_kernels_do_what_the_algebra_does_whatever_the_shape(kernels, shape, layout, offset, seed, biased):
    batch, channels, height, width = shape
    shape = (batch + 1, channels, height, width + 1)  # at least four values a channel, or the variance is all rounding
    x, shortcut, parameters, grad = tensors(shape, torch.float32, layout, offset, seed, biased)
    wide = each(torch.Tensor.double, parameters)
    kept = algebra.Forward(*operators.tail_forward(x, shortcut, *parameters, EPS))
    exact = algebra.tail_forward(x.double(), shortcut.double(), wide, EPS)
    assert close(kept.out, exact.out)
    # From the same mask and the same hidden values, so that no activation near 0 can fall on two sides.
    found = operators.tail_backward(grad, x, *kept[1:], *parameters, EPS)
    same = algebra.Forward(*(one if one.dtype == torch.uint8 else one.double() for one in kept))
    expected = algebra.tail_backward(grad.double(), x.double(), same, wide, EPS)
    scale = 0.1 * max(float(one.norm()) for one in expected)
    assert all(close(one, other, scale) for one, other in zip(found, expected, strict=True))


def close(found, exact, scale=0.0):
    """Return whether two results agree; one that cancels to almost nothing is judged on the scale of the others."""
    return float((found.double() - exact).norm()) <= 1e-3 * max(float(exact.norm()), scale, 1e-6)


def test_a_large_mean_does_not_cancel_the_variance(kernels):
    given_tensors = tensors((4, 16, 8, 8), torch.float32, offset=1000.0)
    assert distances(results_of(kernels, *given_tensors), exact_results(*given_tensors))[0] <= 1e-3


@pytest.mark.parametrize("biased", BIASED[:2])
@pytest.mark.parametrize("layout", FORMATS)
def test_the_compiled_algebra_equals_float64(layout, biased):
    check(COMPILED.halves, *tensors((3, 32, 8, 7), torch.float32, layout, biased=biased))


COEFFICIENTS = [
    ("parameters.weight * torch.rsqrt", "1.001 * parameters.weight * torch.rsqrt"),
    ("(mean - mu) * slope + ", "(mean - mu) * slope + 0.999 * "),
    ("parameters.bias - mu * slope", "parameters.bias - 1.001 * mu * slope"),
    ("slope * s2 + bias * s1", "1.001 * slope * s2 + bias * s1"),
    ("slope * s2 + bias * s1", "slope * s2 + 1.001 * bias * s1"),
    ("saved.gate * (1 - saved.gate)", "saved.gate * (1.001 - saved.gate)"),
    ("(saved.gate * s1 + dsqueezed).sum", "(saved.gate * s1 + 1.001 * dsqueezed).sum"),
    ("(saved.gate * s2 + dsqueezed *", "(saved.gate * s2 + 0.999 * dsqueezed *"),
    ("-slope * inverse * dweight / values", "-1.001 * slope * inverse * dweight / values"),
    ("dsqueezed / pixels", "1.001 * dsqueezed / pixels"),
    ("- dbias / values", "- 1.001 * dbias / values"),
    ("- of_x * saved.mu", "- 1.001 * of_x * saved.mu"),
    ("dhidden.sum(0)", "1.001 * dhidden.sum(0)"),
    ("dexcited.sum(0)", "1.001 * dexcited.sum(0)"),
    ("linear(squeezed, reduce, reduce_bias)", "linear(squeezed, reduce, 0.999 * reduce_bias)"),
    ("linear(hidden, expand, expand_bias)", "linear(hidden, expand, 1.001 * expand_bias)"),
]


@pytest.mark.parametrize(("right", "wrong"), COEFFICIENTS)
def test_a_wrong_coefficient_is_seen(right, wrong):
    namespace = dict(vars(algebra))
    names = ("excite", "norm_gradients", "coefficients", "tail_forward", "tail_backward")
    functions = (getattr(algebra, name) for name in names)
    sources = "".join(inspect.getsource(one) for one in functions)
    assert right in sources, "the coefficient is not there to be changed"
    flags = __future__.annotations.compiler_flag
    exec(compile(sources.replace(right, wrong), "algebra", "exec", dont_inherit=True, flags=flags), namespace)
    form = Halves(namespace["tail_forward"], namespace["tail_backward"])
    given_tensors = tensors((3, 16, 5, 4), offset=1.0, biased=(True, True))
    assert max(distances(results_of(form, *given_tensors), exact_results(*given_tensors))) > 1e-7


@pytest.mark.parametrize("biased", BIASED[:2])
def test_gradients_hold_against_finite_differences(biased):
    x, shortcut, parameters, _ = tensors((2, 4, 3, 2), biased=biased)
    leaves, _ = leaves_of(x, shortcut, *parameters)
    assert torch.autograd.gradcheck(lambda *given: Tail.apply(ALGEBRA.halves, EPS, None, *given)[0], leaves)


def test_a_second_derivative_is_refused_in_words(kernels):
    x, shortcut, parameters, grad = tensors((2, 16, 3, 3), torch.float32)
    leaves, _ = leaves_of(x, shortcut, *parameters)
    out = tail_of(kernels, *leaves)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(out, leaves[:1], grad, create_graph=True)


def modules(channels=32, seed=0, *, biased=False, **norm):
    torch.manual_seed(seed)
    bn, se = nn.BatchNorm2d(channels, **norm), SEBlock(channels, 4, bias=biased)
    for parameter in bn.parameters():
        nn.init.normal_(parameter, 1.0, 0.5)
    return bn, se


def maps(*shape, dtype=torch.float32, layout="contiguous"):
    x, shortcut, _, _ = tensors(shape, dtype, layout)
    return x, shortcut


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    "norm",
    [
        *({}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"momentum": 0.3, "eps": 1e-2}),
        {"biased": True},
    ],
)
def test_modules_give_what_the_textbook_gives_in_training_and_inference(norm, layout):
    bn, se = modules(**norm)
    twin = copy.deepcopy(bn)
    x, shortcut = maps(4, 32, 5, 6, layout=layout)
    for _ in range(3):
        ours, theirs = fused_tail(x, shortcut, bn, se), textbook_tail(x, shortcut, twin, se)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for name, buffer in bn.named_buffers():
        torch.testing.assert_close(buffer, twin.get_buffer(name))
    bn.eval(), twin.eval()
    with torch.no_grad():
        ours = fused_tail(x, shortcut, bn, se)
        torch.testing.assert_close(ours, textbook_tail(x, shortcut, twin, se), rtol=1e-4, atol=1e-5)
    assert ours.is_contiguous(memory_format=FORMATS[layout])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    ("shape", "biased"), [*((one, BIASED[0]) for one in SHAPES + LARGE), *zip(SHAPES[:4], BIASED, strict=True)]
)
def test_inference_equals_float64(kernels, shape, layout, dtype, biased):
    x, shortcut, parameters, _ = tensors(shape, dtype, layout, biased=biased)
    weight, bias, *excitation = parameters
    frozen = Frozen(weight, bias, bias.flip(0), weight.flip(0), EPS)
    wide = [one.double() for one in (x, shortcut, *frozen[:4])]
    exact_excitation = each(torch.Tensor.double, parameters)[2:]
    exact = algebra.tail_inference(*wide[:2], Frozen(*wide[2:], EPS), *exact_excitation)
    found = operators.tail_inference(x, shortcut, None, *frozen, *excitation)
    assert float((found.double() - exact).norm() / exact.norm()) <= TOLERANCE[dtype] / 2
    scale, shift = operators.tail_scaling(x, None, *frozen, *excitation)
    found = algebra.apply_scaling(x.float(), shortcut.float(), scale, shift)
    assert float((found.double() - exact).norm() / exact.norm()) <= 1e-5


@pytest.mark.parametrize("layout", FORMATS)
def test_maps_of_another_layout_or_none_are_laid_out_first(kernels, layout):
    x, shortcut, parameters, _ = tensors((3, 32, 6, 5), torch.float32, layout)
    others = [format_ for name, format_ in FORMATS.items() if name != layout]
    strided = torch.randn(3, 32, 6, 10)[:, :, :, ::2].copy_(shortcut)
    for other in (shortcut.contiguous(memory_format=others[0]), strided):
        expected, found = (operators.tail_forward(x, one, *parameters, EPS) for one in (shortcut, other))
        for one, another in zip(expected, found, strict=True):
            assert one.stride() == another.stride()
            torch.testing.assert_close(one, another, rtol=0, atol=0)


def test_an_operator_reads_no_numbers_that_are_not_there(kernels):
    x, shortcut, parameters, _ = tensors((2, 16, 3, 3), torch.float32)
    with pytest.raises(RuntimeError, match="expected 16 x 1 numbers in float32, got 15"):
        operators.tail_forward(x, shortcut, *parameters._replace(weight=parameters.weight[:15]), EPS)
    with pytest.raises(RuntimeError, match="differ in shape"):
        operators.tail_forward(x, shortcut[:, :, 1:], *parameters, EPS)
    with pytest.raises(RuntimeError, match="float32 or bfloat16"):
        operators.tail_forward(x.double(), shortcut.double(), *parameters, EPS)
    with pytest.raises(RuntimeError, match="not empty"):
        operators.tail_forward(x[:0], shortcut[:0], *parameters, EPS)
    with pytest.raises(RuntimeError, match="expected 16 x 4 numbers"):
        operators.tail_forward(x, shortcut, *parameters._replace(expand=parameters.expand.reshape(4, 16)), EPS)
    with pytest.raises(RuntimeError, match="expected 4 x 1 numbers in float32, got 3"):
        operators.tail_forward(x, shortcut, *parameters._replace(reduce_bias=torch.zeros(3)), EPS)
    with pytest.raises(RuntimeError, match="expected 16 x 1 numbers in float32, got 4"):
        operators.tail_forward(x, shortcut, *parameters._replace(expand_bias=torch.zeros(4)), EPS)


@pytest.mark.parametrize("which", ["reduce", "expand"])
def test_a_bias_that_was_never_loaded_is_not_for_the_kernels(monkeypatch, which):
    bn, se = modules(biased=True)
    product = se.get_submodule(which)
    product.bias = nn.Parameter(product.bias.to("meta"))
    monkeypatch.setattr(operators, "tail_forward", None)  # any call of it would fail
    with pytest.raises(RuntimeError, match="meta"):  # as PyTorch says it
        fused_tail(*maps(2, 32, 4, 4), bn, se)


@pytest.mark.parametrize("which", ["reduce", "expand"])
def test_a_weight_that_was_never_loaded_is_not_for_the_kernels(monkeypatch, which):
    bn, se = modules()
    se.get_submodule(which).to("meta")
    monkeypatch.setattr(operators, "tail_forward", None)  # any call of it would fail
    fused_tail(*maps(2, 32, 4, 4), bn, se)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_transposed_weight_is_read_as_it_is_meant(kernels, compiled):
    bn, se = modules()
    twin = copy.deepcopy(se)
    se.reduce.weight = nn.Parameter(se.reduce.weight.detach().t().contiguous().t())
    torch.compiler.reset()
    tail = torch.compile(fused_tail) if compiled else fused_tail
    given_maps = maps(2, 32, 4, 4)
    torch.testing.assert_close(tail(*given_maps, bn, se), textbook_tail(*given_maps, copy.deepcopy(bn), twin))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("change", ["transposed", "sliced"])
def test_a_compilation_takes_maps_of_any_strides(kernels, train, change):
    bn, se = modules()
    bn.train(train)
    twin = copy.deepcopy(bn)
    wide = torch.randn(2, 64, 5, 4).contiguous(memory_format=torch.channels_last)
    x = wide.transpose(2, 3)[:, :32].contiguous().transpose(2, 3) if change == "transposed" else wide[:, :32]
    shortcut = torch.randn(2, 32, 5, 4)
    torch.compiler.reset()
    with torch.set_grad_enabled(train):
        ours = torch.compile(lambda *given: fused_tail(*given, bn, se) + 1, fullgraph=True)(x, shortcut)
        torch.testing.assert_close(ours, textbook_tail(x, shortcut, twin, se) + 1)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_the_tangents_of_forward_mode_are_not_lost():
    bn, se = modules()
    bn.eval().requires_grad_(requires_grad=False)
    se.requires_grad_(requires_grad=False)
    x, shortcut = maps(2, 32, 4, 4)
    tangent = torch.randn_like(x)
    ours, theirs = (
        torch.func.jvp(lambda given, tail=tail: tail(given, shortcut, bn, se), (x,), (tangent,))
        for tail in (fused_tail, textbook_tail)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counted", [True, False])
def test_running_statistics_move_as_those_of_the_norm(kernels, momentum, dtype, counted):
    bn, se = modules(momentum=momentum)
    for name in ("running_mean", "running_var"):
        setattr(bn, name, bn.get_buffer(name).to(dtype))
    if not counted:
        bn.num_batches_tracked = None
    twin = copy.deepcopy(bn)
    for seed in range(2):
        torch.manual_seed(seed)
        x, shortcut = (1e-4 * one for one in maps(4, 32, 4, 4))
        fused_tail(x, shortcut, bn, se)
        twin.float()(x)
        twin.running_mean, twin.running_var = twin.running_mean.to(dtype), twin.running_var.to(dtype)
    limit = {"rtol": 1e-5, "atol": 1e-12} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 1e-6}
    torch.testing.assert_close(bn.running_mean, twin.running_mean, **limit)
    torch.testing.assert_close(bn.running_var, twin.running_var, **limit)


def test_gradients_in_inference_mode_of_the_norm_are_the_textbook_s():
    bn, se = modules()
    bn.eval()
    x, shortcut = maps(2, 32, 4, 4)
    ours, theirs = (
        torch.autograd.grad(tail(x, shortcut, bn, se).sum(), [*bn.parameters(), *se.parameters()])
        for tail in (fused_tail, textbook_tail)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_single_value_a_channel_cannot_be_normalized():
    bn, se = modules()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fused_tail(*maps(1, 32, 1, 1), bn, se)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("wrong", ["norm", "se"])
def test_modules_for_other_channels_are_refused_before_any_kernel_reads(train, wrong):
    bn, se = modules(64 if wrong == "norm" else 32)[0], modules(64 if wrong == "se" else 32)[1]
    bn.train(train)
    with torch.no_grad(), pytest.raises(RuntimeError, match="32"):
        fused_tail(*maps(2, 32, 4, 4), bn, se)


def test_weights_on_another_device_than_the_map_are_not_for_the_kernels():
    x, _ = maps(2, 32, 4, 4)
    reduce, expand, reduce_bias, expand_bias = torch.zeros(8, 32), torch.zeros(32, 8), torch.zeros(8), torch.zeros(32)
    assert not_for_excitation(x, reduce, expand) is None
    assert not_for_excitation(x, reduce, expand, reduce_bias, expand_bias) is None
    assert not_for_excitation(x, reduce.to("meta"), expand)
    assert not_for_excitation(x, reduce, expand, reduce_bias.to("meta"))
    assert not_for_excitation(x, reduce, expand, torch.zeros(7))
    assert not_for_excitation(x, reduce, expand, None, expand_bias.to("meta"))
    assert not_for_excitation(x, reduce, expand, None, torch.zeros(8))


def test_a_norm_that_was_replaced_after_fusing_is_still_the_one_that_normalizes():
    class Noted(nn.BatchNorm2d):
        def forward(self, x):
            self.called = True
            return super().forward(x)

    noted, se = Noted(32), modules()[1]
    fused_tail(*maps(2, 32, 4, 4), noted, se)
    assert noted.called


def test_an_empty_batch_stays_empty():
    bn, se = modules()
    bn.eval()
    x, shortcut = maps(0, 32, 4, 4)
    assert fused_tail(x, shortcut, bn, se).shape == (0, 32, 4, 4)


def test_a_broadcast_shortcut_is_the_textbook_s():
    bn, se = modules()
    x, _ = maps(2, 32, 4, 4)
    shortcut = torch.ones(1, 32, 1, 1)
    twin = copy.deepcopy(bn)
    torch.testing.assert_close(fused_tail(x, shortcut, bn, se), textbook_tail(x, shortcut, twin, se))


def test_frozen_parameters_get_no_gradient():
    bn, se = modules()
    for parameter in (*bn.parameters(), *se.parameters()):
        parameter.requires_grad_(requires_grad=False)
    x, shortcut = maps(2, 32, 4, 4)
    fused_tail(x.requires_grad_(), shortcut, bn, se).sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in (*bn.parameters(), *se.parameters()))


def test_checkpointing_recomputes_the_same(kernels):
    bn, se = modules(track_running_stats=False)
    x, shortcut = maps(2, 32, 4, 4)
    grads = []
    for run in (fused_tail, lambda *given: checkpoint(fused_tail, *given, use_reentrant=False)):
        leaf = x.clone().requires_grad_()
        run(leaf, shortcut, bn, se).square().sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, rtol=0, atol=0)


class Block(nn.Module):
    """Hold what a tail is made of."""

    def __init__(self, **norm):
        super().__init__()
        self.bn, self.se = modules(**norm)

    def forward(self, x, shortcut):
        return fused_tail(x, shortcut, self.bn, self.se)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("layout", FORMATS)
def test_an_outer_compilation_keeps_the_kernels_in_one_graph(train, layout, biased):
    block = Block(biased=biased).train(train)
    twin = copy.deepcopy(block)
    x, shortcut = maps(4, 32, 5, 6, layout=layout)
    compiled = torch.compile(block, fullgraph=True)
    with torch.set_grad_enabled(train):
        ours, theirs = compiled(x, shortcut), twin(x, shortcut)
    torch.testing.assert_close(ours, theirs)
    for name, buffer in block.named_buffers():
        torch.testing.assert_close(buffer, twin.get_buffer(name))
    if train:
        ours.square().sum().backward()
        theirs.square().sum().backward()
        for name, parameter in block.named_parameters():
            torch.testing.assert_close(parameter.grad, twin.get_parameter(name).grad)


@pytest.mark.parametrize("train", [True, False])
def test_five_batch_sizes_compile_twice_into_one_graph_without_breaks(kernels, train):
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    block = torch.compile(Block().train(train))
    for batch in (4, 6, 9, 16, 33):
        with torch.set_grad_enabled(train):
            out = block(*maps(batch, 32, 6, 6))
        if train:
            out.sum().backward()
    assert counters["stats"]["unique_graphs"] == 2  # the second for any batch
    assert not counters["graph_break"]


@pytest.mark.parametrize("biased", BIASED[:3])
def test_the_operators_hold_what_pytorch_asks_of_operators(kernels, biased):
    x, shortcut, parameters, grad = tensors((2, 16, 3, 3), torch.float32, biased=biased)
    weight, bias, *excitation = parameters
    frozen = (weight, bias, bias, weight, EPS, *excitation)
    kept = operators.tail_forward(x, shortcut, *parameters, EPS)
    torch.library.opcheck(operators.tail_forward, (x, shortcut, *parameters, EPS))
    leaves, _ = leaves_of(x, shortcut, *parameters)
    torch.library.opcheck(operators.tail_training, (*leaves, EPS))
    torch.library.opcheck(operators.tail_backward, (grad, x, *kept[1:], *parameters, EPS))
    moments = operators.tail_moments(x)
    torch.library.opcheck(operators.tail_moments, (x,))
    torch.library.opcheck(operators.tail_normalized, (x, shortcut, moments[0], *kept[3:5], *parameters, EPS))
    torch.library.opcheck(operators.tail_sums, (grad, x, *kept[1:], *parameters, EPS))
    torch.library.opcheck(operators.tail_inference, (x, shortcut, None, *frozen))
    torch.library.opcheck(operators.tail_scaling, (x, None, *frozen))
    torch.library.opcheck(operators.rectified_norm, (x, *frozen[:5]))
    kept = operators.se_forward(x, *excitation, True, False)
    torch.library.opcheck(operators.se_forward, (x, *excitation, True, False))
    torch.library.opcheck(operators.se_training, (leaves[0], *leaves[4:], True, True))
    torch.library.opcheck(operators.se_backward, (grad, x, *excitation[:2], *kept[1:], True, False))


def test_export_gives_a_graph_of_pytorch_s_own_operators():
    block = Block().eval()
    given_maps = maps(2, 32, 4, 4)
    exported = torch.export.export(block, given_maps).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(*given_maps), block(*given_maps))


def test_tensors_without_numbers_pass():
    block = Block()
    x, shortcut = maps(2, 32, 4, 4)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert block(mode.from_tensor(x), mode.from_tensor(shortcut)).shape == x.shape
    assert block.to("meta")(x.to("meta"), shortcut.to("meta")).is_meta


def test_compiled_inference_with_a_cumulative_norm_is_fused(kernels):
    from torch._dynamo.utils import counters

    block = Block(momentum=None).eval()
    graphs = []
    counters.clear()
    torch.compiler.reset()
    with torch.no_grad():
        torch.compile(block, backend=lambda graph, _: graphs.append(graph) or graph)(*maps(2, 32, 4, 4))
    assert any(node.target is operators.tail_scaling for node in graphs[0].graph.nodes)


def test_a_used_block_survives_copying_and_pickling():
    block = Block().eval()
    given_maps = maps(2, 32, 4, 4)
    with torch.no_grad():
        expected = block(*given_maps)
        torch.testing.assert_close(copy.deepcopy(block)(*given_maps), expected, rtol=0, atol=0)
        torch.testing.assert_close(pickle.loads(pickle.dumps(block.state_dict()))["bn.weight"], block.bn.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_the_dtype_and_the_gradients_that_the_textbook_gives(dtype):
    bn, se = modules()
    twin = copy.deepcopy(bn)
    x, shortcut = maps(2, 32, 4, 4, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        ours, theirs = fused_tail(x, shortcut, bn, se), textbook_tail(x, shortcut, twin, se)
    assert ours.dtype == theirs.dtype == dtype
    assert float(((ours - theirs).norm() / theirs.norm()).detach()) <= TOLERANCE[torch.bfloat16]
    ours.float().sum().backward()
    theirs.float().sum().backward()
    assert float((bn.weight.grad - twin.weight.grad).norm() / twin.weight.grad.norm()) <= 2 * TOLERANCE[torch.bfloat16]


def test_at_most_a_map_and_a_quarter_is_kept_for_the_backward(kernels):
    x, shortcut, parameters, _ = tensors((8, 64, 16, 16), torch.float32)
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    leaves, present = leaves_of(x, shortcut, *parameters)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        tail_of(kernels, *leaves)
    small = sum(one.numel() * 4 for one in present[2:]) + 4 * (4 * 8 * 64 + 2 * 64)
    assert sum(kept.values()) - small <= 1.25 * x.numel() * 4


@pytest.mark.parametrize("layout", FORMATS)
def test_the_compiled_algebra_moves_few_maps(layout):
    """Inductor's own count of bytes: the floor is 4.25 passes forward and 6.25 backward with a byte mask."""
    x, shortcut, parameters, grad = tensors((32, 64, 32, 32), torch.float32, layout)
    kept = algebra.tail_forward(x, shortcut, parameters, EPS)
    forward = passes(algebra.tail_forward, x, shortcut, parameters, EPS)
    backward = passes(algebra.tail_backward, grad, x, kept, parameters, EPS)
    assert forward <= 4.3
    assert forward + backward <= 11.1


@pytest.fixture
def unbuilt(monkeypatch, tmp_path):
    """Let the kernels be built anew, with a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native._load.cache_clear()
    yield tmp_path
    native._load.cache_clear()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/nowhere/g++", "No such file"),
        ("false", "returned non-zero exit status"),
        ("g++ -fno-such-flag", "no-such-flag"),
        ("g++ '", "quotation"),
    ],
)
def test_where_nothing_can_be_built_pytorch_s_operators_run_and_a_warning_says_why(
    unbuilt, monkeypatch, compiler, reason
):
    monkeypatch.setenv("CXX", compiler)
    with pytest.warns(UserWarning, match=f"kernels are not used: .*{reason}"):
        assert not native.available()
    bn, se = modules()
    twin = copy.deepcopy(bn)
    x, shortcut = maps(2, 32, 4, 4)
    torch.testing.assert_close(fused_tail(x, shortcut, bn, se), textbook_tail(x, shortcut, twin, se))


def test_a_compiler_may_be_given_with_arguments(tmp_path):
    # In a process of its own, because a second library would register its operators over those of the first.
    environment = os.environ | {"CXX": "g++ -DNOTHING=1", "XDG_CACHE_HOME": str(tmp_path)}
    program = "from cnnperf.fusion.native import build as native; print(native.available())"
    found = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert found == "True\n"


def test_a_cache_folder_that_cannot_be_written_is_no_error(unbuilt, monkeypatch):
    (unbuilt / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(unbuilt / "file"))
    with pytest.warns(UserWarning, match="kernels are not used"):
        assert not native.available()


def without_gradient(x, shortcut, parameters):
    """Give what the operators of inference and the forward of SE give."""
    weight, bias, *excitation = parameters
    norm = (weight, bias, bias.flip(0), weight.flip(0), EPS)
    return [
        operators.tail_inference(x, shortcut, None, *norm, *excitation),
        operators.tail_scaling(x, None, *norm, *excitation),
        *operators.rectified_norm(x, *norm),
        *operators.se_forward(x, *excitation, False, False),
    ]


@contextmanager
def threads_set(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("threads", [1, 2, 5, 16, 48])  # more than cores, and more than samples
def test_the_result_does_not_depend_on_the_number_of_threads(kernels, threads, layout):
    shape = (3, 64, 48, 48)  # large enough to be shared out
    with threads_set(threads):
        check(kernels, *tensors(shape, torch.float32, layout, biased=(True, True)))
        x, shortcut, parameters, _ = tensors(shape, torch.float32, layout)
        found = without_gradient(x, shortcut, parameters)
    with threads_set(1):
        alone = without_gradient(x, shortcut, parameters)
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_calls_at_the_same_time_that_have_more_threads_than_cores_each_end_with_the_right_result(kernels):
    given_tensors = tensors((3, 64, 48, 48), torch.float32)
    exact = exact_results(*given_tensors)
    with threads_set(16), ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(results_of, kernels, *given_tensors) for _ in range(12)]
        for call in calls:
            assert max(distances(call.result(timeout=300), exact)) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_running_statistics_in_two_dtypes_are_both_updated(dtypes):
    (fused, se), (plain, _) = modules(), modules()
    for norm in (fused, plain):
        norm.running_mean, norm.running_var = norm.running_mean.to(dtypes[0]), norm.running_var.to(dtypes[1])
    x, shortcut = maps(3, 32, 8, 7)
    fused_tail(x, shortcut, fused, se)
    batch = x.transpose(0, 1).flatten(1).double()
    assert torch.allclose(fused.running_mean.double(), 0.1 * batch.mean(1), atol=1e-6)
    assert torch.allclose(fused.running_var.double(), 0.9 + 0.1 * batch.var(1), atol=1e-5)
    assert (fused.running_mean.dtype, fused.running_var.dtype) == dtypes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # in C++ and in the algebra
def test_a_norm_that_tracks_statistics_without_having_any_is_like_pytorch_s(dtype):
    norm, se = (module.to(dtype) for module in modules())
    norm.running_mean = norm.running_var = None
    x, shortcut = maps(3, 32, 8, 7, dtype=dtype)
    out = fused_tail(x, shortcut, norm, se)
    assert torch.allclose(out, textbook_tail(x, shortcut, norm, se), atol=1e-4)
