"""How kernels are launched on a GPU: how often, how many allocations there are, and what is kept from call to call.

Nothing is run: the launchers note what they are asked for.
"""

import importlib
import sys
from collections import Counter
from functools import partial

import pytest
import torch
from fusion_gpu import EPS, FORMATS, KINDS, PROBE, Recorder, excitation_of, frozen, given_to, tail_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from cnnperf.fusion import algebra, maps, operators
from cnnperf.fusion.tail import excitation_of as excitation_weights
from cnnperf.fusion.tail import fused_tail
from cnnperf.fusion.triton import counters as gpu_counters
from cnnperf.fusion.triton import functions as gpu
from cnnperf.fusion.triton import launch as gpu_launch
from cnnperf.fusion.triton.launch import ALIGNMENT, DirectLaunch, block_of, launch_for, launch_ordinarily
from cnnperf.fusion.triton.plan import CONCLUDED, HELD, PARTS, TILE, plan
from cnnperf.models.squeeze_excitation import SEBlock

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux alone")]

FORWARD = ["sum_moments", "excite_normalized", "rectify_map"]
BACKWARD = ["pass_gradient", "find_coefficients", "blend_maps"]
STAGES = [(32, 64, 32, 32), (32, 512, 4, 4), (512, 64, 32, 32), (64, 256, 56, 56), (256, 512, 7, 7), (1, 64, 112, 112)]


class Operations(TorchDispatchMode):
    """Count of PyTorch's operators by name; views are none."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, given=(), options=None):
        name = function.overloadpacket.__name__
        if name not in {"as_strided", "detach", "alias"}:
            self.counts[name] += 1
        return function(*given, **(options or {}))


@pytest.fixture
def tail(monkeypatch):
    """The module of the tail, whose counters are there already."""
    module = importlib.import_module("cnnperf.fusion.triton.tail")
    counters = torch.zeros(4096, dtype=torch.int32)
    monkeypatch.setattr(module, "counters_for", lambda *_: counters)
    return module


@pytest.fixture
def launches(tail, monkeypatch):
    """All launches of the tail, through whatever function they are asked for."""
    noted = Recorder()
    monkeypatch.setattr(tail, "launch_for", lambda *_: noted)
    return noted


@pytest.mark.parametrize("small", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_training_tail_is_six_launches_and_seven_allocations_of_which_four_are_maps(launches, small, momentum):
    x, shortcut, parameters, grad = tail_tensors((32, 64, 8, 8), layout="channels_last", small=small)
    leaves = [one.requires_grad_() for one in (x, shortcut, *parameters)]
    running = torch.zeros(64), torch.ones(64), torch.tensor(0), momentum
    with Operations() as operations:
        out = gpu.Tail.apply(EPS, running, *leaves)
        gradients = torch.autograd.grad(out, leaves, grad)
    assert launches.names == FORWARD + BACKWARD
    assert operations.counts == {"empty_like": 4, "new_empty": 3}
    assert [one.dtype for one in gradients] == [one.dtype for one in leaves]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", STAGES)
def test_every_stage_of_the_networks_takes_three_launches_each_way(shape, layout):
    batch, channels, height, width = shape
    how = plan(batch, channels, height * width, channels // 16, last=layout == "channels_last")
    assert how.concludes


def test_the_moments_of_a_very_large_batch_are_left_to_a_launch(tail, monkeypatch):
    monkeypatch.setattr("cnnperf.fusion.triton.plan.CONCLUDED", 0)
    plan.cache_clear()
    noted = Recorder()
    x, shortcut, parameters, _ = tail_tensors(PROBE)
    tail.tail_forward(x, shortcut, parameters, EPS, launch=noted)
    plan.cache_clear()
    assert noted.names == ["sum_moments", "find_batch_moments", *FORWARD[1:]]


def test_no_gradient_of_a_parameter_keeps_more_alive_than_the_others(launches):
    x, shortcut, parameters, grad = tail_tensors((4, 64, 8, 8))
    kept = gpu.tail_forward(x, shortcut, parameters, EPS)
    gradients = gpu.tail_backward(grad, x, kept, parameters, EPS)
    (size,) = {one.untyped_storage().nbytes() for one in gradients[2:]}
    assert size <= sum(
        one.numel() * one.element_size() + 64 for one in (*gradients[2:], *parameters[:2], *parameters[:2])
    )
    assert kept.mask.untyped_storage().nbytes() == kept.mask.numel()
    of_small = kept.mean.untyped_storage().nbytes()
    assert of_small <= 5 * kept.mean.numel() * kept.mean.element_size()


def test_parameters_of_several_dtypes_get_gradients_of_theirs(launches):
    x, shortcut, parameters, grad = tail_tensors(PROBE)
    mixed = parameters._replace(weight=parameters.weight.bfloat16())
    kept = gpu.tail_forward(x, shortcut, mixed, EPS)
    gradients = gpu.tail_backward(grad, x, kept, mixed, EPS)
    assert [one.dtype for one in gradients[2:]] == [torch.bfloat16] + [torch.float32] * (len(parameters) - 1)


class Kernel:
    """Stand-in for `triton.JITFunction`, which counts how it is launched."""

    __name__ = "kernel"
    arg_names = ("x", "size", "block", "last")

    def __init__(self):
        self.ordinary, self.direct = [], []

    def __getitem__(self, grid):
        def run(*given, **options):
            self.ordinary.append((grid, given, options))
            return Compiled(self)

        return run


class Compiled:
    """Stand-in for `triton.compiler.CompiledKernel`."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *given: self.kernel.direct.append((grid, given))


