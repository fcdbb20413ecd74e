"""One epoch of training, as `cnnperf study squeeze-excitation` does it.

ResNet-18 at a quarter of its width, without and with Squeeze-and-Excitation.

Named alone, because it is no case of an architecture: `pytest benchmarks/test_squeeze_excitation.py`.
"""

import pytest


@pytest.mark.parametrize("side", [0, 1], ids=["base", "candidate"])
def test_squeeze_excitation(benchmark_epoch, side):
    from cnnperf.studies import contrasts

    benchmark_epoch(contrasts.squeeze_excitation(1, 16), side)
