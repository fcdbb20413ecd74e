"""One point of the axes: its names, and what it asks of the process that runs it."""

from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnperf.errors import OptionError, UnsupportedCase
from cnnperf.measure.support import check_supported, cpu_cores, in_force
from cnnperf.models.catalog import create, resolve
from cnnperf.records.case import PHASES, PRECISIONS, Case, axes_of_label
from cnnperf.records.engines import ENGINES
from cnnperf.suite.plan import Plan

numbers = st.integers(1, 10**6)
cases = st.builds(
    Case,
    architecture=st.just("resnet18"),
    phase=st.sampled_from(PHASES),
    engine=st.sampled_from(sorted(ENGINES)),
    precision=st.sampled_from(PRECISIONS),
    batch=numbers,
    image_size=numbers,
    width=numbers,
    threads=numbers,
    world_size=numbers,
)


@given(cases)
def test_the_label_of_a_case_says_all_that_is_not_usual(case):
    assert Case.from_axes(axes_of_label(case.label())) == case


def test_axes_that_came_later_leave_the_names_of_tests_as_they_were():
    assert Case("lenet5").id().endswith("-batch=1-image_size=32")
    assert Case("lenet5", threads=2).id().endswith("-image_size=32-threads=2")


def test_a_case_has_its_threads_while_it_runs_and_the_process_its_own_afterwards():
    before = torch.get_num_threads()
    with suppress(ZeroDivisionError), in_force(Case("lenet5", threads=1)):
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_code_is_generated_for_the_threads_of_its_case():
    from torch._inductor import config

    before = config.cpp.threads
    with in_force(Case("lenet5", engine="compile", threads=1)):
        assert config.cpp.threads == 1
    assert config.cpp.threads == before


def test_more_threads_than_cores_are_no_case_of_this_machine():
    check_supported(Case("lenet5", threads=cpu_cores()))
    with pytest.raises(UnsupportedCase, match="cores"):
        check_supported(Case("lenet5", threads=cpu_cores() + 1))


def test_several_processes_are_sent_to_the_program_that_starts_them():
    with pytest.raises(UnsupportedCase, match=r"torchrun -m cnnperf\.scaling"):
        check_supported(Case("lenet5", phase="train", world_size=2))


@pytest.mark.parametrize("name", ["plain_stack", "residual_stack", "resnet18", "se_resnet18", "se_resnet18_fused"])
def test_a_network_is_built_at_the_width_of_its_case(name):
    assert next(create(name, width=16).parameters()).shape[0] == 16
    assert [case.width for case in Plan(overrides={"width": (16,)}).cases(resolve(name))] == [16] * 6


@pytest.mark.parametrize(("name", "width", "said"), [("lenet5", 16, "one width only"), ("se_resnet18", 8, "reduction")])
def test_a_width_that_a_network_cannot_have_is_told_before_anything_is_measured(name, width, said):
    with pytest.raises(OptionError, match=said):
        Plan(overrides={"width": (width,)}).cases(resolve(name))
