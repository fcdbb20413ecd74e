"""The Triton kernels: equal to float64 in Triton's interpreter, accepted by the compiler for real GPUs, and run on one.

The interpreter must be on before triton is imported, so a process of its own runs whatever `interpreted` gets. Errors
are norms of the difference from a float64 reference, relative to the reference's norm.
"""

import importlib
import multiprocessing
import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maps import Elsewhere
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.functional import vjp

from cnnperf.fusion import algebra, fuse, gpu, operators
from cnnperf.fusion.algebra import Forward, Frozen, Parameters
from cnnperf.fusion.forms import Form
from cnnperf.fusion.gate import Excitation, squeeze_and_excite
from cnnperf.fusion.gpu_plan import HELD, SHARED_MOMENTS, TILE, plan
from cnnperf.fusion.tail import Tail
from cnnperf.models.resnet import ResNet18
from cnnperf.models.squeeze_excitation import SEBlock

EPS = 1e-5
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SMALL = 1e-5  # of what is computed in fp32, whatever the maps are in
TOLERANCE = {torch.float32: SMALL, torch.float16: 1e-3, torch.bfloat16: 5e-3}  # of maps: a few roundings
DTYPES = list(TOLERANCE)
SHAPES = [
    (3, 32, 8, 7),
    (2, 5, 3, 3),
    (1, 24, 7, 7),
    (1, 6, 40, 60),  # several parts
]
WIDE = (9, 300, 1, 1)  # more channels, hidden values and samples than a tile of the excitation has
MANY = (130, 5, 1, 2)  # more samples than a tile that sums over the batch, and so a launch of its own for the moments
SWEPT = (2, 6, 33, 33)  # too many pixels for one program
KINDS = [
    ("relu", "sigmoid", False),
    ("silu", "sigmoid", True),
    ("relu", "hardsigmoid", True),
    ("silu", "hardsigmoid", False),
]
PROBE = (3, 16, 5, 4)

FAULTS = [
    ("kernels", "squares += value * value", "squares += 1.001 * value * value"),
    ("kernels", "channels, block_c) / pixels\n", "channels, block_c) / (1.01 * pixels)\n"),
    ("statistics", "within = sum_parts", "within = 1.001 * sum_parts"),
    ("statistics", "between * between", "1.001 * between * between"),
    ("statistics", "(own - centre) * slope + shift", "(own - centre) * slope + 0.999 * shift"),
    ("statistics", "shift - centre * slope", "shift - 1.001 * centre * slope"),
    ("statistics", "+ away * s1", "+ 1.001 * away * s1"),
    ("statistics", "slope * s2 + tl", "1.001 * slope * s2 + tl"),
    ("statistics", "other=0.0) + through", "other=0.0) + 1.001 * through"),
    ("statistics", "through * away", "0.999 * through * away"),
    ("statistics", "-slope * inverse * weights / count", "-1.001 * slope * inverse * weights / count"),
    ("statistics", "-slope * biases / count", "-1.001 * slope * biases / count"),
    ("statistics", "- times_x * centre", "- 1.001 * times_x * centre"),
    ("statistics", "slope[None, :] * through / pixels", "1.001 * slope[None, :] * through / pixels"),
    ("excitation", "gradient * gate * (1 - gate)", "gradient * gate * (1.001 - gate)"),
    ("excitation", "value / 6 + 0.5", "value / 6 + 0.501"),
    ("excitation", "gradient / 6", "gradient / 6.006"),
    ("excitation", "logistic * (1 + value", "logistic * (1.001 + value"),
    ("excitation", "- tl.load(mean + c, mask", "- 1.001 * tl.load(mean + c, mask"),
    ("onchip", "shift[:, None]) * factor", "1.001 * shift[:, None]) * factor"),
]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux alone")


def draw(*size, seed=0, dtype=torch.float32, layout=None, offset=0.0):
    """Give numbers that are exact in `dtype`, so that a reference in float64 starts from the same."""
    generator = torch.Generator().manual_seed(seed)
    numbers = (torch.randn(*size, generator=generator, dtype=torch.float64) + offset).to(dtype)
    return numbers.contiguous(memory_format=FORMATS[layout]) if layout else numbers


