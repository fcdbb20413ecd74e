"""Networks that the user brings: `--cnnperf-architecture package.module:factory` or `timm:NAME`."""

import pytest


@pytest.mark.cnnperf(own=True)
def test_own(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)
