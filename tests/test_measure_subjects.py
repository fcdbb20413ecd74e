"""Networks with inputs, losses and optimizers of their own."""

import pytest
import torch
from test_measure_faults import kinds, laboratory

from cnnperf import Subject
from cnnperf.errors import OptionError
from cnnperf.measure.correctness import References
from cnnperf.measure.task import task_for
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import resolve
from cnnperf.records.case import Case
from cnnperf.suite.plan import Plan


def case(name, phase="train", **axes):
    row = resolve(f"brought_subjects:{name}")
    (found,) = Plan(overrides={"phase": (phase,), "engine": ("eager",)}).cases(row)
    return found.replace(**axes)


@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
@pytest.mark.parametrize("name", ["regression", "text", "pair", "detector"])
def test_a_network_with_inputs_of_its_own_is_measured(name, phase):
    measured = laboratory().measure(case(name, phase))
    assert kinds(measured) == (["loss"] if name == "pair" and phase != "forward" else [])
    assert measured.values["latency"].value == pytest.approx(0.01)
    assert measured.values["relative_error"].value < 1e-3


def test_the_rate_is_in_images_for_images_and_in_calls_for_others():
    images = laboratory().measure(case("regression", "forward"))
    assert images.values["throughput"].value == pytest.approx(6 / 0.01)
    text = laboratory().measure(case("text", "forward"))
    assert text.values["call_rate"].value == pytest.approx(1 / 0.01)
    assert "throughput" not in text.values
    assert text.record("test").values["call_rate"].unit == "calls/s"


def test_batch_and_size_are_those_of_the_inputs_and_another_batch_is_refused():
    found = case("regression")
    assert (found.batch, found.image_size) == (6, 20)
    with pytest.raises(OptionError, match="brings its own inputs, whose batch is 6, not 8"):
        Plan(overrides={"batch": (8,)}).cases(resolve("brought_subjects:regression"))
    assert {each.batch for each in Plan("full").cases(resolve("brought_subjects:regression"))} == {6}


def test_the_optimizer_is_the_user_s_and_each_round_takes_the_same_step():
    workload = Workload(case("regression"))
    assert isinstance(workload.optimizer, torch.optim.AdamW)
    first = [parameter.detach().clone() for parameter in workload.model.parameters()]
    workload.run_once()  # the optimizer makes its state
    after = []
    for move in (workload.reset, workload.relocate, workload.reset):
        move()
        for parameter, value in zip(workload.model.parameters(), first, strict=True):
            torch.testing.assert_close(parameter.detach(), value, rtol=0, atol=0)
        workload.run_once()
        after.append([parameter.detach().clone() for parameter in workload.model.parameters()])
    for step in after[1:]:
        for parameter, value in zip(step, after[0], strict=True):
            torch.testing.assert_close(parameter, value)


def test_tensors_anywhere_in_the_arguments_are_moved_and_integers_stay_integers():
    task = task_for(case("text"), "synthetic", 0).to("meta", torch.bfloat16)
    assert [tensor.dtype for tensor in task.inputs] == [torch.int64, torch.bfloat16]
    assert all(tensor.is_meta for tensor in task.tensors())
    assert len(task_for(case("pair"), "synthetic", 0).inputs) == 3


def test_inputs_that_are_changed_somewhere_in_the_arguments_are_restored():
    measured = laboratory().measure(case("changing", "forward"))
    assert "input changed" in kinds(measured)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regression", "text"])
def test_a_compiled_network_is_compared_too(name):
    workload = Workload(case(name, engine="compile"))
    workload.compile()
    workload.run_once()
    assert References(Workload).verify(workload).relative_error < 1e-3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("without_tensor", "has no tensor among its inputs"),
        ("wrong_inputs", "the inputs of a Subject are a tensor, a tuple"),
        ("failing", "fails on the inputs of its Subject"),
    ],
)
def test_a_subject_that_cannot_be_used_is_refused_in_a_sentence(name, message):
    from cnnperf.measure.classes import count_classes

    with pytest.raises(OptionError, match=message):
        count_classes(resolve(f"brought_subjects:{name}"), 32)


def test_the_parts_of_a_subject_have_their_kinds():
    model, images = torch.nn.Linear(1, 1), torch.zeros(1, 1)
    with pytest.raises(OptionError, match=r"the model of a Subject is an nn\.Module, not a int"):
        Subject(3, images)
    with pytest.raises(OptionError, match="the loss of a Subject is a function or None, not a str"):
        Subject(model, images, loss="mse")
    with pytest.raises(OptionError, match="needs a loss"):
        Subject(model, images, target=images)


def test_an_own_input_has_one_place_in_a_case():
    assert Case.from_axes(case("regression").axes()) == case("regression")