def tail_tensors(shape, dtype=torch.float32, layout="contiguous", offset=0.0):
    """Give x, shortcut, parameters and the gradient of the output."""
    channels, hidden = shape[1], max(1, shape[1] // 4)
    x, shortcut, grad = (draw(*shape, seed=seed, dtype=dtype, layout=layout) for seed in (1, 2, 3))
    small = (draw(channels, seed=4).abs() + 0.5, draw(channels, seed=5), draw(hidden, channels), draw(channels, hidden))
    return (x + offset).contiguous(memory_format=FORMATS[layout]), shortcut, Parameters(*small), grad


def frozen(channels):
    mean, variance = draw(channels, seed=6), draw(channels, seed=7).abs() + 0.5
    return Frozen(draw(channels, seed=8), draw(channels, seed=9), mean, variance, EPS)


def excitation_of(channels, activation, gate, biased):
    hidden = max(1, channels // 4)
    biases = (draw(hidden, seed=10), draw(channels, seed=11)) if biased else (None, None)
    return Excitation(draw(hidden, channels, seed=12), draw(channels, hidden, seed=13), *biases, activation, gate)


def wide(*tensors):
    """Give everything in float64 but what is a mask, a number, a name or nothing."""
    floats = (torch.is_tensor(one) and one.is_floating_point() for one in tensors)
    return tuple(one.double() if is_float else one for one, is_float in zip(tensors, floats, strict=True))


def distance(found, exact, scale=0.0):
    exact = exact.double()
    return float((found.double() - exact).norm()) / max(float(exact.norm()), scale, 1e-9)


def check(found, exact, dtype):
    """See that maps are near for their dtype, all else for fp32; what cancels is judged on the scale of the largest."""
    scale = 1e-2 * max(float(one.norm()) for one in exact if one.is_floating_point())
    for index, (one, other) in enumerate(zip(found, exact, strict=True)):
        limit = TOLERANCE[dtype] if one.dim() == 4 else SMALL
        assert distance(one, other, scale) <= limit, (index, distance(one, other, scale))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Give a package for each fault: the kernels with the fault in them."""
    folder, source = tmp_path_factory.mktemp("planted"), Path(gpu.__file__).parent
    for number, (module, right, wrong) in enumerate(FAULTS):
        package = folder / f"planted{number}"
        package.mkdir()
        (package / "__init__.py").touch()
        for path in source.glob("gpu*.py"):
            text = path.read_text(encoding="utf-8")
            if path.stem == f"gpu_{module}":
                assert right in text, "the coefficient is not there to be changed"
                text = text.replace(right, wrong)
            text = re.sub(r"from cnnperf\.fusion(\.gpu| import gpu)", rf"from planted{number}\1", text)
            (package / path.name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def interpreted(planted):
    """Give a function that calls another one in a process with Triton's interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(planted)  # a child that is spawned gets the path of its parent
        patch.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(gpu.available).result(), "these tests need triton"
            patch.delenv("TRITON_INTERPRET")
            yield lambda function, *given: pool.submit(function, *given).result()


def check_forward(kept, x, shortcut, exact_parameters, dtype):
    """Compare with float64; of the mask only what a rounding cannot change."""
    exact = algebra.tail_forward(*wide(x, shortcut), exact_parameters, EPS)
    sure = (sum_before_relu(x, shortcut, exact, exact_parameters).abs() > SMALL).to(torch.uint8)
    check(kept._replace(mask=kept.mask * sure), exact._replace(mask=exact.mask * sure), dtype)


def sum_before_relu(x, shortcut, kept, parameters):
    """Give the sum whose sign the mask holds, in float64: near 0 a rounding puts it on either side."""
    slope = parameters.weight * (kept.variance + EPS).rsqrt()
    normalized = (x.double() - kept.mu[:, None, None]) * slope[:, None, None] + parameters.bias[:, None, None]
    return normalized * kept.gate[:, :, None, None] + shortcut.double()


def check_training(run, module, shape, dtype=torch.float32, layout="contiguous"):
    x, shortcut, parameters, grad = tail_tensors(shape, dtype, layout)
    kept = run(module.tail_forward, x, shortcut, parameters, EPS)
    exact_parameters = Parameters(*wide(*parameters))
    check_forward(kept, x, shortcut, exact_parameters, dtype)
    assert all(one.stride() == x.stride() for one in kept[:2])
    # From the same mask and the same hidden values, so that no activation near 0 can fall on two sides.
    found = run(module.tail_backward, grad, x, kept, parameters, EPS)
    check(found, algebra.tail_backward(*wide(grad, x), Forward(*wide(*kept)), exact_parameters, EPS), dtype)
    assert all(one.stride() == x.stride() for one in found[:2])


def check_inference(run, module, shape, dtype=torch.float32, layout="contiguous"):
    x, shortcut, parameters, _ = tail_tensors(shape, dtype, layout)
    norm, weights = frozen(shape[1]), parameters[2:]
    found = run(module.tail_inference, x, shortcut, norm, *weights)
    exact = algebra.tail_inference(*wide(x, shortcut), Frozen(*wide(*norm)), *wide(*weights))
    check([found], [exact], dtype)
    assert found.stride() == x.stride()


def check_gate(run, module, shape, kind, dtype=torch.float32, layout="contiguous"):
    x, _, _, grad = tail_tensors(shape, dtype, layout)
    excitation = excitation_of(shape[1], *kind)
    kept = run(module.se_forward, x, excitation)
    found = run(module.se_backward, grad, x, kept, excitation)
    leaves = [one if one is None else one.double().requires_grad_() for one in (x, *excitation[:4])]
    out = squeeze_and_excite(leaves[0], Excitation(*leaves[1:], *excitation[4:]))
    exact = torch.autograd.grad(out, [one for one in leaves if one is not None], grad.double())
    check([kept.out], [out.detach()], dtype)
    biases = [one.sum(0) for one, bias in zip(found[3:], excitation[2:4], strict=True) if bias is not None]
    check([*found[:3], *biases], exact, dtype)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_training_equals_float64_in_each_shape_and_layout(interpreted, shape, layout):
    check_training(interpreted, gpu, shape, layout=layout)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_training_takes_maps_of_sixteen_bits(interpreted, dtype, layout):
    check_training(interpreted, gpu, (3, 20, 5, 3), dtype, layout)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", [*SHAPES[:2], MANY])
def test_statistics_of_other_processes_are_taken_in_between_the_kernels(interpreted, shape, layout):
    x, shortcut, parameters, grad = tail_tensors(shape, layout=layout)
    parts = tuple(draw(shape[1], seed=seed).abs() + 0.5 for seed in (20, 21, 22, 23))
    other, exact_parameters = Elsewhere(parts, x.numel() // shape[1]), Parameters(*wide(*parameters))
    kept = interpreted(gpu.tail_forward, x, shortcut, parameters, EPS, other.merge)
    check(kept, algebra.tail_forward(*wide(x, shortcut), exact_parameters, EPS, other.merge), torch.float32)
    found = interpreted(gpu.tail_backward, grad, x, kept, parameters, EPS, other.add)
    exact = algebra.tail_backward(*wide(grad, x), Forward(*wide(*kept)), exact_parameters, EPS, other.add)
    check(found, exact, torch.float32)
    alone = interpreted(gpu.tail_backward, grad, x, kept, parameters, EPS)
    assert distance(alone.x, exact.x) > SMALL  # what the other process knows matters


@pytest.mark.parametrize("shape", [WIDE, MANY])
def test_training_takes_more_samples_and_channels_than_a_tile(interpreted, shape):
    check_training(interpreted, gpu, shape)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 32, 8, 7), (2, 5, 1, 1), SWEPT])