def test_a_kernel_is_looked_up_once_and_then_started_with_all_its_arguments():
    kernel, launch = Kernel(), DirectLaunch()
    for size in (5, 6, 7):
        launch(kernel, 3, "x", size, last=True, block=8, num_warps=4)
    assert kernel.ordinary == [((3,), ("x", 5), {"last": True, "block": 8, "num_warps": 4})]
    assert kernel.direct == [((3, 1, 1), ("x", 6, 8, True)), ((3, 1, 1), ("x", 7, 8, True))]


def test_where_nothing_is_compiled_nothing_is_kept(monkeypatch):
    kernel, launch = Kernel(), DirectLaunch()
    monkeypatch.setattr(Kernel, "__getitem__", lambda self, grid: lambda *_, **__: self.ordinary.append(grid))
    for _ in range(2):
        launch(kernel, 3, "x", 5, last=True, block=8)
    assert kernel.ordinary == [(3,), (3,)]


def test_a_compiled_kernel_of_this_triton_takes_its_arguments_as_they_are_given_here():
    import inspect

    from triton.compiler.compiler import CompiledKernel
    from triton.runtime.jit import JITFunction

    assert "return kernel" in inspect.getsource(JITFunction.run)
    assert "*bound_args.values()" in inspect.getsource(JITFunction.run)  # constants too
    assert "def runner(*args, stream=None)" in inspect.getsource(CompiledKernel.__getitem__)


def of_map(*size, **options):
    return torch.zeros(*size, **options)


CHANGES = {
    "shape": lambda: launch_for("f", of_map(2, 4, 8, 4), [of_map(4)], 1),
    "batch": lambda: launch_for("f", of_map(1, 4, 8, 8), [of_map(4)], 1),
    "layout": lambda: launch_for("f", of_map(2, 4, 8, 8).to(memory_format=torch.channels_last), [of_map(4)], 1),
    "dtype": lambda: launch_for("f", of_map(2, 4, 8, 8, dtype=torch.bfloat16), [of_map(4)], 1),
    "dtype of another tensor": lambda: launch_for("f", of_map(2, 4, 8, 8), [of_map(4, dtype=torch.bfloat16)], 1),
    "no other tensor": lambda: launch_for("f", of_map(2, 4, 8, 8), [None], 1),
    "flag": lambda: launch_for("f", of_map(2, 4, 8, 8), [of_map(4)], 2),
    "function": lambda: launch_for("g", of_map(2, 4, 8, 8), [of_map(4)], 1),
}
"""What Triton may compile another kernel for, or start with another grid or other constants."""


@pytest.mark.parametrize("change", CHANGES)
def test_kernels_are_kept_apart_by_all_that_they_were_compiled_for(change):
    usual = launch_for("f", of_map(2, 4, 8, 8), [of_map(4)], 1)
    assert launch_for("f", of_map(2, 4, 8, 8), [of_map(4)], 1) is usual
    assert CHANGES[change]() is not usual


def test_kernels_are_kept_apart_by_device():
    with FakeTensorMode():
        first, second = (
            gpu_launch._direct("f", (1,), (1,), torch.float32, torch.device("cuda", index).index) for index in (0, 1)
        )
    assert first is not second


