"""Rewriting networks: what is fused, what is left and why, and that results stay."""

import copy

import pytest
import torch
from torch import nn

from cnnperf.fusion import FusedSEBlock, fuse, unfuse
from cnnperf.fusion.fuse import FusedBasicBlock
from cnnperf.measure.images import images_for
from cnnperf.models.catalog import create
from cnnperf.models.resnet import BasicBlock, ResNet18
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.records.case import Case

pytestmark = pytest.mark.slow

BLOCKS = [f"stage{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]


def test_every_block_of_se_resnet18_is_fused_and_a_copy_leaves_the_network_alone():
    model = create("se_resnet18")
    fused = fuse(model)
    assert sorted(fused.fused) == sorted([*BLOCKS, *(f"{name}.se" for name in BLOCKS)])
    assert fused.left == {}
    assert type(model.stage1[0]) is BasicBlock
    assert type(fused.model.stage1[0]) is FusedBasicBlock
    assert list(fused.model.state_dict()) == list(model.state_dict())


def test_in_place_the_parameters_stay_the_same_objects():
    model = create("se_resnet18")
    before = list(model.parameters())
    assert fuse(model, inplace=True).model is model
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))


def test_unfuse_takes_everything_back():
    model = fuse(create("se_resnet18"), inplace=True).model
    kinds = {type(module) for module in unfuse(model).modules()}
    assert {BasicBlock, SEBlock} <= kinds
    assert not {FusedBasicBlock, FusedSEBlock} & kinds


def test_a_network_without_se_has_nothing_to_fuse():
    fused = fuse(create("resnet18"))
    assert fused.fused == ()
    assert fused.left == {}


class Changed(SEBlock):
    """Stand for a subclass that computes something else."""


def test_what_is_left_is_named_with_its_reason():
    se = create("se_resnet18").stage1[0].se
    model = nn.ModuleDict({"changed": Changed(16, 4), "ours": se})
    fused = fuse(model)
    assert fused.fused == ("ours",)
    assert "subclass of SEBlock" in fused.left["changed"]


def block(**changes):
    one = BasicBlock(16, 16, 1, SEBlock)
    for name, part in changes.items():
        setattr(one, name, part)
    return nn.Sequential(one)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"se": Changed(16)}, "has no known fused form"),
        ({"bn2": nn.InstanceNorm2d(16)}, "InstanceNorm2d, not BatchNorm2d"),
    ],
)
def test_a_block_with_a_part_that_is_not_known_keeps_its_own_forward(changes, reason):
    assert reason in fuse(block(**changes)).left["0"]


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_a_block_whose_parts_are_watched_by_hooks_is_left(register):
    model = block()
    getattr(model[0].bn2, register)(lambda *_: None)
    assert "hooks" in fuse(model).left["0"]


class Scaled(nn.Linear):
    """Stand for a layer that computes more than its weight says."""

    def forward(self, x):
        return 2 * super().forward(x)


def se_with(**changes):
    one = SEBlock(16, 4)
    for name, part in changes.items():
        setattr(one, name, part)
    return one


def hooked(linear):
    linear.register_forward_pre_hook(lambda *_: None)
    return linear


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reduce": nn.Conv2d(16, 4, 1)}, "its reduce is a Conv2d, not a Linear"),
        ({"expand": nn.Identity()}, "its expand is a Identity, not a Linear"),
        ({"expand": Scaled(4, 16, bias=False)}, "Scaled, which may compute something else"),
        ({"reduce": hooked(nn.Linear(16, 4, bias=False))}, "its reduce has hooks"),
    ],
)
def test_an_se_block_that_computes_more_than_its_weights_say_is_left_alone_and_in_a_block(changes, reason):
    alone = fuse(nn.Sequential(se_with(**changes)))
    assert reason in alone.left["0"]
    within = fuse(block(se=se_with(**changes)))
    assert reason in within.left["0"]
    assert within.fused == ()


def test_fusing_twice_changes_nothing_and_says_so():
    once = fuse(create("se_resnet18")).model
    again = fuse(once)
    assert again.fused == ()
    assert set(again.left.values()) == {"it is fused already"}


def test_thirty_training_steps_on_photographs_stay_together():
    """Roundings differ, and ReLUs that flip make them grow: two layouts of the eager network come 0.01 apart here."""
    torch.manual_seed(0)
    textbook = create("se_resnet18")
    fused = fuse(textbook).model
    case = Case("se_resnet18", phase="train", batch=8)
    batches = [images_for(case, "photos", seed) for seed in range(3)]
    target = torch.arange(8)
    losses = [train(model, batches, target) for model in (textbook, fused)]
    for eager_loss, fused_loss in zip(*losses, strict=True):
        assert fused_loss == pytest.approx(eager_loss, rel=0.02, abs=0.04)
    assert losses[1][-1] < losses[1][0] / 2, "nothing was learned, so nothing was tested"


def train(model, batches, target):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batches[step % len(batches)]), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_fused_network_trains_under_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        alone = fuse(ResNet18(se_block=SEBlock)).model
        parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(alone))
        images = torch.randn(2, 3, 8, 8)
        for model in (alone, parallel):
            model(images).square().sum().backward()
        for one, other in zip(alone.parameters(), parallel.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
    finally:
        torch.distributed.destroy_process_group()