def test_inference_equals_float64(interpreted, shape, dtype, layout):
    check_inference(interpreted, gpu, shape, dtype, layout)


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
    exact = algebra.tail_forward(*wide(x, shortcut), Parameters(*wide(*parameters)), EPS)
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
    exact_parameters = Parameters(*wide(*parameters))
    exact = algebra.tail_forward(*wide(x, shortcut), exact_parameters, EPS)
    place = (1, 2, 3, 3)
    shortcut = shortcut.double()
    shortcut[place] -= sum_before_relu(x, shortcut, exact, exact_parameters)[place] - 1e-7
    kept = algebra.tail_forward(*wide(x, shortcut), exact_parameters, EPS)
    check_forward(kept._replace(mask=flipped(kept.mask, place)), x, shortcut, exact_parameters, torch.float32)
    wrong = kept._replace(mask=flipped(kept.mask, (0, 0, 0, 0)))
    with pytest.raises(AssertionError):
        check_forward(wrong, x, shortcut, exact_parameters, torch.float32)


def flipped(mask, place):
    mask = mask.clone()
    mask[place] = 1 - mask[place]
    return mask


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_wrong_coefficient_is_seen(interpreted, number):
    module = importlib.import_module(f"planted{number}.gpu")
    with pytest.raises(AssertionError):
        check_all(interpreted, module)