@pytest.mark.parametrize("away", [1, 2, 3])
def test_a_pointer_that_is_not_aligned_is_left_to_triton(away):
    weight = torch.zeros(8)[away : away + 4]
    assert launch_for("f", of_map(2, 4, 8, 8), [weight], 1) is launch_ordinarily
    assert launch_for("f", torch.zeros(513)[away:513][:256].view(1, 4, 8, 8), [of_map(4)], 1) is launch_ordinarily


def test_views_of_one_allocation_are_aligned_and_do_not_overlap():
    sizes = ((3, 5), (7,), (2, 3, 4), (1,), (0, 3))
    views = block_of(torch.zeros(1), torch.bfloat16, *sizes)
    assert [tuple(one.shape) for one in views] == list(sizes)
    assert all(one.is_contiguous() and one.data_ptr() % ALIGNMENT == 0 for one in views if one.numel())
    for number, one in enumerate(views):
        one.fill_(number)
    assert [set(one.flatten().tolist()) for one in views] == [{0.0}, {1.0}, {2.0}, {3.0}, set()]
    assert len({one.untyped_storage().data_ptr() for one in views}) == 1


class FakeMap:
    """Stand-in for a map on a GPU."""

    is_cuda = True
    device = torch.device("cuda", 0)


@pytest.fixture
def device(monkeypatch):
    """State of a device that is not there: its current stream, and whether it is being captured."""
    state = {"stream": 1, "capturing": False, "made": []}

    class Stream:
        cuda_stream = property(lambda _: state["stream"])

    def make(place, count):
        state["made"].append(count)
        return torch.zeros(count, dtype=torch.int32)

    def zeros(size, device=None, **options):
        del device
        return real(size, **options)

    real = torch.zeros
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _=None: Stream())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state["capturing"])
    monkeypatch.setattr(torch, "zeros", zeros)
    monkeypatch.setattr(gpu_counters, "_make", make)
    monkeypatch.setattr(gpu_counters, "_kept", {})
    return state


def test_counters_are_made_once_a_stream_and_again_only_for_more(device):
    first = gpu_counters.counters_for(FakeMap(), 5)
    assert gpu_counters.counters_for(FakeMap(), gpu_counters.LEAST) is first
    larger = gpu_counters.counters_for(FakeMap(), gpu_counters.LEAST + 1)
    assert larger.numel() > gpu_counters.LEAST
    assert gpu_counters.counters_for(FakeMap(), 5) is larger
    device["stream"] = 2
    assert gpu_counters.counters_for(FakeMap(), 5) is not larger
    assert len(device["made"]) == 3


def test_a_graph_that_is_captured_gets_counters_of_its_own(device):
    kept = gpu_counters.counters_for(FakeMap(), 5)
    device["capturing"] = True
    first, second = (gpu_counters.counters_for(FakeMap(), 5) for _ in range(2))
    assert len({one.data_ptr() for one in (kept, first, second)}) == 3
    assert len(device["made"]) == 1


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_operators_promise_what_the_functions_give(tail, layout, kind):
    gate = importlib.import_module("cnnperf.fusion.triton.gate")
    inference = importlib.import_module("cnnperf.fusion.triton.inference")
    noted = Recorder()
    x, shortcut, parameters, grad = tail_tensors((3, 20, 4, 5), torch.bfloat16, layout)
    excitation, norm, weights = excitation_of(20, *kind), frozen(20), parameters[2:]
    taken = given_to(operators.tail_training, parameters)
    flags = kind[0] == "silu", kind[1] == "hardsigmoid"
    kept = tail.tail_forward(x, shortcut, parameters, EPS, launch=noted)
    excited = gate.se_forward(x, excitation, noted)
    given = [
        kept,
        tail.tail_backward(grad, x, kept, parameters, EPS, launch=noted),
        [inference.tail_scaling(x, None, norm, *weights, launch=noted)],
        [inference.tail_inference(x, shortcut, norm, *weights, launch=noted)],
        excited,
        gate.se_backward(grad, x, excited, excitation, noted),
    ]
    with FakeTensorMode(allow_non_fake_inputs=True):
        promised = [
            operators.tail_training(x, shortcut, *taken, EPS),
            operators.tail_backward(grad, x, *kept[1:], *taken, EPS),
            [operators.tail_scaling(x, None, *norm, *taken[2:])],
            [operators.tail_inference(x, shortcut, None, *norm, *taken[2:])],
            operators.se_training(x, *excitation[:4], *flags),
            operators.se_backward(grad, x, *excitation[:2], *excited[1:], *flags),
        ]
    for ours, theirs in zip(given, promised, strict=True):
        assert [looks(one) for one in ours] == [looks(one) for one in theirs]


