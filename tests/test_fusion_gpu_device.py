"""The Triton kernels on a device: what an interpreter and a compiler cannot show."""

import copy
import importlib
from functools import partial

import pytest
import torch
from fusion_gpu import (
    DTYPES,
    EPS,
    FORMATS,
    KINDS,
    PROBE,
    SHAPES,
    SWEPT,
    TOLERANCE,
    WIDE,
    check_gate,
    check_inference,
    check_scaling,
    check_statistics,
    check_training,
    distance,
    draw,
    excitation_of,
    frozen,
    given_to,
    moved_statistics,
    tail_tensors,
    wide,
)

from cnnperf.fusion import fuse, operators
from cnnperf.fusion.algebra import Parameters
from cnnperf.fusion.excitation import Excitation, squeeze_and_excite
from cnnperf.fusion.triton import functions as gpu
from cnnperf.fusion.triton.launch import launch_ordinarily
from cnnperf.models.resnet import ResNet18
from cnnperf.models.squeeze_excitation import SEBlock

pytestmark = pytest.mark.gpu

MANY = (130, 5, 1, 2)  # more samples than a tile that sums over the batch
STAGES = [(16, 64, 56, 56), (8, 256, 8, 8), (64, 512, 7, 7), (8, 256, 14, 14), (4, 1024, 14, 14), (200, 64, 8, 8)]
SIZES = [(4, 64, 14, 14), (32, 64, 32, 32)]


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


def step(x, shortcut, parameters, grad):
    """Give all results of a forward and a backward of the tail."""
    kept = gpu.tail_forward(x, shortcut, parameters, EPS)
    return (*kept, *gpu.tail_backward(grad, x, kept, parameters, EPS))


same = partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, WIDE, MANY, SWEPT, *STAGES])
def test_a_device_gives_what_float64_gives(shape, dtype, layout):
    check_training(on_device, gpu, shape, dtype, layout)
    check_inference(on_device, gpu, shape, dtype, layout)
    check_scaling(on_device, gpu, shape, dtype, layout)
    for kind in KINDS:
        check_gate(on_device, gpu, shape, kind, dtype, layout)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_parameters_of_sixteen_bits_are_read_and_their_gradients_written_as_they_are(dtype):
    check_training(on_device, gpu, PROBE, dtype, small=dtype)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_running_statistics_move_as_those_of_the_norm(momentum, dtype):
    check_statistics(on_device, partial(moved_statistics, gpu.tail_forward), (8, 64, 14, 14), momentum, dtype)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SIZES)
def test_a_device_gives_the_same_bits_twenty_times(shape, layout):
    given = moved(tail_tensors(shape, layout=layout), "cuda")
    first, *others = (step(*given) for _ in range(20))
    for other in others:
        same(first, other)


@pytest.mark.parametrize("layout", FORMATS)
def test_a_direct_launch_gives_the_bits_of_triton_s_own(layout, monkeypatch):
    given = moved(tail_tensors((4, 64, 14, 14), layout=layout), "cuda")
    direct = [step(*given) for _ in range(3)]  # the first one goes through Triton
    tail = importlib.import_module("cnnperf.fusion.triton.tail")
    monkeypatch.setattr(tail, "launch_for", lambda *_: launch_ordinarily)
    for one in direct:
        same(one, step(*given))


@pytest.mark.parametrize("away", [0, 1, 2, 4])
def test_maps_and_parameters_that_are_not_aligned_give_the_same(away):
    x, shortcut, parameters, grad = moved(tail_tensors((4, 64, 14, 14)), "cuda")
    expected = step(x, shortcut, parameters, grad)
    others = [shift(one, away) for one in (x, shortcut, grad)]
    for _ in range(2):
        found = step(others[0], others[1], Parameters(*(shift(one, away) for one in parameters)), others[2])
        torch.testing.assert_close(found, expected)


def shift(tensor, away):
    """Give a copy of a tensor that begins some numbers after an aligned address."""
    memory = tensor.new_empty(tensor.numel() + away)
    return memory[away:].view(tensor.shape).copy_(tensor)


def test_two_streams_at_once_do_not_disturb_one_another():
    given = [moved(tail_tensors((16, 64, 14, 14), offset=offset), "cuda") for offset in (0.0, 3.0)]
    expected = [step(*one) for one in given]
    streams = [torch.cuda.Stream() for _ in given]
    torch.cuda.synchronize()
    found = [[], []]
    for _ in range(20):
        for stream, one, results in zip(streams, given, found, strict=True):
            with torch.cuda.stream(stream):
                results.append(step(*one))
    torch.cuda.synchronize()
    for results, exact in zip(found, expected, strict=True):
        for one in results:
            same(one, exact)


