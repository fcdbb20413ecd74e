"""Copies of maps around the fused tail in what Inductor generates for a CUDA device, counted without one.

The operators are those of the CPU, so that a graph traced there is that of a device.

A copy is a pass over a map that nobody asked for: read in one layout, written in another. The images of a contiguous
network are copied once, because Inductor gives the convolutions channels_last, and so is the byte mask behind the last
convolution, whose layout it does not change; a weight is not a map.
"""

import pytest
import torch

if not torch.__version__.startswith("2.13."):
    pytest.skip("what generates the code is private to PyTorch 2.13", allow_module_level=True)

from inductor_cuda import generate
from torch._inductor import lowering

from cnnperf.fusion import fuse, se_resnet18_fused
from cnnperf.models.catalog import create
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.squeeze_excitation import SEBlock

pytestmark = pytest.mark.slow

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TAILS = 8
IMAGES = (24, 3, 32, 32)
LAST_MASK = (24, 512, 4, 4)


def code_of(model, layout, *, trains):
    images = torch.zeros(IMAGES).contiguous(memory_format=FORMATS[layout])
    return generate(model.to(memory_format=FORMATS[layout]).train(trains), images)


def copied_maps(generated):
    return [shape for _, shape in generated.copies if shape[0] == IMAGES[0]]  # a weight has another first size


@pytest.mark.parametrize(("layout", "copies"), [("channels_last", []), ("contiguous", [IMAGES, LAST_MASK])])
def test_no_map_is_copied_around_a_tail_in_training(layout, copies):
    generated = code_of(se_resnet18_fused(), layout, trains=True)
    forward, backward = generated.code
    assert copied_maps(generated) == copies
    assert forward.count("= torch.ops.cnnperf.tail_training.default(") == TAILS
    assert backward.count("= torch.ops.cnnperf.tail_backward.default(") == TAILS


@pytest.mark.parametrize(("layout", "copies"), [("channels_last", []), ("contiguous", [IMAGES])])
def test_no_map_is_copied_in_inference_and_the_scaling_is_fused(layout, copies):
    generated = code_of(se_resnet18_fused(), layout, trains=False)
    (forward,) = generated.code
    assert copied_maps(generated) == copies
    assert forward.count("= torch.ops.cnnperf.tail_scaling.default(") == TAILS
    assert "tail_inference" not in forward


def test_the_textbook_network_has_no_copies_either():
    assert copied_maps(code_of(create("se_resnet18"), "channels_last", trains=True)) == []


def test_copies_around_operators_of_a_fixed_layout_are_counted(monkeypatch):
    """Without the tag `flexible_layout` maps are copied at each tail: 28 copies in all, seen with PyTorch 2.13."""
    of_operator = lowering.get_layout_constraint_tag

    def constraint(operator, **given):
        ours = getattr(operator, "namespace", "") == "cnnperf"
        return torch.Tag.needs_fixed_stride_order if ours else of_operator(operator, **given)

    monkeypatch.setattr(lowering, "get_layout_constraint_tag", constraint)
    generated = code_of(se_resnet18_fused(), "contiguous", trains=True)
    assert len(copied_maps(generated)) >= 3 * TAILS


@pytest.mark.parametrize("trains", [True, False])
def test_one_graph_takes_every_batch(trains):
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    block = fuse(BasicBlock(16, 16, 1, SEBlock)).model.train(trains)
    torch.compiler.reset()
    compiled = torch.compile(block, backend=keep, dynamic=True)
    with torch.set_grad_enabled(trains):
        for batch in (3, 4, 7):
            assert compiled(torch.randn(batch, 16, 6, 6)).shape[0] == batch
    assert len(graphs) == 1