def test_what_an_operator_returns_shares_no_memory(launches, monkeypatch):
    from cnnperf.fusion.triton.operators import implementation_of

    monkeypatch.setattr(importlib.import_module("cnnperf.fusion.triton.gate"), "launch_for", lambda *_: launches)
    x, shortcut, parameters, grad = tail_tensors(PROBE)
    taken, excitation = given_to(operators.tail_training, parameters), excitation_of(PROBE[1], *KINDS[1])
    kept = implementation_of("tail_training")(x, shortcut, *taken, EPS)
    excited = implementation_of("se_training")(x, *excitation[:4], True, False)
    results = [
        kept,
        implementation_of("tail_backward")(grad, x, *kept[1:], *taken, EPS),
        excited,
        implementation_of("se_backward")(grad, x, *excitation[:2], *excited[1:], True, False),
    ]
    for one in results:
        assert len({part.untyped_storage().data_ptr() for part in one}) == len(one)


def looks(tensor):
    return tensor.shape, tensor.dtype, tensor.stride()


def test_every_operator_that_a_compiled_network_on_a_gpu_has_runs_kernels_there():
    module = importlib.import_module("cnnperf.fusion.triton.operators")
    only_on_the_cpu = {"tail_moments", "tail_normalized", "tail_sums", "tail_blend", "rectified_norm"}
    assert set(module.IMPLEMENTATIONS) == set(operators.SCHEMAS) - only_on_the_cpu
    for name in module.IMPLEMENTATIONS:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"cnnperf::{name}", "CUDA")


def apply_scaling(x, shortcut, scale, shift):
    """Do what `algebra.apply_scaling` does without an index, for which a build without CUDA asks for CUDA."""
    scale, shift = (one.unsqueeze(-1).unsqueeze(-1) for one in (scale, shift))
    return torch.relu(x * scale + shift + shortcut)


def graphs_of(train, batches, monkeypatch):
    """Return the graphs that Dynamo makes of a tail on a GPU that is not there, for which autograd cannot record."""
    monkeypatch.setattr(gpu, "_load", lambda: True)
    monkeypatch.setattr(algebra, "apply_scaling", apply_scaling)
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    norm, se = nn.BatchNorm2d(32).train(train), SEBlock(32)
    torch.compiler.reset()
    with FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True), torch.device("cuda"):
        norm.to_empty(device="cuda")
        se.to_empty(device="cuda")
        compiled = torch.compile(partial(fused_tail, norm=norm, se=se), backend=keep, fullgraph=True)
        with torch.no_grad():
            for batch in batches:
                out = compiled(torch.empty(batch, 32, 8, 8), torch.empty(batch, 32, 8, 8))
                assert out.shape == (batch, 32, 8, 8)
                assert out.is_cuda
    return graphs


def targets_of(graph):
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(("train", "operator"), [(True, "tail_training"), (False, "tail_scaling")])
def test_on_a_gpu_too_a_compiler_gets_an_operator_that_takes_maps_in_any_layout(train, operator, monkeypatch):
    (graph,) = graphs_of(train, (4,), monkeypatch)
    ours = [one for one in targets_of(graph) if "cnnperf" in one]
    assert ours == [f"cnnperf.{operator}.default"]
    assert torch.Tag.flexible_layout in getattr(operators, operator).tags


@pytest.mark.parametrize("train", [True, False])
def test_on_a_gpu_too_all_batches_but_the_first_share_a_graph(train, monkeypatch):
    assert len(graphs_of(train, (4, 6, 9, 16, 33), monkeypatch)) == 2


