"""Forms of Squeeze-and-Excitation side by side: eager, torch.compile of the textbook formula, ours, other libraries.

Not part of `pytest benchmarks`, because compiling every case takes longer than that whole suite: name this file to run
it. The suite `full` adds bf16 and the stages of ResNet-50 on 224 x 224 images.
"""

import pytest


@pytest.mark.cnnperf(part="tail")
def test_tail(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)


@pytest.mark.cnnperf(part="se")
def test_se(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)


@pytest.mark.cnnperf(part="block")
def test_block(cnnperf_case, cnnperf_measure):
    cnnperf_measure(cnnperf_case)
