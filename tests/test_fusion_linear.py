"""The squeeze of a convolution's output from sums of its input, and the block that uses it.

Errors are norms of the difference from float64, relative to the reference's norm.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maps import EPS, FORMATS, TOLERANCE, passes
from torch import nn

from cnnperf.fusion import algebra, block, fuse, operators
from cnnperf.fusion.algebra import Frozen
from cnnperf.fusion.linear_squeeze import has_known_squeeze, squeeze_of_convolution, window_sums
from cnnperf.fusion.native import build as native
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.squeeze_excitation import SEBlock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _kernels():
    assert native.available()


def relative(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


def squeeze_by_convolving(u, weight):
    return nn.functional.conv2d(u, weight, padding=weight.shape[2] // 2).mean((2, 3))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 9),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    size=st.sampled_from([1, 3]),
)
def test_the_squeeze_follows_from_the_sums_of_the_input(batch, channels, height, width, size):
    generator = torch.Generator().manual_seed(height * 8 + width)
    u = torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, channels, size, size, generator=generator, dtype=torch.float64)
    found = squeeze_of_convolution(window_sums(u, size), weight, height * width)
    torch.testing.assert_close(found, squeeze_by_convolving(u, weight))


@pytest.mark.parametrize("tap", range(9))
def test_a_wrong_sum_of_any_tap_is_seen(tap):
    u, weight = torch.randn(2, 3, 4, 4).double(), torch.randn(5, 3, 3, 3).double()
    sums = window_sums(u, 3)
    sums[:, :, tap // 3, tap % 3] = sums.roll(1, dims=3)[:, :, tap // 3, tap % 3]
    assert relative(squeeze_of_convolution(sums, weight, 16), squeeze_by_convolving(u, weight)) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", [(3, 20, 7, 5), (2, 64, 33, 31), (2, 16, 1, 1), (2, 70, 1, 9), (1, 32, 2, 2)])
def test_the_kernel_takes_the_sums_where_it_writes_the_map(shape, layout, dtype):
    x = torch.randn(shape).to(dtype).contiguous(memory_format=FORMATS[layout])
    norm = Frozen(*(torch.rand(shape[1]) + 0.5 for _ in range(4)), EPS)
    slope = norm.weight / torch.sqrt(norm.variance + EPS)
    exact = torch.relu(x.double() * slope[:, None, None] + (norm.bias - norm.mean * slope)[:, None, None])
    out, sums = operators.rectified_norm(x, *norm)
    assert out.stride() == x.stride()
    assert relative(out, exact) <= TOLERANCE[dtype] / 2
    assert relative(sums, window_sums(out.double(), 3)) <= 1e-6  # of the map as it was rounded, which the next one sees


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_size": 5, "padding": 2},
        {"stride": 2},
        {"padding": 0},
        {"padding_mode": "reflect"},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"bias": True},
    ],
    ids=str,
)
def test_other_convolutions_have_no_known_squeeze(changes):
    plain = {"kernel_size": 3, "padding": 1, "bias": False}
    assert has_known_squeeze(nn.Conv2d(4, 4, **plain))
    assert not has_known_squeeze(nn.Conv2d(4, 4, **plain | changes))


def test_a_convolution_with_hooks_or_of_another_class_has_no_known_squeeze():
    hooked = nn.Conv2d(4, 4, 1, bias=False)
    assert has_known_squeeze(hooked)
    hooked.register_forward_hook(lambda *_: None)
    assert not has_known_squeeze(hooked)
    assert not has_known_squeeze(nn.LazyConv2d(4, 1, bias=False))
    assert not has_known_squeeze(nn.Identity())


def block_and_twin(channels=32, size=3):
    torch.manual_seed(0)
    plain = BasicBlock(channels, channels, 1, SEBlock)
    plain.conv2 = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
    for norm in (plain.bn1, plain.bn2):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    return fuse(plain.eval()).model, plain


@pytest.mark.parametrize("compiled", [False, True])
def test_under_autocast_the_squeeze_is_not_taken_from_rounded_sums(monkeypatch, compiled):
    monkeypatch.setattr(block, "pays", lambda _: True)
    torch.compiler.reset()
    ours, twin = block_and_twin()
    x = torch.randn(2, 32, 9, 7)
    with torch.no_grad():
        exact = copy.deepcopy(twin).double()(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            found = (torch.compile(ours, fullgraph=True) if compiled else ours)(x)
    assert relative(found, exact) <= TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_infers_what_the_textbook_infers(monkeypatch, compiled, size, linear, layout, dtype):
    monkeypatch.setattr(block, "pays", lambda _: linear)
    torch.compiler.reset()
    ours, twin = (one.to(dtype) for one in block_and_twin(size=size))
    x = torch.randn(2, 32, 9, 7).to(dtype).contiguous(memory_format=FORMATS[layout])
    with torch.no_grad():
        exact = copy.deepcopy(twin).double()(x.double())
        found = (torch.compile(ours, fullgraph=True) if compiled else ours)(x)
    assert found.dtype == dtype
    assert relative(found, exact) <= TOLERANCE[dtype]


def test_the_squeeze_is_taken_from_sums_in_a_compiled_network_where_maps_are_large(monkeypatch):
    taken = []
    monkeypatch.setattr(block, "squeeze_of_convolution", lambda *given: taken.append(given) or None)
    norm, convolution = nn.BatchNorm2d(2).eval(), nn.Conv2d(2, 2, 3, padding=1, bias=False)
    large, small = torch.zeros(1, 2, 2048, 2048), torch.zeros(1, 2, 8, 8)

    def run(x):
        return block.norm_and_relu(x, norm, convolution)[0]

    with torch.no_grad():
        run(large)
        torch.compile(run, backend="eager")(small)
        assert not taken
        torch.compile(run, backend="eager", dynamic=False)(large)
    assert len(taken) == 1


def test_hooks_on_the_first_norm_are_called():
    ours, twin = block_and_twin()
    called = []
    ours.bn1.register_forward_hook(lambda *_: called.append("bn1"))
    x = torch.randn(2, 32, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), twin(x))
    assert called == ["bn1"]


@pytest.mark.parametrize("layout", FORMATS)
def test_with_a_known_squeeze_the_tail_in_inference_moves_three_maps(layout):
    shape = (32, 64, 32, 32)
    x, shortcut = (torch.randn(shape).contiguous(memory_format=FORMATS[layout]) for _ in range(2))
    norm = Frozen(*(torch.rand(64) + 0.5 for _ in range(4)), EPS)
    squeezed, reduce, expand = torch.randn(32, 64), torch.randn(4, 64), torch.randn(64, 4)

    def tail(x, shortcut, squeezed):
        scale, shift = algebra.tail_scaling(squeezed, norm, reduce, expand)
        return algebra.apply_scaling(x, shortcut, scale, shift)

    with torch.no_grad():
        assert passes(tail, x, shortcut, squeezed) <= 3.1
