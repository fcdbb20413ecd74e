"""Tests of the fused SE block: equal to the textbook block in value and gradient, and as easy to handle.

Errors are norms of the difference from a float64 reference, relative to the reference's norm; inputs are
rounded to the tested dtype first, so that only the block's own rounding counts. The tolerance adds up two
parts:

- Each result passes through fewer than sixteen roundings to the dtype (mean, two products, ReLU, sigmoid,
  scale, and the same back), each of relative size u or less, u being the dtype's unit roundoff.
- Sums over n terms are taken in fp32 in an order that nobody promises. Their error grows like sqrt(n) times u
  of fp32 (Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", 2019,
  https://doi.org/10.1137/18M1226312), and more where terms cancel: four times that is allowed. The largest
  seen is 0.6 times, in channels_last on a CPU, where Inductor adds up serially what eager adds up in parts.

Beside this second part a fused block rounds at no more places than an eager one: it may be twice as far off,
plus two u where eager happens to be exact.
"""

import math
import pickle
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode

from cnnperf.fusion import FusedSEBlock, operators
from cnnperf.models.initialization import he_initialize, seeded
from cnnperf.models.resnet import ResNet18
from cnnperf.models.squeeze_excitation import SEBlock

pytestmark = [
    pytest.mark.slow,
    # PyTorch's own, on the first import of torch.utils.mkldnn by Inductor; gone once PyTorch drops
    # TorchScript.
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-9}
ROUNDINGS = 16
CANCELLATION = 4

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
        ],
    ),
]

Results = dict[str, Tensor]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def block_of(kind: type[SEBlock], channels: int, reduction: int = 16) -> SEBlock:
    with seeded(0):
        block = kind(channels, reduction)
        he_initialize(block)
    return block


