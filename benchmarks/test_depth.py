"""One epoch of training, as `cnnperf study depth` does it: a plain and a residual stack of twenty blocks.

Named alone, because it is no case of an architecture: `pytest benchmarks/test_depth.py`.
"""

import pytest


@pytest.mark.parametrize("side", [0, 1], ids=["base", "candidate"])
def test_depth(benchmark_epoch, side):
    from cnnperf.studies import contrasts

    benchmark_epoch(contrasts.depth(1, 20, 16), side)
