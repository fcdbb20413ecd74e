"""Check of results before timing: comparison with float64, relative to the error of eager execution."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cnnperf.errors import CnnperfError, WrongResult
from cnnperf.measure.exhaustion import converting_out_of_memory
from cnnperf.measure.failures import in_one_line
from cnnperf.measure.outputs import floating_tensors
from cnnperf.measure.precisions import by_operands
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import CATALOG, resolve
from cnnperf.models.modes import random_states
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
        relative_error: Largest relative error over output and gradients; NaN if results were not compared with float64.
        compared: Whether results were compared with float64.
        reason: Why they were not; empty if they were.
    """

    relative_error: float
    compared: bool
    reason: str = ""


@dataclass
class _Reference:
    """Results that are right.

    Attributes:
        exact: Results in float64, or those of eager execution where there are none; empty if no two executions agree.
        eager_errors: Relative error of eager execution by result.
        reason: Why the results are not those in float64; empty if they are.
    """

    exact: Tensors
    eager_errors: dict[str, float]
    reason: str = ""


class References:
    """Cache of float64 results, which all engines of a network share."""

    def __init__(self, make_workload: Callable[[Case], Workload]) -> None:
        """Use `make_workload` to build the eager textbook workload that is the reference of a case."""
        self._make_workload = make_workload
        self._cache: OrderedDict[Case, _Reference] = OrderedDict()

    def verify(self, workload: Workload) -> Verified:
        """Compare output and gradients of a workload with float64.

        A network that a user brings may not run in float64: then its results are compared with eager execution. If two
        eager executions differ, only finite values are checked.

        A round must have run since gradients were last cleared, so that a missing reset shows as doubled gradients.

        Raises:
            WrongResult: If a value is not finite, or its error exceeds `LIMIT`, or both the tolerance of the precision
                and four times the error of eager execution, or if workload and reference have different results.
        """
        case = workload.case
        results = results_of(workload)
        _check_finite(results, case)
        reference = self._reference(_textbook(case), workload, results)
        if not reference.exact:
            return Verified(math.nan, compared=False, reason=reference.reason)
        errors = distances(results, reference.exact)
        for name, error in errors.items():
            allowed = _allowed(name, case.precision, reference.eager_errors.get(name, 0.0))
            if not error <= allowed:  # so that NaN is wrong too
                compared_with = "eager execution" if reference.reason else "float64"
                raise WrongResult(
                    f"{case.label()}: {name} is wrong: relative distance to {compared_with} is {error:.3g}, allowed is "
                    f"{allowed:.3g}; nothing was timed. Compare the network with its eager form before measuring it"
                )
        if reference.reason:
            return Verified(math.nan, compared=False, reason=reference.reason)
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
        if textbook.architecture in CATALOG or workload.task.of_part:
            exact = exact_results(workload)
            return _Reference(exact, distances(eager or _eager_results(workload), exact))
        return _reference_of_brought(workload, eager)


def results_of(workload: Workload) -> Tensors:
    """Run a round from the initial parameters without clearing earlier gradients, and return its results.

    Returns:
        `output`, (N, classes), and for phases that train `gradient of NAME` in the shape of each parameter.
    """
    workload.restore()
    workload.keep_output = True
    workload.run_once()
    workload.keep_output = False
    results = _outputs(workload.output)
    results |= {f"gradient of {name}": grad.clone() for name, grad in workload.gradients().items()}
    workload.reset()
    return results


def exact_results(workload: Workload) -> Tensors:
    """Return the results of a workload's network in float64, from the same parameters and images."""
    workload.reset()
    model = _copy_of(workload).double()
    task = workload.task.to(workload.case.device, torch.float64).requiring_gradients(workload.case.trains)
    if not workload.case.trains:
        with torch.no_grad():
            return _outputs(task.call(model))
    output = task.call(model)
    task.differentiate(task.objective(output))
    maps = ((f"map {number}", tensor) for number, tensor in enumerate(task.inputs))
    named = (*model.named_parameters(), *maps)
    gradients = {f"gradient of {name}": value.grad for name, value in named if value.grad is not None}
    return _outputs(output) | gradients


