"""Names `fused:NAME`, and fused networks where the kernels of the CPU cannot be built."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from cnnperf.errors import OptionError, UnsupportedCase
from cnnperf.fusion import FusedSEBlock
from cnnperf.fusion.architectures import from_fusion, reason_not_fused
from cnnperf.fusion.block import FusedBasicBlock, FusedBottleneck
from cnnperf.fusion.native import build as native
from cnnperf.measure.support import check_supported
from cnnperf.measure.work import count_work
from cnnperf.measure.workload import Workload
from cnnperf.models import catalog
from cnnperf.models.brought import from_factory, from_timm
from cnnperf.models.catalog import create, match, register_prefix, resolve
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.records.case import Case

pytestmark = pytest.mark.slow

FACTORY = "cnnperf.models.resnet50:se_resnet50"


class Scaled(SEBlock):
    """Stand for a block that computes something else."""


class FakeTimm(ModuleType):
    """Stand in for timm: a network with an SE block, and one whose block is not known."""

    def is_model(self, name):
        return name in ("with_se", "unknown")

    def list_models(self):
        return ["with_se", "unknown"]

    def create_model(self, name, *, pretrained):
        assert not pretrained
        network = nn.Sequential(nn.Conv2d(3, 16, 1), SEBlock(16) if name == "with_se" else Scaled(16))
        network.default_cfg = {"input_size": (3, 96, 96)}
        return network


@pytest.fixture(autouse=True)
def _forget():
    yield
    for resolver in (from_fusion, from_factory, from_timm):
        resolver.cache_clear()


@pytest.fixture
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", FakeTimm("timm"))


def kinds(name):
    return {type(module) for module in create(name).modules()}


def test_a_network_of_the_catalog_is_fused_and_must_equal_the_textbook_s():
    row = resolve("fused:se_resnet18")
    plain = resolve("se_resnet18")
    assert (row.name, row.reference) == ("fused:se_resnet18", "se_resnet18")
    assert (row.image_size, row.classes, row.source) == (plain.image_size, plain.classes, plain.source)
    assert {FusedBasicBlock, FusedSEBlock} <= kinds("fused:se_resnet18")
    assert BasicBlock in kinds("se_resnet18")
    assert match("fused:se_resnet18") == [row]


def test_the_parameters_are_those_of_the_network_of_the_same_seed():
    states = [create(name, seed=3).state_dict() for name in ("fused:se_resnet18", "se_resnet18")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_a_width_reaches_the_network():
    fused, plain = (create(name, width=16) for name in ("fused:se_resnet18", "se_resnet18"))
    assert [one.shape for one in fused.parameters()] == [one.shape for one in plain.parameters()]
    assert FusedBasicBlock in {type(module) for module in fused.modules()}
    with pytest.raises(OptionError, match="has one width only"):
        create(f"fused:{FACTORY}", width=8)


def test_a_network_of_a_factory_is_fused():
    row = resolve(f"fused:{FACTORY}")
    assert (row.reference, row.classes) == (FACTORY, None)
    assert FusedBottleneck in kinds(row.name)


@pytest.mark.usefixtures("timm")
def test_a_network_of_timm_is_fused_and_takes_its_images():
    row = resolve("fused:timm:with_se")
    assert (row.reference, row.image_size) == ("timm:with_se", 96)
    assert FusedSEBlock in kinds(row.name)


def test_work_is_counted_as_that_of_the_network():
    case = Case("se_resnet18", batch=2)
    assert count_work(case.replace(architecture="fused:se_resnet18")) == count_work(case)


def test_a_workload_runs_such_a_network():
    workload = Workload(Case("fused:se_resnet18", phase="train", batch=2, image_size=16, width=16))
    workload.keep_output = True
    workload.run_once()
    assert workload.output.shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fused:resnet18", r"nothing in resnet18 can be fused \(it has no Squeeze-and-Excitation\)"),
        ("fused:se_resnet18_fused", r"\(stage1\.0: it is fused already\)"),
        ("fused:fused:se_resnet18", r"\(stage1\.0: it is fused already\)"),
        ("fused:timm:unknown", r"\(1: Scaled is a subclass of SEBlock, which may compute something else\)"),
    ],
)
@pytest.mark.usefixtures("timm")
def test_a_network_in_which_nothing_can_be_fused_is_refused_with_the_reasons(name, reason):
    with pytest.raises(OptionError, match=reason) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_many_reasons_are_not_all_listed(monkeypatch):
    left = {f"part{index}": f"reason {index}" for index in range(5)}
    nothing = SimpleNamespace(fused=(), left=left)
    monkeypatch.setattr("cnnperf.fusion.architectures.fuse", lambda _, inplace: nothing)
    with pytest.raises(OptionError, match="part0: reason 0, part1: reason 1, part2: reason 2, and others"):
        resolve("fused:resnet18")


@pytest.mark.parametrize("name", ["fused:", "fused:se_resnet19"])
def test_a_name_behind_the_prefix_that_is_unknown_is_refused(name):
    with pytest.raises(OptionError, match="is unknown"):
        resolve(name)


def test_a_prefix_has_one_meaning(monkeypatch):
    monkeypatch.setattr(catalog, "_PREFIXES", dict(catalog._PREFIXES))
    with pytest.raises(OptionError, match="'fused:' is registered already"):
        register_prefix("fused:", resolve)


@pytest.fixture
def without_kernels(monkeypatch):
    monkeypatch.setattr(native, "_load", lambda: "there is no C++ compiler; install g++")


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("name", ["se_resnet18_fused", "fused:se_resnet18"])
@pytest.mark.parametrize("engine", ["eager", "compile"])
def test_without_kernels_a_fused_network_is_not_measured_on_the_cpu(name, engine):
    with pytest.raises(UnsupportedCase, match=f"{name} is not fused here: .*no C.. compiler.*; install a g"):
        check_supported(Case(name, engine=engine))


@pytest.mark.usefixtures("without_kernels")
def test_without_kernels_textbook_networks_are_measured_and_a_gpu_has_kernels_of_its_own():
    check_supported(Case("se_resnet18"))
    assert reason_not_fused(resolve("se_resnet18_fused"), "cuda") is None


def test_with_kernels_a_fused_network_is_measured():
    assert native.available(), "this test needs g++"
    check_supported(Case("se_resnet18_fused"))
