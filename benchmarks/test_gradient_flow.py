"""Gradients of deep stacks, as `cnnperf study gradient-flow` measures them: what one network takes.

Named alone, because it is no case of an architecture: `pytest benchmarks/test_gradient_flow.py`.
"""

import pytest


@pytest.mark.parametrize("family", ["plain", "residual"])
@pytest.mark.parametrize("num_blocks", [5, 10, 20])
def test_gradient_flow(benchmark, benchmark_side, family, num_blocks):
    from functools import partial

    from cnnperf.studies.gradient_flow import Setting, measure_flow

    flows = {name: partial(measure_flow, name, Setting(num_blocks=num_blocks), [0]) for name in ("plain", "residual")}
    sides = {name: partial(lambda flow: flow, flow) for name, flow in flows.items()}
    flow = benchmark_side(f"{num_blocks} blocks", sides, family)
    benchmark.extra_info["mean_absolute_gradient"] = float(flow)
    assert float(flow) > 0
