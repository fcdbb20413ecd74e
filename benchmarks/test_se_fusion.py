"""Forms of Squeeze-and-Excitation side by side: eager, torch.compile of the textbook formula, ours, other libraries.

Not part of `pytest benchmarks`, because compiling every cell takes longer than that whole suite: name this file to run
it. The suite `full` adds bf16 and the stages of ResNet-50 on 224 x 224 images.
"""

import pytest

from cnnperf.records.encoding import extra_info
from cnnperf.suite.plugin import options_of
from cnnperf.suite.replay import Replay

REPLAY = Replay()
pytestmark = pytest.mark.benchmark(timer=REPLAY)


def pytest_generate_tests(metafunc):
    from cnnperf.measure.cells import Cell, all_cells

    options = options_of(metafunc.config)
    cells = all_cells(options.devices_here(), full=options.suite == "full")
    metafunc.parametrize("cell", cells, ids=Cell.id)


def test_se_fusion(cell, benchmark, fusion_records, request):
    from cnnperf.measure.cells import measure_cell

    together, record = measure_cell(cell, options_of(request.config).schedule())
    seconds = [second for group in together.groups["fused"] for second in group]
    REPLAY.load(seconds)
    benchmark.extra_info.update(extra_info(record))
    benchmark.pedantic(lambda: None, rounds=len(seconds))
    fusion_records.append(record)