def check_all(run, module):
    check_training(run, module, PROBE)
    check_inference(run, module, PROBE)
    for kind in KINDS:
        check_gate(run, module, PROBE, kind)
    check_gate(run, module, SWEPT, KINDS[1])


def test_without_a_fault_the_same_checks_pass(interpreted):
    check_all(interpreted, gpu)


def test_gating_has_the_textbook_s_gradient(interpreted):
    x, _, _, grad = tail_tensors(PROBE)
    excitation = excitation_of(PROBE[1], *KINDS[1])
    found = interpreted(vjp, partial(gpu.gate_map, excitation=excitation), x, grad)
    exact = vjp(partial(squeeze_and_excite, excitation=Excitation(*wide(*excitation))), *wide(x, grad))
    check(found, exact, torch.float32)


def test_a_second_derivative_is_refused_in_words(interpreted):
    x, _, _, grad = tail_tensors(PROBE)
    function = partial(gpu.gate_map, excitation=excitation_of(PROBE[1], *KINDS[0]))
    with pytest.raises(RuntimeError, match="no second derivative"):
        interpreted(partial(vjp, create_graph=True), function, x, grad)


def test_the_operators_on_cuda_do_what_the_functions_do(interpreted):
    from cnnperf.fusion import gpu_operators

    same = partial(torch.testing.assert_close, rtol=0, atol=0)
    x, shortcut, parameters, grad = tail_tensors(PROBE)
    kept = interpreted(gpu.tail_forward, x, shortcut, parameters, EPS)
    same(interpreted(gpu_operators.tail_training_operator, x, shortcut, *parameters, EPS), tuple(kept))
    found = interpreted(gpu_operators.tail_backward_operator, grad, x, *kept[1:], *parameters, EPS)
    same(found, tuple(interpreted(gpu.tail_backward, grad, x, kept, parameters, EPS)))
    excitation, (silu, hard) = excitation_of(PROBE[1], *KINDS[1]), (True, False)
    excited = interpreted(gpu.se_forward, x, excitation)
    same(interpreted(gpu_operators.se_training_operator, x, *excitation[:4], silu, hard), tuple(excited))
    found = interpreted(gpu_operators.se_backward_operator, grad, x, *excitation[:2], *excited[1:], silu, hard)
    same(found, tuple(interpreted(gpu.se_backward, grad, x, excited, excitation)))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 20, 7, 7), SWEPT, WIDE])
def test_the_scaling_of_compiled_inference_equals_float64(interpreted, shape, dtype, layout):
    from cnnperf.fusion import gpu_operators

    x, _, parameters, _ = tail_tensors(shape, dtype, layout)
    norm, weights = frozen(shape[1]), parameters[2:]
    exact = torch.stack(algebra.tail_scaling(x.double().mean((2, 3)), Frozen(*wide(*norm)), *wide(*weights)))
    assert distance(interpreted(gpu_operators.tail_scaling_operator, x, None, *norm, *weights), exact) <= SMALL
    known = x.float().mean((2, 3))
    assert distance(interpreted(gpu_operators.tail_scaling_operator, x, known, *norm, *weights), exact) <= SMALL


