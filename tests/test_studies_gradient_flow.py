"""Gradients in stacks: the figures of the course material, the theory, and what changes them."""

from dataclasses import replace

import pytest
import torch

from cnnperf.errors import OptionError
from cnnperf.stats.growth import BATCH_NORM_GROWTH
from cnnperf.studies import compare_gradient_flow
from cnnperf.studies.gradient_flow import FAMILIES, Setting, measure_flow

pytestmark = pytest.mark.slow

SEEDS = range(10)
SMALL = Setting(num_blocks=3, channels=8, image_size=16)

MATERIAL = {"plain": {5: 1.34, 10: 8.80, 20: 377.0}, "residual": {5: 1.44, 10: 3.00, 20: 6.47}}
"""The mean absolute gradient at the input that the material prints, by depth, of one seed that nobody knows."""


@pytest.fixture(scope="module")
def flows():
    return {
        family: [measure_flow(family, Setting(num_blocks=blocks), SEEDS) for blocks in (5, 10, 20)]
        for family in FAMILIES
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_the_material_is_found_again(flows, family):
    for flow in flows[family]:
        printed = MATERIAL[family][flow.setting.num_blocks]
        assert float(flow) == pytest.approx(printed, rel=0.1)
        assert 0.9 * min(flow.at_input()) < printed < 1.1 * max(flow.at_input())


def growth_of(flows):
    from cnnperf.studies.flows import growth_over_depths  # it draws too, for which a machine may lack the packages

    return growth_over_depths(flows)


def test_plain_gradients_grow_as_the_theory_says(flows):
    growth = growth_of(flows["plain"])
    assert growth.rate == pytest.approx(BATCH_NORM_GROWTH, rel=0.02)
    assert growth.verdict == "explodes"
    assert flows["plain"][-1].growth().rate == pytest.approx(BATCH_NORM_GROWTH, rel=0.02)


def test_residual_gradients_grow_far_less(flows):
    growth = growth_of(flows["residual"])
    assert growth.rate - 1 < (BATCH_NORM_GROWTH - 1) / 3
    assert growth.verdict == "stable"


def test_without_normalisation_plain_gradients_vanish_and_residual_ones_do_not():
    plain, residual = compare_gradient_flow(10, seeds=3, normalization="none")
    assert plain.growth().verdict == "vanishes"
    assert residual.growth().verdict == "stable"
    assert float(plain) < 1e-5 * float(residual)


def test_he_initialisation_without_normalisation_keeps_plain_gradients():
    plain, residual = compare_gradient_flow(10, normalization="none", initialization="he")
    assert plain.growth().verdict == "stable"
    assert residual.growth().verdict == "explodes"


def test_running_statistics_are_those_of_data_and_let_gradients_grow_as_the_batch_does():
    deep = replace(SMALL, num_blocks=8, batch=8)
    growths = {
        name: measure_flow("plain", replace(deep, normalization=name), range(3)).growth().rate
        for name in ("batch", "running", "none")
    }
    assert growths["running"] == pytest.approx(growths["batch"], rel=0.05)
    assert growths["none"] < 0.5


def test_every_block_has_a_gradient_and_the_output_has_ones():
    flow = measure_flow("residual", SMALL, [0, 1])
    assert [len(series) for series in flow.norms] == [4, 4]
    assert flow.layers() == [6, 4, 2, 0]
    assert flow.norms[0][-1] == flow.absolute[0][-1] == 1.0
    assert flow.norms[0] != flow.norms[1]


def test_a_gradient_is_what_autograd_gives():
    from cnnperf.models.initialization import seeded
    from cnnperf.models.stacks import StackBlock

    with seeded(7):
        stack = torch.nn.Sequential(*(StackBlock(8, shortcut=True) for _ in range(3)))
        image = torch.randn(1, 8, 16, 16, requires_grad=True)
    stack(image).sum().backward()
    assert float(measure_flow("residual", SMALL, [7])) == pytest.approx(float(image.grad.abs().mean()), rel=1e-5)


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert measure_flow("plain", SMALL, [5]) == measure_flow("plain", SMALL, [5])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"num_blocks": 0}, "num_blocks is at least 1, not 0"),
        ({"batch": -1}, "batch is at least 1"),
        ({"seeds": 0}, "seeds is at least 1"),
        ({"normalization": "layer"}, "normalization is one of batch, running, none, not 'layer'"),
        ({"initialization": "xavier"}, "initialization is one of default, he"),
    ],
)
def test_what_cannot_be_is_refused(given, told):
    with pytest.raises(OptionError, match=told):
        compare_gradient_flow(**given)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_gradients():
    plain, residual = (measure_flow(family, replace(SMALL, device="cuda"), [0]) for family in FAMILIES)
    assert float(plain) == pytest.approx(float(measure_flow("plain", SMALL, [0])), rel=1e-2)
    assert float(residual) == pytest.approx(float(measure_flow("residual", SMALL, [0])), rel=1e-2)
