"""ResNet-18 without and with Squeeze-and-Excitation, and with fused blocks: what SE costs and what fusion recovers."""

import pytest


@pytest.mark.cnnperf("resnet18", "se_resnet18", "se_resnet18_fused")
def test_resnet(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)
