"""What the process with Triton's interpreter is asked to call: it can import this file, but no module of tests."""

import importlib

import pytest
import torch
from fusion_gpu import EPS


def counters_after(forward, backward, x, shortcut, parameters, grad):
    """Give the sum of all counters after a step."""
    tail, counters = (
        importlib.import_module(forward.__module__.replace("functions", "tail")),
        torch.zeros(64, dtype=torch.int32),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "counters_for", lambda *_: counters)
        backward(grad, x, forward(x, shortcut, parameters, EPS), parameters, EPS)
    return int(counters.sum())


TILES = {True: 64, False: 64}
PLANS = {
    "small tiles": {"ROW_C": 8, "ROW_H": 2, "PARTS": 2, "PRODUCT": (2, 2, 4), "PROGRAMS": 4096, "TILE": TILES},
    "a launch for the moments": {"CONCLUDED": 0},
    "products by rows": {"MANY_CHANNELS": 1, "TO_HIDDEN": (2, 2, 8), "TO_CHANNELS": (2, 4, 2), "ROW_C": 8},
}
"""Plans that small maps do not have: loops of several steps, a batch too large for its last program, many channels."""


def planned(name, function, *given):
    """Call a function of a `functions` module with another plan."""
    plan = importlib.import_module(function.__module__.replace("functions", "plan"))
    with pytest.MonkeyPatch.context() as patch:
        for constant, value in PLANS[name].items():
            patch.setattr(plan, constant, value)
        plan.plan.cache_clear()
        try:
            return function(*given)
        finally:
            plan.plan.cache_clear()


def operator(name, *given):
    """Call what an operator does with maps on a GPU."""
    from cnnperf.fusion.triton.operators import implementation_of

    return implementation_of(name)(*given)
