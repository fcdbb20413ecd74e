"""Check of results before timing: comparison with float64, relative to the error of eager execution."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch

from cnnperf.errors import WrongResult
from cnnperf.measure.precisions import by_operands
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import resolve
from cnnperf.records.case import Case

# Relative error of outputs that passes whatever the error of eager execution is: some hundred roundings.
TOLERANCE = by_operands({"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2})
# The same for gradients. If the input of a ReLU rounds to the other side of zero, a path of the gradient switches on or
# off: this moved the gradient of a bias by 2 % in fp32. Outputs are continuous there and stay within rounding.
GRADIENT_TOLERANCE = by_operands({"fp32": 5e-2, "tf32": 0.1, "bf16": 0.3, "fp16": 0.1})
# Larger errors are wrong whatever the error of eager execution is. This is the only limit for eager execution itself: a
# gradient that was not reset has a relative error of 1.
LIMIT = by_operands({"fp32": 0.2, "tf32": 0.3, "bf16": 0.6, "fp16": 0.6})
# Other engines may round differently from eager execution, but not be much less accurate.
EAGER_FACTOR = 4.0
# A gradient that is zero in exact arithmetic (a bias before BatchNorm) is compared on the scale of the others.
SCALE_FLOOR = 1e-2
MOST_REFERENCES = 2
OUTPUT = "output"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Verified:
    """Result of the check of a case.

    Attributes:
        relative_error: Largest relative error over output and gradients; NaN if the network draws random numbers.
        compared: Whether results were compared; False if the network draws random numbers, so that no two executions
            agree.
    """

    relative_error: float
    compared: bool


@dataclass
class _Reference:
    exact: Tensors
    eager_errors: dict[str, float]
    random: bool


class References:
    """Cache of float64 results, which all engines of a network share."""

    def __init__(self, make_workload: Callable[[Case], Workload]) -> None:
        """Use `make_workload` to build the eager textbook workload that is the reference of a case."""
        self._make_workload = make_workload
        self._cache: OrderedDict[Case, _Reference] = OrderedDict()

    def verify(self, workload: Workload) -> Verified:
        """Compare output and gradients of a workload with float64.

        A round must have run since gradients were last cleared, so that a missing reset shows as doubled gradients.

        Raises:
            WrongResult: If a value is not finite, or its error exceeds `LIMIT`, or both the tolerance of the precision
                and four times the error of eager execution, or if workload and reference have different results.
        """
        case = workload.case
        results = results_of(workload)
        _check_finite(results, case)
        reference = self._reference(_textbook(case), workload, results)
        if reference.random:
            return Verified(math.nan, compared=False)
        errors = distances(results, reference.exact)
        for name, error in errors.items():
            allowed = _allowed(name, case.precision, reference.eager_errors[name])
            if not error <= allowed:  # so that NaN is wrong too
                raise WrongResult(
                    f"{case.label()}: {name} is wrong: relative distance to float64 is {error:.3g}, allowed is "
                    f"{allowed:.3g}; nothing was timed. Compare the network with its eager form before measuring it"
                )
        return Verified(max(errors.values()), compared=True)

    def _reference(self, textbook: Case, workload: Workload, results: Tensors) -> _Reference:
        if textbook not in self._cache:
            same = workload.case == textbook.replace(phase=workload.case.phase)
            self._cache[textbook] = self._compute(textbook, results if same else None)
            while len(self._cache) > MOST_REFERENCES:
                self._cache.popitem(last=False)
        return self._cache[textbook]

    def _compute(self, textbook: Case, eager: Tensors | None) -> _Reference:
        workload = self._make_workload(textbook)
        before = _random_state(workload)
        exact = exact_results(workload)
        if not torch.equal(before, _random_state(workload)):
            return _Reference({}, {}, random=True)
        if eager is None:
            workload.run_once()
            eager = results_of(workload)
        return _Reference(exact, distances(eager, exact), random=False)


def results_of(workload: Workload) -> Tensors:
    """Run a round from the initial parameters without clearing earlier gradients, and return its results.

    Returns:
        `output`, (N, classes), and for phases that train `gradient of NAME` in the shape of each parameter.
    """
    workload.restore()
    workload.keep_output = True
    workload.run_once()
    workload.keep_output = False
    output = cast(torch.Tensor, workload.output)
    results = {OUTPUT: output.detach().clone()}
    results |= {f"gradient of {name}": grad.clone() for name, grad in workload.gradients().items()}
    workload.reset()
    return results


def exact_results(workload: Workload) -> Tensors:
    """Return the results of a workload's network in float64, from the same parameters and images."""
    workload.reset()
    model = copy.deepcopy(workload.model).double()
    task = workload.task.to(workload.case.device, torch.float64).requiring_gradients(workload.case.trains)
    if not workload.case.trains:
        with torch.no_grad():
            return {OUTPUT: model(*task.inputs)}
    output = model(*task.inputs)
    task.differentiate(task.objective(output))
    maps = ((f"map {number}", tensor) for number, tensor in enumerate(task.inputs))
    named = (*model.named_parameters(), *maps)
    gradients = {f"gradient of {name}": value.grad for name, value in named if value.grad is not None}
    return {OUTPUT: output.detach()} | gradients


def distances(results: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the relative distance of each result from its exact value.

    The distance is the 2-norm of the difference over the 2-norm of the exact value. The norm of an exact gradient
    counts as at least a hundredth of the largest norm among the gradients.

    Raises:
        WrongResult: If the two have different names.
    """
    if results.keys() != exact.keys():
        name = min(results.keys() ^ exact.keys())
        raise WrongResult(f"{name} exists in only one of the network and its reference; they are different networks")
    norms = {name: float(value.norm()) for name, value in exact.items()}
    largest = max((norm for name, norm in norms.items() if name != OUTPUT), default=0.0)
    relative = {}
    for name, value in exact.items():
        scale = norms[name] if name == OUTPUT else max(norms[name], SCALE_FLOOR * largest)
        relative[name] = float((results[name].double() - value).norm()) / (scale or 1.0)
    return relative


def _allowed(name: str, precision: str, eager_error: float) -> float:
    tolerance = TOLERANCE if name == OUTPUT else GRADIENT_TOLERANCE
    return min(LIMIT[precision], max(tolerance[precision], EAGER_FACTOR * eager_error))


def _check_finite(results: Tensors, case: Case) -> None:
    for name, value in results.items():
        if not bool(torch.isfinite(value).all()):
            raise WrongResult(
                f"{case.label()}: {name} holds NaN or infinity; nothing was timed, because arithmetic on such values "
                f"has another speed. Check the numerics of the network at precision {case.precision}"
            )


def _textbook(case: Case) -> Case:
    """Return the eager textbook case with the correct results; both phases that train share one."""
    architecture = resolve(case.architecture).reference or case.architecture
    phase = "backward" if case.trains else "forward"
    return case.replace(architecture=architecture, engine="eager", phase=phase)


def _random_state(workload: Workload) -> torch.Tensor:
    if workload.images.is_cuda:
        return torch.cuda.get_rng_state(workload.images.device)
    return torch.get_rng_state()