def test_a_cuda_graph_is_captured_and_replayed_between_ordinary_calls():
    given = moved(tail_tensors((16, 64, 14, 14)), "cuda")
    expected = step(*given)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(*given)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        captured = step(*given)
    for _ in range(3):
        for one in captured:
            one.zero_()
        graph.replay()
        same(captured, expected)
        same(step(*given), expected)


def test_a_graph_that_is_the_first_to_use_a_stream_works():
    given = moved(tail_tensors((16, 64, 14, 14)), "cuda")
    expected = step(*given)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(*given)
    graph.replay()
    same(captured, expected)


def test_all_counters_are_zero_between_launches():
    step(*moved(tail_tensors((16, 64, 14, 14)), "cuda"))
    counters = importlib.import_module("cnnperf.fusion.triton.counters")
    assert counters._kept
    assert not any(one.any() for one in counters._kept.values())


def test_the_operators_hold_what_pytorch_asks_of_operators():
    assert gpu.available()
    x, shortcut, parameters, grad = moved(tail_tensors((4, 16, 6, 6)), "cuda")
    taken, norm = given_to(operators.tail_training, parameters), moved(frozen(16), "cuda")
    weights = taken[2:]
    torch.library.opcheck(operators.tail_forward, (x, shortcut, *taken, EPS))
    kept = operators.tail_forward(x, shortcut, *taken, EPS)
    torch.library.opcheck(operators.tail_backward, (grad, x, *kept[1:], *taken, EPS))
    torch.library.opcheck(operators.tail_scaling, (x, None, *norm, *weights))
    torch.library.opcheck(operators.tail_inference, (x, shortcut, None, *norm, *weights))
    leaves = [one.requires_grad_() for one in (x, shortcut, *taken)]
    torch.library.opcheck(operators.tail_training, (*leaves, EPS))
    excitation = moved(excitation_of(16, *KINDS[1]), "cuda")
    torch.library.opcheck(operators.se_training, (x, *excitation[:4], True, False))


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


@pytest.fixture
def anew():
    """No graph of another test."""
    torch.compiler.reset()


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def gradients_of(network, images):
    network(images).square().mean().backward()
    return [one.grad for one in network.parameters()]


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("layout", FORMATS)
def test_a_fused_network_trains_as_the_textbook_does(anew, layout, mode):
    torch.manual_seed(0)
    textbook = ResNet18(SEBlock).to("cuda", memory_format=FORMATS[layout])
    images = torch.randn(8, 3, 32, 32, device="cuda").to(memory_format=FORMATS[layout])
    direct, outer = fuse(textbook).model, fuse(textbook).model
    expected = gradients_of(textbook, images)
    near(gradients_of(direct, images), expected)
    compiled = torch.compile(outer, mode=None if mode == "default" else mode)
    for _ in range(3):  # CUDA graphs are recorded at the second call
        for one in outer.parameters():
            one.grad = None
        near(gradients_of(compiled, images), expected)
    for (name, ours), theirs in zip(direct.named_buffers(), textbook.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("layout", FORMATS)
def test_a_fused_network_infers_as_the_textbook_does(anew, layout, mode):
    torch.manual_seed(0)
    textbook = ResNet18(SEBlock).to("cuda", memory_format=FORMATS[layout]).eval()
    images = torch.randn(8, 3, 32, 32, device="cuda").to(memory_format=FORMATS[layout])
    direct = fuse(textbook).model
    compiled = torch.compile(fuse(textbook).model, mode=None if mode == "default" else mode)
    with torch.no_grad():
        expected = textbook(images)
        near(direct(images), expected)
        for _ in range(3):
            near(compiled(images).clone(), expected)


@pytest.mark.parametrize("train", [True, False])
def test_a_compiled_network_takes_several_batches_with_two_graphs(anew, train):
    from torch._dynamo.utils import counters

    counters.clear()
    torch.manual_seed(0)
    textbook = ResNet18(SEBlock).to("cuda").train(train)
    compiled = torch.compile(fuse(copy.deepcopy(textbook)).model)
    for batch in (4, 6, 9, 16):
        images = torch.randn(batch, 3, 32, 32, device="cuda")
        with torch.set_grad_enabled(train):
            near(compiled(images), textbook(images))
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