# What follows needs kernels that are compiled, not interpreted.


class Target:
    """Stand in for Triton's driver: a GPU of some architecture that nothing is run on."""

    def __init__(self, architecture):
        self.architecture = architecture

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self):
        return self.architecture

    def get_current_stream(self, device):
        return 0


@pytest.fixture
def target(monkeypatch, request, tmp_path):
    import triton

    assert not triton.knobs.runtime.interpret, "unset TRITON_INTERPRET: these tests compile kernels"
    monkeypatch.setattr(triton.runtime.driver, "_active", Target(getattr(request, "param", 90)))
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))


class Recorder(list):
    """Note launches instead of making them."""

    def __call__(self, kernel):
        self.kernel = kernel
        return self

    def __getitem__(self, grid):
        return lambda *given, **options: self.append((self.kernel, grid, given, options))


def record_launches(shape, dtype, layout, kind=KINDS[1]):
    from cnnperf.fusion import gpu_gate, gpu_tail

    launches = Recorder()
    x, shortcut, parameters, grad = tail_tensors(shape, dtype, layout)
    kept = gpu_tail.tail_forward(x, shortcut, parameters, EPS, launches)
    gpu_tail.tail_backward(grad, x, kept, parameters, EPS, launches)
    gpu_tail.tail_inference(x, shortcut, frozen(shape[1]), *parameters[2:], launches)
    excitation = excitation_of(shape[1], *kind)
    excited = gpu_gate.se_forward(x, excitation, launches)
    gpu_gate.se_backward(grad, x, excited, excitation, launches)
    return list(launches)


@pytest.mark.parametrize(
    ("target", "shape", "dtype", "layout"),
    [
        (80, (36, 64, 32, 32), torch.float32, "contiguous"),  # swept, in vectors
        (90, (1, 256, 8, 8), torch.bfloat16, "channels_last"),  # held, as much as there may be
        (90, (2, 128, 7, 7), torch.float16, "contiguous"),  # held, in single numbers
        (90, (1, 1, 1, 1), torch.float32, "contiguous"),  # Triton takes a size of 1 for a constant
    ],
    indirect=["target"],
)
def test_every_kernel_compiles_for_a_gpu_without_spilling_much(target, tmp_path, shape, dtype, layout):
    for kernel, grid, arguments, options in record_launches(shape, dtype, layout):
        compiled = kernel.warmup(*arguments, grid=grid, **options)
        assert spilled(compiled, tmp_path) <= 128, kernel.fn.__name__


def spilled(compiled, folder):
    """Return how many bytes of stack a thread needs."""
    import triton

    binary = folder / "kernel.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", binary]
    usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(re.search(r"STACK:(\d+)", usage)[1])


def test_every_kernel_is_among_those_that_are_compiled():
    from cnnperf.fusion import gpu_kernels, gpu_onchip, gpu_pooled, gpu_statistics

    launches = [
        *record_launches((36, 8, 2, 2), torch.float32, "contiguous"),
        *record_launches((1, 64, 32, 32), torch.float32, "contiguous"),
    ]
    launched = {kernel.fn.__name__ for kernel, *_ in launches}
    called = {"place_of", "tile_at", "store_sums", "load_channels", "first_pixels", "batch_moments"}
    written = {
        name
        for module in (gpu_kernels, gpu_onchip, gpu_pooled, gpu_statistics)
        for name, one in vars(module).items()
        if getattr(one, "__module__", None) == module.__name__
    }
    assert launched == written - called


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_operators_say_what_shapes_the_functions_give(layout, kind):
    from cnnperf.fusion import gpu_gate, gpu_tail

    launches = Recorder()
    x, shortcut, parameters, grad = tail_tensors((3, 20, 4, 5), torch.bfloat16, layout)
    excitation = excitation_of(20, *kind)
    tensors, flags = excitation[:4], (kind[0] == "silu", kind[1] == "hardsigmoid")
    norm, weights = frozen(20), parameters[2:]
    kept = gpu_tail.tail_forward(x, shortcut, parameters, EPS, launches)
    excited = gpu_gate.se_forward(x, excitation, launches)
    given = [
        kept,
        gpu_tail.tail_backward(grad, x, kept, parameters, EPS, launches),
        [gpu_tail.tail_scaling(x, norm, *weights, launches)],
        excited,
        gpu_gate.se_backward(grad, x, excited, excitation, launches),
    ]
    with FakeTensorMode(allow_non_fake_inputs=True):
        promised = [
            operators.tail_training(x, shortcut, *parameters, EPS),
            operators.tail_backward(grad, x, *kept[1:], *parameters, EPS),
            [operators.tail_scaling(x, None, *norm, *weights)],
            operators.se_training(x, *tensors, *flags),
            operators.se_backward(grad, x, *tensors[:2], *excited[1:], *flags),
        ]
    for ours, theirs in zip(given, promised, strict=True):
        assert [looks(one) for one in ours] == [looks(one) for one in theirs]


