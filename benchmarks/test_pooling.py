"""One epoch of training, as `cnnperf study pooling` does it: LeNet-5 with average and with max pooling.

Named alone, because it is no case of an architecture: `pytest benchmarks/test_pooling.py`.
"""

import pytest


@pytest.mark.parametrize("side", [0, 1], ids=["base", "candidate"])
def test_pooling(benchmark_epoch, side):
    from cnnperf.studies import contrasts

    benchmark_epoch(contrasts.pooling(1), side)
