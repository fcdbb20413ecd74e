"""A stack of convolutions without and with shortcuts: what the shortcut costs."""

import pytest


@pytest.mark.cnnperf("plain_stack", "residual_stack")
def test_stacks(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)
