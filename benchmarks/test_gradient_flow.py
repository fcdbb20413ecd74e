"""Gradients of deep stacks, as `cnnperf study gradient-flow` measures them: what one network takes.

Named alone, because it is no case of an architecture: `pytest benchmarks/test_gradient_flow.py`.
"""

import pytest


@pytest.mark.parametrize("family", ["plain", "residual"])
@pytest.mark.parametrize("num_blocks", [5, 10, 20])
def test_gradient_flow(benchmark, family, num_blocks):
    from cnnperf.studies.gradient_flow import Setting, measure_flow

    flow = benchmark.pedantic(
        measure_flow, args=(family, Setting(num_blocks=num_blocks), [0]), rounds=5, warmup_rounds=1
    )
    benchmark.extra_info["mean_absolute_gradient"] = float(flow)
    assert float(flow) > 0
