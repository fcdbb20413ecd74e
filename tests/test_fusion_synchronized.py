"""The fused tail under SyncBatchNorm: equal to PyTorch's own, and to BatchNorm over the whole batch."""

import pytest
import ranks
import torch
from maps import EPS, FORMATS, TOLERANCE
from ranks import FUSED, TEXTBOOK, Together
from torch import nn

from cnnperf.fusion import fuse
from cnnperf.fusion.native import build as native
from cnnperf.fusion.synchronized import group_of
from cnnperf.fusion.tail import fused_tail, textbook_tail
from cnnperf.models.resnet import ResNet18
from cnnperf.models.squeeze_excitation import SEBlock

pytestmark = pytest.mark.slow

BATCHES = {2: (3, 5), 3: (4, 1, 2)}  # of each process: parts need not be of one size
LAST = 3  # results that are running statistics
MAPS = 3  # results that are maps: output, and gradients of x and shortcut


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Give processes that work together, by their number."""
    started = {}

    def ask(size, *work):
        if size not in started:
            started[size] = Together(size, tmp_path_factory.mktemp("ranks"))
        return started[size](*work)

    yield ask
    for one in started.values():
        one.close()


def distance(found, exact):
    return float((found.double() - exact.double()).norm()) / max(float(exact.double().norm()), 1e-6)


def joined(found):
    """Bring the results of all processes together: maps one after the other, gradients of parameters summed."""
    maps = [torch.cat(parts) for parts in zip(*(one[:MAPS] for one in found), strict=True)]
    sums = [sum(part.double() for part in parts) for parts in zip(*(one[MAPS:-LAST] for one in found), strict=True)]
    return [*maps, *sums, *found[0][-LAST:]]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", BATCHES)
def test_it_equals_batch_norm_over_the_batch_of_all_processes(together, size, layout):
    sizes = BATCHES[size]
    found = together(size, ranks.one_step, FUSED, sizes, torch.float32, layout)
    for one, exact in zip(joined(found), ranks.whole_batch(sizes), strict=True):
        assert distance(one, exact) <= TOLERANCE[torch.float32]
    for other in found[1:]:  # every process remembers the same statistics
        assert all(torch.equal(one, two) for one, two in zip(found[0][-LAST:], other[-LAST:], strict=True))


def test_without_biases_it_equals_batch_norm_too(together):
    found = together(2, ranks.one_step, FUSED, (3, 5), torch.float32, "contiguous", False)
    for one, exact in zip(joined(found), ranks.whole_batch((3, 5), biased=False), strict=True):
        assert distance(one, exact) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("size", BATCHES)
def test_it_equals_pytorch_s_synchronized_batch_norm_with_the_textbook_tail(together, size):
    given = (BATCHES[size], torch.float32, "contiguous")
    found = together(size, ranks.one_step, FUSED, *given)
    expected = together(size, ranks.one_step, TEXTBOOK, *given)
    for mine, theirs in zip(found, expected, strict=True):  # in every process
        assert max(distance(one, two) for one, two in zip(mine, theirs, strict=True)) <= 2 * TOLERANCE[torch.float32]


def test_sixteen_bits_stay_within_their_rounding(together):
    found = together(2, ranks.one_step, FUSED, (3, 5), torch.bfloat16, "channels_last")
    exact = ranks.whole_batch((3, 5), torch.bfloat16)
    assert max(distance(one, two) for one, two in zip(joined(found), exact, strict=True)) <= TOLERANCE[torch.bfloat16]


def test_a_process_without_samples_takes_part(together):
    found = together(3, ranks.one_step, FUSED, (4, 0, 3), torch.float32, "contiguous")
    for one, exact in zip(joined(found), ranks.whole_batch((4, 0, 3)), strict=True):
        assert distance(one, exact) <= TOLERANCE[torch.float32]


def test_the_gradient_is_that_of_the_loss_of_all_processes(together):
    assert max(together(2, ranks.finite_differences, (2, 3))) <= 1e-5


def test_the_algebra_and_the_kernels_agree(together):
    exact = ranks.whole_batch((3, 5), torch.float64)[:-LAST]
    found = together(2, ranks.in_algebra, (3, 5), EPS)
    joined_up = joined([[*one, *[torch.zeros(1)] * LAST] for one in found])[:-LAST]
    assert max(distance(one, two) for one, two in zip(joined_up, exact, strict=True)) <= 1e-12


def test_the_cpu_runs_the_kernels_and_what_they_do_not_take_runs_the_algebra(together):
    assert native.available(), "this test needs g++"
    assert together(2, ranks.which_form, (3, 5), torch.float32) == [True, True]
    assert together(2, ranks.which_form, (3, 5), torch.float64) == [False, False]


def test_in_one_process_it_is_batch_norm():
    norm, se = ranks.network()
    assert group_of(norm) is None
    plain = nn.BatchNorm2d(ranks.CHANNELS, momentum=norm.momentum)
    plain.load_state_dict(norm.state_dict())
    x, shortcut, _ = ranks.batch((3,), 0)
    for training in (True, False):
        outs = [fused_tail(x, shortcut, one.train(training), se) for one in (norm, plain)]
        assert torch.equal(*outs)
    assert torch.equal(norm.running_var, plain.running_var)


def test_a_fused_network_keeps_its_blocks_when_its_norms_are_synchronized():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(ResNet18(SEBlock, 16))
    fused = fuse(model)
    assert len(fused.fused) > 0
    assert not fused.left
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert distance(fused.model(x), model(x)) <= 1e-5


def test_a_subclass_may_compute_something_else():
    class Other(nn.SyncBatchNorm):
        pass

    norm, se = ranks.network()
    other = Other(ranks.CHANNELS).eval()
    x, shortcut, _ = ranks.batch((3,), 0)
    assert torch.equal(fused_tail(x, shortcut, other, se), textbook_tail(x, shortcut, other, se))
    assert norm.training


@pytest.mark.gpu
def test_on_a_device_it_equals_pytorch_s_own(together):
    found, expected = (together(2, ranks.on_device, which, (3, 5)) for which in (FUSED, TEXTBOOK))
    for mine, theirs in zip(found, expected, strict=True):
        assert max(distance(one, two) for one, two in zip(mine, theirs, strict=True)) <= 2 * TOLERANCE[torch.float32]
