"""LeNet-5 with max pooling, and with average pooling as the control."""

import pytest


@pytest.mark.cnnperf("lenet5", "lenet5_avg")
def test_lenet(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)