# What follows is the plan's.


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    *(st.integers(1, limit) for limit in (5000, 4096, 300_000, 512)),
    st.booleans(),
)
def test_a_plan_gives_each_number_to_one_program(batch, channels, pixels, width, last):
    how = plan(batch, channels, pixels, width, last=last)
    for sweep in (how.sums, how.writes):
        assert sweep.block_c * sweep.block_p <= TILE[last]
        assert sweep.chunk % sweep.block_p == 0
        assert (sweep.parts - 1) * sweep.chunk < pixels <= sweep.parts * sweep.chunk
        assert sweep.programs == batch * -(-channels // sweep.block_c) * sweep.parts
    assert how.writes.chunk == how.writes.block_p
    powers = (
        *(how.sums.block_c, how.sums.block_p, how.sums.warps, how.row_c, how.row_h, how.row_warps, how.row_parts),
        *(how.ending_warps, how.rows, how.block_n, how.product_n, how.product_h, how.product_c, how.product_warps),
        *(how.whole_c, how.whole_p, how.whole_warps),
    )
    assert all(one & (one - 1) == 0 for one in powers)
    assert how.whole_c >= channels
    assert how.whole_p >= pixels
    assert how.row_parts <= PARTS
    assert how.concludes == (batch * how.sums.parts * how.sums.block_c <= CONCLUDED)
    blocks = -(-channels // how.product_c)
    assert how.products == blocks * (2 * -(-width // how.product_h) + 1)
    assert how.quads == ((channels if last else pixels) % 4 == 0)
    if how.held:
        assert how.whole_c * how.whole_p <= max(HELD.values())


def test_a_plan_divides_a_single_large_sample_but_not_many():
    assert plan(1, 64, 12544, 4, last=False).sums.parts > 1
    assert plan(256, 64, 1024, 4, last=False).sums.parts == 1


def test_more_samples_than_processors_are_held_two_a_processor():
    assert plan(132, 256, 64, 16, last=True).held
    assert not plan(133, 256, 64, 16, last=True).held
    assert plan(133, 128, 64, 8, last=True).held


def test_maps_of_another_layout_are_laid_out_before_any_kernel(launches):
    x, shortcut, parameters, grad = tail_tensors(PROBE)
    other = shortcut.contiguous(memory_format=torch.channels_last)
    kept = gpu.tail_forward(x, other, parameters, EPS)
    mask = kept.mask.contiguous(memory_format=torch.channels_last)
    gpu.tail_backward(grad, x, kept._replace(mask=mask), parameters, EPS)
    for _, _, arguments, _ in launches:
        of_maps = [one for one in arguments if torch.is_tensor(one) and one.dim() == 4]
        assert {maps.memory_format_of(one) for one in of_maps} <= {torch.contiguous_format}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_modules_in_training_are_six_launches_with_their_parameters_as_they_are(tail, monkeypatch, dtype, momentum):
    noted = {}

    def note(kernel, _, *arguments, **__):  # and keep no gradient, which PyTorch would copy for us
        noted[kernel.__name__] = {one.data_ptr() for one in arguments if torch.is_tensor(one)}

    monkeypatch.setattr(tail, "launch_for", lambda *_: note)
    norm, se = nn.BatchNorm2d(32, momentum=momentum).to(dtype), SEBlock(32).to(dtype)
    x, shortcut, _, grad = tail_tensors((4, 32, 8, 8), dtype)
    with Operations() as operations:
        gpu.train_tail(x.requires_grad_(), shortcut, norm, excitation_weights(se)).backward(grad)
    assert list(noted) == FORWARD + BACKWARD
    assert operations.counts == {"empty_like": 4, "new_empty": 3}
    statistics = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert {one.data_ptr() for one in statistics} <= noted["sum_moments"]
    gradients = [one.grad for one in (*norm.parameters(), *se.parameters())]
    assert {one.data_ptr() for one in gradients} <= noted["find_coefficients"]
    assert {one.dtype for one in gradients} == {dtype}


def test_running_statistics_that_no_kernel_moves_are_left_to_pytorch(launches, monkeypatch):
    norm, se = nn.BatchNorm2d(32), SEBlock(32)
    norm.running_mean = norm.running_mean.double()
    x, shortcut, *_ = tail_tensors((4, 32, 8, 8))
    assert gpu.train_tail(x, shortcut, norm, excitation_weights(se)) is None
    assert not launches


def test_a_norm_without_statistics_moves_none(launches, monkeypatch):
    norm, se = nn.BatchNorm2d(32, track_running_stats=False), SEBlock(32)
    x, shortcut, *_ = tail_tensors((4, 32, 8, 8))
    assert gpu.train_tail(x, shortcut, norm, excitation_weights(se)) is not None
    assert not launches[0][3]["tracked"]