def distances(results: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the relative distance of each result from its exact value.

    The distance is the 2-norm of the difference over the 2-norm of the exact value. The norm of an exact gradient
    counts as at least a hundredth of the largest norm among the gradients.

    Raises:
        WrongResult: If the two have different names.
    """
    for name in sorted(results.keys() ^ exact.keys()):
        if name.startswith(OUTPUT) or bool({**results, **exact}[name].any()):  # a compiled graph has zeros for none
            raise WrongResult(
                f"{name} exists in only one of the network and its reference; they are different networks"
            )
    exact = {name: value for name, value in exact.items() if name in results}
    norms = {name: float(value.norm()) for name, value in exact.items()}
    largest = max((norm for name, norm in norms.items() if not name.startswith(OUTPUT)), default=0.0)
    relative = {}
    for name, value in exact.items():
        scale = norms[name] if name.startswith(OUTPUT) else max(norms[name], SCALE_FLOOR * largest)
        relative[name] = float((_double(results[name]) - value).norm()) / (scale or 1.0)
    return relative


def _allowed(name: str, precision: str, eager_error: float) -> float:
    tolerance = TOLERANCE if name.startswith(OUTPUT) else GRADIENT_TOLERANCE
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


def _reference_of_brought(workload: Workload, eager: Tensors | None) -> _Reference:
    """Return the reference of a network that a user brings, whose float64 form and repetition may fail."""
    before = random_states()
    eager = eager or _eager_results(workload)
    again = results_of(workload)  # one call later, and not two, which a network that alternates would not show
    if before != random_states():
        return _Reference({}, {}, "the network draws random numbers")
    if _differ(eager, again, workload.case.precision):
        return _Reference({}, {}, "two calls from the same state give different results")
    try:
        with converting_out_of_memory():
            exact = exact_results(workload)
    except CnnperfError:
        raise
    except Exception as error:  # noqa: BLE001 - a network need not run in float64
        reason = f"it does not run in float64 ({in_one_line(error)})"
    else:
        reason = _reason_not_to_compare(eager, exact, workload.case.precision)
        if not reason:
            return _Reference(exact, distances(eager, exact))
    exact = {name: _double(value) for name, value in eager.items()}
    return _Reference(exact, dict.fromkeys(exact, 0.0), f"{reason}; compared with eager execution only")


def _reason_not_to_compare(eager: Tensors, exact: Tensors, precision: str) -> str:
    """Return why float64 says nothing about a network: eager execution, which defines it, is far away from it."""
    if _shapes(eager) != _shapes(exact):
        return "its results have other shapes in float64"
    errors = _of_outputs(distances(eager, exact))
    name, error = max(errors.items(), key=lambda item: item[1])
    if error <= LIMIT[precision]:
        return ""
    return f"{name} differs by {error:.0%} in float64, as where rounding decides on an order or a threshold"


def _eager_results(workload: Workload) -> Tensors:
    workload.run_once()
    return results_of(workload)


def _differ(first: Tensors, second: Tensors, precision: str) -> bool:
    if _shapes(first) != _shapes(second):
        return True
    exact = {name: _double(value) for name, value in first.items()}
    return any(error > _allowed(name, precision, 0.0) for name, error in _of_outputs(distances(second, exact)).items())


def _of_outputs(errors: Mapping[str, float]) -> dict[str, float]:
    """Return the errors of outputs. Where they agree, gradients that do not are a fault, such as a missing reset."""
    return {name: error for name, error in errors.items() if name.startswith(OUTPUT)}


def _shapes(results: Tensors) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in results.items()}


def _outputs(output: object) -> Tensors:
    """Return copies of the floating-point tensors of an output, by the names of results."""
    first, *others = (tensor.detach().clone() for tensor in floating_tensors(output))
    return {OUTPUT: first} | {f"{OUTPUT} {number}": tensor for number, tensor in enumerate(others, start=2)}


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _copy_of(workload: Workload) -> nn.Module:
    """Return a copy of a workload's network; it is built anew if it cannot be copied, as with the older weight norm."""
    try:
        return copy.deepcopy(workload.model)
    except (RuntimeError, TypeError, AttributeError):
        model = workload.new_model()
        model.load_state_dict(workload.model.state_dict())
        return model