def feature_map(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.5


def results_of(block: nn.Module, x: Tensor, grad: Tensor) -> Results:
    """Give output and all gradients in float64 on the CPU."""
    x = x.detach().requires_grad_()
    block.zero_grad()
    out = block(x)
    out.backward(grad)
    results = {"output": out, "input": x.grad, **{name: p.grad for name, p in block.named_parameters()}}
    return {name: result.detach().double().cpu() for name, result in results.items()}


def errors_of(results: Results, exact: Results) -> dict[str, float]:
    """Give each result's distance from the exact one relative to it."""
    return {name: ((result - exact[name]).norm() / exact[name].norm()).item() for name, result in results.items()}


def error_of_sums(shape: tuple[int, int, int, int]) -> float:
    """Bound the error of the longest sum, over the batch, the channels or the image."""
    batch, channels, height, width = shape
    return CANCELLATION * math.sqrt(max(batch, channels, height * width)) * UNIT_ROUNDOFF[torch.float32]


def check_against_eager(
    shape: tuple[int, int, int, int],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.contiguous_format,
    reduction: int = 2,
) -> None:
    """Compare output and gradients of the fused and the eager block with the float64 reference."""
    eager, fused = (block_of(kind, shape[1], reduction).to(device, dtype) for kind in (SEBlock, FusedSEBlock))
    x, grad = (feature_map(*shape, seed=seed).to(device, dtype).contiguous(memory_format=layout) for seed in (1, 2))
    exact = results_of(deepcopy(eager).double(), x.double(), grad.double())
    assert all(result.any() for result in exact.values()), "a gradient that is zero tests nothing"
    eager_errors = errors_of(results_of(eager, x, grad), exact)
    fused_errors = errors_of(results_of(fused, x, grad), exact)
    u, sums = UNIT_ROUNDOFF[dtype], error_of_sums(shape)
    assert not {n: e / u for n, e in eager_errors.items() if not e <= ROUNDINGS * u + sums}
    assert not {n: e / u for n, e in fused_errors.items() if not e <= ROUNDINGS * u + sums}
    assert not {n: e / u for n, e in fused_errors.items() if not e <= 2 * (eager_errors[n] + u) + sums}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_compiled_form_equals_eager_too(dtype: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnperf.fusion.native.functions.available", lambda: False)
    check_against_eager((3, 32, 16, 15), dtype=DTYPES[dtype], layout=LAYOUTS[layout])
    assert graphs() == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_output_and_gradients_equal_eager_in_each_dtype_and_layout(dtype: str, layout: str, device: str) -> None:
    check_against_eager((3, 32, 16, 15), device=device, dtype=DTYPES[dtype], layout=LAYOUTS[layout])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_output_and_gradients_equal_eager_at_each_batch_and_image_size(layout: str, device: str) -> None:
    small = ((2, 16, 4, 4), (5, 16, 4, 4), (4, 16, 9, 7), (3, 16, 32, 32), (1, 16, 4, 4), (3, 16, 1, 1))
    for shape in (*small, (3, 16, 257, 211)):  # the last is large enough to be written around the cache
        check_against_eager(shape, device=device, layout=LAYOUTS[layout])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("channels", "reduction"), [(24, 5), (64, 16), (512, 16)])
def test_output_and_gradients_equal_eager_at_each_width(channels: int, reduction: int, device: str) -> None:
    check_against_eager((2, channels, 4, 4), device=device, reduction=reduction)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_output_has_the_layout_of_the_input(layout: str) -> None:
    x = feature_map(2, 16, 4, 4).contiguous(memory_format=LAYOUTS[layout])
    with torch.no_grad():
        out = block_of(FusedSEBlock, 16)(x)
    assert out.is_contiguous(memory_format=LAYOUTS[layout])


def a_gate_slightly_too_wide(block: SEBlock, x: Tensor) -> Tensor:
    return SEBlock.forward(block, x) * (1 + 2.0**-18)


def a_squeeze_without_gradient(block: SEBlock, x: Tensor) -> Tensor:
    squeezed = x.detach().mean(dim=(2, 3))
    return x * torch.sigmoid(block.expand(torch.relu(block.reduce(squeezed))))[:, :, None, None]


@pytest.mark.parametrize("fault", [a_gate_slightly_too_wide, a_squeeze_without_gradient])
def test_a_planted_fault_is_seen(fault: Callable[[SEBlock, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    check_against_eager((2, 16, 4, 4))
    monkeypatch.setattr(FusedSEBlock, "forward", fault)
    with pytest.raises(AssertionError, match=r"assert not \{'"):
        check_against_eager((2, 16, 4, 4))


def test_the_state_is_that_of_the_textbook_block() -> None:
    fused, eager = block_of(FusedSEBlock, 32), block_of(SEBlock, 32)
    assert list(fused.state_dict()) == list(eager.state_dict())
    fused.load_state_dict(eager.state_dict(), strict=True)
    eager.load_state_dict(fused.state_dict(), strict=True)


def test_a_used_block_survives_copying_and_pickling() -> None:
    block = block_of(FusedSEBlock, 16)
    x = feature_map(2, 16, 4, 4)
    with torch.no_grad():
        expected = block(x)
        for twin in (deepcopy(block), pickle.loads(pickle.dumps(block))):
            torch.testing.assert_close(twin(x), expected, rtol=0, atol=0)


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def test_blocks_of_one_width_share_a_graph_which_serves_every_batch_size_after_the_second() -> None:
    blocks = [block_of(FusedSEBlock, 16).double(), block_of(FusedSEBlock, 16).double()]
    seen = []
    with torch.no_grad():
        for batch in (2, 3, 4, 5, 6):
            for block in blocks:
                block(feature_map(batch, 16, 4, 4).double())
            seen.append(graphs())
    assert seen == [1, 2, 2, 2, 2]


def counting_backend(compiled: list[torch.fx.GraphModule]) -> Callable[..., Any]:
    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    return backend


def test_blocks_of_many_widths_do_not_use_up_one_recompile_limit() -> None:
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=1):
        for channels in (4, 8):
            block_of(FusedSEBlock, channels, 2).double()(feature_map(2, channels, 3, 3).double())
    assert graphs() == 2


def test_an_outer_compilation_takes_the_block_into_its_one_graph() -> None:
    compiled: list[torch.fx.GraphModule] = []
    network = ResNet18(se_block=FusedSEBlock).eval()
    images = feature_map(2, 3, 8, 8)
    with torch.no_grad():
        outer = torch.compile(network, backend=counting_backend(compiled), fullgraph=True)
        scores = outer(images)
    assert len(compiled) == 1
    gates = [node for node in compiled[0].graph.nodes if node.target is operators.se_training]
    assert len(gates) == 8
    reference = ResNet18(se_block=SEBlock).eval()
    reference.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(scores, reference(images))


def test_export_takes_the_block_into_its_graph() -> None:
    block = block_of(FusedSEBlock, 16)
    x = feature_map(2, 16, 4, 4)
    exported = torch.export.export(block, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), block_of(SEBlock, 16)(x))


def test_a_compiled_block_takes_tensors_without_numbers() -> None:
    block, x = block_of(FusedSEBlock, 16), feature_map(2, 16, 4, 4)
    with torch.no_grad():
        block(x)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert block(mode.from_tensor(x)).shape == x.shape
        assert block.to("meta")(x.to("meta")).is_meta


@pytest.mark.parametrize("shape", [(2, 32, 4, 4), (2, 8, 4, 4), (16, 4, 4)])
def test_a_map_of_another_shape_is_refused_before_any_kernel_reads(shape: tuple[int, ...]) -> None:
    with torch.no_grad(), pytest.raises((RuntimeError, IndexError)):
        block_of(FusedSEBlock, 16)(torch.zeros(shape))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_function_transforms_do_what_they_do_to_eager() -> None:
    fused, eager = block_of(FusedSEBlock, 16), block_of(SEBlock, 16)
    many = feature_map(6, 16, 4, 4).view(3, 2, 16, 4, 4)
    torch.testing.assert_close(torch.func.vmap(fused)(many), torch.func.vmap(eager)(many))
    x, tangent = many[0], many[1]
    torch.testing.assert_close(torch.func.jvp(fused, (x,), (tangent,)), torch.func.jvp(eager, (x,), (tangent,)))


def test_autocast_gives_the_dtype_that_eager_gives() -> None:
    x = feature_map(2, 16, 4, 4).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        fused, eager = block_of(FusedSEBlock, 16)(x), block_of(SEBlock, 16)(x)
    assert fused.dtype == eager.dtype == torch.bfloat16
    assert ((fused - eager).double().norm() / eager.double().norm()).item() <= 2 * ROUNDINGS * UNIT_ROUNDOFF[
        torch.bfloat16
    ]