def looks(tensor):
    return tensor.shape, tensor.dtype, tensor.stride()


def test_every_operator_of_a_compilation_has_an_implementation_on_cuda():
    from cnnperf.fusion import gpu_operators

    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    on_cuda = {name for name in operators.SCHEMAS if has_kernel(f"cnnperf::{name}", "CUDA")}
    assert on_cuda == {"tail_training", "tail_backward", "tail_scaling", "se_training", "se_backward"}
    assert on_cuda == gpu_operators.IMPLEMENTATIONS.keys()


# What follows needs no triton.


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    *(st.integers(1, limit) for limit in (5000, 4096, 300_000, 512)),
    st.booleans(),
)
def test_a_plan_gives_each_number_to_one_program(batch, channels, pixels, width, last):
    how = plan(batch, channels, pixels, width, last=last)
    for sweep in (how.sums, how.writes):
        assert sweep.block_c * sweep.block_p <= TILE
        assert sweep.chunk % sweep.block_p == 0
        assert (sweep.parts - 1) * sweep.chunk < pixels <= sweep.parts * sweep.chunk
        assert sweep.programs == batch * -(-channels // sweep.block_c) * sweep.parts
    assert how.writes.chunk == how.writes.block_p
    powers = (how.sums.block_c, how.sums.block_p, how.sums.warps, how.row_c, how.row_h, how.row_warps, how.few_n)
    assert all(one & (one - 1) == 0 for one in (*powers, how.block_n, how.whole_c, how.whole_p, how.whole_warps))
    assert how.whole_c >= channels
    assert how.whole_p >= pixels
    assert how.shares_moments == (batch * how.sums.parts <= SHARED_MOMENTS)
    if how.held:
        assert how.whole_c * how.whole_p <= max(HELD.values())


def test_a_plan_divides_a_single_large_sample_but_not_many():
    assert plan(1, 64, 12544, 4, last=False).sums.parts > 1
    assert plan(256, 64, 1024, 4, last=False).sums.parts == 1


def test_without_triton_the_module_loads_and_says_that_no_kernel_is_available():
    code = "import sys; sys.modules['triton'] = None; from cnnperf.fusion import gpu; sys.exit(gpu.available())"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TRITON_INTERPRET": "1"})


def test_maps_on_the_cpu_are_not_for_these_kernels():
    assert not gpu.fits(torch.zeros(2, 3, 4, 4))


# What follows needs a device.


def on_device(function, *given):
    """Call a function with its tensors moved to the device, and bring back what it returns."""
    return moved(function(*moved(given, "cuda")), "cpu")


def moved(what, device):
    if torch.is_tensor(what):
        return what.to(device)
    if isinstance(what, tuple):
        parts = [moved(one, device) for one in what]
        return type(what)(*parts) if hasattr(what, "_fields") else tuple(parts)
    return what


@pytest.mark.gpu
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, WIDE, MANY, SWEPT, (16, 64, 56, 56), (8, 256, 8, 8), (64, 512, 7, 7)])
def test_a_device_gives_what_float64_gives(shape, dtype, layout):
    check_training(on_device, gpu, shape, dtype, layout)
    check_inference(on_device, gpu, shape, dtype, layout)
    for kind in KINDS:
        check_gate(on_device, gpu, shape, kind, dtype, layout)


