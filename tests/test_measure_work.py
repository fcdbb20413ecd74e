"""Counters of work: known by hand, exact, and independent of the engine."""

import pytest
import torch

from cnnperf.measure.ceilings import ceiling_seconds
from cnnperf.measure.images import images_for
from cnnperf.measure.work import Work, count_work
from cnnperf.records.case import Case

LENET_MULTIPLY_ADDS = 6 * 75 * 28 * 28 + 16 * 150 * 10 * 10 + 400 * 120 + 120 * 84 + 84 * 10


def test_the_flop_of_lenet_are_those_counted_by_hand():
    work = count_work(Case("lenet5", batch=3))
    assert work.flop == 2 * LENET_MULTIPLY_ADDS * 3
    assert work.parameters == 62_006


def test_a_training_step_is_forward_and_backward():
    forward, backward, train = (count_work(Case("resnet18", phase)) for phase in ("forward", "backward", "train"))
    assert forward.flop + backward.flop == train.flop
    assert forward.traffic + backward.traffic == train.traffic


def test_the_work_does_not_depend_on_the_engine():
    case = Case("se_resnet18", "train")
    assert count_work(case) == count_work(case.replace(engine="compile"))


def test_a_fused_network_is_charged_the_work_of_its_textbook_form():
    assert count_work(Case("se_resnet18_fused", "train")) == count_work(Case("se_resnet18", "train"))


def test_half_precision_halves_the_traffic():
    case = Case("resnet18", "forward", batch=2)
    assert 2 * count_work(case.replace(precision="bf16")).traffic == count_work(case).traffic


def test_the_ceiling_is_the_one_that_takes_longer():
    ceilings = {"copy_bandwidth": 10.0, "matmul_rate_fp32": 100.0, "matmul_rate_bf16": 1000.0}
    work = Work(parameters=0, flop=1000, traffic=50, live=0)
    assert ceiling_seconds(work, ceilings, "fp32") == 10.0
    assert ceiling_seconds(work, ceilings, "bf16") == 5.0


@pytest.mark.parametrize("kind", ["synthetic", "photos"])
def test_images_are_seeded_and_about_normalized(kind):
    case = Case("lenet5", batch=64)
    images = images_for(case, kind)
    assert images.shape == (64, 3, 32, 32)
    assert torch.equal(images, images_for(case, kind))
    assert not torch.equal(images, images_for(case, kind, seed=1))
    assert abs(float(images.mean())) < 0.5
    assert 0.5 < float(images.std()) < 1.5