@pytest.mark.gpu
def test_a_device_gives_the_same_bits_again():
    given = moved(tail_tensors((16, 64, 32, 32))[:3], "cuda")
    first, *others = (gpu.tail_forward(*given, EPS) for _ in range(20))
    for other in others:
        torch.testing.assert_close(first, other, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", FORMATS)
def test_an_outer_compilation_on_a_device_keeps_values_and_gradients(layout):
    x, shortcut, parameters, grad = moved(tail_tensors((8, 64, 14, 14), layout=layout), "cuda")
    excitation = moved(excitation_of(64, *KINDS[1]), "cuda")
    assert gpu.available()

    def traced_block(x, shortcut, *small):
        out, *_ = operators.tail_training(x * 2, shortcut, *small[:4], EPS)
        gated, *_ = operators.se_training(out, *small[4:], True, False)
        return gated + 1

    def direct_block(x, shortcut, *small):
        form = Form(gpu.tail_forward, gpu.tail_backward)
        out, *_ = Tail.apply(form, EPS, x * 2, shortcut, *small[:4])
        return gpu.gate_map(out, Excitation(*small[4:], *excitation[4:])) + 1

    leaves = [one.detach().requires_grad_() for one in (x, shortcut, *parameters, *excitation[:4])]
    ours, theirs = torch.compile(traced_block, fullgraph=True)(*leaves), direct_block(*leaves)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves, grad), torch.autograd.grad(theirs, leaves, grad))


@pytest.mark.gpu
def test_the_operators_hold_what_pytorch_asks_of_operators():
    assert gpu.available()
    x, shortcut, parameters, _ = moved(tail_tensors((4, 16, 6, 6)), "cuda")
    norm, excitation = moved(frozen(16), "cuda"), moved(excitation_of(16, *KINDS[1]), "cuda")
    leaves = [one.requires_grad_() for one in (x, shortcut, *parameters)]
    torch.library.opcheck(operators.tail_training, (*leaves, EPS))
    torch.library.opcheck(operators.se_training, (x, *excitation[:4], True, False))
    still = [one.detach() for one in leaves]
    torch.library.opcheck(operators.tail_scaling, (still[0], None, *norm, *still[4:]))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", FORMATS)
def test_more_than_two_to_the_31_numbers_are_reached(layout):
    free, _ = torch.cuda.mem_get_info()
    if free < 16 * 2**30:
        pytest.skip("needs 16 GiB of a device's memory")
    size = (34, 64, 1024, 1024)
    x = torch.empty(size, dtype=torch.bfloat16, device="cuda", memory_format=FORMATS[layout]).zero_()
    x[-1] = draw(64, 1024, 1024, dtype=torch.bfloat16)
    excitation = moved(excitation_of(64, *KINDS[1]), "cuda")
    out = gpu.se_forward(x, excitation).out[-1:].double().cpu()
    exact = squeeze_and_excite(x[-1:].double().cpu(), Excitation(*wide(*moved(excitation, "cpu"))))
    assert distance(out, exact) <= TOLERANCE[torch.bfloat16]


@pytest.mark.gpu
@pytest.mark.parametrize("train", [True, False])
def test_a_fused_network_on_a_device_computes_what_the_textbook_does(train):
    torch.manual_seed(0)
    textbook = ResNet18(SEBlock).to("cuda").train(train)
    images = torch.randn(8, 3, 32, 32, device="cuda")
    direct, traced = fuse(textbook).model, torch.compile(fuse(textbook).model)
    with torch.set_grad_enabled(train):
        expected, *found = (network(images) for network in (textbook, direct, traced))
    for one in found:
        torch.testing.assert_close(one, expected, rtol=1e-3, atol=1e-3)
